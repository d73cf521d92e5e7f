"""How long the daemon keeps what: by age on the trusted clock, by number, and never above its bytes.

By age and number: samples, results of windows with their findings, captures, reports, events. Above
``max_bytes`` the least missed goes first: captures to which no finding points, quarantine, reports, captures
to which one points, then whole days, oldest first, of windows' results and samples. What others dropped into
the spool and is not taken yet is neither counted nor touched.

What lies in ``aside`` and ``work`` counts, but is not deleted for its bytes.

A file is taken away by a rename, then noted in the ledger, then deleted: a kill leaves no half of it, and
the next start does the rest. What cannot be deleted is said, and stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Final, TypeVar

from rocscope.daemon import store_aging, store_events, store_findings, store_samples, store_windows
from rocscope.daemon.disk_use import Entry, Results, Trash, entries, tree_bytes
from rocscope.errors import StoreError

if TYPE_CHECKING:
    import sqlite3

    from rocscope.daemon.store import Store

T = TypeVar("T")

AGES_S: Final = 3600.0  # between two looks at ages
DAY_S: Final = 86_400.0
ROWS_FACTOR: Final = 2.0  # a window's own row outlives its result by so much
SPARE_FRAC: Final = 0.25  # of the store's pages, that may lie free after rows went by their age
LARGEST_FRAC: Final = 0.5  # of all bytes, that room is made for at once
REPORT: Final = re.compile(r"rocscope-(\d{4}-\d{2}-\d{2})\b.*")
"""Names of daily reports: nothing else is deleted from the reports' folder, which may be the operator's."""
_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Limits:
    """What is kept, as the settings say."""

    max_bytes: int
    min_free_bytes: int
    keep_samples_s: dict[int, float]  # by resolution
    keep_windows_s: float
    keep_captures: int
    keep_events: int
    keep_reports: int
    quarantine_bytes: int
    reports: Path


@dataclass
class Collected:
    """What one round did."""

    used_bytes: int = 0  # after it
    deleted: dict[str, int] = field(default_factory=dict)  # entries, by kind
    said: list[str] = field(default_factory=list)  # for the operator
    stuck: int = 0  # entries that cannot be deleted

    def count(self, kind: str, number: int = 1) -> None:
        """Count deleted entries."""
        if number:
            self.deleted[kind] = self.deleted.get(kind, 0) + number


class Retention:
    """Keeps the state folder within its limits; any thread may call, one works at a time."""

    def __init__(self, store: Store, limits: Callable[[], Limits]) -> None:
        self._store, self._limits = store, limits
        self._folder, self._clock = store.folder, store.clock
        self._trash, self._results = Trash(self._folder.trash), Results(self._folder.windows)
        self._lock = RLock()
        self._stuck: set[Path] = set()
        self._aged_s: float | None = None

    def collect(self) -> Collected:
        """Do one round: what is due by age and number, then what is above the limit of bytes."""
        with self._lock:
            done, limits = Collected(), self._limits()
            now_s = self._clock.monotonic_s()
            if self._aged_s is None or now_s - self._aged_s >= AGES_S:
                self._stuck.clear()  # tried anew, and said anew
                with suppress(StoreError):  # the store says itself what is wrong with it
                    self._by_age(limits, done)
                    self._aged_s = now_s
            self._empty(done)
            self._by_number(limits, done)
            self._by_bytes(limits, limits.max_bytes, done)
            self._store.measured(done.used_bytes, limits.max_bytes)
            done.stuck = len(self._stuck)
            return done

    def make_room(self, need_bytes: int) -> bool:
        """Make room for ``need_bytes`` more; ``False`` where the limits or the disk do not have it.

        For those who are about to put so much into the state folder, which thus stays within its limit.
        """
        with self._lock:
            done, limits = Collected(), self._limits()
            if need_bytes > LARGEST_FRAC * limits.max_bytes:
                return False
            self._by_bytes(limits, limits.max_bytes - need_bytes, done)
            self._store.measured(done.used_bytes, limits.max_bytes)
            fits = done.used_bytes + need_bytes <= limits.max_bytes
            return fits and self._folder.free_bytes() - need_bytes >= limits.min_free_bytes

    def used_bytes(self) -> int:
        """Return the bytes of all that counts."""
        folder = self._folder
        plain = (folder.captures, folder.quarantine, folder.reports, folder.trash)
        database = sum(tree_bytes(each) for each in folder.path.glob("store.sqlite*"))
        results = sum(entry.bytes for day in self._results.days().values() for entry in day)
        return database + results + sum(tree_bytes(each) for each in plain) + self._spared_bytes()

    def _spared_bytes(self) -> int:
        return tree_bytes(self._folder.work) + tree_bytes(self._folder.aside)

    # by age and number

    def _by_age(self, limits: Limits, done: Collected) -> None:
        now_s, latest_s = self._clock.trusted_wall_s(), self._clock.latest_wall_s()
        for res_s, keep_s in limits.keep_samples_s.items():
            self._delete_samples(res_s, now_s - keep_s, latest_s + keep_s)
        self._write(store_aging.delete_empty_series)
        oldest_s = now_s - limits.keep_windows_s
        self._windows_before(oldest_s, done)
        while self._write(lambda c: store_aging.delete_details(c, oldest_s)):
            pass
        rows_s = now_s - ROWS_FACTOR * limits.keep_windows_s
        while self._write(lambda c: store_aging.delete_rows(c, rows_s)):
            pass
        self._write(lambda c: store_events.trim(c, limits.keep_events))
        self._leftovers(now_s - DAY_S, done)
        self._shrink(SPARE_FRAC)

    def _delete_samples(self, res_s: int, before_s: float, after_s: float) -> None:
        with self._store.read() as connection:
            groups = store_aging.series_groups(connection)
        ages = store_aging.Ages(res_s, before_s, after_s)
        self._write(partial(store_aging.delete_new_samples, ages=ages))
        for group in groups:
            while self._write(partial(store_aging.delete_samples, ages=ages, series=group)):
                pass

    def _windows_before(self, oldest_s: float, done: Collected) -> None:
        """Delete results of windows asked for before a time; where no row tells when, their day does."""
        with self._store.read() as connection:
            kept = dict(store_aging.kept_folders(connection))
        old, present = [], set()
        for day, found in self._results.days().items():
            for entry in found:
                present.add(entry.path.name)
                if kept.get(entry.path.name, _end_s(day)) < oldest_s:
                    old.append(entry)
            if not found and _end_s(day) < self._clock.wall_s() - DAY_S:
                with suppress(OSError):  # something came
                    (self._folder.windows / f"date={day}").rmdir()
        self._discard("windows", old, done)
        gone = [each for each in kept if each not in present]  # by a round that was killed, or by hand
        if gone:
            self._write(lambda c: store_aging.files_deleted(c, gone))

    def _leftovers(self, before_s: float, done: Collected) -> None:
        """Delete what children left in the work folder, where no window is at work on it."""
        with self._store.read() as connection:
            busy = {row.id for row in store_windows.unfinished(connection)}
        left = [
            entry
            for entry in entries(self._folder.work)
            if entry.modified_s < before_s
            and entry.path.suffix != ".lock"
            and not any(entry.path.name == each or entry.path.name.startswith(f"{each}.") for each in busy)
        ]
        self._discard("work", left, done)

    def _by_number(self, limits: Limits, done: Collected) -> None:
        free, _ = self._captures()
        self._discard("captures", free[: max(0, len(free) - limits.keep_captures)], done)
        reports = _reports(limits.reports)
        for day in sorted(reports)[: max(0, len(reports) - limits.keep_reports)]:
            self._discard("reports", reports[day], done)
        refused = entries(self._folder.quarantine)
        excess = sum(entry.bytes for entry in refused) - limits.quarantine_bytes
        self._discard("quarantine", _first(refused, excess), done)

    # by bytes

    def _by_bytes(self, limits: Limits, target_bytes: int, done: Collected) -> None:
        done.used_bytes = self.used_bytes()
        if done.used_bytes <= target_bytes:
            return
        before = dict(done.deleted)
        for kind, found in self._by_worth(limits):
            self._discard(kind, _first(found, done.used_bytes - target_bytes), done)
            done.used_bytes = self.used_bytes()
        spared = self._spared_bytes()
        if spared >= target_bytes:  # no history is deleted where that could not be enough
            done.said.append(f"{spared / 1e6:.0f} MB lie in aside and work of {self._folder.path}: too much")
            return
        while done.used_bytes > target_bytes and self._oldest_day(done):
            done.used_bytes = self.used_bytes()
        went = {kind: number - before.get(kind, 0) for kind, number in done.deleted.items()}
        named = ", ".join(f"{number} of {kind}" for kind, number in went.items() if number)
        if named:
            said = f"the state folder was above its {limits.max_bytes / 1e6:.0f} MB: the oldest went, {named}"
            done.said.append(said)

    def _by_worth(self, limits: Limits) -> Iterator[tuple[str, list[Entry]]]:
        """Give what may go beside whole days, the least missed first."""
        free, pinned = self._captures()
        yield "captures", free
        yield "quarantine", entries(self._folder.quarantine)
        if limits.reports == self._folder.reports:  # elsewhere they do not count
            reports = _reports(limits.reports)
            yield "reports", [entry for day in sorted(reports)[:-1] for entry in reports[day]]
        yield "captures", pinned

    def _oldest_day(self, done: Collected) -> bool:
        """Delete the oldest day of results and samples; ``False`` where nothing can be deleted."""
        results = {day: left for day, found in self._results.days().items() if (left := self._free(found))}
        begins: dict[int, date] = {}
        with suppress(StoreError), self._store.read() as connection:
            for res_s in store_samples.RESOLUTIONS_S:
                first_s = store_aging.first_sample(connection, res_s)
                if first_s is not None:
                    begins[res_s] = datetime.fromtimestamp(first_s, UTC).date()
        if not results and not begins:
            return False
        oldest = min([*results, *begins.values()])
        deleted = self._discard("windows", results.get(oldest, []), done)
        with suppress(StoreError):
            for res_s in (each for each, day in begins.items() if day == oldest):
                self._delete_samples(res_s, _end_s(oldest), float("inf"))
                done.count("days of samples")
                deleted += 1
            self._shrink()
        return deleted > 0

    # what all use

    def _captures(self) -> tuple[list[Entry], list[Entry]]:
        """Return captures to which no finding points, and those to which one does; oldest first."""
        found = entries(self._folder.captures)
        try:
            with self._store.read() as connection:
                pinned = store_findings.pinned(connection)
        except StoreError:
            return [], found  # unknown
        is_pinned = [bool({entry.path.name, entry.path.stem} & pinned) for entry in found]
        return (
            [entry for entry, held in zip(found, is_pinned, strict=True) if not held],
            [entry for entry, held in zip(found, is_pinned, strict=True) if held],
        )

    def _free(self, found: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in found if entry.path not in self._stuck]

    def _discard(self, kind: str, found: Iterable[Entry], done: Collected) -> int:
        gone = []
        for entry in self._free(found):
            error = self._trash.discard(entry.path)
            if error is None:
                gone.append(entry.path.name)
            else:
                self._cannot(entry.path, error, done)
        if gone:
            if kind == "windows":
                with suppress(StoreError):  # the next look at ages notes it
                    self._write(lambda c: store_aging.files_deleted(c, gone))
            self._empty(done)
        done.count(kind, len(gone))
        return len(gone)

    def _empty(self, done: Collected) -> None:
        for error in self._trash.empty():
            self._cannot(Path(str(error.filename)), error, done)

    def _cannot(self, path: Path, error: OSError, done: Collected) -> None:
        if path not in self._stuck:
            self._stuck.add(path)
            done.said.append(f"{path} cannot be deleted: {error.strerror}")

    def _write(self, group: Callable[[sqlite3.Connection], T]) -> T:
        return self._settled(self._store.write(group))

    def _settled(self, future: Future[T]) -> T:
        try:
            return future.result(_WAIT_S)
        except TimeoutError as error:
            raise StoreError("the store's writer does not answer", "see `rocscope status`") from error

    def _shrink(self, spare_frac: float = 0.0) -> None:
        while self._write(partial(store_aging.vacuum, least_frac=spare_frac)):
            pass
        self._settled(self._store.checkpoint())


def _end_s(day: date) -> float:
    """Return when a day ended."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)).timestamp()


def _first(found: Iterable[Entry], need_bytes: int) -> list[Entry]:
    """Return as many of the first as make up ``need_bytes``."""
    taken = []
    for entry in found:
        if need_bytes <= 0:
            break
        taken.append(entry)
        need_bytes -= entry.bytes
    return taken


def _reports(folder: Path) -> dict[str, list[Entry]]:
    """Return daily reports by their day."""
    found: dict[str, list[Entry]] = {}
    for entry in entries(folder):
        if named := REPORT.fullmatch(entry.path.name):
            found.setdefault(named[1], []).append(entry)
    return found
