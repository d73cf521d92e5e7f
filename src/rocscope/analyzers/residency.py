"""How much of modelled bytes a cache may serve: what the kernel before wrote, or the last dispatch read.

Modelled bytes are each datum once, from wherever it lies. Of a dispatch a cache can hold no more than its
size, and nothing that came before more other data than it holds: weights and the keys and values of earlier
tokens are another layer's at each dispatch, so they come from memory where a step moves more than the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers.activity import per_gpu
from rocscope.errors import InputError
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
_PRODUCTS: Final = frozenset(("gemm", "gptq_gemm", "awq_gemm", "bnb_gemm", "gguf_gemm"))
_SAFE: Final = 2.0  # caches are no perfect queues: this many times their size pushes all older data out
_HALF: Final = 16  # bits of a weight where the shape does not say


def sizes(frame: pd.DataFrame, study: Study) -> Floats:
    """Return the bytes that the L2 and a cache on memory's side hold together, NaN for unknown GPUs."""
    return per_gpu(frame, study.specs, lambda spec: spec.l2_bytes + spec.memory_side_cache_bytes)


def from_memory_frac(frame: pd.DataFrame, study: Study) -> Floats:
    """Return the least share of the memory roof that each dispatch needs; that of measured bytes as it is."""
    size, moved = sizes(frame, study), frame["bytes"].to_numpy(float)
    streamed = np.where(_distance(frame, study) > _SAFE * size, _kept(frame), 0.0)
    served = np.fmin(np.maximum(moved - streamed, 0.0), size)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(moved > 0, 1 - served / moved, 1.0)
    modelled = (frame["bytes_basis"] == "modelled").to_numpy(bool) & ~np.isnan(size)
    found: Floats = frame["bandwidth_frac"].to_numpy(float) * np.where(modelled, share, 1.0)
    return found


def _kept(frame: pd.DataFrame) -> Floats:
    """Bytes of a dispatch that no kernel of the step wrote: weights, keys and values of earlier tokens."""
    decode = frame["step_phase"] == "decode" if "step_phase" in frame else np.zeros(len(frame), bool)
    cache = ((frame["family"] == "attention") & decode).to_numpy(bool)
    families, shapes = frame["family"].tolist(), frame["problem_shape"].tolist()
    kept = [_weights(family, shape) for family, shape in zip(families, shapes, strict=True)]
    moved = frame["bytes"].to_numpy(float)
    return np.where(cache, moved, np.fmin(np.array(kept, np.float64), moved))


def _weights(family: str, shape: Any) -> float:
    n, k = (shape.get(name) for name in "nk") if isinstance(shape, dict) else (None, None)
    if family not in (*_PRODUCTS, "dequant") or not isinstance(n, int) or not isinstance(k, int):
        return 0.0
    written = 2.0 * n * k if family == "dequant" else 0.0  # goes out later, as far as it does not fit
    return n * k * float(shape.get("bits") or _HALF) / 8 + written


def _distance(frame: pd.DataFrame, study: Study) -> Floats:
    """Return the known bytes that other kernels move on the GPU before the same data are asked for again.

    That is between two dispatches of the row; of kernels placed in the order of a model's layers as many
    times more as it has layers, since each layer has its own weights, keys and values.
    """
    total = (frame["bytes"] * frame["dispatches"]).where(~frame["over_the_link"]).fillna(0.0)
    others = total.groupby(frame["gpu"]).transform("sum") - total
    found = (others / frame["dispatches"].where(frame["dispatches"] > 0)).to_numpy(float)
    if "layer" not in frame:
        return found
    layers = _layers(study)
    placed = frame["layer"].notna() & ~frame["layer"].astype(str).str.contains("lm_head")
    attends = (frame["family"] == "attention").to_numpy(bool)
    whole = total.groupby(frame["gpu"]).transform("sum") / frame["dispatches"].where(frame["dispatches"] > 0)
    return np.where(placed.to_numpy(bool) | attends, whole.to_numpy(float) * layers, found)


def _layers(study: Study) -> int:
    """Return the layers of the served model, 1 where it is not known."""
    source = study.options.model or study.capture.manifest.model
    if source is None:
        return 1
    from rocscope.models.served import ServedModel

    try:
        return ServedModel.load(source, 1).layers
    except InputError:  # said as model-unusable already
        return 1
