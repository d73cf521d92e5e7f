"""Time `rocscope analyze --table` of many kernels and launch shapes; synthetic rows, made here.

usage: bench_table.py [--smoke]; exits with 1 over the budget of 20 s of CPU for 100,000 rows
"""

import contextlib
import csv
import io
import random
import sys
import tempfile
import time
from pathlib import Path

from rocscope.cli import run

BUDGET_S = 20.0
COLUMNS = (
    "kernel",
    "duration_ns",
    "dispatches",
    "grid_x",
    "workgroup_x",
    "read_bytes",
    "write_bytes",
    "flops",
)

smoke = "--smoke" in sys.argv
rows, names = (10_000, 98) if smoke else (100_000, 977)
random.seed(1)
with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "synthetic.csv"
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(COLUMNS)
        for at in range(rows):
            time_ns, group = random.randint(2_000, 200_000), random.choice((64, 128, 256))
            reads = random.randint(1_000, time_ns * 1_000)
            moved = (reads, random.randint(0, reads), random.randint(0, time_ns * 10_000))
            out.writerow((f"kernel_{at % names}", time_ns, 1 + at % 9, group * (1 + at), group, *moved))
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run(["analyze", "--json", "-q", "--table", str(path), "--gpu", "MI100"])
    took = time.process_time() - began
assert code == 0 and said.getvalue().startswith("{")
budget = f"budget {BUDGET_S:.0f} s for 100,000"
print(f"analyze --table: {rows:,} rows of {names} kernels in {took:.1f} s of CPU ({budget})")
sys.exit(0 if smoke or took < BUDGET_S else 1)
