"""What an analysis says of each kernel and launch shape, as arguments of its slices in a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rocscope.findings import Analysis, KernelFinding

Key = tuple[int, str, tuple[int, ...]]  # GPU, name as recorded, grid and workgroup with -1 for unknown
_DIFFERS: Final = "differs by problem shape"


@dataclass(frozen=True)
class Label:
    """What is said of a kernel with one launch shape on one GPU."""

    family: str
    args: str  # encoded JSON, ``,"bound":"memory"…``


def by_key(analysis: Analysis | None) -> dict[Key, Label]:
    """Return what is said of each kernel and launch shape.

    Launches of one shape that the analysis tells apart by their problem share what holds for all of them.
    """
    grouped: dict[Key, list[KernelFinding]] = {}
    for kernel in analysis.kernels if analysis else ():
        grouped.setdefault(_key(kernel), []).append(kernel)
    return {key: Label(kernels[0].family, _encoded(kernels)) for key, kernels in grouped.items()}


def _key(kernel: KernelFinding) -> Key:
    shape = (*_three(kernel.launch_shape.grid), *_three(kernel.launch_shape.workgroup))
    return kernel.gpu, kernel.raw_name, tuple(-1 if each is None else each for each in shape)


def _three(extent: list[int | None]) -> list[int | None]:
    return [*extent, None, None, None][:3]


def _encoded(kernels: list[KernelFinding]) -> str:
    told: dict[str, Any] = {
        "bound": _common([each.bound for each in kernels]),
        "limiter": _common([each.limiter for each in kernels]),
        "confidence": _common([each.confidence for each in kernels]),
        "problem": _common([_problem(each.problem_shape) for each in kernels]),
        "bytes": _number([each.bytes_per_dispatch.value for each in kernels]),
        "bytes_basis": _common([each.bytes_per_dispatch.basis for each in kernels]),
        "mean_bandwidth_frac": _number([each.bandwidth_frac for each in kernels]),
    }
    return "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in told.items() if value)


def _common(values: list[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else _DIFFERS


def _number(values: list[float | None]) -> float | None:
    """Return the one value, to six digits: a mean of several would be of none."""
    value = values[0]
    return None if len(set(values)) > 1 or value is None else float(f"{value:.6g}")


def _problem(shape: Mapping[str, Any] | None) -> str | None:
    return None if not shape else " ".join(f"{name}={value}" for name, value in shape.items())
