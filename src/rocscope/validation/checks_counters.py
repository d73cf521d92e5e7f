"""Hardware counters against the arithmetic of what was launched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rocscope.measured import ONE_DIE
from rocscope.validation.seen import Seen
from rocscope.validation.truth import KnownKernel
from rocscope.validation.verdict import Verdict, absent, judge

CLOSE_FRAC: Final = 0.05
PACKED: Final = ("gfx90a", "gfx942", "gfx950")  # whose vector unit does two 32-bit FMAs an instruction
LONG_NS: Final = 300_000.0  # beside which the time around a launch, in which cycles count too, is short
CLOCK_ABOVE: Final = 1.15


def sane(seen: Seen, planned: Sequence[str]) -> Iterator[Verdict]:
    """Every counter that was planned has values, none of them negative, overrun or missing."""
    values = seen.counters["value"]
    dropped = sum(each.count for each in seen.capture.manifest.dropped if "counter" in each.reason)
    bad = max(dropped, int(values.isna().sum() + (values < 0).sum()))  # what readers refuse is null after
    yield judge(
        not bad and len(values) > 0,
        "counter-values",
        seen.trial,
        expected="no value below 0, overrun or missing",
        seen=f"{bad} of {len(values)}" if len(values) else "no value at all",
    )
    found = {name.removesuffix("_sum") for name in seen.counters["counter"].unique()}
    missing = [name for name in planned if name.removesuffix("_sum") not in found]
    yield judge(
        not missing,
        "counters-read",
        seen.trial,
        expected=f"{len(planned)} counters",
        seen=f"missing: {', '.join(missing[:8])}" if missing else f"{len(planned)}",
    )


def waves(seen: Seen) -> Iterator[Verdict]:
    """SQ_WAVES is the number of waves that the launch asks for."""
    for kernel in seen.truth.kernels:
        expected = kernel.waves(seen.truth.device.wave_size)
        if expected is None:
            continue
        values = seen.counted(kernel.case, "SQ_WAVES")
        if not len(values):
            yield absent("waves", seen.trial, "SQ_WAVES was not read", kernel=kernel.case)
            continue
        least, most = values.min(), values.max()
        yield judge(
            bool((values == expected).all()),
            "waves",
            seen.trial,
            kernel=kernel.case,
            expected=f"{expected} = grid / {seen.truth.device.wave_size}",
            seen=f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}",
        )


def traffic(seen: Seen) -> Iterator[Verdict]:
    """Bytes beyond the L2: of a copy its size, of others between what is touched once and what is asked for.

    What a launch before it left in the caches need not be read again.
    """
    caches = seen.spec.l2_bytes + seen.spec.memory_side_cache_bytes if seen.spec else None
    for kernel in seen.truth.kernels:
        for way, least, most in (
            ("read", kernel.read_least_bytes, kernel.read_most_bytes),
            ("write", kernel.write_least_bytes, kernel.write_most_bytes),
        ):
            if least is None or most is None:
                continue
            yield _bytes(seen, kernel, way, (least, most), caches)


def _bytes(seen: Seen, kernel: KnownKernel, way: str, limits: tuple[int, int], caches: int | None) -> Verdict:
    least, most = limits
    check = f"{way}-bytes"
    value = seen.measure(kernel.case, f"{way}_bytes")
    if value is None:
        why = "the counters of memory traffic were not read"
        return absent(check, seen.trial, why, kernel=kernel.case)
    if caches is None:
        return absent(check, seen.trial, "the size of this card's caches is not known", kernel=kernel.case)
    if kernel.streams and caches <= CLOSE_FRAC * least:
        low, high = least * (1 - CLOSE_FRAC), least * (1 + CLOSE_FRAC)
        expected = f"{_size(least)} +- 5 %"
    else:
        low = max(0.0, least - caches) * (1 - CLOSE_FRAC)
        # what another kernel left dirty in the caches may be written while this one runs
        high = most * (1 + CLOSE_FRAC) + (caches if way == "write" else 0)
        expected = f"{_size(low)} to {_size(high)}"
    return judge(
        low <= value <= high,
        check,
        seen.trial,
        kernel=kernel.case,
        expected=expected,
        seen=_size(value),
    )


def _size(value: float) -> str:
    return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def instructions(seen: Seen) -> Iterator[Verdict]:
    """The vector instructions of a loop of known FLOPs are at least as many as its multiply-adds need."""
    wave = seen.truth.device.wave_size
    for kernel in seen.truth.kernels:
        if kernel.flops_unit != "vector_fp32" or not kernel.flops or seen.spec is None:
            continue
        values = seen.counted(kernel.case, "SQ_INSTS_VALU")
        if not len(values):
            why = "SQ_INSTS_VALU was not read"
            yield absent("vector-instructions", seen.trial, why, kernel=kernel.case)
            continue
        a_lane = 2 * (2 if seen.spec.arch in PACKED else 1)
        least = kernel.flops / (a_lane * wave)
        yield judge(
            float(values.mean()) >= least,
            "vector-instructions",
            seen.trial,
            kernel=kernel.case,
            expected=f"at least {least:.4g} = FLOPs / ({a_lane} x {wave})",
            seen=f"{values.mean():.4g}",
        )


def occupancy(seen: Seen) -> Iterator[Verdict]:
    """No share of the card is above all of it."""
    shares = {
        kernel.case: value
        for kernel in seen.truth.kernels
        if (value := seen.measure(kernel.case, "achieved_occupancy_frac")) is not None
    }
    if not shares and not seen.beyond:
        yield absent("occupancy", seen.trial, "no counter of resident waves was read")
        return
    most = max(shares, key=lambda case: shares[case]) if shares else ""
    yield judge(
        not seen.beyond and all(share <= 1 for share in shares.values()),
        "occupancy",
        seen.trial,
        expected="at most 1",
        seen=f"{len(seen.beyond)} shares above 1.05" if seen.beyond else f"{shares[most]:.3f} ({most})",
        detail="; ".join(seen.beyond[:3]),
    )


def cycles(seen: Seen) -> Iterator[Verdict]:
    """Cycles over time of a long kernel, of the same run, are a clock that the card can have."""
    if seen.spec is None or seen.spec.arch not in ONE_DIE:
        yield absent("cycles", seen.trial, "the card's cycles are not of one die, or it is not in the table")
        return
    counters = seen.counters[seen.counters["counter"] == "GRBM_GUI_ACTIVE"]
    rows = counters.merge(
        seen.dispatches[["pass", "process", "gpu", "dispatch_id", "duration_ns"]],
        on=["pass", "process", "gpu", "dispatch_id"],
    )
    rows = rows[(rows["duration_ns"] >= LONG_NS) & rows["value"].notna()]
    if not len(rows):
        yield absent("cycles", seen.trial, "no long kernel has both cycles and a time of the same run")
        return
    clocks = (rows["value"] / rows["duration_ns"] * 1e9).groupby(rows["case"]).median()
    peak = seen.spec.clock_hz.value
    yield judge(
        bool((clocks <= CLOCK_ABOVE * peak).all() and (clocks >= 0.1 * peak).all()),
        "cycles",
        seen.trial,
        expected=f"{0.1 * peak / 1e6:.0f} to {CLOCK_ABOVE * peak / 1e6:.0f} MHz",
        seen=f"{clocks.min() / 1e6:.0f} to {clocks.max() / 1e6:.0f} MHz",
    )
