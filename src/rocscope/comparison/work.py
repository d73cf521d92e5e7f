"""Whether what takes a kernel's place does the same work: the bytes that both have to move in a step.

A 16-bit product in place of a 4-bit one has another least time. What came of such a change is a gain or a
loss like any other, but no share of the way to the first kernel's least time: nothing is learnt from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rocscope.comparison.result import Difference
from rocscope.findings import Analysis
from rocscope.wording import digits

_QUANTISED: Final = frozenset({"gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm", "dequant"})
_SAME_FRAC: Final = (
    0.15  # by which modelled bytes of the same work may differ: helpers count in one, not the other
)
_KNOWN_FRAC: Final = 0.9  # of a kernel's time that its bytes have to be known of


class Work:
    """Bytes that the kernels of a recording have to move for each second that they run."""

    def __init__(self, analysis: Analysis) -> None:
        """Take modelled bytes: counted ones fall where the same work is done with fewer fetches."""
        time: dict[str, float] = {}
        known: dict[str, float] = {}
        moved: dict[str, float] = {}
        self._packed = {each.kernel for each in analysis.kernels if each.family in _QUANTISED}
        for each in analysis.kernels:
            spent, size = each.time_s or 0.0, each.bytes_per_dispatch
            time[each.kernel] = time.get(each.kernel, 0.0) + spent
            if size.value is not None and size.basis == "modelled":
                known[each.kernel] = known.get(each.kernel, 0.0) + spent
                moved[each.kernel] = moved.get(each.kernel, 0.0) + size.value * each.dispatches
        self._rate = {
            name: moved[name] / spent
            for name, spent in known.items()
            if spent > 0 and spent >= _KNOWN_FRAC * time[name]
        }

    def bytes(self, rows: Sequence[tuple[str, float]]) -> float | None:
        """Return what kernels move in a time each, s; ``None`` where that is not known of one."""
        if not rows or any(kernel not in self._rate for kernel, _ in rows):
            return None
        return sum(self._rate[kernel] * time_s for kernel, time_s in rows)

    def packed(self, rows: Sequence[tuple[str, float]]) -> bool:
        """Tell whether one of the kernels works on packed weights."""
        return any(kernel in self._packed for kernel, _ in rows)


def other(base: Work, new: Work, rows: Sequence[Difference]) -> str | None:
    """Return why kernels of ``rows`` do another work than before; ``None`` where nothing shows it."""
    before = [((row.base_kernels or [row.name])[0], row.base_s) for row in rows if row.base_s]
    after = [((row.new_kernels or [row.name])[0], row.new_s) for row in rows if row.new_s]
    first, second = base.bytes(before), new.bytes(after)
    if first and second:
        if abs(second / first - 1) <= _SAME_FRAC:
            return None
        return f"it has {digits(second / first)} times the bytes to move"
    if before and after and base.packed(before) != new.packed(after):
        return "its weights are packed on one side only"
    return None
