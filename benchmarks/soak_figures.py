"""What a soak shows, from what was written down: gaps in samples, memory, cost, windows and their effect."""

import json
import random
import sqlite3
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

NEIGHBOUR_S, SETTLE_S, LEAST_S = (
    30.0,
    5.0,
    10.0,
)  # beside a window; what was held up is made up for in between
FINE_S = 10
RING_S = 960.0  # until the ring of the last minutes is full, memory grows by design
ROUNDS = 2000


def samples(store: Path, since_s: float, until_s: float, hz: float) -> dict[str, dict[str, float]]:
    """Of each watched thing: the share of readings that were kept, and the longest time without one, s."""
    first, last = (since_s // FINE_S + 1) * FINE_S, (until_s // FINE_S - 1) * FINE_S
    watched = {"host": "memory_used_bytes", "engine": "requests_running", "telemetry": "power_w"}
    found: dict[str, dict[str, float]] = {}
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        for source, metric in watched.items():
            rows = connection.execute(
                """SELECT ts, min(n) FROM (SELECT * FROM samples UNION ALL SELECT * FROM samples_new)
                   JOIN series ON series.id = series WHERE source = ? AND metric = ? AND res_s = ?
                   AND ts >= ? AND ts < ? GROUP BY ts ORDER BY ts""",
                (source, metric, FINE_S, first, last),
            ).fetchall()
            if rows:
                starts = [first - FINE_S, *(ts for ts, _ in rows), last]
                found[source] = {
                    "kept_frac": sum(n for _, n in rows) / ((last - first) * hz),
                    "longest_gap_s": max(later - ts for ts, later in pairwise(starts)) - FINE_S,
                    "spans": len(rows),
                }
    return found


def slope(times: list[float], values: list[float]) -> dict[str, float] | None:
    """Growth an hour by Theil and Sen (the median of the slopes of pairs), with its interval.

    That is the middle 95 % of resamples by blocks of five minutes, as neighbours are alike.
    """
    if len(times) < 10 or times[-1] - times[0] < 240:
        return None
    hours, found = np.array(times) / 3600, np.array(values)

    def median_slope(chosen: np.ndarray) -> float:
        x, y = hours[chosen], found[chosen]
        i, j = np.triu_indices(len(x), 1)
        apart = x[j] - x[i]
        return float(np.median((y[j] - y[i])[apart != 0] / apart[apart != 0]))

    every = np.linspace(0, len(times) - 1, min(len(times), 120)).astype(int)
    blocks = np.array_split(every, max(2, int((times[-1] - times[0]) / 300)))
    chance = np.random.default_rng(0)
    rounds = [median_slope(np.concatenate([blocks[k] for k in chance.integers(0, len(blocks), len(blocks))]))
              for _ in range(200)]  # fmt: skip
    low, high = np.nanpercentile(rounds, (2.5, 97.5))
    return {"per_hour": median_slope(every), "low": float(low), "high": float(high)}


def requests(path: Path) -> list[dict[str, Any]]:
    """What the load wrote down."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Tokens:
    """When tokens came, and how long after the one before."""

    def __init__(self, load: list[dict[str, Any]]) -> None:
        pairs = sorted(
            (each["sent"] + at, at - before)
            for each in load
            if not each["error"]
            for before, at in zip([None, *each["tokens"]], each["tokens"], strict=False)
            if before is not None
        )
        firsts = [each["sent"] + each["tokens"][0] for each in load if each["tokens"] and not each["error"]]
        self.at, self.gap = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
        self.all = np.sort(np.concatenate([self.at, firsts])) if pairs else np.array([])

    def rate(self, since_s: float, until_s: float) -> float:
        low, high = np.searchsorted(self.all, (since_s, until_s))
        return float(high - low) / (until_s - since_s)

    def gaps(self, since_s: float, until_s: float) -> np.ndarray:
        low, high = np.searchsorted(self.at, (since_s, until_s))
        return self.gap[low:high]


def neighbours(
    windows: list[tuple[float, float]], index: int, since_s: float, until_s: float
) -> list[tuple[float, float]]:
    """The time before and after a window that no other window touches; none where either is too short."""
    began, ended = windows[index]
    first = max([since_s, *(other + SETTLE_S for _, other in windows[:index])])
    last = min([until_s, *(other for other, _ in windows[index + 1 :])])
    before = (max(first, began - NEIGHBOUR_S), began)
    after = (ended + SETTLE_S, min(last, ended + SETTLE_S + NEIGHBOUR_S))
    return [before, after] if min(before[1] - before[0], after[1] - after[0]) >= LEAST_S else []


def effect(
    tokens: Tokens, windows: list[tuple[float, float]], since_s: float, until_s: float
) -> dict[str, Any]:
    """Tokens a second and the 99th percentile of gaps in windows against their neighbours.

    Intervals are the middle 95 % of resamples over windows, which alone are independent. A gap counts where
    it ends, so what a window holds up counts until ``SETTLE_S`` after it.
    """
    rows = []
    for index, (began, ended) in enumerate(windows):
        around = neighbours(windows, index, since_s, until_s)
        outside = statistics.mean(tokens.rate(*each) for each in around) if around else 0.0
        if outside > 0:
            gaps = np.concatenate([tokens.gaps(*each) for each in around])
            rows.append((tokens.rate(began, ended) / outside, tokens.gaps(began, ended + SETTLE_S), gaps))
    if not rows:
        return {"windows": 0}
    ratio = interval(rows, lambda some: statistics.mean(each[0] for each in some))
    p99 = interval(rows, lambda some: p99_of(some, 1) / p99_of(some, 2))
    return {
        "windows": len(rows),
        "tokens_per_s_ratio": ratio,
        "p99_gap_ratio": p99,
        "p99_gap_in_s": p99_of(rows, 1),
        "p99_gap_beside_s": p99_of(rows, 2),
        "longest_gap_in_s": max((float(each[1].max()) for each in rows if len(each[1])), default=None),
    }


def p99_of(rows: list[Any], which: int) -> float:
    gaps = np.concatenate([each[which] for each in rows])
    return float(np.percentile(gaps, 99)) if len(gaps) else float("nan")


def interval(rows: list[Any], figure: Callable[[list[Any]], float]) -> dict[str, float | None]:
    """A figure with its interval; none of fewer than four windows."""
    found: dict[str, float | None] = {"value": figure(rows), "low": None, "high": None}
    if len(rows) >= 4:
        chance = random.Random(0)
        rounds = sorted(figure(chance.choices(rows, k=len(rows))) for _ in range(ROUNDS))
        found["low"], found["high"] = rounds[int(0.025 * ROUNDS)], rounds[int(0.975 * ROUNDS)]
    return found


def markdown(result: dict[str, Any]) -> str:
    """The same in words."""
    cost, memory, load = result["cost"], result["memory"], result["load"]
    states = ", ".join(f"{count} {name}" for name, count in result["windows"]["states"].items()) or "none"
    lines = [f"# Soak of {result['minutes']:.1f} min", "", result["machine"], ""]
    lines += ["| check | found | wanted | |", "|---|---|---|---|"]
    for each in result["checks"]:
        mark = "ok" if each["ok"] else "**FAILED**"
        lines.append(f"| {each['what']} | {each['found']} | {each['wanted']} | {mark} |")
    lines += [
        "",
        f"Cost: resident processes {cost['resident_cpu_frac']:.2%} of one core; with windows and analysis, "
        f"which run in children, {cost['whole_cpu_frac']:.2%} ({cost['window_cpu_s'] or 0:.1f} s a window). "
        f"Memory: {memory['resident_mb']['median']:.0f} "
        f"MB (most {memory['resident_mb']['most']:.0f}), children of windows and analysis at most "
        f"{memory['children_mb_most']:.0f} MB beside it.",
        "",
        f"Windows: {states}. Load: {load['requests']} requests, {load['failed']} failed, "
        f"{load['tokens_per_s']:.0f} tokens/s.",
        *_touched(result["effect"]),
    ]
    for each in result["windows"]["rows"]:
        lines.append(f"* {each['id']}: {each['state']} {each['why']}".rstrip())
    return "\n".join(lines) + "\n"


def _touched(effect: dict[str, Any]) -> list[str]:
    if not effect["windows"]:
        return []
    return [
        "",
        f"In {effect['windows']} windows against up to {NEIGHBOUR_S:.0f} s on either side: tokens/s "
        f"{_ratio(effect['tokens_per_s_ratio'])}; 99th percentile of the gap between tokens "
        f"{_ratio(effect['p99_gap_ratio'])} ({effect['p99_gap_in_s'] * 1e3:.0f} ms against "
        f"{effect['p99_gap_beside_s'] * 1e3:.0f} ms; longest {effect['longest_gap_in_s'] or 0:.1f} s).",
        "",
    ]


def _ratio(found: dict[str, float | None]) -> str:
    if found["low"] is None:
        return f"x {found['value']:.2f} (too few windows for an interval)"
    return f"x {found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
