"""Clocks below their peak while the GPU worked: why, whether kernels slowed with them, what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rocscope import ranking
from rocscope.analyzers import cycles, gpu_samples
from rocscope.analyzers.gpu_samples import Floats, Ints, Telemetry
from rocscope.findings import LostTime, Target
from rocscope.rules import rules
from rocscope.study import Study
from rocscope.thresholds import Shares
from rocscope.wording import amount, digits, percent

RULE: Final = "clock-below-peak"
_LEAST_LOSS_FRAC: Final = 0.03  # of the clock: below it, steps of the clock and its rounding
_LEAST_SPREAD_FRAC: Final = 0.05  # between high and low clock, for kernels to be held against it
_LEAST_REASON_FRAC: Final = 0.1  # of the readings at work that name a reason
_AT_CAP_FRAC: Final = 0.5  # of the readings at work that lie at the cap
_LEAST_DISPATCHES: Final = 10  # of a kernel at either clock
_LEAST_TIME_FRAC: Final = 0.5  # of kernel time that was seen at both clocks, to speak for all
_MARGIN: Final = 0.2  # either way, of the measured share of a slowdown
_CAUSES: Final = {
    "power": ("power-cap", "the power limit holds the clock down"),
    "current": ("power-cap", "the current limit holds the clock down"),
    "thermal": ("clock-throttling", "temperature holds the clock down"),
    "reliability": ("clock-throttling", "the firmware's reliability limit holds the clock down"),
    "any": ("clock-throttling", "the GPU throttles, for a reason that it does not tell"),
}


class Throttling:
    """Adds a target where a limit held the clock down; the rule on low clocks gives way to it. No columns."""

    name = "throttling"
    help = "clocks held down by power or temperature, and kernels that slowed with them"
    # with those of the rules, so that it runs after them
    needs = (
        "limiter",
        "bandwidth_frac",
        "problem_shape",
        "wall_ns",
        "critical",
        "measures_source",
        "mean_cycles",
    )
    adds = ()

    def run(self, study: Study) -> None:
        """Look at the GPUs that wait for no other: at a higher clock those would wait longer."""
        telemetry = Telemetry.read(study.capture)
        entries = {each["gpu"]: each for each in study.telemetry.get("gpus", ()) if each.get("clock_hz")}
        if not entries or telemetry.unrelated or study.kernels["perturbed"].any():
            return
        frame = study.kernels
        deciding = {int(gpu) for gpu in frame.loc[frame["critical"].astype(bool), "gpu"]}
        known = cycles.dispatches(study)
        found, told = [], []
        for gpu in sorted(deciding & set(entries)):
            followed = _followed(study, gpu, *known) if known else None
            entries[gpu]["slowdown_by_clock"] = followed.told() if followed else None
            told += [sentence(followed)] if followed else []
            if target := _target(study, gpu, entries[gpu], followed):
                found.append(target)
        _note_lost(study, {gpu: entries[gpu] for gpu in deciding & set(entries)})
        ruled = ranking.identifier("rule", RULE, "")
        if not found:
            for each in study.targets:
                each.evidence.extend(told if each.id == ruled else ())
            return
        best = max(found, key=lambda each: each.expected_gain.mid_frac if each.expected_gain else 0.0)
        study.targets = [each for each in study.targets if each.id != ruled]  # the same loss, told with less
        study.targets.append(best)


@dataclass(frozen=True)
class Followed:
    """How kernels of one recording took a lower clock."""

    low_hz: float
    high_hz: float
    slower_frac: float  # time-weighted: by which they took longer at the low clock
    lower_frac: float  # high over low clock less one: by which they would at the same cycles
    time_frac: float  # of the GPU's kernel time, of the kernels seen at both clocks

    @property
    def share(self) -> float:
        """Which part of the slowdown that the same cycles would give is there: 1 all, 0 none."""
        return min(1.0, max(0.0, self.slower_frac / self.lower_frac))

    @property
    def verdict(self) -> str:
        """In words."""
        if self.share >= 0.75:
            return "the clock explains the slowdown"
        return "the clock explains a part of it" if self.share >= 0.25 else "they hardly follow the clock"

    def told(self) -> dict[str, Any]:
        """Return it for ``telemetry``."""
        return {
            "low_hz": self.low_hz,
            "high_hz": self.high_hz,
            "slower_frac": self.slower_frac,
            "slower_if_same_cycles_frac": self.lower_frac,
            "share_frac": self.share,
            "time_frac": self.time_frac,
            "verdict": self.verdict,
            "basis": "measured",
            "source": "median times of the same kernels and shapes at the low and the high clock of this run",
        }


def _followed(study: Study, gpu: int, place: Ints, seconds: Floats, clock: Floats) -> Followed | None:
    """Hold each kernel's times at low clocks against those at high ones, the outer quarters of the range."""
    import pandas as pd

    frame = study.kernels
    mine = (frame["gpu"].to_numpy()[place] == gpu) & (seconds > 0)
    place, seconds, clock = place[mine], seconds[mine], clock[mine]
    if not len(clock):
        return None
    low, high = (float(each) for each in np.percentile(clock, (5, 95)))
    if high < low * (1 + _LEAST_SPREAD_FRAC):
        return None
    quarter = (high - low) / 4
    side = np.select([clock <= low + quarter, clock >= high - quarter], ["low", "high"], "")
    rows = pd.DataFrame({"place": place, "seconds": seconds, "clock": clock, "side": side})
    sides = rows[rows["side"] != ""].groupby(["place", "side"])
    wide = sides.agg({"seconds": "median", "clock": "median", "side": "size"}).unstack()
    if not {("side", "low"), ("side", "high")} <= set(wide.columns):
        return None
    enough = (wide[("side", "low")] >= _LEAST_DISPATCHES) & (wide[("side", "high")] >= _LEAST_DISPATCHES)
    wide = wide[enough]
    if wide.empty:
        return None
    time = frame["time_ns"].to_numpy()[wide.index.to_numpy()]
    slower = (wide[("seconds", "low")] / wide[("seconds", "high")] - 1).to_numpy()
    lower = (wide[("clock", "high")] / wide[("clock", "low")] - 1).to_numpy()
    total = float(frame.loc[frame["gpu"] == gpu, "time_ns"].sum())
    return Followed(
        low_hz=float(np.average(wide[("clock", "low")], weights=time)),
        high_hz=float(np.average(wide[("clock", "high")], weights=time)),
        slower_frac=float(np.average(slower, weights=time)),
        lower_frac=float(np.average(lower, weights=time)),
        time_frac=float(time.sum()) / total,
    )


def _cause(entry: dict[str, Any]) -> tuple[str, str] | None:
    """Return the reason that most readings name, and the evidence for it; ``None`` without any."""
    shares = {name: share for name, share in (entry.get("throttled_frac") or {}).items() if share is not None}
    named = {name: share for name, share in shares.items() if name != "any" and share >= _LEAST_REASON_FRAC}
    if named:
        cause = max(named, key=lambda name: named[name])
        return (
            cause,
            f"the GPU names {cause} as the reason in {percent(named[cause])} of the readings at work",
        )
    if (entry.get("at_cap_frac") or 0.0) >= _AT_CAP_FRAC:
        cap = entry["power_cap_w"]
        return (
            "power",
            f"power lies at its cap of {digits(cap)} W in {percent(entry['at_cap_frac'])} of the readings",
        )
    if shares.get("any", 0.0) >= _LEAST_REASON_FRAC:
        return "any", f"the GPU says in {percent(shares['any'])} of the readings at work that it throttles"
    return None


def _lost_ns(study: Study, gpu: int, missing_frac: float) -> float:
    """Return which part of a GPU's working time the same cycles would not need at the peak clock."""
    return missing_frac * min(
        float(gpu_samples.busy_ns(study.capture, gpu)), ranking.window_ns(study.kernels)
    )


def _note_lost(study: Study, entries: dict[int, dict[str, Any]]) -> None:
    """Note what low clocks cost, where the peak is known, also where it is too little for a target."""
    window = ranking.window_ns(study.kernels)
    lost = [
        _lost_ns(study, gpu, max(0.0, 1 - entry["clock_hz"]["mean"] / entry["clock_hz"]["peak"]))
        for gpu, entry in entries.items()
        if entry["clock_hz"]["peak"]
    ]
    if lost and len(lost) == len(entries):
        study.lost_time.append(LostTime(regains="clock", lost_s=max(lost) * 1e-9, window_s=window * 1e-9))


def _target(study: Study, gpu: int, entry: dict[str, Any], followed: Followed | None) -> Target | None:
    clock, cause = entry["clock_hz"], _cause(entry)
    peak = clock["peak"] or clock["highest"]
    missing = 1 - clock["mean"] / peak
    if missing < _LEAST_LOSS_FRAC or cause is None:
        return None
    wall = ranking.window_ns(study.kernels)
    lost = _lost_ns(study, gpu, missing)
    slug, why = _CAUSES[cause[0]]
    name = f"GPU {gpu}: " if study.kernels["gpu"].nunique() > 1 else ""
    of = "peak" if clock["peak"] else "highest reading"
    evidence = [
        f"the clock was {amount(clock['mean'], 'Hz')} on average while kernels ran, {percent(missing)} below "
        f"its {of} of {amount(peak, 'Hz')} ({clock['readings']} readings) [throttling-clock]",
        f"{cause[1]} [throttling-reason]",
        *_measured(entry),
    ]
    return ranking.of_lost_time(
        slug,
        f"{name}{why}: {percent(missing)} below its {of} while kernels ran",
        lost_ns=lost,
        wall_ns=wall,
        shares=_shares(study, followed),
        regains="clock",
        shares_of=None if _measured_here(followed) else f"rule:{RULE}",
        basis=f"a part of the {percent(lost / wall)} of the window that kernels at the {of} clock would not "
        "need if each took the same cycles",
        confidence="high" if _measured_here(followed) else "medium",
        evidence=[*evidence, *([sentence(followed)] if followed else [])],
    )


def sentence(followed: Followed) -> str:
    """Say how kernels of the recording took a lower clock."""
    return (
        f"kernels took {percent(followed.slower_frac)} longer at {amount(followed.low_hz, 'Hz')} than at "
        f"{amount(followed.high_hz, 'Hz')}, where the same cycles mean {percent(followed.lower_frac)} "
        f"({percent(followed.time_frac)} of kernel time): {followed.verdict} [throttling-slowdown]"
    )


def _measured(entry: dict[str, Any]) -> list[str]:
    """Repeat power and temperature, which tell what to mend."""
    power, cap = entry.get("power_w"), entry.get("power_cap_w")
    parts = []
    if power and power["at_work"]:
        parts.append(
            f"{digits(power['at_work'])} W at work" + (f" of {digits(cap)} W allowed" if cap else "")
        )
    for name in ("hotspot", "memory", "edge"):
        if found := entry.get(f"temperature_{name}_c"):
            parts.append(f"{name} up to {digits(found['most'])} °C")
    return [f"{', '.join(parts)} [throttling-sensors]"] if parts else []


def _measured_here(followed: Followed | None) -> bool:
    return followed is not None and followed.time_frac >= _LEAST_TIME_FRAC


def _shares(study: Study, followed: Followed | None) -> Shares:
    """What kernels of this recording showed, else what the rule on clocks estimates."""
    if followed is not None and _measured_here(followed):
        return Shares(
            low=max(0.0, followed.share - _MARGIN),
            mid=followed.share,
            high=min(1.0, followed.share + _MARGIN),
            source=f"measured: {percent(followed.share)} of what the same cycles mean is how much longer "
            "kernels of this recording took at its low clock",
        )
    gain = next(each.gain for each in rules() if each.id == RULE)
    assert gain is not None  # noqa: S101  # the rule's file has one
    return study.gains.shares(f"rule:{RULE}", gain)


ANALYZER = Throttling()
