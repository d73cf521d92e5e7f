"""What windows saw of kernels, by GPU and family, added up since the daemon began.

For counters, which only grow: retention deletes windows, so that a sum over the ledger could fall. Each
window is added once, as it is done.
"""

from __future__ import annotations

import math
from collections import defaultdict
from sqlite3 import Connection
from typing import Final

from rocscope.daemon import store_windows
from rocscope.daemon.spooled import TRIGGER

BACK_S: Final = 86_400.0  # a window may be done long after it was asked for: it is looked for so far back
MOST: Final = 1_000  # windows that are read at a time
REMEMBERED: Final = 5 * MOST  # windows, so that none is added twice
UNKNOWN_BASIS: Final = "modelled"
MOST_FAMILIES: Final = 16  # on eight GPUs each is 40 series of a thousand; what comes later counts as OTHER
OTHER: Final = "other"
MOST_KEYS: Final = 64 * MOST_FAMILIES  # also names of GPUs come from a process that read foreign files

Key = tuple[str, str]  # gpu, family


class KernelTotals:
    """Totals by (gpu, family), and of bytes and FLOPs by their basis as well."""

    def __init__(self, since_s: float) -> None:
        self.busy_s: dict[Key, float] = defaultdict(float)
        self.dispatches: dict[Key, float] = defaultdict(float)
        self.bytes: dict[tuple[str, str, str], float] = defaultdict(float)
        self.flops: dict[tuple[str, str, str], float] = defaultdict(float)
        self.bandwidth: dict[tuple[str, str, str], float] = {}  # share of the peak, of the last window
        self.open_s = 0.0
        self.windows: dict[tuple[str, str], int] = defaultdict(int)  # result, reason
        self._since_s = since_s
        self._done: dict[str, None] = {}  # windows that are in the totals, in this order
        self._families = {OTHER}

    def update(self, connection: Connection, now_s: float) -> None:
        """Add what has ended since the last time."""
        since = max(self._since_s, now_s - BACK_S)
        for row in reversed(store_windows.listing(connection, MOST, since_s=since)):
            if row.id in self._done or row.state not in ("done", "failed", "aborted", "skipped"):
                continue
            self._done[row.id] = None
            reason = (row.refusal or "").partition(":")[0] if row.state == "skipped" else row.trigger
            self.windows[("ok" if row.state == "done" else row.state, reason or "none")] += 1
            if row.started_at is not None:
                self.open_s += row.window_s or 0.0
            if row.state == "done" and row.trigger != TRIGGER:  # what was dropped may be another node's
                self._add(store_windows.families(connection, row.id))
        while len(self._done) > REMEMBERED:  # by number: a clock that is set ahead and back doubles nothing
            del self._done[next(iter(self._done))]

    def _add(self, families: list[store_windows.FamilyRow]) -> None:
        seen = {each.gpu for each in families}
        self.bandwidth = {key: value for key, value in self.bandwidth.items() if key[0] not in seen}
        for each in families:
            family = self._counted_as(each.family)
            key = (each.gpu, family)
            if key not in self.busy_s and len(self.busy_s) >= MOST_KEYS:
                continue
            self.busy_s[key] += _number(each.busy_s)
            self.dispatches[key] += _number(each.dispatches)
            if each.bytes is not None:
                self.bytes[(*key, each.bytes_basis or UNKNOWN_BASIS)] += _number(each.bytes)
            if each.flops is not None:
                self.flops[(*key, each.flops_basis or UNKNOWN_BASIS)] += _number(each.flops)
            alone = family == each.family  # of several together there is no one share of the peak
            if alone and each.bandwidth_frac is not None and math.isfinite(each.bandwidth_frac):
                self.bandwidth[(*key, each.bytes_basis or UNKNOWN_BASIS)] = each.bandwidth_frac

    def _counted_as(self, family: str) -> str:
        """Return the label of a family: once it has its own it keeps it, so that counters never fall."""
        if family not in self._families and len(self._families) < MOST_FAMILIES:
            self._families.add(family)
        return family if family in self._families else OTHER


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) and value > 0 else 0.0
