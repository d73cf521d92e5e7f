"""Bytes a token of each phase, by family, where counters or shape models tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from rocscope import columns, metrics
from rocscope.analyzers import phases
from rocscope.findings import PhaseSummary
from rocscope.study import Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

_BASES: Final = ("measured", "modelled")
_BY_CONTEXT: Final = (
    "attention",
)  # what one dispatch moves depends on the step: a mean over phases is of none


class PhaseBytes:
    """Adds bytes to the families of the phases; no columns."""

    name = "phase_bytes"
    help = "bytes a token of each phase by family, of what is known of two thirds of its time"
    needs = ("gpu", "raw_name", "family", "bytes", "bytes_basis", "flagged")
    adds = ()

    def run(self, study: Study) -> None:
        """Sum the bytes of each phase's dispatches, and say how they were come by."""
        if not study.phases or (placed := phases.place(study)) is None or placed.rows is None:
            return
        sums = _sums(study, placed)
        study.phases[:] = [_told(phase, sums[sums["phase"] == phase.phase]) for phase in study.phases]


def _sums(study: Study, placed: phases.Placed) -> pd.DataFrame:
    """Return a row for each (phase, gpu, kernel, launch shape): family, time, bytes and their basis."""
    import pandas as pd

    assert placed.rows is not None  # noqa: S101  # looked before
    inside = placed.at >= 0
    rows = placed.rows.filter(pa.array(inside)).unify_dictionaries()
    codes, names = columns.text(rows["kernel"])
    frame = pd.DataFrame(
        {
            "phase": placed.steps["phase"].to_numpy()[placed.at[inside]],
            "gpu": columns.ints(rows["gpu"]),
            "raw_name": codes,
            **{side: columns.ints(rows[side]) for side in metrics.SHAPE},
            "ns": columns.ints(rows["duration_ns"]),
            "count": columns.ints(rows["count"]),
        }
    )
    keys = ["gpu", "raw_name", *metrics.SHAPE]
    sums = frame.groupby(["phase", *keys], sort=False)[["ns", "count"]].sum().reset_index()
    sums["raw_name"] = np.asarray(names, object)[sums["raw_name"].to_numpy()]
    joined: pd.DataFrame = sums.merge(_of_a_dispatch(study), on=keys, how="left", sort=False)
    joined["bytes"] = joined["bytes"] * joined["count"]
    return joined


def _of_a_dispatch(study: Study) -> pd.DataFrame:
    """Return mean bytes by GPU, kernel and launch shape, NaN unless all that share it are known."""
    frame = study.kernels
    known = frame["flagged"].isna()
    if "step_phase" in frame:  # None where a launch shape runs in several phases
        known &= ~frame["family"].isin(_BY_CONTEXT) | frame["step_phase"].notna()
    moved = frame["bytes"].where(known)
    rows = frame[["gpu", "raw_name", "family", "dispatches"]].assign(
        **{side: frame[side].fillna(-1).astype(np.int64) for side in metrics.SHAPE},
        bytes=moved * frame["dispatches"],
        unknown=moved.isna(),
        **{basis: moved.notna() & (frame["bytes_basis"] == basis) for basis in _BASES},
    )
    told = rows.groupby(["gpu", "raw_name", *metrics.SHAPE], sort=False).agg(
        family=("family", "first"),
        bytes=("bytes", "sum"),
        dispatches=("dispatches", "sum"),
        unknown=("unknown", "any"),
        **{basis: (basis, "any") for basis in _BASES},
    )
    mean = (told["bytes"] / told["dispatches"]).where(~told["unknown"])
    found: pd.DataFrame = told.drop(columns=["dispatches", "unknown"]).assign(bytes=mean).reset_index()
    return found


def _told(phase: PhaseSummary, sums: pd.DataFrame) -> PhaseSummary:
    gpus = max(1, sums["gpu"].nunique())
    enough = thresholds().families.majority_frac.value
    families = []
    for each in phase.families:
        rows = sums[sums["family"] == each["family"]]
        counted = rows[rows["bytes"].notna()]
        time, known = float(rows["ns"].sum()), float(counted["ns"].sum())
        share = known / time if time > 0 else None
        moved = float(counted["bytes"].sum()) / gpus if share is not None and share >= enough else None
        bases = [basis for basis in _BASES if (counted[basis] == True).any()]  # noqa: E712  # may be NaN
        families.append(
            {
                **each,
                "bytes": moved,
                "bytes_per_token": moved / phase.tokens if moved is not None and phase.tokens else None,
                "bytes_basis": " and ".join(bases) if moved is not None else None,
                "bytes_time_frac": share,
            }
        )
    return phase.model_copy(update={"families": families})


ANALYZER = PhaseBytes()
