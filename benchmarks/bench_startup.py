"""What the tool adds to the work: `--help` over an empty Python, `profile` over an empty command.

Budgets: `rocscope --help` within 150 ms of `python -c pass`; `rocscope profile --profiler none -- true`
within 0.5 s of `true`. Prints the medians. usage: bench_startup.py [--smoke]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3 if "--smoke" in sys.argv else 15
ROCSCOPE = str(Path(sys.executable).with_name("rocscope"))


def median_s(command: list[str], cwd: str) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


with tempfile.TemporaryDirectory() as place:
    median_s([ROCSCOPE, "--help"], place)  # warm the caches
    empty = median_s([sys.executable, "-c", "pass"], place)
    helped = median_s([ROCSCOPE, "--help"], place)
    true = median_s(["true"], place)
    profiled = median_s([ROCSCOPE, "profile", "--quiet", "--profiler", "none", "--", "true"], place)

print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, median of {RUNS} runs")
print(f"rocscope --help: {(helped - empty) * 1e3:.0f} ms over python -c pass; budget 150 ms")
print(f"rocscope profile --profiler none -- true: {profiled - true:.2f} s over true; budget 0.5 s")
