"""The whole of `rocscope analyze` on a million dispatches: from rocprofv3's CSV and from rocpd to JSON.

Budget: 5 CPU seconds and 800 MB, interpreter and imports included. The recordings are the synthetic ones of
bench_rocprofv3.py. usage: bench_whole.py [--smoke]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROCSCOPE = str(Path(sys.executable).with_name("rocscope"))
CHILD = """
import resource, subprocess, sys
with open(sys.argv[1], "wb") as out:
    subprocess.run(sys.argv[2:], stdout=out, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""

with tempfile.TemporaryDirectory() as place:
    rows = ["--rows", "20000"] if "--smoke" in sys.argv else []
    made = [sys.executable, str(HERE / "bench_rocprofv3.py"), *rows, "--keep", place]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    for kind in ("csv", "rocpd"):
        command = [ROCSCOPE, "analyze", f"{place}/{kind}", "--gpu", "MI100", "--json"]
        measure = [sys.executable, "-c", CHILD, f"{place}/{kind}.json", *command]
        told = subprocess.run(measure, check=True, capture_output=True, text=True).stdout
        cpu_s, peak_mb = map(float, told.split())
        print(f"{kind}: to analysis.json in {cpu_s:.2f} CPU s, peak {peak_mb:.0f} MB; budget 5 s, 800 MB")
