"""Times against the GPU's own events, and rates against the datasheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rocscope.validation.seen import Seen
from rocscope.validation.truth import KnownKernel, Truth
from rocscope.validation.verdict import Verdict, absent, judge

CLOSE_FRAC: Final = 0.05
CLOSE_NS: Final = 3_000.0
WRONG_FRAC: Final = 0.02  # of the largest value; what 16-bit arithmetic gives is a fiftieth of it
_US: Final = 1e3


def times(seen: Seen, plain: Truth) -> Iterator[Verdict]:
    """Hold mean times against events of the same run and of the run without a profiler.

    Events include the gap between launches, which a profiler that runs kernels one by one makes wide: it is
    enough that one of the two agrees. Where the launches had gaps of their own, events are an upper limit.
    """
    for kernel in seen.truth.kernels:
        mean = seen.mean_ns(kernel)
        if mean is None:
            why = "no times of all its launches were recorded without counters"
            yield absent("time", seen.trial, why, kernel=kernel.case)
            continue
        known = [each for each in (kernel, plain.kernel(kernel.case)) if each is not None]
        yield judge(
            any(_agrees(mean, each) for each in known),
            "time",
            seen.trial,
            kernel=kernel.case,
            expected=" or ".join(dict.fromkeys(_limits(each) for each in known)),
            seen=f"{mean / _US:.2f} us",
        )


def _agrees(mean_ns: float, kernel: KnownKernel) -> bool:
    slack = max(CLOSE_FRAC * kernel.event_ns, CLOSE_NS)
    if mean_ns > kernel.event_ns + slack:
        return False
    return not kernel.queued or mean_ns >= kernel.event_ns - slack


def _limits(kernel: KnownKernel) -> str:
    slack = max(CLOSE_FRAC * kernel.event_ns, CLOSE_NS)
    if kernel.queued:
        return f"{kernel.event_ns / _US:.2f} +- {slack / _US:.2f} us"
    return f"at most {(kernel.event_ns + slack) / _US:.2f} us"


def rates(seen: Seen) -> Iterator[Verdict]:
    """Hold bytes and FLOPs a second, by the profiler's times, against the datasheet."""
    for kernel in seen.truth.kernels:
        mean = seen.mean_ns(kernel)
        if kernel.streams:
            moved = (kernel.read_least_bytes or 0) + (kernel.write_least_bytes or 0)
            peak = seen.spec.datasheet.bandwidth_bytes_per_s if seen.spec else None
            limit = peak.value if peak else None
            yield _rate("bandwidth", seen, kernel.case, _Rate(moved, mean, limit, "GB/s", 1e9))
        if kernel.flops_unit and kernel.flops:
            figure = seen.spec.datasheet.flops_per_s.get(kernel.flops_unit) if seen.spec else None
            limit = figure.value if figure else None
            rate = _Rate(kernel.flops, mean, limit, "TFLOP/s", 1e12)
            yield _rate("flop-rate", seen, kernel.case, rate)


@dataclass(frozen=True)
class _Rate:
    amount: int  # bytes or FLOPs of a launch
    mean_ns: float | None
    peak: float | None  # a second
    unit: str
    size: float  # of the unit


def _rate(check: str, seen: Seen, case: str, rate: _Rate) -> Verdict:
    if rate.mean_ns is None or rate.mean_ns <= 0:
        return absent(check, seen.trial, "no times without counters", kernel=case)
    value = rate.amount / rate.mean_ns * 1e9
    if rate.peak is None:
        why = "the datasheet's figure is not in the GPU table"
        return absent(check, seen.trial, why, kernel=case, seen=f"{value / rate.size:.1f} {rate.unit}")
    return judge(
        value <= rate.peak,
        check,
        seen.trial,
        kernel=case,
        expected=f"at most {rate.peak / rate.size:.1f} {rate.unit} by datasheet",
        seen=f"{value / rate.size:.1f} {rate.unit} ({100 * value / rate.peak:.0f} %)",
    )


def order(seen: Seen) -> Iterator[Verdict]:
    """No dispatch may end before it starts; what readers had to drop for that is counted."""
    bad = {
        each.reason: each.count
        for each in seen.capture.manifest.dropped
        if "negative" in each.reason or "before" in each.reason
    }
    chosen = seen.clean_pass
    rows = seen.dispatches[seen.dispatches["pass"] == chosen] if chosen is not None else seen.dispatches[:0]
    zero = int((rows["duration_ns"] <= 0).sum())
    if zero:
        bad["of no duration"] = zero
    if not len(rows):
        yield absent("time-order", seen.trial, "no times without counters")
        return
    yield judge(
        not bad,
        "time-order",
        seen.trial,
        expected="every dispatch ends after it starts",
        seen=", ".join(f"{count} {reason}" for reason, count in bad.items()) or f"{len(rows)} dispatches do",
    )


def results(plain: Truth, trial: str) -> Iterator[Verdict]:
    """Hold each kernel's output against torch's in 64 bit: a card that is fast but wrong is no use."""
    for kernel in plain.kernels:
        error = kernel.result_error_frac
        yield judge(
            error is not None and error <= WRONG_FRAC,
            "result",
            trial,
            kernel=kernel.case,
            expected=f"errors below {100 * WRONG_FRAC:g} % of the largest value",
            seen="no finite numbers" if error is None else f"{100 * error:.3g} %",
        )


def spread(kernels: Sequence[KnownKernel], trial: str) -> Iterator[Verdict]:
    """Say how steady the events were; where they were not, no time can be held against them."""
    for kernel in kernels:
        wide = kernel.event_most_ns - kernel.event_least_ns
        limit = max(2 * CLOSE_FRAC * kernel.event_ns, CLOSE_NS)
        yield judge(
            wide <= limit,
            "events-steady",
            trial,
            kernel=kernel.case,
            expected=f"batches within {limit / _US:.2f} us of each other",
            seen=f"{wide / _US:.2f} us around {kernel.event_ns / _US:.2f} us",
        )
