"""Engine steps by phase: prefill, decode, mixed; time a token by family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from rocscope import intervals, metrics, steps
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
        """Summarise the annotated steps, if there are any with kernels in them."""
        found = steps.annotated(study.capture)
        if found.empty or study.kernels.empty:
            return
        window = study.capture.manifest.window_ns
        if study.options.between_s and window:  # a step that is cut has not all its kernels
            found = found[(found["start_ns"] >= window[0]) & (found["end_ns"] <= window[1])].copy()
            if found.empty:
                return
        if not found["on_gpu"].iloc[0]:
            study.warn(
                "steps-from-host",
                "step annotations were recorded on the host only: a step holds the kernels that ran while it "
                "was open there, and kernels that ran later are in no step",
            )
        found["step"] = np.arange(len(found))
        work = _work(study, found)
        used = found[found["step"].isin(work["step"].unique())]
        for phase, rows in used.groupby("phase", sort=True):
            study.phases.append(_summary(str(phase), rows, work))


def _work(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Return time and dispatches by (step, family) of the kernels that start within a step of their GPU."""
    import pandas as pd

    rows = metrics.timing(study.capture).rows.select(["gpu", "kernel", "start_ns", "duration_ns"])
    rows = rows.filter(pc.and_(rows["start_ns"].is_valid(), rows["duration_ns"].is_valid()))
    families = study.kernels.drop_duplicates("raw_name").set_index("raw_name")["family"]
    frame = rows.to_pandas()
    parts = []
    for gpu, here in frame.groupby("gpu"):
        mine = found[found["gpu"] == gpu]
        index = intervals.inside(
            here["start_ns"].to_numpy(np.int64),
            mine["start_ns"].to_numpy(np.int64),
            mine["end_ns"].to_numpy(np.int64),
        )
        kept = here[index >= 0]
        step = mine["step"].to_numpy()[index[index >= 0]]
        sums = kept.assign(step=step).groupby(["step", "kernel"], observed=True)["duration_ns"]
        parts.append(sums.agg(["sum", "size"]).reset_index())
    work = pd.concat(parts, ignore_index=True)
    work["family"] = work["kernel"].astype(object).map(families).fillna("other")
    sums_by_family: pd.DataFrame = work.groupby(["step", "family"])[["sum", "size"]].sum().reset_index()
    return sums_by_family


def _summary(phase: str, rows: pd.DataFrame, work: pd.DataFrame) -> PhaseSummary:
    """Average over GPUs, which run the same steps at the same time."""
    gpus = rows["gpu"].nunique()
    first = rows[rows["gpu"] == rows["gpu"].value_counts().sort_index().idxmax()]
    made = first["context_tokens"].astype(float) + first["generation_tokens"].astype(float)
    tokens = None if made.isna().any() else int(made.sum())
    time = float((rows["end_ns"] - rows["start_ns"]).sum()) / gpus
    mine = work[work["step"].isin(rows["step"])].groupby("family")[["sum", "size"]].sum()
    total = float(mine["sum"].sum())
    families: list[dict[str, Any]] = [
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
    return PhaseSummary(
        phase=phase,
        steps=len(first),
        tokens=tokens,
        time_s=time * 1e-9,
        us_per_token=time * 1e-3 / tokens if tokens else None,
        families=families,
    )


ANALYZER = Phases()
