"""The workspace of one analysis: the capture, its kernels, and what analyzers found so far.

``kernels`` is a frame of one row a (gpu, kernel, launch shape, problem); analyzers add columns to it. A
missing number is NaN, a missing text ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions
from rocscope.findings import (
    FamilySummary,
    GpuSummary,
    LostTime,
    NotEvaluated,
    PhaseSummary,
    StepTable,
    Target,
    Timeline,
    Warned,
)
from rocscope.gain_history import GainHistory
from rocscope.hardware import GpuSpec

if TYPE_CHECKING:
    import pandas as pd

    from rocscope.models.served import ServedModel

GROUP_COLUMNS: Final = (  # what metrics.group makes
    "gpu",
    "process",
    "kind",
    "raw_name",
    "kernel",  # short name
    "family",
    "subfamily",
    "grid_x",
    "grid_y",
    "grid_z",
    "workgroup_x",
    "workgroup_y",
    "workgroup_z",
    "operator",
    "operator_shapes",
    "case",  # of a table of measurements, as are the next two; None elsewhere
    "given_family",
    "given_flops_unit",
    "dispatch_id",  # of the one dispatch that a row of such a table stands for, -1 elsewhere
    "wave_size",
    "lds_bytes",
    "scratch_bytes",
    "vgprs",
    "agprs",
    "sgprs",
    "copied_bytes",  # mean of a dispatch
    "number",  # of the row among all groups; metrics.members finds its dispatches by it
    "dispatches",
    "time_ns",
    "mean_ns",
    "min_ns",
    "p50_ns",
    "p99_ns",
    "max_ns",
)
MODEL_COLUMNS: Final = (  # what models.apply adds, a dispatch
    "problem_shape",  # dict or None
    "bytes",
    "bytes_basis",
    "bytes_source",
    "flops",
    "flops_basis",
    "flops_source",
    "flops_unit",  # key of Ceilings.flops_per_s: the pipe that does them
    "intensity_limit",  # FLOPs a byte at most, where only that is known
    "intensity_limit_source",
)
MEASURE_COLUMNS: Final = (  # what analyzers.counters and analyzers.occupancy add: a dispatch, NaN unknown
    "read_bytes",  # device memory, both
    "write_bytes",
    "l2_bytes",
    "l1_bytes",
    "l2_hit_frac",
    "l1_hit_frac",
    "flops_measured",
    "theoretical_occupancy_frac",
    "achieved_occupancy_frac",
    "valu_busy_frac",
    "salu_busy_frac",
    "mfma_busy_frac",
    "issue_active_frac",
    "mem_unit_busy_frac",
    "mem_unit_stalled_frac",
    "lds_conflict_frac",
    "global_load_requests",
    "global_load_sectors",  # of 32 bytes
    "valu_insts",
    "vmem_insts",
    "waves",
    "waves_per_cu",  # full waves of workgroups over the GPU, as --table has it; not resident waves
    "workgroups",
)


@dataclass
class Study:
    """Everything known so far; analyzers read it and add to it."""

    capture: Capture
    options: AnalyzeOptions
    kernels: pd.DataFrame
    specs: dict[int, GpuSpec | None]  # by gpu index; None where the GPU is unknown
    gpus: list[GpuSummary] = field(default_factory=list)
    families: list[FamilySummary] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    phases: list[PhaseSummary] = field(default_factory=list)
    step_table: StepTable | None = None
    step_table_missing: str | None = None  # why there is none
    timeline: Timeline | None = None
    lost_time: list[LostTime] = field(default_factory=list)
    serving: dict[str, Any] = field(default_factory=dict)
    telemetry: dict[str, Any] = field(default_factory=dict)
    served: ServedModel | None = None  # the model, where it is known and its shapes fit the kernels
    not_evaluated: list[NotEvaluated] = field(default_factory=list)
    gains: GainHistory = field(default_factory=GainHistory)  # what scored changes gave, for forecasts
    placed: Any = None  # what models.sequence.place said, by which rows of one launch shape are kept apart

    def warn(self, code: str, message: str) -> None:
        """Add a warning to the integrity section, once."""
        found = Warned(code=code, message=message)
        if found not in self.warnings:
            self.warnings.append(found)


@runtime_checkable
class Analyzer(Protocol):
    """One kind of finding. A module of ``rocscope.analyzers`` exports each as its ``ANALYZER``."""

    name: str
    help: str
    needs: tuple[str, ...]  # columns of Study.kernels it reads
    adds: tuple[str, ...]  # columns of Study.kernels it makes

    def run(self, study: Study) -> None:
        """Add this analyzer's columns and findings to ``study``."""
        ...
