"""The matrix products of a layer on one side of a comparison: what each takes at how many rows.

A product may be several dispatches: weights written out before it, parts added up after it, a remainder of
its rows. All that is known to be of one layer at one number of rows counts; how many products that is follows
from the FLOPs done, 2 M N K a product.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rocscope.comparison.side import Side
from rocscope.models.served import Linear, ServedModel

if TYPE_CHECKING:
    import pandas as pd

_MULTIPLIES: Final = ("gemm", "gptq_gemm", "awq_gemm", "bnb_gemm", "gguf_gemm")
_WRITES_OUT: Final = "dequant"
_TYPE_BITS: Final = {"fp16": 16, "bf16": 16, "fp32": 32, "fp8": 8, "int8": 8}
_ROWS_A_PASS: Final = 8  # BLOCK_M_SIZE_MAX of vLLM's q_gemm.cu, see models/gptq.py
_WHOLE_FRAC: Final = 0.01  # by which the number of products may miss a whole number


@dataclass(frozen=True)
class Product:
    """One layer's product at one number of rows; times, bytes and FLOPs are of one product."""

    layer: str
    m: int
    n: int
    k: int
    bits: int  # of a weight as it is kept
    kernel: str  # that multiplies; of several the one that takes longest
    unit: str | None  # pipe that it multiplies on: vector_fp16, matrix_fp16
    count: float  # products that this is the mean of
    time_s: float
    multiply_s: float  # of the time, multiplying
    write_out_s: float  # of the time, writing weights out as 16 bit
    bytes: float | None
    bytes_basis: str | None
    passes: float | None  # over the weights, in a launch that tells it
    limiter: str
    prompts: bool  # steps that compute prompts

    @property
    def flops(self) -> float:
        """Operations of the product."""
        return 2.0 * self.m * self.n * self.k

    @property
    def weight_bytes(self) -> float:
        """The weights alone, without scales."""
        return self.k * self.n * self.bits / 8


@dataclass(frozen=True)
class Products:
    """All products of one side, by layer and rows."""

    layers: tuple[str, ...]  # in the order of a step, each once a transformer layer
    repeats: int  # transformer layers
    found: dict[tuple[str, int], Product]

    @property
    def bits(self) -> int | None:
        """Bits of the weights of the layers; ``None`` where they differ or nothing is known."""
        kept = {each.bits for each in self.found.values() if each.layer in self.layers}
        return kept.pop() if len(kept) == 1 else None

    def rows(self, *, prompts: bool | None = None) -> list[int]:
        """Return at which numbers of rows every layer is known, rising."""
        each = {m for _, m in self.found}
        return sorted(
            m
            for m in each
            if (row := self.at(m)) and (prompts is None or all(one.prompts == prompts for one in row))
        )

    def at(self, m: int) -> list[Product] | None:
        """Return the product of each layer at ``m`` rows, ``None`` where one is missing."""
        row = [self.found.get((layer, m)) for layer in self.layers]
        known = [each for each in row if each is not None]
        return known if known and len(known) == len(row) else None


def products(side: Side) -> Products | None:
    """Return the products of ``side``; ``None`` where the model, or which layer a kernel is of, is unknown.

    Layers of one shape that cannot be told apart are one entry, named after both.
    """
    served = side.served
    if served is None or served.experts or side.kernels is None or side.kernels.empty:
        return None
    frame = _placed(side.kernels, served)
    if frame is None:
        return None
    found = {}
    for key, rows in frame.groupby(["layer", "rows"], sort=True):
        layer, m = str(key[0]), int(float(str(key[1])))
        linear = served.layer(layer)
        product = _product(rows, layer, m, linear) if linear else None
        if product is not None:
            found[product.layer, product.m] = product
    order = [each.name for each in served.linears]
    names = sorted(
        {name for name, _ in found if not name.startswith("lm_head")},
        key=lambda name: order.index(name.partition("/")[0]),
    )
    return Products(tuple(names), served.layers, found) if names else None


def time_s(row: list[Product] | None) -> float:
    """Return the time of products one after the other."""
    return sum(each.time_s for each in row or [])


def _placed(kernels: pd.DataFrame, served: ServedModel) -> pd.DataFrame | None:
    """Return the rows of products with ``layer`` and ``rows``, by their place or the only layer that fits."""
    import pandas as pd

    of_product = kernels["family"].isin([*_MULTIPLIES, _WRITES_OUT])
    frame = kernels[of_product].copy()
    shapes = [each if isinstance(each, dict) else {} for each in frame["problem_shape"]]
    place = frame["layer"] if "layer" in frame else pd.Series([None] * len(frame), frame.index, dtype=object)
    told = (
        frame["layer_m"] if "layer_m" in frame else pd.Series([None] * len(frame), frame.index, dtype=object)
    )
    frame["layer"] = [
        layer if isinstance(layer, str) else _by_shape(shape, served)
        for layer, shape in zip(place, shapes, strict=True)
    ]
    frame["rows"] = [shape.get("m") if pd.isna(m) else int(m) for m, shape in zip(told, shapes, strict=True)]
    frame["shape"] = pd.Series(shapes, frame.index, dtype=object)
    frame["n"] = [shape.get("n") for shape in shapes]
    known = frame[frame["layer"].notna() & frame["rows"].notna()]
    return None if known.empty else known


def _by_shape(shape: dict[str, Any], served: ServedModel) -> str | None:
    fused = [each for each in served.linears if each.name.partition("_proj")[0] not in _APART]
    fits = [each.name for each in fused if (each.n, each.k) == (shape.get("n"), shape.get("k"))]
    return fits[0] if len(fits) == 1 else None


_APART: Final = ("q", "k", "v", "gate", "up")  # run as one product, but for models that split them


def _product(rows: pd.DataFrame, layer: str, m: int, linear: Linear) -> Product | None:
    multiplies = rows[rows["family"].isin(_MULTIPLIES) & rows["flops"].notna() & (rows["n"] == linear.n)]
    if multiplies.empty:
        return None
    done = float((multiplies["flops"] * multiplies["dispatches"]).sum())
    count = done / (2.0 * m * linear.n * linear.k)
    if count < 1 or abs(count - round(count)) > _WHOLE_FRAC * count:
        return None  # some of it is missing, or not of these products
    written = rows[rows["family"] == _WRITES_OUT]
    longest = multiplies.sort_values("time_ns", ascending=False).iloc[0]
    sized = rows[rows["bytes"].notna()]
    known = len(sized) == len(rows)
    basis = set(sized["bytes_basis"].dropna())
    bits = _bits(rows, longest)
    if bits is None:
        return None
    return Product(
        layer=layer,
        m=m,
        n=linear.n,
        k=linear.k,
        bits=bits,
        kernel=str(longest["kernel"]),
        unit=longest["flops_unit"],
        count=round(count),
        time_s=_seconds(rows, count),
        multiply_s=_seconds(rows[rows["family"] != _WRITES_OUT], count),
        write_out_s=_seconds(written, count),
        bytes=float((rows["bytes"] * rows["dispatches"]).sum()) / count if known else None,
        bytes_basis=basis.pop() if len(basis) == 1 else ("modelled" if basis else None),
        passes=_passes(multiplies, count),
        limiter=str(longest["limiter"]),
        prompts=bool(set(rows["step_phase"].dropna()) & {"prefill", "mixed"}),
    )


def _bits(rows: pd.DataFrame, longest: pd.Series) -> int | None:
    """Return the bits of a weight as it is kept: of packed ones as told, else those of the product's type."""
    told = {shape.get("bits") for shape in rows["shape"] if shape.get("bits")}
    if told or longest["family"] != "gemm" or (rows["family"] == _WRITES_OUT).any():
        return int(told.pop()) if len(told) == 1 else None
    return _TYPE_BITS.get(str(longest["shape"].get("dtype")))


def _seconds(rows: pd.DataFrame, count: float) -> float:
    return float(rows["time_ns"].sum()) * 1e-9 / count


def _passes(multiplies: pd.DataFrame, count: float) -> float | None:
    """Return how often the fused GPTQ kernel reads its weights: once for each row of workgroups along y."""
    if not (multiplies["subfamily"] == "gptq_exllama").all():
        return None
    total = 0.0
    for grid, group, shape, often in _launches(multiplies):
        along = grid / group if grid and group else -(-shape.get("m", 0) // _ROWS_A_PASS)
        total += along * often
    return total / count


def _launches(rows: pd.DataFrame) -> Iterable[tuple[float, float, dict[str, Any], float]]:
    columns = (rows["grid_y"].fillna(0), rows["workgroup_y"].fillna(0), rows["shape"], rows["dispatches"])
    return zip(*columns, strict=True)
