"""Lets PyTorch's own profiler record a Python program, without a change to the program.

``rocscope profile --profiler torch`` puts this folder first on PYTHONPATH, so that every Python that the
command starts runs this file as it starts. It waits for ``import torch`` and then loads ``recorder.py``. The
Python may be another than rocscope's, of version 3.9 or newer; most never import torch, hence no more is
imported here than Python has loaded already.
"""

# ruff: noqa: PTH100, PTH112, PTH118, PTH120  # pathlib would take longer than all else that is done here

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing's own, which takes time to import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_FOLDER = "ROCSCOPE_TORCH_FOLDER"
_SECONDS = (("ROCSCOPE_TORCH_DELAY_S", "0"), ("ROCSCOPE_TORCH_WINDOW_S", "120"))
_HERE = os.path.dirname(os.path.abspath(__file__))


def _load(name: str, module_name: str) -> Any:
    """Run the file ``name`` of this folder as a module that is not on ``sys.modules``."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(module_name, os.path.join(_HERE, name))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Finder:
    """Finds torch as it would be found without, and has the recorder armed when it has been imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Find ``torch`` with the other finders; leave all else to them."""
        if name != "torch":
            return None
        others = (getattr(each, "find_spec", None) for each in sys.meta_path if each is not self)
        spec = next(
            (found for find in others if find is not None and (found := find(name, path, target))), None
        )
        loader: Any = getattr(spec, "loader", None)
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return spec

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _arm(module)

        try:
            loader.exec_module = exec_module  # of this loader, which loads nothing else
        except AttributeError as error:
            _say(f"PyTorch is not recorded: {error}")
        return spec


def _arm(torch: ModuleType) -> None:
    try:
        seconds = [float(os.environ.get(name) or default) for name, default in _SECONDS]
        if not all(each >= 0 for each in seconds):
            raise ValueError(f"{' and '.join(name for name, _ in _SECONDS)} must not be negative")
        _load("recorder.py", "_rocscope_torch_recorder").Recorder(torch, os.environ[_FOLDER], *seconds).arm()
    except Exception as error:  # noqa: BLE001  # whatever it is, the program goes on
        _say(f"PyTorch is not recorded: {type(error).__name__}: {error}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"rocscope: {text}\n")


def _chain() -> None:
    """Run the ``sitecustomize`` that the program would have without ours; leave its path as it would be."""
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or os.curdir) != _HERE]
    import importlib.machinery

    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    import importlib.util

    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.path.isdir(os.environ.get(_FOLDER, "")):
    sys.meta_path.insert(0, Finder())
_chain()
