"""The last quarter of an hour in memory: every series at the rate at which it was read.

Bounded whatever appears: so many subjects, series and rows; what is beyond is counted and left out. A value
that stopped coming is not shown as the present one, and a total that fell (its program began anew) gives no
rate across the fall.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from rocscope.serving_names import BUCKET

if TYPE_CHECKING:
    from rocscope.daemon.context import Clock

SPAN_S: Final = 900.0
MAX_SERIES: Final = 3000
MAX_SUBJECTS: Final = 256
MAX_METRICS: Final = 400  # of one subject
FRESH_S: Final = 5.0
LEAST_COVER: Final = 0.5  # of the span that a rate or quantile is asked over
DROP_S: Final = 60.0  # between two searches for series that ended
_NONE: Final = math.nan


class Quantile(NamedTuple):
    """A quantile from buckets: where it lies for sure, and in it by straight line."""

    low: float
    value: float
    high: float
    observed: float  # how many values it is of


class _Track:
    """All metrics that one source tells of one subject: one column of times, one of values each.

    A ring that grows to ``rows``: memory follows what was really read.
    """

    __slots__ = ("columns", "next", "restarted_s", "rows", "source", "times")

    def __init__(self, source: str, rows: int) -> None:
        self.source, self.rows, self.next = source, rows, 0
        self.times = array("d")
        self.columns: dict[str, array[float]] = {}
        self.restarted_s = -math.inf

    def row(self, at_s: float) -> int | None:
        """Return the row of a moment, a new one where it is later than all; ``None`` where it is earlier."""
        last = self.last_s
        if at_s == last:
            return (self.next - 1) % len(self.times)
        if at_s < last:
            return None
        if len(self.times) < self.rows:
            self.times.append(at_s)
            for column in self.columns.values():
                column.append(_NONE)
            self.next = len(self.times) % self.rows
            return len(self.times) - 1
        row = self.next
        self.times[row] = at_s
        for column in self.columns.values():
            column[row] = _NONE
        self.next = (row + 1) % self.rows
        return row

    @property
    def last_s(self) -> float:
        """The latest moment."""
        return self.times[self.next - 1] if self.times else -math.inf

    def back(self, since_s: float) -> Iterator[int]:
        """Give rows from the latest back to ``since_s``."""
        count = len(self.times)
        for step in range(1, count + 1):
            row = (self.next - step) % count
            if self.times[row] < since_s:
                return
            yield row

    def between(self, since_s: float, until_s: float) -> list[int]:
        """Return rows of a time, oldest first."""
        count = len(self.times)
        start = self.next % count if count == self.rows and count else 0
        order = range(count)

        def moment(index: int) -> float:
            return self.times[(start + index) % count]

        first = bisect_left(order, since_s, key=moment)
        last = bisect_right(order, until_s, key=moment)
        return [(start + index) % count for index in range(first, last)]


class History:
    """Rings by source and subject; written and read from the event loop alone."""

    def __init__(self, clock: Clock, hz: float = 1.0, span_s: float = SPAN_S) -> None:
        self.refused = 0  # values of series beyond the limits
        self.late = 0  # values of a moment before the latest
        self._clock, self._span_s = clock, span_s
        self._rows = max(2, math.ceil(span_s * hz) + 1)
        self._tracks: dict[tuple[str, str], _Track] = {}
        self._subjects: dict[str, list[_Track]] = {}
        self._count = 0
        self._dropped_s = -math.inf

    def add(self, at_monotonic_s: float, source: str, subject: str, metric: str, value: float) -> None:
        """Add one value; several of one source, subject and moment are best given to :meth:`add_all`."""
        self.add_all(at_monotonic_s, source, subject, {metric: value})

    def add_all(self, at_monotonic_s: float, source: str, subject: str, values: Mapping[str, float]) -> None:
        """Add what one source read of one subject at one moment; what is not finite is left out."""
        track = self._track(source, subject)
        row = track.row(at_monotonic_s) if track is not None else None
        if track is None or row is None:
            self.refused += len(values) if track is None else 0
            self.late += len(values) if track is not None else 0
            return
        columns, finite = track.columns, math.isfinite
        for metric, value in values.items():
            if finite(value):
                column = columns.get(metric) or self._column(track, metric)
                if column is not None:
                    column[row] = value

    def restarted(self, subject: str, at_monotonic_s: float) -> None:
        """Note that the subject's totals begin anew at this moment: no rate reaches across it."""
        for track in self._subjects.get(subject, ()):
            track.restarted_s = max(track.restarted_s, at_monotonic_s)

    def _track(self, source: str, subject: str) -> _Track | None:
        found = self._tracks.get((source, subject))
        if found is None:
            if len(self._tracks) >= MAX_SUBJECTS:
                self.prune()
            if len(self._tracks) >= MAX_SUBJECTS:
                return None
            found = self._tracks[(source, subject)] = _Track(source, self._rows)
            self._subjects.setdefault(subject, []).append(found)
        return found

    def _column(self, track: _Track, metric: str) -> array[float] | None:
        if self._full(track):
            self._drop_empty()
        if self._full(track):
            self.refused += 1
            return None
        self._count += 1
        track.columns[metric] = array("d", [_NONE]) * len(track.times)
        return track.columns[metric]

    def _full(self, track: _Track) -> bool:
        return len(track.columns) >= MAX_METRICS or self._count >= MAX_SERIES

    def prune(self) -> None:
        """Forget what has not been read for the whole span: a server or process that is gone."""
        oldest = self._clock.monotonic_s() - self._span_s
        for (source, subject), track in list(self._tracks.items()):
            if track.last_s < oldest:
                self._count -= len(track.columns)
                del self._tracks[(source, subject)]
                self._subjects[subject].remove(track)
                if not self._subjects[subject]:
                    del self._subjects[subject]

    def _drop_empty(self) -> None:
        """Forget series of which nothing is left in the ring; slow, so only where room is wanted."""
        now = self._clock.monotonic_s()
        if now < self._dropped_s + DROP_S:
            return
        self._dropped_s = now
        for track in self._tracks.values():
            for metric in [name for name, column in track.columns.items() if all(map(math.isnan, column))]:
                del track.columns[metric]
                self._count -= 1

    def series(self) -> list[tuple[str, str, str]]:
        """Return (source, subject, metric) of all that is kept."""
        return [(source, subject, metric)
                for (source, subject), track in self._tracks.items() for metric in track.columns]  # fmt: skip

    def latest(self, subject: str, metric: str, max_age_s: float = FRESH_S) -> float | None:
        """Return the present value, ``None`` where the last one is older than ``max_age_s``."""
        found = self.latest_at(subject, metric, max_age_s)
        return None if found is None else found[1]

    def latest_at(self, subject: str, metric: str, max_age_s: float = FRESH_S) -> tuple[float, float] | None:
        """Return moment and value of the present value, as :meth:`latest` does."""
        since, best = self._clock.monotonic_s() - max_age_s, None
        for track in self._subjects.get(subject, ()):
            column = track.columns.get(metric)
            if column is None:
                continue
            for row in track.back(since):
                if not math.isnan(column[row]):
                    if best is None or track.times[row] > best[0]:
                        best = (track.times[row], column[row])
                    break
        return best

    def points(
        self, subject: str, metric: str, over_s: float = SPAN_S, until_s: float | None = None
    ) -> list[tuple[float, float]]:
        """Return (moment, value) of the last ``over_s`` before ``until_s`` (now), oldest first."""
        until = self._clock.monotonic_s() if until_s is None else until_s
        found = [
            (track.times[row], column[row])
            for track in self._subjects.get(subject, ())
            if (column := track.columns.get(metric)) is not None
            for row in track.between(until - over_s, until)
            if not math.isnan(column[row])
        ]
        return sorted(found) if len(self._subjects.get(subject, ())) > 1 else found

    def spans(self, since_s: float, until_s: float) -> Iterator[tuple[str, str, str, list[float]]]:
        """Give source, subject, metric and values of every series that was read between two moments.

        The first moment is among them, the second is not.
        """
        for (source, subject), track in self._tracks.items():
            rows = track.between(since_s, math.nextafter(until_s, -math.inf))
            for metric, column in track.columns.items() if rows else ():
                values = [value for row in rows if not math.isnan(value := column[row])]
                if values:
                    yield source, subject, metric, values

    def mean(self, subject: str, metric: str, since_s: float, until_s: float | None = None) -> float | None:
        """Return the mean of the values between two moments, ``None`` where there is none."""
        until = self._clock.monotonic_s() if until_s is None else until_s
        values = [value for _, value in self.points(subject, metric, until - since_s, until)]
        return math.fsum(values) / len(values) if values else None

    def rate(
        self, subject: str, total_metric: str, over_s: float, until_s: float | None = None
    ) -> float | None:
        """Return the growth of a total in a second, over the last ``over_s`` before ``until_s`` (now).

        ``None`` where the total fell or its program began anew in that time, where less than half of the
        time was read, and where the last value is not fresh.
        """
        ends = self._ends(subject, total_metric, over_s, until_s)
        if ends is None:
            return None
        track, first, last = ends
        column = track.columns[total_metric]
        return (column[last] - column[first]) / (track.times[last] - track.times[first])

    def quantile(
        self, subject: str, histogram_metric: str, share: float, over_s: float, until_s: float | None = None
    ) -> float | None:
        """Return a quantile of what a histogram counted in the last ``over_s``: straight in its bucket.

        ``None`` as for :meth:`rate`, where nothing was counted, and above the last bound.
        """
        found = self.quantile_range(subject, histogram_metric, share, over_s, until_s)
        return None if found is None or math.isinf(found.high) else found.value

    def quantile_range(
        self, subject: str, histogram_metric: str, share: float, over_s: float, until_s: float | None = None
    ) -> Quantile | None:
        """Return a quantile with the bounds of its bucket; ``high`` is infinite above the last bound."""
        ends = self._ends(subject, f"{histogram_metric}_count", over_s, until_s)
        if ends is None:
            return None
        track, first, last = ends
        head = f"{histogram_metric}{BUCKET}"
        counts = sorted(
            (float(name[len(head) :]), column[last] - column[first])
            for name, column in track.columns.items()
            if name.startswith(head)
        )
        if not counts or any(not count >= 0 for _, count in counts):  # a NaN is no count either
            return None
        return _quantile(counts, share)

    def _ends(
        self, subject: str, total: str, over_s: float, until_s: float | None
    ) -> tuple[_Track, int, int] | None:
        """Return the first and last row of a total over a time, ``None`` where they cannot be compared."""
        until = self._clock.monotonic_s() if until_s is None else until_s
        tracks = [each for each in self._subjects.get(subject, ()) if total in each.columns]
        if not tracks:
            return None
        track = max(tracks, key=lambda each: each.last_s)
        column = track.columns[total]
        rows = [row for row in track.between(until - over_s, until) if not math.isnan(column[row])]
        if len(rows) < 2:
            return None
        first, last = rows[0], rows[-1]
        began, ended = track.times[first], track.times[last]
        if ended < until - max(FRESH_S, 0.1 * over_s) or ended - began < LEAST_COVER * over_s:
            return None
        if began < track.restarted_s <= ended:
            return None
        if any(column[later] < column[row] for row, later in pairwise(rows)):
            return None
        return track, first, last


def _quantile(counts: list[tuple[float, float]], share: float) -> Quantile | None:
    """Return the quantile of cumulative ``counts`` by bound, the last bound infinite."""
    total = counts[-1][1]
    cumulative = all(one[1] <= next_one[1] for one, next_one in pairwise(counts))
    if not math.isinf(counts[-1][0]) or total <= 0 or not cumulative:
        return None
    rank = share * total
    low, below = 0.0, 0.0
    for bound, count in counts:
        if count >= rank and count > below:
            inside = low + (bound - low) * (rank - below) / (count - below)
            return Quantile(low, low if math.isinf(bound) else inside, bound, total)
        low, below = bound, count
    return None
