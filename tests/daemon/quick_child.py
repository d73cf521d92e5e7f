"""Stands in for the analysis where only what the daemon does with its answer is tried: no library to load.

What begins with "bad" fails. It is confined as the real one is, and makes the same files.
"""

import json
import os
import sys
from pathlib import Path

from rocscope.daemon.confinement import Limits, confine


def main(parent):
    orders = json.loads(sys.stdin.buffer.readline())
    assert confine(Limits.model_validate(orders["limits"]), parent)
    source, folder = Path(orders["source"]), Path(orders["result"])
    if source.read_bytes().startswith(b"bad"):
        print(json.dumps({"failed": "it is bad"}))
        return 1
    folder.mkdir()
    found = {
        "window_id": orders["window_id"],
        "capture_id": source.read_text(),
        "profiler": "synthetic",
        "provenance": "synthetic",
        "duration_s": None,
        "kernels": 1,
        "key": {},
        "families": [
            {"gpu": "0", "family": "gemm", "dispatches": 1, "busy_s": 1.0, "bytes": None, "bytes_basis": None,
             "flops": None, "flops_basis": None, "steps": None, "tokens": None, "bandwidth_frac": None}
        ],
        "phases": [],
        "targets": [],
        "integrity": {},
        "serving": {},
        "analysis_path": "analysis.json",
    }  # fmt: skip
    for name, text in (
        ("aggregates.parquet", ""),
        ("analysis.json", "{}"),
        ("result.json", json.dumps(found)),
    ):
        with (folder / name).open("w") as stream:
            stream.write(text)
            os.fsync(stream.fileno())
    print(json.dumps({"done": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
