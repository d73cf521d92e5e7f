"""How the store does, for the operator and for those who decide whether to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StoreState = Literal["ok", "read-only", "full", "failing"]


@dataclass(frozen=True)
class StoreHealth:
    """``state`` is what the last write met; where it is not ``ok``, reads still work and writes are tried."""

    state: StoreState
    since_s: float  # Unix time since when it is so
    reason: str  # for the operator; empty when ok
    bytes: int | None  # of the state folder, when last measured
    limit_bytes: int | None  # of the same
    queued: int  # writes waiting
    dropped_samples: int  # rows, since the start
    failed_writes: int  # of the ledger, each told to its caller, since the start
