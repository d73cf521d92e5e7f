"""The window on one axis: how busy each GPU was with what, its longest pauses, phases, sensors, requests."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope import intervals
from rocscope.analyzers import ranks, time_axis, time_gaps, time_series, time_spans
from rocscope.analyzers.gpu_samples import Telemetry
from rocscope.analyzers.integrity import kernels_missing
from rocscope.analyzers.time_axis import Axis
from rocscope.findings import LaneFamily, Timeline, TimelineLane
from rocscope.serving_metrics import Scrapes
from rocscope.study import Study

MOST_BINS: Final = 600
_FEWEST_BINS: Final = 60
_CELLS: Final = 4800  # bins of all GPUs together: those of eight at most bins
_BINS_A_DISPATCH: Final = 20  # finer bins than that show nothing more
_DECIMALS: Final = 6
Floats = NDArray[np.float64]


class OverTime:
    """Adds ``study.timeline``; no columns."""

    name = "over_time"
    help = "busy share of each GPU by family, pauses, phases and sensors on one axis"
    needs = ("gpu", "process", "raw_name", "family", "perturbed")  # the last: integrity has run
    adds = ()

    def run(self, study: Study) -> None:
        """Do nothing where dispatches have no times."""
        axis = time_axis.find(study)
        if axis is None:
            return
        edges = np.linspace(0.0, float(axis.span_ns), _bins(axis) + 1)
        bin_ns = float(axis.span_ns) / (len(edges) - 1)
        gaps = self._gaps(study, axis)
        telemetry, scrapes = self._sampled(study, axis)
        study.timeline = Timeline(
            span_s=axis.span_ns * 1e-9,
            bin_s=bin_ns * 1e-9,
            lanes=_lanes(study, axis, edges),
            gaps=gaps.longest,
            gaps_left_out=gaps.left_out,
            gaps_left_out_s=gaps.left_out_s,
            spans=[
                *time_spans.phases(study, axis),
                *time_spans.throttled(telemetry, axis, bin_ns),
            ],
            series=[
                *time_series.sensors(telemetry, axis, bin_ns),
                *time_series.server(scrapes, axis, bin_ns),
            ],
            notes=axis.notes,
        )

    def _gaps(self, study: Study, axis: Axis) -> time_gaps.Gaps:
        """Tell no pauses where kernels may have run in them."""
        missing = kernels_missing(study)
        if study.kernels["perturbed"].any():
            missing.append("counters were on, which make the GPU wait between kernels")
        if missing:
            axis.notes.append(f"pauses are not told: {missing[0]}")
            return time_gaps.Gaps([], 0, 0.0)
        return time_gaps.find(study, axis)

    def _sampled(self, study: Study, axis: Axis) -> tuple[Telemetry, Scrapes | None]:
        """Return what was sampled, nothing where it cannot be set against kernels."""
        samples = study.capture.samples
        if not samples.num_rows:
            return Telemetry({}), None
        telemetry = Telemetry.read(study.capture)
        why = telemetry.unrelated or (None if axis.one_clock else "the GPUs have different clocks")
        if why is None:
            return telemetry, Scrapes.read(samples)
        axis.notes.append(f"what was sampled is not on this axis: {why}")
        return Telemetry({}), None


def _bins(axis: Axis) -> int:
    """Return how many bins the axis has: fewer for many GPUs, few dispatches or few nanoseconds."""
    most = max(_FEWEST_BINS, min(MOST_BINS, _CELLS // len(axis.lanes)))
    rows = sum(len(each.start) for each in axis.lanes.values())
    return max(1, min(most, _BINS_A_DISPATCH * rows, axis.span_ns))


def _lanes(study: Study, axis: Axis, edges: Floats) -> list[TimelineLane]:
    import pandas as pd

    known = study.kernels.drop_duplicates("raw_name").set_index("raw_name")["family"]
    of_kernel = pd.Series(axis.kernels, dtype=object).map(known).fillna("other")
    codes, families = pd.factorize(of_kernel, sort=True)
    named = ranks.labels(study)
    found = []
    for gpu, rows in sorted(axis.lanes.items()):
        times = intervals.shares(rows.start, rows.end, codes[rows.kernel], len(families), edges)
        frac = np.clip(times / np.diff(edges), 0.0, 1.0)
        order = np.argsort(-times.sum(axis=1), kind="stable")
        found.append(
            TimelineLane(
                gpu=gpu,
                label=named.get(gpu, f"GPU {gpu}"),
                busy_frac=_told(np.minimum(frac.sum(axis=0), 1.0)),
                families=[
                    LaneFamily(family=str(families[at]), busy_frac=_told(frac[at]))
                    for at in order
                    if times[at].any()
                ],
            )
        )
    return found


def _told(shares: Floats) -> list[float]:
    return [float(each) for each in shares.round(_DECIMALS)]


ANALYZER = OverTime()
