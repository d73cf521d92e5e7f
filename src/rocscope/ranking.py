"""Targets: what is worth changing, ranked by the middle of the end-to-end gain to expect.

A kernel's launch shapes are one target, since one change mends them. Only exposed time counts: what is
hidden behind other work gives nothing when it goes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rocscope.advice import advise
from rocscope.findings import Confidence, Gain, LaunchShape, NotEvaluated, Regained, Target
from rocscope.gain_history import GainHistory
from rocscope.rule_facts import counters, fact_named
from rocscope.thresholds import Shares, thresholds
from rocscope.wording import digits, duration, percent

if TYPE_CHECKING:
    import pandas as pd

_SURE: Final = {"low": 0, "medium": 1, "high": 2}
_ROOFS: Final = frozenset({"memory-bandwidth", "cache-bandwidth", "compute", "balanced"})
_SPREAD: Final = "spread"  # roof_basis where the least time is not a roofline's
SIDES: Final = tuple(f"{name}_{axis}" for name in ("grid", "workgroup") for axis in "xyz")
_READ: Final = (  # of a kernel's target
    *("kernel", "family", "gpu", "bound", "limiter", "confidence", "evidence", "dispatches", *SIDES),
    *("time_ns", "exposed_ns", "mean_ns", "headroom_ns", "roof_ns", "floor_ns", "roof_basis"),
)
_NO_HISTORY: Final = GainHistory()
_SHOWN_EVIDENCE: Final = 3  # launch shapes of a target whose evidence is repeated


def window_ns(kernels: pd.DataFrame) -> float:
    """Return the time that gains are shares of: the longest window of a GPU, or kernel time on one.

    GPUs of one run work at the same time, so that their windows do not add up, and one that does little
    does not make the others' kernels cost less.
    """
    alone = kernels["exposed_ns"].fillna(kernels["time_ns"]).groupby(kernels["gpu"]).sum()
    return float(max(kernels["wall_ns"].fillna(0.0).max(), alone.max())) if len(alone) else 0.0


def rank(
    kernels: pd.DataFrame, others: Iterable[Target] = (), gains: GainHistory = _NO_HISTORY
) -> tuple[list[Target], list[NotEvaluated]]:
    """Return targets, best first, and what could not be evaluated.

    ``kernels`` carries what roofline, limiter and timeline added; ``others`` are targets beside kernels;
    ``gains`` is what earlier changes realised.
    Kernels of unknown bound make no target: the largest of them is named, with what to collect.
    """
    window = window_ns(kernels)
    found = list(others)
    if window > 0:
        decisive = _spread(_decisive(kernels))
        known = decisive[(decisive["bound"] != "unknown") & decisive["headroom_ns"].notna()]
        if "limiter_rule" in known:  # times of which the mean tells nothing are no ground for a forecast
            known = known[known["limiter_rule"] != "limiter-uneven-times"]
        found += _of_kernels(known, decisive, window, gains)
    least = thresholds().targets.least_gain_frac.value
    kept = [each for each in found if not each.expected_gain or each.expected_gain.mid_frac >= least]
    kept = _folded(kept)
    kept.sort(key=_place)
    ranked = [each.model_copy(update={"rank": index}) for index, each in enumerate(kept, 1)]
    return ranked, _unexplained(kernels)


def _folded(found: list[Target]) -> list[Target]:
    """Tell what is known of a kernel, but has no forecast of its own, in the target of that kernel."""
    own = {
        (each.kernel, each.family): at
        for at, each in enumerate(found)
        if each.scope == "kernel" and each.expected_gain
    }
    result, folded = list(found), set()
    for at, each in enumerate(found):
        home = own.get((each.kernel, each.family))
        if each.expected_gain or each.scope != "kernel" or home is None:
            continue
        folded.add(at)
        kept = result[home]
        update = {
            "evidence": [*kept.evidence, each.problem, *each.evidence],
            "advice": f"{kept.advice} {each.advice}",
            "confirm_by": f"{kept.confirm_by} Also: {each.confirm_by}",
        }
        result[home] = kept.model_copy(update=update)
    return [each for at, each in enumerate(result) if at not in folded]


def _place(target: Target) -> tuple[bool, float, float, str]:
    """The best forecast first; what has none of its own comes last, by its share of time."""
    gain = target.expected_gain
    worth, size = (-gain.mid_frac, target.headroom_s) if gain else (0.0, target.time_frac)
    return gain is None, worth, -(size or 0.0), target.id


def identifier(kind: str, *parts: str) -> str:
    """Return a stable id: a readable slug and a hash of all parts."""
    slug = re.sub(r"[^a-z0-9]+", "-", parts[0].lower() if parts else "").strip("-")[:40].strip("-")
    digest = hashlib.sha256("\x00".join((kind, *parts)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "-".join(part for part in (kind, slug, digest) if part)


def share_of(
    loss_frac: float, shares: Shares, basis: str, *, regains: Regained, shares_of: str | None = None
) -> Gain:
    """Return the gain of winning back a part of what is lost; ``shares_of`` is the name of the shares."""
    low, mid, high = (min(1.0, loss_frac * share) for share in (shares.low, shares.mid, shares.high))
    return Gain(
        low_frac=low,
        mid_frac=mid,
        high_frac=high,
        basis=f"{basis}; {shares.source}",
        regains=regains,
        shares_of=shares_of,
        before_frac=loss_frac,
        least_frac=0.0,
    )


def of_lost_time(
    slug: str,
    problem: str,
    *,
    lost_ns: float,
    wall_ns: float,
    shares: Shares,
    regains: Regained,
    shares_of: str | None,
    basis: str,
    confidence: Confidence,
    evidence: list[str],
) -> Target:
    """Return the target of GPU time lost between kernels; advice is that of ``timeline:<slug>``."""
    advice, confirm_by = advise(f"timeline:{slug}", "", "")
    return Target(
        rank=0,
        id=identifier("timeline", slug),
        problem=problem,
        scope="timeline",
        family=None,
        kernel=None,
        time_frac=lost_ns / wall_ns,
        headroom_s=lost_ns * 1e-9,
        expected_gain=share_of(lost_ns / wall_ns, shares, basis, regains=regains, shares_of=shares_of),
        confidence=confidence,
        evidence=evidence,
        advice=advice,
        confirm_by=confirm_by,
    )


def _of_kernels(
    known: pd.DataFrame, decisive: pd.DataFrame, window: float, history: GainHistory
) -> Iterator[Target]:
    """Give the targets of the kernels whose gain may be worth a line, by name.

    What each gains is summed over all rows at once; sentences are made for those few alone.
    """
    if known.empty:
        return
    keys = ["kernel", "family"]
    gains = (
        _gains_ns(known, history)["mid"].groupby([known["kernel"], known["family"], known["gpu"]]).sum()
        / window
    )
    most = gains.groupby(level=keys, sort=True).max()
    least = thresholds().targets.least_gain_frac.value * (1 - 1e-6)  # sums are not exact
    wanted = list(most.index[most >= least])
    rows, wholes = (
        (frame, frame.groupby(keys).indices)
        for frame in ([each[[name for name in _READ if name in each]] for each in (known, decisive)])
    )
    for key in wanted:
        mine, whole = (frame.iloc[places[key]] for frame, places in (rows, wholes))
        yield _of_kernel(str(key[0]), str(key[1]), mine, whole, window=window, history=history)


def _gains_ns(rows: pd.DataFrame, history: GainHistory) -> dict[str, pd.Series]:
    """Return the time that each row loses at a low, middle and high share of the way to its least time.

    ``all`` is what it loses at the least time.
    """
    exposed = rows["exposed_ns"].fillna(rows["time_ns"])
    least = rows["roof_ns"].clip(lower=rows["floor_ns"])
    ratio = (least / rows["mean_ns"]).clip(lower=1e-6, upper=1.0)
    shares = {limiter: _shares(limiter, history) for limiter in rows["limiter"].unique()}
    lost = {
        level: exposed
        * (1 - ratio ** rows["limiter"].map({at: getattr(of, level) for at, of in shares.items()}))
        for level in ("low", "mid", "high")
    }
    return lost | {"all": exposed * (1 - ratio)}


def _of_kernel(
    kernel: str, family: str, rows: pd.DataFrame, whole: pd.DataFrame, *, window: float, history: GainHistory
) -> Target:
    """Return the target of one kernel: all its launch shapes, on the GPU that gains most.

    Of several GPUs the same change mends all at the same time, and the others wait for the last one: what is
    said is of that GPU alone, so that the same trace given as many ranks says what one rank says.
    """
    gpus = sorted(rows["gpu"].unique().tolist())
    several = len(gpus) > 1
    gains = {each: _gain_of(rows[rows["gpu"] == each], window, history, several=several) for each in gpus}
    gpu = max(gains, key=lambda each: gains[each].mid_frac)
    rows, whole = rows[rows["gpu"] == gpu], whole[whole["gpu"] == gpu]
    rows = rows.sort_values("headroom_ns", ascending=False, kind="stable")
    bound, limiter = _verdict(rows)
    time_frac = float(whole["exposed_ns"].fillna(whole["time_ns"]).sum() / window)
    headroom = float(rows["headroom_ns"].sum())
    advice, confirm_by = advise(family, limiter, kernel, bound)
    return Target(
        rank=0,
        id=identifier("kernel", kernel, family),
        problem=_problem(kernel, bound, limiter, len(rows), time_frac),
        scope="kernel",
        family=family,
        kernel=kernel,
        bound=bound,
        limiter=limiter,
        launch_shapes=_shapes(rows),
        time_frac=min(1.0, time_frac),
        headroom_s=headroom * 1e-9,
        expected_gain=gains[gpu],
        gpu=gpu if several else None,
        confidence=_least_sure(rows),
        evidence=_evidence(rows, whole),
        advice=advice,
        confirm_by=confirm_by,
    )


def _class(limiter: str) -> str:
    """Return under which name the shares of kernels of this limiter are kept."""
    return "roof" if limiter in _ROOFS else "launch" if limiter == "launch" else "latency"


def _shares(limiter: str, history: GainHistory) -> Shares:
    name = _class(limiter)
    return history.shares(name, thresholds().gain[name])


def _decisive(kernels: pd.DataFrame) -> pd.DataFrame:
    """Leave out GPUs that wait for another: less work there ends no step sooner."""
    return kernels[kernels["critical"].astype(bool)] if "critical" in kernels else kernels


def _spread(kernels: pd.DataFrame) -> pd.DataFrame:
    """Give kernels of unknown size that leave compute units without work a least time all the same.

    The same work spread evenly over all compute units: ``mean * share of the compute units that have a
    workgroup``. It is no roofline, so only what starves for workgroups and has none is held against it.
    """
    if "active_cus_frac" not in kernels:
        return kernels
    starved = (
        kernels["headroom_ns"].isna()
        & (kernels["bound"] != "unknown")
        & (kernels["limiter"] == "parallelism")
        & (kernels["active_cus_frac"] < 1)
    )
    if not starved.any():
        return kernels
    spread = kernels.copy()
    least = (kernels["mean_ns"] * kernels["active_cus_frac"]).clip(lower=kernels["floor_ns"])
    lost = 1 - (least / kernels["mean_ns"]).clip(upper=1.0)
    spread.loc[starved, "roof_ns"] = least[starved]
    spread.loc[starved, "headroom_ns"] = (kernels["exposed_ns"].fillna(kernels["time_ns"]) * lost)[starved]
    spread["roof_basis"] = spread["roof_basis"].astype(object)
    spread.loc[starved, "roof_basis"] = _SPREAD
    return spread


def _gain_of(rows: pd.DataFrame, window: float, history: GainHistory, *, several: bool) -> Gain:
    """Time becomes time * (least / time) ** share: the way to the least time is gone in factors.

    ``rows`` are of one GPU. The least time is the roofline's, but no less than the shortest that a kernel can
    be.
    """
    where = f" on GPU {rows['gpu'].iloc[0]}, which gains most of those that run it" if several else ""
    exposed, headroom = rows["exposed_ns"].fillna(rows["time_ns"]), float(rows["headroom_ns"].sum())
    totals = {level: float(lost.sum() / window) for level, lost in _gains_ns(rows, history).items()}
    now = float((rows["roof_ns"] * exposed / rows["mean_ns"]).sum() / max(exposed.sum(), 1.0))
    _, limiter = _verdict(rows)
    shares = _shares(limiter, history)
    ceiling = "achievable" if (rows["roof_basis"] == "achievable").all() else "datasheet"
    held = f"on average at {percent(now)} of the roofline at {ceiling} ceilings"
    if (rows["roof_basis"] == _SPREAD).all():
        held = f"and the same work spread over all compute units would take {percent(now)} of that"
    basis = (
        f"{percent(exposed.sum() / window)} of the window is exposed time of this kernel{where}, {held}; "
        f"all of that headroom would be {percent(headroom / window)}, but changes to {limiter}-limited "
        f"kernels close about {percent(shares.low)} to {percent(shares.high)} of the way on a logarithmic "
        f"scale, {percent(shares.mid)} in the middle ({shares.source})"
    )
    before = float(exposed.sum() / window)
    return Gain(
        low_frac=totals["low"],
        mid_frac=totals["mid"],
        high_frac=totals["high"],
        basis=basis,
        regains="kernel",
        shares_of=_class(limiter),
        before_frac=before,
        least_frac=max(0.0, before - totals["all"]),
    )


def _verdict(rows: pd.DataFrame) -> tuple[str, str]:
    """Return bound and limiter, both of the shapes that have most headroom together."""
    limiter = rows.groupby("limiter")["headroom_ns"].sum().sort_index().idxmax()
    same = rows[rows["limiter"] == limiter]
    return str(same.groupby("bound")["headroom_ns"].sum().sort_index().idxmax()), str(limiter)


def _problem(kernel: str, bound: str, limiter: str, shapes: int, time_frac: float) -> str:
    counted = f"{shapes} launch shapes" if shapes > 1 else "one launch shape"
    held = "what limits it is not known" if limiter == "unknown" else f"limited by {limiter}"
    return f"{kernel} takes {percent(time_frac)} of the window ({counted}): {bound} bound, {held}"


def _shapes(rows: pd.DataFrame) -> list[LaunchShape]:
    return [launch_shape(row) for row in rows[list(SIDES)].drop_duplicates().to_dict("records")]


def launch_shape(row: Mapping[Any, Any]) -> LaunchShape:
    """Return grid and workgroup of a row of kernels, in work-items."""

    def part(name: str) -> list[int | None]:
        values = [row[f"{name}_{axis}"] for axis in "xyz"]
        return [None if np.isnan(value) else int(value) for value in values]

    return LaunchShape(grid=part("grid"), workgroup=part("workgroup"))


def _least_sure(rows: pd.DataFrame) -> Confidence:
    """The confidence that most of the headroom has or exceeds."""
    weight = rows.groupby("confidence")["headroom_ns"].sum()
    total = float(weight.sum())
    for level in ("high", "medium"):
        above = sum(float(w) for c, w in weight.items() if _SURE[str(c)] >= _SURE[level])
        if total > 0 and above >= 0.5 * total:
            return "high" if level == "high" else "medium"
    return "low"


def _evidence(rows: pd.DataFrame, whole: pd.DataFrame) -> list[str]:
    parts: list[str] = []
    for row in rows.head(_SHOWN_EVIDENCE).to_dict("records"):
        shape = launch_shape(row)
        grid = " x ".join(str(side) for side in shape.grid if side is not None) or "not recorded"
        told = row["evidence"] if not parts else [row["evidence"][0], row["evidence"][-1]]
        parts += [f"grid {grid}, {row['dispatches']} dispatches: {sentence}" for sentence in told]
    left = float(whole["time_ns"].sum() - rows["time_ns"].sum())
    if left > 0:
        parts.append(f"{duration(left)} more of this kernel has no known bound and is not in the headroom")
    exposed = whole["exposed_ns"]
    if exposed.notna().all() and (hidden := float((whole["time_ns"] - exposed).sum())) > 0:
        share = hidden / max(float(whole["time_ns"].sum()), 1.0)
        if share >= 0.01:
            parts.append(f"{percent(share)} of its time is hidden behind other kernels and gives no gain")
    return parts


def _unexplained(kernels: pd.DataFrame) -> list[NotEvaluated]:
    """Name the largest kernel whose bound is not known, and what would tell."""
    rows = kernels[(kernels["bound"] == "unknown") & ~kernels["over_the_link"] & kernels["time_ns"].notna()]
    total = float(kernels["time_ns"].sum())
    if rows.empty or total <= 0:
        return []
    sums = rows.groupby(["kernel", "family"])["time_ns"].sum().reset_index()
    sums = sums.sort_values(["time_ns", "kernel"], ascending=[False, True])
    kernel, family, time = sums.iloc[0]
    share = float(rows["time_ns"].sum()) / total
    return [
        NotEvaluated(
            rule="target-unknown-bound",
            missing=f"bytes and FLOPs of {digits(share * 100)} % of kernel time; the largest part is "
            f"{kernel} ({family}), {percent(time / total)}",
            collect_with=f"{fact_named('bytes').collect_with}; where neither tells, of {kernel} "
            f"{counters('FETCH_SIZE', 'WRITE_SIZE')}",
        )
    ]
