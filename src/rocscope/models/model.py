"""What a shape model is, what it is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rocscope.hardware import GpuSpec
from rocscope.models.served import Linear, ServedModel


@dataclass(frozen=True)
class Operand:
    """One input of the framework operator that launched a dispatch."""

    dims: tuple[int, ...]
    dtype: str  # as torch names it: "c10::Half", "float", "" for a scalar
    stored: int | None = None  # elements in memory, fewer than dims say if expanded; None if not recorded
    parts: tuple[tuple[int, ...], ...] = ()  # dims of each tensor, of an input that is a list of them


@dataclass(frozen=True)
class Dispatch:
    """What is known of one dispatch of a (kernel, launch shape). Unknown is ``None``."""

    raw_name: str
    family: str
    subfamily: str
    kind: str
    grid: tuple[int, int, int] | None  # work-items; None unless all three are known
    grid_items: int | None  # product, known more often
    workgroup: tuple[int, int, int] | None
    operator: str | None
    operands: tuple[Operand, ...]
    copied_bytes: float | None
    lds_bytes: int | None
    gpu: GpuSpec | None
    # of the engine step, means over the dispatches of a row (rocscope.step_context):
    step_tokens: float | None = None
    step_sequences: float | None = None
    step_context_tokens: float | None = None
    step_attended_pairs: float | None = None
    step_phase: str | None = None
    step_context_source: str | None = None
    step_rows_limit: float | None = None
    # of a product, from its place in the order of a step (rocscope.models.sequence):
    layer: Linear | None = None
    layer_m: int | None = None  # rows of the whole product, which may be split over dispatches
    layer_parts: int | None = None  # partial sums of split-K


@dataclass(frozen=True)
class Estimate:
    """Bytes and FLOPs of one dispatch. ``source`` is a sentence that ends in the evidence."""

    bytes: float | None = None
    flops: float | None = None  # 0.0 for a pure copy, None where not known
    flops_unit: str | None = None  # "vector_fp16", "matrix_fp16"…
    problem_shape: dict[str, Any] | None = None
    source: str = ""
    # FLOPs a byte at most, where it holds without knowing either; needs flops_unit
    intensity_limit: float | None = None


@runtime_checkable
class ShapeModel(Protocol):
    """Bytes and FLOPs for one family. A module of ``rocscope.models`` exports each as its ``MODEL``."""

    name: str
    help: str
    families: tuple[str, ...]

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return what the shape tells, or ``None`` where it does not tell enough. Never guess."""
        ...
