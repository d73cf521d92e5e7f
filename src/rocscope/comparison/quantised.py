"""Why weights of few bits are faster in one case and slower in another: products of a layer, side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rocscope.comparison import extrapolation, measured_alone
from rocscope.comparison.extrapolation import Expected
from rocscope.comparison.product_words import line, rows, signed, time
from rocscope.comparison.products import Product, Products, products, time_s
from rocscope.comparison.result import Reason, Tier
from rocscope.comparison.side import Side
from rocscope.findings import Basis
from rocscope.wording import amount, change, digits, percent

_LOAD: Final = re.compile(r"concurrency (\d{1,5})\b")
_GROWS_FRAC: Final = (
    0.1  # of its time at the fewest rows, from which a product is said to take longer with more
)
_SAME_FRAC: Final = 0.05  # of its time, within which it is said to take the same
_FULL_BITS: Final = 16
_PACKED: Final = {"gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm"}
_MOST_PROMPTS: Final = 3  # lengths of prompts that are told


@dataclass(frozen=True)
class Pair:
    """Both sides' products, one of weights in fewer bits."""

    base: Products
    new: Products
    sides: tuple[Side, Side]

    @property
    def few(self) -> Products:
        """Those of fewer bits."""
        return min(self.base, self.new, key=lambda each: each.bits or _FULL_BITS)

    @property
    def full(self) -> Products:
        """Those of 16 bits."""
        return self.new if self.few is self.base else self.base

    @property
    def few_side(self) -> Side:
        """The side of fewer bits."""
        return self.sides[0] if self.few is self.base else self.sides[1]

    @property
    def names(self) -> tuple[str, str]:
        """What the products of fewer and of full bits are called."""
        few, full = ("base", "new") if self.few is self.base else ("new", "base")
        return f"{self.few.bits}-bit ({few})", f"16-bit ({full})"

    def both(self, *, prompts: bool) -> list[int]:
        """Return at which numbers of rows both sides were recorded."""
        return sorted(set(self.few.rows(prompts=prompts)) & set(self.full.rows(prompts=prompts)))


def pair(base: Side, new: Side) -> Pair | None:
    """Return the products of both sides where one has weights of 16 bits and the other of fewer."""
    first, second = products(base), products(new)
    if first is None or second is None or first.layers != second.layers or first.repeats != second.repeats:
        return None
    bits = {first.bits, second.bits}
    if None in bits or len(bits) != 2 or _FULL_BITS not in bits:
        return None
    return Pair(first, second, (base, new))


def reasons(base: Side, new: Side, tiers: list[Tier]) -> list[Reason]:
    """Return what the products of both sides say of each tier, of more rows, and of prompts."""
    found = pair(base, new)
    if found is None:
        return []
    each = [(about, _at(found, about, m, tiers)) for m, about in sorted(_rows_of(found, tiers).items())]
    loads = [reason for about, reason in each if _LOAD.match(about)]
    steps = [reason for about, reason in each if not _LOAD.match(about)]
    return [reason for reason in (*loads, _growth(found), _prompts(found), *steps) if reason]


def missing(base: Side, new: Side) -> list[str]:
    """Say what is not told where the products of both sides differ by kernel and the model is not known."""
    families = [{each.family for each in side.analysis.families} for side in (base, new)]
    packed = [bool(each & _PACKED) for each in families]
    if packed[0] == packed[1] or (base.served is not None and new.served is not None):
        return []
    return [
        "how many bytes the products of a layer move on either side is not told, as the model is not known: "
        "name it with --model config.json"
    ]


def _rows_of(found: Pair, tiers: list[Tier]) -> dict[int, str]:
    """Return at how many rows which tier has its steps, a row a sequence; a load goes before a step."""
    about: dict[int, str] = {}
    for tier in tiers:
        load = _LOAD.match(tier.tier)
        if load:
            about.setdefault(int(load[1]), tier.tier)
    for tier in tiers:
        if tier.metric == "period_s":
            common = found.both(prompts=False)
            m = tier.sequences or (common[0] if len(common) == 1 else None)
            if m:
                about.setdefault(m, tier.tier)
    return about


def _at(found: Pair, about: str, m: int, tiers: list[Tier]) -> Reason | None:
    """Say what the products take at the rows of one tier; extrapolated where that was not recorded."""
    few, full = found.few.at(m), found.full.at(m)
    if few and full:
        return _recorded(found, about, m, few, full)
    return _extrapolated(found, about, m, _load_change_s(about, m, tiers))


def _load_change_s(about: str, m: int, tiers: list[Tier]) -> float | None:
    """Return by how much longer all clients of a load together waited for a token each."""
    rate = next((each for each in tiers if each.tier == about and each.metric == "output_tokens_per_s"), None)
    return m / rate.new - m / rate.base if rate else None


def _recorded(found: Pair, about: str, m: int, few: list[Product], full: list[Product]) -> Reason:
    names, times, layers = found.names, (time_s(few), time_s(full)), found.few.repeats
    text = (
        f"at {rows(m)} a layer's {len(few)} products take {time(times[0])} in {names[0]} and "
        f"{time(times[1])} in {names[1]}, {_ratio(times)}: {signed((times[0] - times[1]) * layers)} a step "
        f"of {layers} layers"
    )
    sizes = _bytes(few), _bytes(full)
    basis: Basis = "measured"
    if sizes[0] and sizes[1]:
        text += f". They move {amount(sizes[0], 'B')} instead of {amount(sizes[1], 'B')} (each datum once)"
        text += _why(found, few, full, (sizes[0], sizes[1]), times)
        basis = _basis([*few, *full])
    passes = max((each.passes or 1 for each in few), default=1)
    if passes > 1:
        text += (
            f". The kernel reads the weights once for each {extrapolation.ROWS_A_PASS} rows, "
            f"{digits(passes)} times here, as its launch tells"
        )
    counted, told = measured_alone.causes(found.few_side.alone, few) if times[0] > times[1] else ("", [])
    text += f". Counters: {counted}" if counted else ""
    longest = sorted(zip(few, full, strict=True), key=lambda both: -both[0].time_s)
    evidence = [line(names[side], each) for both in longest for side, each in enumerate(both)]
    return Reason(about=about, text=f"{text}.", evidence=[*evidence, *told], basis=basis)


def _basis(row: list[Product]) -> Basis:
    return "measured" if all(each.bytes_basis == "measured" for each in row) else "modelled"


def _why(
    found: Pair,
    few: list[Product],
    full: list[Product],
    sizes: tuple[float, float],
    times: tuple[float, float],
) -> str:
    """Say how the bytes bear on the time."""
    rates = [_bandwidth(found, size / took) for size, took in zip(sizes, times, strict=True)]
    if sizes[0] >= sizes[1]:
        return f": {found.few.bits}-bit weights, yet no fewer bytes, at {rates[0]} against {rates[1]}"
    if times[0] < times[1]:
        by_memory = all(each.limiter == "memory-bandwidth" for each in full)
        waits = ", as memory bandwidth limits those of 16 bits" if by_memory else ""
        return f" and are faster for it{waits}, at {rates[0]} against {rates[1]}"
    return (
        f", yet take longer: they reach {rates[0]}, those of 16 bits {rates[1]}. Neither bytes nor FLOPs "
        "account for it: unpacking weights counts as neither, and what holds the kernel back counters tell"
    )


def _bandwidth(found: Pair, rate: float) -> str:
    peaks = {gpu.peak_bandwidth_bytes_per_s for gpu in found.few_side.analysis.gpus}
    peak = peaks.pop() if len(peaks) == 1 else None
    return amount(rate, "B/s") + (f" ({percent(rate / peak)} of the datasheet's)" if peak else "")


def _extrapolated(found: Pair, about: str, m: int, load_s: float | None) -> Reason | None:
    few = extrapolation.expected(found.few, m, found.few_side.alone)
    full = extrapolation.expected(found.full, m)
    if few is None or full is None:
        return None
    names = found.names
    lacks = "one recording lacks" if few.measured or full.measured else "neither recording has"
    text = (
        f"at {rows(m)}, which {lacks}, a layer's products are expected to take {_expected(few)} in "
        f"{names[0]} and {_expected(full)} in {names[1]}; {_outcome(found, few, full)}"
    )
    evidence = [f"{name}: {each.how}" for name, each in zip(names, (few, full), strict=True)]
    if load_s is not None:
        evidence.append(
            f"the load's clients, prompts included: {signed(load_s)} from token to token ({m} over the "
            "tokens a second, new less base, measured)"
        )
    return Reason(about=about, text=f"{text}.", evidence=evidence, basis="extrapolated")


def _outcome(found: Pair, few: Expected, full: Expected) -> str:
    layers, bits = found.few.repeats, found.few.bits
    low, high = (few.low_s - full.high_s) * layers, (few.high_s - full.low_s) * layers
    if low > 0:
        return f"so the {bits}-bit products cost {time(low)} to {time(high)} more a step of {layers} layers"
    if high < 0:
        return f"so the {bits}-bit products save {time(-high)} to {time(-low)} a step of {layers} layers"
    return "which of them take longer is not told"


def _expected(each: Expected) -> str:
    if each.low_s == each.high_s:
        return time(each.low_s)
    middle = "" if each.mid_s is None else f", about {time(each.mid_s)}"
    return f"{time(each.low_s)} to {time(each.high_s)}{middle}"


def _growth(found: Pair) -> Reason | None:
    """Say that time grows with the rows on one side alone, and on which pipe each multiplies."""
    known = found.both(prompts=False)
    if len(known) < 2:
        return None
    few, full = ([time_s(side.at(m)) for m in known] for side in (found.few, found.full))
    grows, stays = few[-1] / few[0] - 1, full[-1] / full[0] - 1
    if grows < _GROWS_FRAC or abs(stays) > _SAME_FRAC:
        return None
    last = found.few.at(known[-1]) or []
    units = {each.unit for each in last}, {each.unit for each in found.full.at(known[-1]) or []}
    names = found.names
    text = (
        f"from {known[0]} to {rows(known[-1])} a layer's products in {names[0]} take {percent(grows)} "
        f"longer, those in {names[1]} {change(stays)}"
    )
    if units == ({"vector_fp16"}, {"matrix_fp16"}):
        text += (
            f": the {found.few.bits}-bit kernel multiplies on the vector units{_pipe(found, last)}, the "
            "16-bit one on the matrix units"
        )
    evidence = []
    for name, times in zip(names, (few, full), strict=True):
        told = ", ".join(f"{time(each)} at {m}" for each, m in zip(times, known, strict=True))
        evidence.append(f"{name}: {told} rows, measured")
    evidence += [line(names[0], each) for each in sorted(last, key=lambda one: -one.time_s)]
    return Reason(about="step", text=f"{text}.", evidence=evidence, basis="measured")


def _pipe(found: Pair, last: list[Product]) -> str:
    peaks = {gpu.peak_flops_per_s.get("vector_fp16") for gpu in found.few_side.analysis.gpus}
    peak = peaks.pop() if len(peaks) == 1 else None
    if not peak or not last:
        return ""
    rate = sum(each.flops for each in last) / sum(each.multiply_s for each in last)
    return f" ({amount(rate, 'FLOP/s')} at {rows(last[0].m)}, {percent(rate / peak)} of their peak)"


def _prompts(found: Pair) -> Reason | None:
    """Say what prompts cost where weights are written out as 16 bit before they are multiplied."""
    known = [m for m in found.both(prompts=True) if any(each.write_out_s for each in found.few.at(m) or [])]
    if not known:
        return None
    m = max(known, key=lambda each: ((found.few.at(each) or [])[0].count, each))
    few, full, names = found.few.at(m) or [], found.full.at(m) or [], found.names
    written, times = sum(each.write_out_s for each in few), (time_s(few), time_s(full))
    halves = amount(sum(2.0 * each.k * each.n for each in few), "B")
    text = (
        f"prompts of {m} tokens in a step: a layer's products take {time(times[0])} in {names[0]} and "
        f"{time(times[1])} in {names[1]}, {_ratio(times)}. {time(written)} of it write the weights out as 16 "
        f"bit ({halves} written, and read again), the products themselves take {time(times[0] - written)}"
    )
    sizes = _bytes(few), _bytes(full)
    if sizes[0] and sizes[1] and sizes[0] > sizes[1] and times[0] > times[1]:
        text += (
            f". {found.few.bits}-bit weights, yet more bytes and more time than 16-bit: "
            f"{amount(sizes[0], 'B')} against {amount(sizes[1], 'B')} a layer"
        )
    evidence = [line(name, each) for name, row in zip(names, (few, full), strict=True) for each in row]
    for other in [each for each in known if each != m][:_MOST_PROMPTS]:
        both = time(time_s(found.few.at(other))), time(time_s(found.full.at(other)))
        evidence.append(f"at {other} rows: {both[0]} against {both[1]}, measured")
    return Reason(about="prefill", text=f"{text}.", evidence=evidence, basis="modelled")


def _bytes(row: list[Product]) -> float | None:
    known = [each.bytes for each in row if each.bytes is not None]
    return sum(known) if len(known) == len(row) else None


def _ratio(times: tuple[float, float]) -> str:
    return f"{digits(times[0] / times[1])} times as long"
