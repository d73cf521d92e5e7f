"""Kills the daemon's spool and analysis fifty times at random instants, with real recordings and analyses.

    python benchmarks/soak_spool.py [KILLS]

Prints what it found as JSON; ends with 1 where a result was lost or doubled. Takes some minutes.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VICTIM = ROOT / "tests" / "daemon" / "spool_victim.py"
RECORDING = ROOT / "examples" / "h200_decoder" / "kineto_fp16_graph.json.gz"


def main(kills):
    with tempfile.TemporaryDirectory(prefix="rocscope-soak-") as scratch:
        done = subprocess.run(
            [sys.executable, VICTIM, Path(scratch) / "state", str(kills), str(random.randrange(1 << 30)),
             "rocscope.daemon.analysis_child", "--recording", RECORDING, "--longest-s", "6"],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    print(done.stdout.strip())
    return 1 if "wrong" in json.loads(done.stdout) else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
