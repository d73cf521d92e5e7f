"""Adds bytes and FLOPs to a frame of kernels, by the first shape model of their family that knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rocscope.hardware import GpuSpec
from rocscope.models import gptq, w4a16
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.registry import shape_models
from rocscope.models.served import ServedModel

if TYPE_CHECKING:
    import pandas as pd

_KEY: Final = (
    *("raw_name", "family", "subfamily", "kind", "grid_x", "grid_y", "grid_z"),
    *("workgroup_x", "workgroup_y", "workgroup_z", "operator", "operator_shapes", "copied_bytes"),
    *("lds_bytes", "gpu"),
)
_STEP: Final = (
    *("step_tokens", "step_sequences", "step_context_tokens", "step_attended_pairs"),
    *("step_phase", "step_context_source", "step_rows_limit"),
)
_LAYER: Final = ("layer", "layer_m", "layer_parts")
_NOTHING: Final = Estimate()
BASIS: Final = "modelled"


def apply(
    kernels: pd.DataFrame, specs: Mapping[int, GpuSpec | None], served: ServedModel | None
) -> pd.DataFrame:
    """Return ``kernels`` with the columns of :data:`rocscope.study.MODEL_COLUMNS`, a dispatch.

    ``kernels`` has those of :data:`rocscope.study.GROUP_COLUMNS`; what is not modelled is NaN or ``None``.
    Rows that agree in what models are told are estimated once.
    """
    import pandas as pd

    known: dict[tuple[Any, ...], Estimate] = {}
    found: list[Estimate] = []
    told = (*_KEY, *(name for name in (*_STEP, *_LAYER) if name in kernels.columns))
    for key in zip(*(_plain(kernels[column]) for column in told), strict=True):
        if key not in known:
            known[key] = _estimate(dict(zip(told, key, strict=True)), specs, served)
        found.append(known[key])
    columns = {
        "problem_shape": _texts([each.problem_shape for each in found]),
        **_quantity("bytes", [each.bytes for each in found], found),
        **_quantity("flops", [each.flops for each in found], found),
        "flops_unit": _texts([each.flops_unit for each in found]),
        "intensity_limit": _numbers([each.intensity_limit for each in found]),
        "intensity_limit_source": _texts(
            [None if each.intensity_limit is None else each.source for each in found]
        ),
    }
    return kernels.assign(
        # the dtype is given, as pandas would take a column of texts and None for strings and NaN
        **{name: pd.Series(values, kernels.index, dtype=values.dtype) for name, values in columns.items()}
    )


def _quantity(name: str, values: list[float | None], found: list[Estimate]) -> dict[str, Any]:
    return {
        name: _numbers(values),
        f"{name}_basis": _texts([None if value is None else BASIS for value in values]),
        f"{name}_source": _texts(
            [None if value is None else each.source for value, each in zip(values, found, strict=True)]
        ),
    }


def _numbers(values: list[float | None]) -> Any:
    import numpy as np

    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _texts(values: list[Any]) -> Any:
    import numpy as np

    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _plain(column: pd.Series) -> list[Any]:
    """Return the values of ``column``, ``None`` for what is missing."""
    missing = column.isna().tolist()
    return [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)]


def _estimate(
    row: dict[str, Any], specs: Mapping[int, GpuSpec | None], served: ServedModel | None
) -> Estimate:
    models = [model for model in shape_models() if row["family"] in model.families]
    if not models:
        return _NOTHING
    dispatch = _dispatch(row, specs, served)
    answers = (model.estimate(dispatch, served) for model in models)
    return next((answer for answer in answers if answer is not None), _NOTHING)


def contradiction(kernels: pd.DataFrame, served: ServedModel | None) -> str | None:
    """Say why ``kernels`` cannot be of the model ``served``, if any of them tells; the longest first.

    A model that does not fit would give shapes that look certain and are wrong.
    """
    if served is None:
        return None
    rows = kernels[kernels["family"] == "gptq_gemm"]
    for key in zip(*(_plain(rows[column]) for column in _KEY), strict=True):
        dispatch = _dispatch(dict(zip(_KEY, key, strict=True)), {})
        if reason := gptq.contradiction(dispatch, served) or w4a16.contradiction(dispatch, served):
            return reason
    return None


def _dispatch(
    row: dict[str, Any], specs: Mapping[int, GpuSpec | None], served: ServedModel | None = None
) -> Dispatch:
    rows, parts = row.get("layer_m"), row.get("layer_parts")
    return Dispatch(
        raw_name=row["raw_name"] or "",
        family=row["family"],
        subfamily=row["subfamily"] or "",
        kind=row["kind"] or "kernel",
        grid=_triple(row, "grid"),
        grid_items=_items(row),
        workgroup=_triple(row, "workgroup"),
        operator=row["operator"],
        operands=operands(row["operator_shapes"]),
        copied_bytes=row["copied_bytes"],
        lds_bytes=None if row["lds_bytes"] is None else int(row["lds_bytes"]),
        gpu=specs.get(row["gpu"]),
        **{name: row.get(name) for name in _STEP},
        layer=served.layer(row["layer"]) if served and row.get("layer") else None,
        layer_m=None if rows is None else int(rows),
        layer_parts=None if parts is None else int(parts),
    )


def _triple(row: dict[str, Any], what: str) -> tuple[int, int, int] | None:
    x, y, z = (row[f"{what}_{axis}"] for axis in "xyz")
    return None if x is None or y is None or z is None else (int(x), int(y), int(z))


def _items(row: dict[str, Any]) -> int | None:
    """Return the work-items of the grid; only x is known where a tool gives the product."""
    x, y, z = (row[f"grid_{axis}"] for axis in "xyz")
    return None if x is None else int(x) * int(y or 1) * int(z or 1)


@lru_cache(maxsize=4096)
def operands(text: str | None) -> tuple[Operand, ...]:
    """Read the column ``operator_shapes``; what is not such a list, or has odd sizes, is no operand.

    An input that is itself a list of tensors becomes an operand without dtype, but with their dims in
    ``parts``, so that places keep.
    """
    if not text:
        return ()
    try:
        given = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(_operand(each) for each in given)


def _operand(given: dict[str, Any]) -> Operand:
    dims, dtype, stored = given.get("dims"), given.get("dtype"), given.get("stored")
    if not isinstance(dims, list) or not isinstance(dtype, str) or not all(_is_size(size) for size in dims):
        return Operand((), "", parts=_parts(dims) if dtype == "TensorList" else ())
    return Operand(tuple(dims), dtype, stored if _is_size(stored) else None)


def _parts(dims: Any) -> tuple[tuple[int, ...], ...]:
    """Return the dims of each tensor of a list, none unless all are sizes."""
    if not isinstance(dims, list) or not all(
        isinstance(each, list) and all(_is_size(size) for size in each) for each in dims
    ):
        return ()
    return tuple(tuple(each) for each in dims)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53
