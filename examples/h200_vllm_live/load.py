"""A small load over the OpenAI API: CLIENTS clients, each REQUESTS requests of 300 tokens in and TOKENS out.

usage: load.py PORT MODEL CLIENTS REQUESTS TOKENS
"""

import json
import random
import sys
import threading
import time
import urllib.request

port, model, clients, requests, tokens = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
random.seed(7)


def ask() -> None:
    body = {
        "model": model,
        "prompt": [random.randrange(3, 1000) for _ in range(300)],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
    }
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), kind
    )
    urllib.request.urlopen(request, timeout=300).read()


def client() -> None:
    for _ in range(requests):
        ask()


began = time.time()
threads = [threading.Thread(target=client) for _ in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.time() - began
print(f"{clients * requests} requests, {clients * requests * tokens / took:.1f} tokens/s out")
