# ruff: noqa: F401  # what torch imports too
from torch._C import _profiler
