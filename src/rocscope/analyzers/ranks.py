"""Ranks side by side: who is late, and who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from rocscope import metrics, ranking
from rocscope.advice import advise
from rocscope.findings import Gain, LostTime, Target
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent

if TYPE_CHECKING:
    import pandas as pd

_NAMED: Final = 3  # kernels that are named as different between ranks


class Ranks:
    """Adds a target where one rank makes the others wait, and which rows decide how long a step takes."""

    name = "ranks"
    help = "stragglers and waiting across ranks"
    needs = ("gpu", "process", "kernel", "family", "dispatches", "time_ns", "wall_ns", "perturbed")
    adds = ("critical",)  # False on GPUs that wait for a late one: less work there ends no step sooner

    def run(self, study: Study) -> None:
        """Compare collectives and own work between GPUs that run the same model."""
        frame = study.kernels
        frame["critical"] = True
        if frame["gpu"].nunique() < 2 or frame["perturbed"].any():
            return
        shared = frame["family"] == "communication"
        link = frame[shared].groupby("gpu")[["time_ns", "dispatches"]].sum()
        own = frame[~shared].groupby("gpu")["time_ns"].sum()
        if len(link) < 2 or link["time_ns"].max() <= 0:
            return
        span = frame.groupby("gpu")["time_ns"].sum().max()
        # by the collective, since one rank's profiler may have run for longer
        each = link["time_ns"] / link["dispatches"]
        waits = float(each.max() - each.min()) * int(link["dispatches"].min())
        late, quick = (int(link.index.to_numpy()[at]) for at in (each.argmin(), each.argmax()))
        lines = thresholds().ranks
        window = _window(study)
        study.lost_time.append(LostTime(regains="waits", lost_s=waits * 1e-9, window_s=window * 1e-9))
        if waits / span < lines.wait_frac.value:
            return
        frame["critical"] = frame["gpu"] == late
        named = labels(study)
        evidence = [
            f"a collective takes {duration(each[quick])} on {named[quick]} and {duration(each[late])} on "
            f"{named[late]}, {duration(waits)} in all: the difference is waiting, and {named[late]} is the "
            "one waited for [ranks-collective-wait]"
        ]
        work = own.reindex(link.index).fillna(0.0)
        mine, usual = float(work[late]), float(work.drop(late).median())
        figures = f"{duration(mine)} against {duration(usual)} elsewhere"
        extra = None
        if mine > (1 + lines.skew_frac.value) * usual:
            evidence.append(f"{named[late]} also has more kernel time of its own: {figures} [ranks-own-work]")
            table = _differences(frame, late)
            evidence += _named(table)
            extra = _extra(study, late, table)
        else:
            evidence.append(
                f"its own kernels take no longer than those of the others ({figures}): it is held up between "
                "them, by its host [ranks-own-work]"
            )
        study.targets.append(_target(study, waits, named[late], evidence, extra))


def labels(study: Study) -> dict[int, str]:
    """Name each GPU by its rank, or by its number where ranks do not tell the GPUs apart."""
    ranks = {each.process: each.rank for each in study.capture.manifest.processes}
    owners = study.kernels.groupby("gpu")["process"].first()
    known = [ranks.get(process) for process in owners]
    told = None not in known and len(set(known)) == len(known)
    return {
        int(gpu): f"rank {rank}" if told else f"GPU {gpu}"
        for gpu, rank in zip(owners.index, known, strict=True)
    }


def _differences(frame: pd.DataFrame, late: int) -> pd.DataFrame:
    """Return time and dispatches of each kernel on the late GPU and, in the middle, on the others."""
    own = frame[frame["family"] != "communication"]
    time = own.pivot_table(index="raw_name", columns="gpu", values="time_ns", aggfunc="sum", fill_value=0)
    count = own.pivot_table(index="raw_name", columns="gpu", values="dispatches", aggfunc="sum", fill_value=0)
    table = time[[late]].set_axis(["late_ns"], axis=1)
    table["usual_ns"] = time.drop(columns=late).median(axis=1)
    table["late_count"] = count[late]
    table["usual_count"] = count.drop(columns=late).median(axis=1)
    table["extra_ns"] = table["late_ns"] - table["usual_ns"]
    table["kernel"] = own.groupby("raw_name")["kernel"].first()
    return table.reset_index().sort_values(["extra_ns", "raw_name"], ascending=[False, True])


def _named(table: pd.DataFrame) -> list[str]:
    """Name the kernels that the late GPU spends most extra time in."""
    total = table["extra_ns"].clip(lower=0).sum()
    return [
        f"{row['kernel']}: {duration(row['extra_ns'])} more there, {row['late_count']:.0f} dispatches "
        f"against {row['usual_count']:.0f} elsewhere"
        for row in table.head(_NAMED).to_dict("records")
        if row["extra_ns"] >= 0.1 * total > 0
    ]


def _extra(study: Study, late: int, table: pd.DataFrame) -> tuple[float, float] | None:
    """Return the late GPU's extra kernel time, and the pauses after its extra dispatches, ns.

    A pause goes with the dispatch before it: without that dispatch its launch would not have been waited for.
    ``None`` where starts were not recorded.
    """
    rows = metrics.timing(study.capture).rows
    rows = rows.filter(pc.and_(pc.equal(rows["gpu"], late), rows["start_ns"].is_valid()))
    if not rows.num_rows:
        return None
    rows = rows.sort_by("start_ns")
    start, ends = rows["start_ns"].to_numpy(), np.maximum.accumulate(rows["end_ns"].to_numpy())
    pauses = np.append(np.clip(start[1:] - ends[:-1], 0, None), 0)
    import pandas as pd

    after = pd.Series(pauses).groupby(rows["kernel"].to_pandas().astype(object)).mean()
    more = (table["late_count"] - table["usual_count"]).clip(lower=0)
    lost = float((more * table["raw_name"].map(after).fillna(0.0)).sum())
    return float(table["extra_ns"].clip(lower=0).sum()), lost


def _gain(study: Study, loss: float, extra: tuple[float, float] | None, window: float) -> Gain:
    shares = thresholds().gain
    if extra is None:
        return ranking.share_of(
            loss,
            study.gains.shares("waits", shares["waits"]),
            f"a part of the {percent(loss)} of the window spent waiting",
            regains="waits",
            shares_of="waits",
        )
    kernels, pauses = (part / window for part in extra)
    between = shares["extra_work"]
    low, mid, high = (min(loss, kernels + pauses * part) for part in (between.low, between.mid, between.high))
    basis = (
        f"the late rank's extra kernels take {percent(kernels)} of the window and the pauses after its extra "
        f"dispatches {percent(pauses)}; no more than the {percent(loss)} that another rank waits; "
        f"{between.source}"
    )
    return Gain(low_frac=low, mid_frac=mid, high_frac=high, basis=basis, regains="waits", before_frac=loss)


def _window(study: Study) -> float:
    """Return the longest window of a GPU, else the most kernel time of one, ns."""
    wall = float(study.kernels["wall_ns"].max())
    return wall if wall > 0 else float(study.kernels.groupby("gpu")["time_ns"].sum().max())


def _target(
    study: Study, waits: float, late: str, evidence: list[str], extra: tuple[float, float] | None
) -> Target:
    window = _window(study)
    loss = min(1.0, waits / window)
    advice, confirm_by = advise("timeline:straggler", "", "")
    return Target(
        rank=0,
        id=ranking.identifier("timeline", "straggler"),
        problem=f"{late} is late: another rank waits {percent(loss)} of the window for it in collectives",
        scope="timeline",
        family="communication",
        kernel=None,
        time_frac=loss,
        headroom_s=waits * 1e-9,
        expected_gain=_gain(study, loss, extra, window),
        confidence="medium",
        evidence=evidence,
        advice=advice,
        confirm_by=confirm_by,
    )


ANALYZER = Ranks()
