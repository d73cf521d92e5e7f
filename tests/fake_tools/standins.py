"""Builds the stand-ins into an install tree like ROCm's: bin/ and lib/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def install(root: Path) -> Path:
    """Build and install the stand-ins under ``root``; return its ``bin``. Needs gcc."""
    libraries = [
        root / "lib" / "rocprofiler-sdk" / "librocprofiler-sdk-tool.so",
        root / "lib" / "rocprofiler" / "librocprofiler64.so",
    ]
    for library in libraries:
        library.parent.mkdir(parents=True)
    gcc = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(libraries[0])]
    subprocess.run([*gcc, str(HERE / "standin_tool.c"), "-ldl", "-lm"], check=True)
    shutil.copy(libraries[0], libraries[1])
    (root / "bin").mkdir()
    names = (
        "rocprof",
        "rocprofv2",
        "rocprofv3",
        "rocprof-compute",
        "standin_table.py",
        "standin_counters.py",
    )
    for name in names:
        shutil.copy(HERE / name, root / "bin" / name)
    return root / "bin"
