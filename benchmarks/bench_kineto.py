"""CPU time and peak memory of reading a large Kineto trace, against Python's own ``json.load``.

    python benchmarks/bench_kineto.py            270 MB
    python benchmarks/bench_kineto.py --smoke    10 MB

The trace is synthetic: the events of a recorded decode, repeated with shifted times and ids until the file
has its size. Both readers run in fresh processes, imports included. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

RECORDED = Path(__file__).parent.parent / "examples" / "h200_decoder" / "kineto_strided_eager.json.gz"
FULL_BYTES, SMOKE_BYTES = 270_000_000, 10_000_000
MOST_OF_JSON_LOAD_FRAC = 0.5
_SHIFTED = re.compile(r'"(ts|External id|correlation|id)": (\d+)')
_STEP = {"ts": 1_000_000, "External id": 100_000, "correlation": 100_000, "id": 100_000}

_JSON_LOAD = """
import json, sys
with open(sys.argv[1], "rb") as file:
    rows = len(json.load(file)["traceEvents"])
"""
_ROCSCOPE = """
import sys
from pathlib import Path
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.collectors.torch_trace import TorchTraceReader
source, builder = Source.open(Path(sys.argv[1])), CaptureBuilder()
assert TorchTraceReader().recognises(source)
TorchTraceReader().read(source, builder)
capture = builder.build()
assert not capture.manifest.dropped and not capture.manifest.notices
rows = capture.dispatches.num_rows
"""
_REPORT = """
import json, resource
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([rows, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))
"""


def write_synthetic(path: Path, size: int) -> int:
    """Write a trace of about ``size`` bytes and return how often the recording is repeated in it."""
    text = gzip.decompress(RECORDED.read_bytes()).decode()
    begin = text.index('"traceEvents": [') + len('"traceEvents": [')
    end = text.rindex("]")
    pieces = _SHIFTED.split(text[begin:end])
    keys, numbers = pieces[1::3], [int(number) for number in pieces[2::3]]
    steps = [_STEP[key] for key in keys]
    parts = [piece for between in pieces[0::3] for piece in (between, "", "")][:-2]
    parts[1::3] = [f'"{key}": ' for key in keys]
    repeats = max(1, round((size - begin) / (end - begin)))
    with path.open("w", encoding="utf-8") as file:
        file.write(text[:begin])
        for repeat in range(repeats):
            parts[2::3] = [str(n + repeat * step) for n, step in zip(numbers, steps, strict=True)]
            file.write("," * bool(repeat) + "".join(parts))
        file.write(text[end:])
    return repeats


def measure(code: str, path: Path) -> tuple[int, float, int]:
    """Return rows, CPU seconds and peak bytes of running ``code`` on ``path`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code + _REPORT, str(path)], check=True, capture_output=True, text=True
    )
    rows, cpu_s, peak_bytes = json.loads(done.stdout)
    return rows, cpu_s, peak_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="10 MB instead of 270 MB; no target for time")
    parser.add_argument("--runs", type=int, default=1, help="runs of each; the least CPU time counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rocscope-bench-") as folder:
        path = Path(folder) / "synthetic.pt.trace.json"
        repeats = write_synthetic(path, SMOKE_BYTES if options.smoke else FULL_BYTES)
        size = path.stat().st_size
        theirs = min((measure(_JSON_LOAD, path) for _ in range(options.runs)), key=lambda run: run[1])
        ours = min((measure(_ROCSCOPE, path) for _ in range(options.runs)), key=lambda run: run[1])
    frac = ours[1] / theirs[1]
    print(f"synthetic trace: {size / 1e6:.0f} MB, {theirs[0]} events, {repeats} x {RECORDED.name}")
    print(f"json.load: {theirs[1]:.2f} CPU s, peak {theirs[2] / 1e6:.0f} MB")
    print(f"rocscope:  {ours[1]:.2f} CPU s, peak {ours[2] / 1e6:.0f} MB, {ours[0]} dispatches")
    print(f"ratio:     {frac:.2f} of json.load's CPU time, {ours[2] / theirs[2]:.2f} of its memory")
    met = options.smoke or (frac <= MOST_OF_JSON_LOAD_FRAC and ours[2] < theirs[2])
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
