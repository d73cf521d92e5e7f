"""What a load measured on one side of a comparison, by level: one or several runs of the same load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import load_samples
from rocscope.comparison.side import Side
from rocscope.traffic import result

_SAME_LENGTH_FRAC: Final = 0.02  # by which mean lengths of requests may differ: tokenisers count a few more
_SAME_COUNT_FRAC: Final = 0.1  # by which numbers of requests may: a load begins and ends with fewer clients
_RUNS: Final = (  # which loads compare: like with like, those that do not tell what they are like last
    ("unprofiled", "unprofiled"),
    ("beside", "beside"),
    ("unprofiled", "beside"),
    ("beside", "unprofiled"),
    ("profiled", "profiled"),
)


@dataclass(frozen=True)
class Level:
    """Runs of one load: so many clients or so many requests a second, of requests of one length."""

    concurrency: float | None
    rate_per_s: float | None
    runs: list[dict[str, Any]]  # as rocscope.traffic.level reads them
    requests: list[dict[str, NDArray[np.float64]]]  # of each run: latencies in s of its requests, by name

    @property
    def load(self) -> tuple[float | None, float | None]:
        """What the load was: clients and arrivals a second."""
        return self.concurrency, self.rate_per_s

    @property
    def name(self) -> str:
        """The load in words: ``concurrency 16``."""
        told = [] if self.concurrency is None else [f"concurrency {self.concurrency:g}"]
        told += [] if self.rate_per_s is None else [f"{self.rate_per_s:g} requests/s"]
        return ", ".join(told) or "no limit of concurrency"

    @property
    def lengths(self) -> str:
        """The mean lengths of its requests in words: ``512 in, 128 out``."""
        first = self.runs[0]
        each = ((first["prompt_length"], "in"), (first["output_length"], "out"))
        return ", ".join(f"{value:g} {way}" for value, way in each if value is not None)


def of(side: Side, run: str) -> list[Level]:
    """Return the levels of a side's load; runs of the same load are of one level, in their order."""
    levels: list[Level] = []
    for each, requests in (one for part in side.runs for one in _measured(part, run)):
        this = Level(each["concurrency"], each["rate_per_s"], [each], [requests])
        same = next((other for other in levels if other.load == this.load and not unlike(other, this)), None)
        if same is None:
            levels.append(this)
        else:
            same.runs.append(each)
            same.requests.append(requests)
    return levels


def _measured(side: Side, run: str) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[np.float64]]]]:
    """Give each level of one recording, and what single requests of it took."""
    load = side.capture.manifest.load
    found = result.numbers(load)[run] if load else None
    for index, each in enumerate(found["levels"] if found else []):
        yield each, load_samples.of(side.capture.samples, run, index)


def measured(side: Side) -> bool:
    """Tell whether a load's result is known of this side."""
    return any(of(side, run) for run in result.RUNS)


def chosen(base: Side, new: Side) -> tuple[str, str] | None:
    """Return which load of each side is compared, ``None`` where no two are of one kind."""
    return next((pair for pair in _RUNS if of(base, pair[0]) and of(new, pair[1])), None)


def unlike(base: Level, new: Level) -> str | None:
    """Say how two runs of one level were different loads, ``None`` where they were alike."""
    first, second = base.runs[0], new.runs[0]
    return next(_differences(first, second), None)


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    for name, what in (("prompt_length", "tokens in"), ("output_length", "tokens out")):
        before, after = first[name], second[name]
        if (before is None) != (after is None):
            yield f"{what} a request are told of one side only"
        elif before is not None and abs(after - before) > _SAME_LENGTH_FRAC * abs(before):
            yield f"{before:g} against {after:g} {what} a request"
    before, after = first["requests"], second["requests"]
    if before and after and abs(after / before - 1) > _SAME_COUNT_FRAC:
        yield f"{before:g} against {after:g} requests"
    for side, each in (("base", first), ("new", second)):
        if each["failed"]:
            yield f"{each['failed']:g} requests failed in {side}"
