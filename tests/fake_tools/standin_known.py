#!/usr/bin/env python3
"""Stand-in for a Python with torch: says of known kernels what the file STANDIN_TRUTH says, launches nothing.

The stand-in profilers read the same kernels from the table STANDIN_KNOWN: their dispatches are SYNTHETIC.
STANDIN_FAULT: no-torch, hang, crash (of the run that is profiled), left-out (of a kernel, when profiled).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

if sys.argv[1:2] == ["-c"]:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
fault = os.environ.get("STANDIN_FAULT", "")
parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--device", type=int)
parser.add_argument("--output", type=Path)
parser.add_argument("--energy-seconds", type=float, default=0.0)
parser.add_argument("--verify", action="store_true")
parser.add_argument("--probe", action="store_true")
options = parser.parse_args()
assert options.program.endswith("known_kernels.py"), options.program
if fault == "no-torch":
    sys.exit("this Python has no torch")
truth = json.loads(Path(os.environ["STANDIN_TRUTH"]).read_text())
truth |= {"pid": os.getpid(), "start_boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
if options.probe:
    print("a library says hello")
    print(json.dumps({**truth, "kernels": [], "left_out": {}, "energy": None}))
    sys.exit(0)
if fault == "crash" and not options.verify:
    sys.exit(3)
if fault == "hang" and not options.verify:
    time.sleep(60)
if fault == "left-out" and not options.verify:
    truth["left_out"] = {truth["kernels"].pop()["case"]: "RuntimeError: no kernel image at /home/someone/x"}
time.sleep(0.25)
if not options.verify:
    truth["energy"] = None
options.output.mkdir(parents=True, exist_ok=True)
(options.output / f"{os.getpid()}.json").write_text(json.dumps(truth))
