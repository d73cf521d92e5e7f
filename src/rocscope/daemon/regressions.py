"""Each window against its own comparable past: what became slower or faster, shown by several windows.

One window that differs is ``watch``; a level that several windows share is a finding. What follows the clock
is told apart, and a window whose load or model is another is not compared, with the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rocscope.daemon import comparable, levels, store_findings, store_past

if TYPE_CHECKING:
    from rocscope.daemon.settings import Regressions
    from rocscope.daemon.store_past import Past
    from rocscope.daemon.store_windows import WindowRow

MOST_PAST: Final = 200  # of the newest comparable windows
LOOKED_AT: Final = 2000
LEAST_SHARE: Final = 0.01  # of a GPU's time: smaller families are not judged
BY_CONTEXT: Final = ("attention",)
LEAST_CLOCK: Final = 0.02  # by which the clock has to differ to explain anything
SAME_CYCLES: Final = 0.25  # of that, by which a change may miss it
WEEK_S: Final = 7 * 86_400.0

Times = Mapping[tuple[str, str], Mapping[str, float]]


@dataclass
class Judged:
    """``told`` goes into the window's summary, ``findings`` into the ledger."""

    told: dict[str, Any]
    findings: list[dict[str, Any]] = field(default_factory=list)


def judge(
    connection: Connection, row: WindowRow, result: Mapping[str, Any], given: Regressions, every_s: float
) -> Judged:
    """Hold a window that is not in the ledger's results yet against those that are."""
    key = result["key"]
    if why := comparable.unfit(key):
        return Judged({"past": 0, "why_not": [why]})
    since_s = row.requested_at - given.history_s
    near: list[Past] = []
    unlike: list[str] = []
    equal = comparable.key_hash(key)
    for each in store_past.windows(connection, equal, since_s, row.requested_at, LOOKED_AT):
        if said := comparable.unlike(key, each.key):
            unlike = unlike or said
        elif len(near) < MOST_PAST:
            near.append(each)
    near.reverse()
    told: dict[str, Any] = {"past": len(near), "why_not": [], "watch": [], "by_clock": []}
    if len(near) < given.least_windows:
        other = store_past.newest(connection, row.requested_at, row.trigger)
        differs = comparable.differences(key, other) if other is not None and not near else []
        told["why_not"] = [f"not comparable: {each}" for each in differs or unlike] or [
            f"{len(near)} comparable windows, of {given.least_windows} that are needed"
        ]
        return Judged(told)
    times = store_past.times(connection, [each.id for each in near], key["per"])
    earlier = store_past.findings(connection, since_s)
    now = store_past.Past(row.id, row.requested_at, dict(key))
    mine = _now(result)
    chance = given.false_alarms_per_week * every_s / WEEK_S / max(1, len(mine))
    return _judged(_series(now, near, times, mine, earlier), chance, given, told)


def _now(result: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return this window's times, of families that matter."""
    per = result["key"]["per"]
    found: dict[tuple[str, str], float] = {}
    totals: dict[str, float] = {}
    for each in result["families"]:
        tokens = each["tokens"]
        spent = (
            each["step_s"]
            if per == "step"
            else each["busy_s"] / tokens
            if tokens and each["busy_s"]
            else None
        )
        if spent:
            found[(each["family"], each["gpu"])] = spent
            totals[each["gpu"]] = totals.get(each["gpu"], 0.0) + spent
    return {name: spent for name, spent in found.items() if spent >= LEAST_SHARE * totals[name[1]]}


@dataclass(frozen=True)
class _Series:
    """One family on one GPU: its comparable windows, oldest first, the present one last."""

    name: str
    family: str
    gpu: str
    windows: list[Past]
    values: list[float]  # logarithms of time


def _series(
    now: Past,
    near: Sequence[Past],
    times: Times,
    mine: Mapping[tuple[str, str], float],
    earlier: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[_Series | None, Mapping[str, Any] | None]]:
    """Give each series since its last finding, with that finding; ``None`` where it cannot be judged."""
    for (family, gpu), spent in sorted(mine.items()):
        name = f"{comparable.key_hash(now.key)}/{family}/{gpu}"
        last = next((each for each in earlier if each["evidence"].get("series") == name), None)
        begins = last["evidence"]["since_s"] if last is not None else -math.inf
        seen = times.get((family, gpu), {})
        rows = [each for each in near if each.id in seen and each.at_s >= begins]
        if family in BY_CONTEXT:
            if now.key.get("context_tokens") is None:
                yield None, None
                continue
            rows = [each for each in rows if comparable.same_context(now.key, each.key)]
        values = [math.log(seen[each.id]) for each in rows] + [math.log(spent)]
        yield _Series(name, family, gpu, [*rows, now], values), last


def _judged(
    found: Iterable[tuple[_Series | None, Mapping[str, Any] | None]],
    chance: float,
    given: Regressions,
    told: dict[str, Any],
) -> Judged:
    judged = Judged(told)
    for series, last in found:
        if series is None:
            told["why_not"].append("attention is not judged: the length of contexts is not known")
            continue
        if last is not None and (back := _recovered(last, series)):
            judged.findings.append(back)
            continue
        change = levels.look(series.values, chance, math.log1p(given.least_change_frac), given.least_windows)
        who = {"family": series.family, "gpu": series.gpu}
        if change.kind == "watch":
            told["watch"].append({**who, "change_frac": math.expm1(change.change)})
        elif change.kind == "shift":
            if said := _by_clock(change, series.windows):
                told["by_clock"].append({**who, "text": said})
            else:
                judged.findings.append(_finding(change, series))
    return judged


def _by_clock(change: levels.Change, windows: Sequence[Past]) -> str | None:
    """Say that the clock explains a change: the same cycles at another frequency."""
    clocks = [each.key.get("clock_hz") for each in windows]
    before = [clock for clock in clocks[: -change.windows] if clock]
    after = [clock for clock in clocks[-change.windows :] if clock]
    if not before or not after:
        return None
    longer = math.log(median(before) / median(after))
    if abs(longer) < LEAST_CLOCK or longer * change.change <= 0:
        return None
    if abs(change.change) > (1 + SAME_CYCLES) * abs(longer):
        return None
    return (
        f"{math.expm1(change.change):+.1%}, as the clock went from {median(before) / 1e6:.0f} to "
        f"{median(after) / 1e6:.0f} MHz, at which the same cycles take {math.expm1(longer):+.1%}"
    )


def _finding(change: levels.Change, series: _Series) -> dict[str, Any]:
    before = change.before
    assert before is not None  # noqa: S101  # a shift has a past
    kind = "regression" if change.change > 0 else "improvement"
    size, low, high = (math.expm1(each) for each in (change.change, change.low, change.high))
    text = (
        f"{kind}: {series.family} on GPU {series.gpu} takes {size:+.1%} ({low:+.1%} to {high:+.1%}) a "
        f"{series.windows[-1].key['per']} in the last {change.windows} windows; {before.count} before"
    )
    return _row(kind, series, change.windows) | {
        "size_frac": size,
        "low_frac": low,
        "high_frac": high,
        "confidence": "high" if change.strength >= 2 and before.count >= 20 else "medium",
        "evidence": {
            **_evidence(series, change.windows, text),
            "before": {"windows": before.count, "time_s": math.exp(before.middle), "spread": before.spread},
            "after": {
                "windows": change.windows,
                "time_s": math.exp(median(series.values[-change.windows :])),
            },
        },
    }


def _recovered(last: Mapping[str, Any], series: _Series) -> dict[str, Any] | None:
    """Return a finding where a regression has gone: the last windows are at the level of before it."""
    k, evidence, values = levels.SCALES[0], last["evidence"], series.values
    if last["kind"] != "regression" or last["state"] == "resolved" or len(values) < 2 * k:
        return None
    was, became = (math.log(evidence[side]["time_s"]) for side in ("before", "after"))
    if not all(abs(value - was) < abs(value - became) / 2 for value in values[-k:]):
        return None
    size = math.expm1(median(values[-k:]) - became)
    text = f"recovered: {series.family} on GPU {series.gpu} is back, {size:+.1%} over the last {k} windows"
    return _row("recovered", series, k) | {
        "size_frac": size,
        "low_frac": None,
        "high_frac": None,
        "confidence": "medium",
        "evidence": {
            **_evidence(series, k, text),
            "resolves": last["id"],
            "before": evidence["after"],
            "after": evidence["before"],
        },
    }


def _evidence(series: _Series, k: int, text: str) -> dict[str, Any]:
    """Return what a finding rests on: the windows at the new level, and as many before, with their load."""
    first = series.windows[-k]
    shown = list(zip(series.windows, series.values, strict=True))[-2 * k - 6 :]
    windows = [
        {
            "id": each.id,
            "at_s": each.at_s,
            "time_s": math.exp(value),
            "clock_hz": each.key.get("clock_hz"),
            "load": comparable.load(each.key),
        }
        for each, value in shown
    ]
    return {
        "series": series.name,
        "since_s": first.at_s,
        "per": first.key["per"],
        "text": text,
        "windows": windows,
    }


def _row(kind: str, series: _Series, k: int) -> dict[str, Any]:
    found = hashlib.sha256(f"{series.name}\0{kind}\0{series.windows[-k].id}".encode()).hexdigest()[:16]
    return {
        "id": f"{kind}-{found}",
        "at": series.windows[-1].at_s,
        "kind": kind,
        "family": series.family,
        "gpu": series.gpu,
    }


def commit(connection: Connection, findings: Sequence[Mapping[str, Any]], take: Callable[[], bool]) -> bool:
    """Take a result, and in the same transaction resolve what its findings say is over."""
    new = take()
    for each in findings if new else ():
        if resolved := each["evidence"].get("resolves"):
            store_findings.set_state(connection, resolved, "resolved")
    return new
