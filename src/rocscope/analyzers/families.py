"""Kernel families: time, bytes and a verdict that hides no split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rocscope.findings import Bound, FamilySummary, Limiter
from rocscope.study import Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd


class Families:
    """Adds family summaries, longest first; no columns."""

    name = "families"
    help = "time, bytes and verdict of each kernel family"
    needs = (
        *("family", "dispatches", "time_ns", "mean_ns", "bytes", "bound", "limiter"),
        *("peak_bandwidth", "over_the_link", "flagged"),
    )
    adds = ()

    def run(self, study: Study) -> None:
        """Summarise each family over all GPUs and launch shapes."""
        frame = study.kernels
        total = frame["time_ns"].sum()
        found = [summary(str(family), rows, total) for family, rows in frame.groupby("family", sort=True)]
        study.families += sorted(found, key=lambda each: (-(each.time_s or 0.0), each.family))


def summary(family: str, rows: pd.DataFrame, total: float) -> FamilySummary:
    """Return the summary of a family's ``rows``; ``total`` is the time of all families, ns."""
    time = rows["time_ns"].sum()
    timed = rows["time_ns"].notna().any()
    counted = rows[rows["bytes"].notna() & (rows["mean_ns"] > 0) & rows["flagged"].isna()]
    spoken = counted["time_ns"].sum()
    known = spoken / time if timed and time > 0 else None
    # a part of a family says nothing of the rest: a sum or a rate of it would pass for the family's
    enough = thresholds().families.majority_frac.value
    told = known is not None and known >= enough
    moved = (counted["bytes"] * counted["dispatches"]).sum() if told else None
    rate = _at_work(counted).sum() / spoken * 1e9 if told else None
    local = counted[~counted["over_the_link"]]
    could = (local["peak_bandwidth"] * local["time_ns"]).sum()  # at full bandwidth all that time, 1e9 up
    held = could > 0 and local["time_ns"].sum() >= enough * time
    share = _at_work(local).sum() / could * 1e9 if held else None
    split = _split(rows)
    return FamilySummary(
        family=family,
        dispatches=int(rows["dispatches"].sum()),
        time_s=time * 1e-9 if timed else None,
        time_frac=time / total if timed and total > 0 else None,
        bytes=None if moved is None else float(moved),
        achieved_bandwidth_bytes_per_s=rate,
        bandwidth_frac=None if share is None else min(float(share), 1.0),
        bound=cast(Bound, _majority(split, "bound")),
        limiter=cast(Limiter, _majority(split, "limiter")),
        modelled_time_frac=known,
        split=split,
        verdict=_words(split),
    )


def _at_work(rows: pd.DataFrame) -> pd.Series:
    """Return the bytes that each row moved in the time recorded of it; some dispatches may be untimed."""
    return rows["bytes"] * rows["time_ns"] / rows["mean_ns"]


def _split(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each verdict of the family with its shapes and share of time, largest first."""
    time = rows["time_ns"].fillna(0.0)
    total = time.sum()
    weighted = rows.assign(weight=time / total if total > 0 else 0.0)
    timed = total > 0
    found = weighted.groupby(["bound", "limiter"])["weight"].agg(["size", "sum"]).reset_index()
    found = found.sort_values(["sum", "bound", "limiter"], ascending=[False, True, True])
    return [
        {
            "bound": bound,
            "limiter": limiter,
            "shapes": int(shapes),
            "time_frac": float(weight) if timed else None,
        }
        for bound, limiter, shapes, weight in found.itertuples(index=False)
    ]


def _words(split: list[dict[str, Any]]) -> str:
    """Say which limiters the shapes of the family have, most time first: "2 memory-bandwidth, 2 latency"."""
    shapes: dict[str, int] = {}
    for each in split:
        shapes[each["limiter"]] = shapes.get(each["limiter"], 0) + each["shapes"]
    told = [f"{count} {limiter}" for limiter, count in shapes.items()]
    total = sum(shapes.values())
    if len(told) == 1:
        return f"{'its one shape' if total == 1 else f'all {total} shapes'} {next(iter(shapes))}"
    first, *others = told
    count, limiter = first.split(" ", 1)
    return ", ".join([f"{count} shape{'' if count == '1' else 's'} {limiter}", *others])


def _majority(split: list[dict[str, Any]], what: str) -> str:
    """Return the verdict of two thirds of the time, ``unknown`` where no verdict has as much."""
    shares: dict[str, float] = {}
    for each in split:
        shares[each[what]] = shares.get(each[what], 0.0) + (each["time_frac"] or 0.0)
    best = max(shares, key=lambda name: (shares[name], name))
    return best if shares[best] >= thresholds().families.majority_frac.value else "unknown"


ANALYZER = Families()
