"""Why the figures of a comparison differ, each reason with the figures that it rests on."""

from __future__ import annotations

from typing import Any, Final

from rocscope.comparison import carriers, quantised
from rocscope.comparison.quantised import missing
from rocscope.comparison.result import Comparison, Reason
from rocscope.comparison.side import Side
from rocscope.wording import amount, digits, percent

__all__ = ["missing", "reasons"]

_SAME_FRAC: Final = 0.02  # by which two ceilings may differ and be the same: contexts are seldom equal


def reasons(base: Side, new: Side, found: Comparison) -> list[Reason]:
    """Return the reasons that both recordings give for what was ``found``, those of the step first."""
    return [
        *carriers.reasons(found.tiers, found.families, found.kernels, found.gaps),
        *quantised.reasons(base, new, found.tiers),
        *_ceilings(base, new),
    ]


def _ceilings(base: Side, new: Side) -> list[Reason]:
    """Say what memory bandwidth allows both sides, where that differs, and how much of it they reach."""
    first, second = (
        {each["of"]: each for each in side.analysis.serving.get("decode_ceiling") or []}
        for side in (base, new)
    )
    found = []
    for of in first:
        if of not in second or first[of]["sequences"] != second[of]["sequences"]:
            continue
        before, after = first[of], second[of]
        if abs(after["ceiling_tokens_per_s"] / before["ceiling_tokens_per_s"] - 1) <= _SAME_FRAC:
            continue
        text = (
            f"memory bandwidth allows at most {_rate(before)} in base and {_rate(after)} in new, of {of} of "
            f"{_sequences(before)}: bandwidth over the bytes a token"
            f"{_reached(before, after)}"
        )
        evidence = [_bytes(name, each) for name, each in (("base", before), ("new", after))]
        about = "step" if of == "recorded decode steps" else "decode"
        found.append(Reason(about=about, text=f"{text}.", evidence=evidence, basis="modelled"))
    return found


def _sequences(found: dict[str, Any]) -> str:
    return "1 sequence" if found["sequences"] == 1 else f"{digits(found['sequences'])} sequences"


def _rate(found: dict[str, Any]) -> str:
    return f"{digits(found['ceiling_tokens_per_s'])} tokens/s"


def _reached(before: dict[str, Any], after: dict[str, Any]) -> str:
    shares = before["reached_frac"], after["reached_frac"]
    if None in shares:
        return ""
    return f"; they reach {percent(shares[0])} and {percent(shares[1])} of it"


def _bytes(name: str, found: dict[str, Any]) -> str:
    measured = found["measured_tokens_per_s"]
    told = f"; {digits(measured)} tokens/s by {found['measured_basis']}" if measured is not None else ""
    return (
        f"{name}: {amount(found['bytes_per_token'], 'B')} a token ({found['weight_source']}; modelled), at "
        f"{amount(found['bandwidth_bytes_per_s'], 'B/s')} ({found['bandwidth_basis']}, "
        f"{found['bandwidth_source']}){told}"
    )
