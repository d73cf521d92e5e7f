"""Lines of a server's log that rules ask for. Only how many there are is kept, never their text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

KINDS: Final = {
    "tunableop-wrong-arch": re.compile(rb"Failed validator: GCN_ARCH_NAME"),  # PyTorch TunableOp
    "hipblaslt-first-call": re.compile(rb"\[hipBLASLt\] first call"),
    "awq-triton-forced": re.compile(
        rb"enabling VLLM_USE_TRITON_AWQ|VLLM_USE_TRITON_AWQ['\"]?[:=] ?['\"]?(1|True)"
    ),
    "eager-mode": re.compile(rb"Enforce eager set, disabling|Cudagraph is disabled under eager mode"),  # vLLM
    "collective-timeout": re.compile(rb"Watchdog caught collective operation timeout"),  # PyTorch
}
"""Kinds of lines by the name that rules use (``log.KIND``)."""

_ANY: Final = re.compile(b"|".join(kind.pattern for kind in KINDS.values()))
LONGEST_LINE_BYTES: Final = 1 << 16


def count(lines: Iterable[bytes]) -> dict[str, int]:
    """Return how many lines are of each kind, 0 where there is none."""
    found: Counter[str] = Counter()
    for line in lines:
        start = line[:LONGEST_LINE_BYTES]
        if _ANY.search(start):
            found.update(kind for kind, pattern in KINDS.items() if pattern.search(start))
    return {kind: found[kind] for kind in KINDS}


def total(*counts: dict[str, int] | None) -> dict[str, int] | None:
    """Add counts up; ``None`` where no log was read at all."""
    known = [each for each in counts if each is not None]
    return {kind: sum(each.get(kind, 0) for each in known) for kind in KINDS} if known else None
