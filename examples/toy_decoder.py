"""A toy decoder on the CPU: the command that `make demo` really launches and samples.

Its device side is replayed from a recording, since a demo must run without a GPU; the loop below only
gives the host sampler something real to measure. usage: toy_decoder.py [TOKENS]
"""

import sys
import time

import numpy as np

TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 64
HIDDEN, VOCABULARY = 512, 4096

rng = np.random.default_rng(7)
layers = [rng.standard_normal((HIDDEN, HIDDEN), dtype=np.float32) / HIDDEN**0.5 for _ in range(8)]
embedding = rng.standard_normal((VOCABULARY, HIDDEN), dtype=np.float32)

token, began = 1, time.perf_counter()
for _ in range(TOKENS):
    state = embedding[token]
    for weights in layers:
        state = state + np.maximum(state @ weights, 0)
        state /= np.sqrt(np.mean(state**2) + 1e-6)  # RMSNorm
    token = int(np.argmax(embedding @ state))
    time.sleep(0.02)
took = time.perf_counter() - began
print(f"{TOKENS} tokens in {took:.2f} s, {TOKENS / took:.0f} tokens/s")
