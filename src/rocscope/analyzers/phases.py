"""Engine steps by phase: prefill, decode, mixed; time a token by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import metrics, step_context, steps
from rocscope.findings import PhaseSummary
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd


class Phases:
    """Adds phase summaries; no columns."""

    name = "phases"
    help = "steps, tokens and time a token of prefill, decode and mixed steps"
    needs = ("gpu", "raw_name", "family")
    adds = ()

    def run(self, study: Study) -> None:
        """Summarise the annotated steps: those with kernels in them, or all where none was recorded."""
        placed = place(study)
        if placed is None:
            return
        if placed.rows is None:
            study.warn(
                "steps-without-kernels",
                "steps were annotated on the host and no GPU kernel was recorded: their times are the host's",
            )
            used, work = placed.steps, None
        else:
            if not placed.launched:
                study.warn(
                    "steps-from-host",
                    "step annotations were recorded on the host only: a step holds the kernels that ran "
                    "while it was open there, and kernels that ran later are in no step",
                )
            work = _work(study, placed)
            used = placed.steps[placed.steps["step"].isin(work["step"].unique())]
        for phase, rows in used.groupby("phase", sort=True):
            study.phases.append(_summary(str(phase), rows, work))


@dataclass(frozen=True)
class Placed:
    """Steps, and the dispatches with times that belong to them."""

    steps: pd.DataFrame  # of steps.annotated, each to the start of the next, with its number ``step``
    rows: pa.Table | None  # of metrics.timing; None where the recording has no kernels
    at: NDArray[np.int64]  # of each row its step, -1 where none
    launched: bool  # a row is placed by where it ran or was launched, not by what was open at the time


def place(study: Study) -> Placed | None:
    """Return the annotated steps and whose kernels are whose; ``None`` without steps.

    Steps reach to the start of the next, as in the step table, unless only a few of them were selected. A
    step that a selection cuts has not all its kernels and is left out.
    """
    capture = study.capture
    found = steps.annotated(capture)
    if found.empty or (study.kernels.empty and bool(found["on_gpu"].iloc[0])):
        return None
    if study.options.steps is None:
        found = steps.extended(found)
    window = capture.manifest.window_ns
    if study.options.between_s and window:
        found = found[(found["start_ns"] >= window[0]) & (found["end_ns"] <= window[1])]
        if found.empty:
            return None
    found = found.reset_index(drop=True)
    found["step"] = np.arange(len(found))
    if study.kernels.empty:
        return Placed(found, None, np.empty(0, np.int64), launched=True)
    rows = metrics.timing(capture).rows.select(_COLUMNS)
    rows = rows.filter(pc.and_(rows["start_ns"].is_valid(), rows["duration_ns"].is_valid()))
    rows = rows.unify_dictionaries()
    at = step_context.step_of(rows, found, capture)
    launched = bool((at >= 0).any()) or bool(found["on_gpu"].iloc[0])
    if not launched:
        at = step_context.step_of(rows, found.assign(on_gpu=True), capture)
    return Placed(found, rows, at, launched)


_COLUMNS = [
    *("gpu", "process", "correlation_id", "kernel", "start_ns", "duration_ns", "count"),
    *metrics.SHAPE,
]


def _work(study: Study, placed: Placed) -> pd.DataFrame:
    """Return time and dispatches by (step, family)."""
    import pandas as pd

    assert placed.rows is not None  # noqa: S101  # looked before
    inside = placed.at >= 0
    rows = placed.rows.filter(pa.array(inside))
    families = study.kernels.drop_duplicates("raw_name").set_index("raw_name")["family"]
    frame = pd.DataFrame(
        {
            "step": placed.at[inside],
            "kernel": rows["kernel"].to_pandas(),
            "ns": rows["duration_ns"].to_numpy(),
            "count": rows["count"].to_numpy(),
        }
    )
    sums = frame.groupby(["step", "kernel"], observed=True)[["ns", "count"]].sum().reset_index()
    sums["family"] = sums["kernel"].astype(object).map(families).fillna("other")
    work: pd.DataFrame = sums.groupby(["step", "family"])[["ns", "count"]].sum().reset_index()
    return work


def _summary(phase: str, rows: pd.DataFrame, work: pd.DataFrame | None) -> PhaseSummary:
    """Average over GPUs, which run the same steps at the same time."""
    gpus = rows["gpu"].nunique()
    first = rows[rows["gpu"] == rows["gpu"].value_counts().sort_index().idxmax()]
    made = first["context_tokens"].astype(float) + first["generation_tokens"].astype(float)
    tokens = None if made.isna().any() else int(made.sum())
    time = float((rows["end_ns"] - rows["start_ns"]).sum()) / gpus
    mine = None if work is None else work[work["step"].isin(rows["step"])]
    spent = None if mine is None else float(mine["ns"].sum()) / gpus
    return PhaseSummary(
        phase=phase,
        steps=len(first),
        tokens=tokens,
        time_s=time * 1e-9,
        us_per_token=time * 1e-3 / tokens if tokens else None,
        families=[] if mine is None else _families(mine, gpus, tokens),
        length_by="gpu" if bool(rows["on_gpu"].iloc[0]) else "host",
        kernel_time_s=None if spent is None else spent * 1e-9,
        kernel_us_per_token=spent * 1e-3 / tokens if spent is not None and tokens else None,
    )


def _families(work: pd.DataFrame, gpus: int, tokens: int | None) -> list[dict[str, Any]]:
    mine = work.groupby("family")[["ns", "count"]].sum()
    total = float(mine["ns"].sum())
    return [
        {
            "family": str(family),
            "dispatches": round(size / gpus),
            "time_s": spent / gpus * 1e-9,
            "time_frac": spent / total if total > 0 else None,
            "us_per_token": spent / gpus * 1e-3 / tokens if tokens else None,
        }
        for family, (spent, size) in sorted(
            ((str(f), (float(s), int(n))) for f, s, n in mine.itertuples()), key=lambda each: -each[1][0]
        )
    ]


ANALYZER = Phases()
