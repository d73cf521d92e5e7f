"""What a server counted, over time: scrapes of its metrics out of the samples, and figures of a part of them.

Metrics have names of our own, whatever vLLM called them (:mod:`rocscope.collectors.serving` translates):
gauges, totals since the server's start, and histograms, whose cumulative buckets are totals too, as
``ttft_s_bucket:0.04`` beside ``ttft_s_sum`` and ``ttft_s_count``. All rows of one scrape have one time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns
from rocscope.capture import Capture
from rocscope.serving_names import (
    BUCKET,
    CAPACITY,
    ENGINES,
    FINISHED,
    GAUGES,
    LATENCIES,
    LENGTHS,
    LIVE,
    SOURCE,
    STARTED,
    TOTALS,
)
from rocscope.traffic import result

QUANTILES: Final = (0.5, 0.9, 0.99)
WIDEST: Final = 2.5  # from the lower to the upper bound of a bucket in which a quantile has a value
_SAME_FRAC: Final = 0.01  # by which the tokens of server and client may differ and be of the same requests
_MOST_METRICS: Final = 2000  # of one server; a capture may come from anywhere
_KNOWN: Final = re.compile(
    "|".join((*GAUGES, *TOTALS, STARTED, ENGINES, CAPACITY))
    + f"|{FINISHED}[a-z_]{{1,32}}"
    + f"|({'|'.join((*LATENCIES, *LENGTHS))})_(sum|count|bucket:(inf|[0-9][0-9.e+-]{{0,11}}))"
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Scrapes:
    """Scrapes in order: ``times`` in ns of the capture's clock, ``values`` by metric, NaN where absent."""

    times: Ints
    values: dict[str, Floats]
    timed: bool  # the times are of the recording's clock

    @classmethod
    def read(cls, samples: pa.Table) -> Scrapes | None:
        """Take the scrapes out of the table ``samples``, live ones before saved ones.

        ``None`` without any, and where texts of several servers were saved: which belong here is not told.
        """
        sources = (chunk.dictionary.to_pylist() for chunk in samples["source"].chunks)
        if not any(SOURCE in each for each in sources):  # the filter below would import pandas
            return None
        rows = samples.filter(pc.equal(samples["source"].cast(pa.string()), SOURCE))
        subjects = pc.unique(rows["subject"].cast(pa.string())).to_pylist()
        chosen = LIVE if LIVE in subjects else subjects[0] if len(subjects) == 1 else None
        if chosen is None:
            return None
        rows = rows.filter(pc.equal(rows["subject"].cast(pa.string()), chosen))
        rows = rows.filter(columns.holds(rows["metric"], lambda name: bool(_KNOWN.fullmatch(name))))
        if not rows.num_rows or len(pc.unique(rows["metric"])) > _MOST_METRICS:
            return None
        return cls(*_pivot(rows.unify_dictionaries()), timed=chosen == LIVE)

    def between(self, first_ns: int, last_ns: int) -> Scrapes:
        """Return the scrapes from ``first_ns`` to ``last_ns``, both included."""
        return self._rows(np.flatnonzero((self.times >= first_ns) & (self.times <= last_ns)))

    def around(self, first_ns: int, last_ns: int) -> Scrapes:
        """Return the scrapes between, and the last one before and the first one after."""
        low = max(0, int(np.searchsorted(self.times, first_ns, side="right")) - 1)
        high = min(len(self.times), int(np.searchsorted(self.times, last_ns, side="left")) + 1)
        return self._rows(np.arange(low, max(low, high)))

    def since_restart(self) -> tuple[Scrapes, int]:
        """Return the scrapes since the server last started anew, and how often it did.

        It did where a total fell or the process has another start.
        """
        back = np.zeros(max(0, len(self.times) - 1), bool)
        for name, column in self.values.items():
            change = np.diff(column)
            if name == STARTED:
                back |= np.abs(change) > 1.0
            elif name not in GAUGES and name not in (ENGINES, CAPACITY):
                back |= change < 0
        at = np.flatnonzero(back)
        return (self if not len(at) else self._rows(np.arange(int(at[-1]) + 1, len(self.times)))), len(at)

    def column(self, name: str) -> Floats:
        """Return one metric at each scrape, NaN where there is none."""
        found = self.values.get(name)
        return np.full(len(self.times), np.nan) if found is None else found

    def change(self, name: str) -> float | None:
        """Return by how much a total grew from the first scrape to the last; ``None`` where not known."""
        column = self.column(name)
        if len(column) < 2:
            return None
        # a series that appears later had no events before
        first = 0.0 if math.isnan(column[0]) and name.startswith(FINISHED) else column[0]
        change = float(column[-1] - first)
        return None if math.isnan(change) or change < 0 else change

    def _rows(self, rows: Ints) -> Scrapes:
        return Scrapes(
            self.times[rows], {name: column[rows] for name, column in self.values.items()}, self.timed
        )


def _pivot(rows: pa.Table) -> tuple[Ints, dict[str, Floats]]:
    metrics = rows["metric"].combine_chunks()
    names = metrics.dictionary.to_pylist()
    codes = metrics.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    times, scrape = np.unique(rows["time_ns"].to_numpy(), return_inverse=True)
    table = np.full((len(names), len(times)), np.nan)
    values = rows["value"].to_numpy()
    table[codes, scrape] = np.where(np.isfinite(values), values, np.nan)
    used = np.unique(codes).tolist()
    return times.astype(np.int64), {names[code]: table[code] for code in used}


@dataclass(frozen=True)
class Histogram:
    """Events by size: ``counts`` of those up to each of ``bounds`` above the one before; the last is inf."""

    bounds: Floats
    counts: Floats
    total: float  # sum of the sizes

    @property
    def count(self) -> float:
        """How many events there were."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """Exact, from sum and count."""
        return self.total / self.count if self.count > 0 else None

    def bracket(self, share: float) -> tuple[float, float]:
        """Return the bounds of the bucket in which the quantile ``share`` lies; there must be events."""
        at = int(np.searchsorted(np.cumsum(self.counts), share * self.count, side="left"))
        at = min(at, len(self.bounds) - 1)
        while self.counts[at] == 0:  # a share of 0, or rounding: the bucket of the event itself
            at += 1
        return (float(self.bounds[at - 1]) if at else 0.0), float(self.bounds[at])

    def quantile(self, share: float) -> float | None:
        """Return the quantile, linear within its bucket as Prometheus has it.

        ``None`` where the bucket is open or reaches over more than a factor of :data:`WIDEST`: a place in the
        middle of it could be far from the truth, and only the bounds are known.
        """
        low, high = self.bracket(share)
        if math.isinf(high) or high > WIDEST * low:
            return None
        at = int(np.searchsorted(self.bounds, high))
        before = float(self.counts[:at].sum())
        inside = min(1.0, max(0.0, (share * self.count - before) / float(self.counts[at])))
        return low + (high - low) * inside


def histogram(scrapes: Scrapes, name: str) -> Histogram | None:
    """Return what came to histogram ``name`` from the first scrape to the last, ``None`` where not known."""
    prefix = f"{name}{BUCKET}"
    found = sorted(
        (bound, change)
        for each in scrapes.values
        if each.startswith(prefix)
        and (bound := _bound(each.removeprefix(prefix))) is not None
        and (change := scrapes.change(each)) is not None
    )
    total, count = scrapes.change(f"{name}_sum"), scrapes.change(f"{name}_count")
    if total is None or count is None:
        return None
    if not found or not math.isinf(found[-1][0]):
        found.append((math.inf, count))
    bounds, cumulative = np.array(found).T
    counts = np.diff(cumulative, prepend=0.0)
    if (counts < 0).any() or not math.isclose(float(cumulative[-1]), count, abs_tol=0.5):
        return None  # buckets that do not add up are not shown
    return Histogram(bounds, counts, total)


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def figures(scrapes: Scrapes) -> Figures:
    """Return what the server did from the first scrape to the last. What is not known is ``None``."""
    scrapes, restarts = scrapes.since_restart()
    seconds = float(scrapes.times[-1] - scrapes.times[0]) * 1e-9 if scrapes.timed else 0.0
    span = seconds if seconds > 0 else None
    totals = {name: scrapes.change(name) for name in TOTALS}
    finished = _finished(scrapes)
    known = [value for value in finished.values() if value is not None]
    requests = math.fsum(known) if known else None
    sizes = {name: histogram(scrapes, name) for name in LENGTHS}
    engines = scrapes.column(ENGINES)
    return {
        "basis": "measured",
        "source": "the server's /metrics" if scrapes.timed else "saved texts of the server's /metrics",
        "scrapes": len(scrapes.times),
        "restarts": restarts,
        "engines": None if np.isnan(engines).all() else int(np.nanmax(engines)),
        "span_s": span,
        "prompt_tokens": totals["prompt_tokens"],
        "generation_tokens": totals["generation_tokens"],
        "prompt_tokens_per_s": _ratio(totals["prompt_tokens"], span),
        "generation_tokens_per_s": _ratio(totals["generation_tokens"], span),
        "active": active(scrapes),
        "requests_finished": requests,
        "requests_finished_by_reason": {name: value for name, value in finished.items() if value},
        "requests_per_s": _ratio(requests, span),
        "latencies": {
            name: told for name in LATENCIES if (told := _latency(histogram(scrapes, name))) is not None
        },
        **{name: _gauge(scrapes, name) for name in GAUGES},
        CAPACITY: _last(scrapes, CAPACITY),
        "preemptions": totals["preemptions"],
        "prefix_cache_hit_frac": _ratio(
            totals["prefix_cache_hit_tokens"], totals["prefix_cache_queried_tokens"]
        ),
        "engine_steps": totals["engine_steps"],
        "generation_tokens_per_step": _ratio(totals["generation_tokens"], totals["engine_steps"]),
        "estimated_flops_per_gpu": totals["estimated_flops"] or None,  # 0: the server was not told to count
        "estimated_read_bytes_per_gpu": totals["estimated_read_bytes"] or None,
        "estimated_write_bytes_per_gpu": totals["estimated_write_bytes"] or None,
        **{f"mean_{name}": found.mean if (found := sizes[name]) else None for name in LENGTHS},
    }


def active(scrapes: Scrapes) -> Figures | None:
    """Return the rate while tokens were made, of a span that begins and ends between two scrapes.

    Work began between the last scrape without a token and the first with one, and ended alike: the longest
    and the shortest span that this allows bound the rate. In between, the tokens of the first and the last
    interval are taken to have been made at the rate of the rest; a span and a rate are ``None`` where there
    is no rest. ``None`` without times or tokens.
    """
    made = scrapes.column("generation_tokens") + scrapes.column("prompt_tokens")
    output = scrapes.column("generation_tokens")
    if not scrapes.timed or len(made) < 2 or np.isnan(made).any():
        return None
    grows = np.flatnonzero(np.diff(made) > 0)
    if not len(grows):
        return None
    before, after = int(grows[0]), int(grows[-1]) + 1
    times = scrapes.times * 1e-9
    longest = float(times[after] - times[before])
    shortest = max(0.0, float(times[after - 1] - times[before + 1]))
    tokens = float(output[after] - output[before])
    inner = float(output[after - 1] - output[before + 1]) if shortest > 0 else 0.0
    span = min(longest, tokens * shortest / inner) if inner > 0 else None
    if before == 0 and after == len(made) - 1:
        span = shortest = longest  # working throughout: the scrapes are the span
    return {
        "span_s": span,
        "span_low_s": shortest,
        "span_high_s": longest,
        "generation_tokens_per_s": _ratio(tokens, span),
        "generation_tokens_per_s_low": tokens / longest,
        "generation_tokens_per_s_high": tokens / shortest if shortest > 0 else None,
    }


def of_window(scrapes: Scrapes, first_ns: int, last_ns: int) -> Figures:
    """Return figures of a window in which all work of a load lies, such as a benchmark's own.

    Totals are taken from the last scrape before it to the first after it, rates over the window itself;
    rates are ``None`` where scrapes do not reach over all of it.
    """
    scrapes = scrapes.around(first_ns, last_ns)
    found = figures(scrapes)
    covered = len(scrapes.times) and scrapes.times[0] <= first_ns and scrapes.times[-1] >= last_ns
    span = (last_ns - first_ns) * 1e-9 if covered else None
    for name in ("prompt_tokens", "generation_tokens"):
        found[f"{name}_per_s"] = _ratio(found[name], span)
    found["requests_per_s"] = _ratio(found["requests_finished"], span)
    return {**found, "span_s": span, "active": None}


def of_capture(capture: Capture) -> Figures:
    """Return the figures of the window that was profiled, ``{}`` where no server was sampled.

    Where a load ran and says what it got, ``against_load`` sets the two against each other.
    """
    scrapes = Scrapes.read(capture.samples)
    window = capture.manifest.window_ns
    if scrapes is not None and scrapes.timed and window is not None:
        scrapes = scrapes.between(*window)
    if scrapes is None or not len(scrapes.times):
        return {}
    found = figures(scrapes)
    load = capture.manifest.load
    return {**found, "against_load": _against_load(found, None if load is None else result.numbers(load))}


def _against_load(found: Figures, load: Mapping[str, Any] | None) -> Figures | None:
    """Set the server's tokens against those that the load's client counted, and the rate over its time.

    ``None`` where the load's result is not known. The rate is not known where the server made other tokens
    too, such as those of warm-up requests: in what time is not told.
    """
    ran = next((load[name] for name in result.RUNS if load.get(name)), None) if load else None
    tokens, served = _sum(ran, "output_tokens"), found["generation_tokens"]
    seconds = _sum(ran, "duration_s")
    if tokens is None or seconds is None or served is None:
        return None
    same = abs(served - tokens) <= _SAME_FRAC * tokens
    return {
        "duration_s": seconds,
        "client_output_tokens": tokens,
        "client_output_tokens_per_s": _ratio(tokens, seconds),
        "server_generation_tokens": served,
        "server_generation_tokens_per_s": _ratio(served, seconds) if same else None,
        "difference_frac": _ratio(served - tokens, tokens),
    }


def _sum(ran: Mapping[str, Any] | None, name: str) -> float | None:
    values = [each.get(name) for each in (ran or {}).get("levels", [])]
    return math.fsum(values) if values and all(isinstance(each, int | float) for each in values) else None


def _finished(scrapes: Scrapes) -> dict[str, float | None]:
    names = [name for name in scrapes.values if name.startswith(FINISHED)]
    return {name.removeprefix(FINISHED): scrapes.change(name) for name in sorted(names)}


def _latency(found: Histogram | None) -> Figures | None:
    """Return mean, count and quantiles, each with the bounds of its bucket."""
    if found is None or found.count <= 0:
        return None
    told: Figures = {"count": found.count, "mean_s": found.mean}
    for share in QUANTILES:
        low, high = found.bracket(share)
        name = f"p{share * 100:g}"
        told[f"{name}_s"] = found.quantile(share)
        told[f"{name}_low_s"], told[f"{name}_high_s"] = low, None if math.isinf(high) else high
    return told


def _gauge(scrapes: Scrapes, name: str) -> Figures | None:
    """Return mean and most over the scrapes; of saved texts, taken before and after, nothing is known."""
    column = scrapes.column(name)
    if not scrapes.timed or np.isnan(column).all():
        return None
    return {"mean": float(np.nanmean(column)), "most": float(np.nanmax(column))}


def _last(scrapes: Scrapes, name: str) -> float | None:
    value = float(scrapes.column(name)[-1])
    return None if math.isnan(value) else value


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
