"""One side of a comparison: a recording and what was found in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rocscope import metrics, taxonomy
from rocscope.capture import Capture
from rocscope.findings import Analysis, Target
from rocscope.models.served import ServedModel


class Side(BaseModel):
    """A recording and what was found in it."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    capture: Capture
    analysis: Analysis
    model: dict[str, Any] | None = None  # config.json of the served model, where known
    tp: int | None = None
    forecast: list[Target] | None = None  # as stored when the recording was analysed first
    kernels: Any = None  # the analysis's frame of kernels with their problem shapes; None: not kept
    placed: Any = None  # by which the rows of that frame are kept apart, see study.Study
    served: ServedModel | None = None  # the model whose shapes the analysis used
    alone: list[Any] = Field(default_factory=list)  # kernels measured alone: measured_alone.Alone
    repeats: list[Side] = Field(default_factory=list)  # of the same thing, where there are several

    @property
    def gpu(self) -> int:
        """The GPU whose steps are compared: the first."""
        return min((gpu.gpu for gpu in self.analysis.gpus), default=0)

    @property
    def targets(self) -> list[Target]:
        """The targets whose forecasts are scored: those stored, else those of the analysis."""
        return self.analysis.targets if self.forecast is None else self.forecast

    @property
    def runs(self) -> list[Side]:
        """The recordings of this side: its repeats, or itself."""
        return self.repeats or [self]

    def frame(self) -> Any:
        """Return the kernels as ``metrics.group`` gives them, with problem shapes where those were kept."""
        if self.kernels is not None:
            return self.kernels
        return metrics.group(self.capture, taxonomy.classify(metrics.kernel_names(self.capture)), self.placed)

    def warned(self, code: str) -> bool:
        """Tell whether integrity has a warning of this code."""
        return any(each.code == code for each in self.analysis.integrity.warnings)

    @property
    def gpu_names(self) -> list[str] | None:
        """The kinds of GPU, or ``None`` where one is unknown: it may be the same as the other side's."""
        names = [gpu.model or gpu.arch for gpu in self.analysis.gpus]
        known = {name for name in names if name is not None}
        return sorted(known) if None not in names else None
