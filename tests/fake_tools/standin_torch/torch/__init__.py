"""A stand-in for torch: what rocscope's hook touches of it, with kernels that are synthetic.

STANDIN_GPU: a GPU's device seems to be there, and its driver. STANDIN_OLD: PyTorch before 2.7, which ends a
recording only in the thread that began it. The rest is in ``autograd/profiler.py``.
"""

# ruff: noqa: F401  # torch imports its parts too

import os
import pathlib

__version__ = "2.3.1+standin" if os.environ.get("STANDIN_OLD") else "2.11.0+standin"

from torch import _C, autograd, cuda, distributed, version

if os.environ.get("STANDIN_GPU"):
    _exists = pathlib.Path.exists
    pathlib.Path.exists = lambda path, **more: str(path) == "/dev/kfd" or _exists(path, **more)


def work(name="standin_kernel"):
    """Run a kernel, on the GPU where there is one."""
    if os.environ.get("STANDIN_GPU"):
        cuda.init()
    autograd.profiler.ran(name)
