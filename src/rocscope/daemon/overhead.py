"""What a window cost those who were served: its rate of tokens against that of the time around it.

Only where the traffic stood still: with other requests before than after, or none at all, nothing is said.
"""

from __future__ import annotations

from typing import Any, Final

from rocscope.daemon.history import History

NEIGHBOUR_S: Final = 60.0
SETTLE_S: Final = 5.0  # after a window before its successor's time begins
WAIT_S: Final = NEIGHBOUR_S + SETTLE_S + 5.0  # from a window's end until this can be measured
TOKENS: Final = "generation_tokens"
MOVED_FRAC: Final = 0.1  # by which the traffic before and after may differ
LEAST_RATE: Final = 1.0  # tokens a second, below which there is nothing to slow down


def measure(history: History, engine: str, began_s: float, ended_s: float) -> dict[str, Any]:
    """Return ``tokens_per_s`` before, in and after, and ``overhead_frac`` with both bounds, or why not.

    The bounds hold the window against the slower and the faster of its neighbours. ``p99_s`` are the gaps
    between tokens, each as the bounds of its bucket.
    """
    spans = {
        "before": (began_s - NEIGHBOUR_S, began_s),
        "in": (began_s, ended_s),
        "after": (ended_s + SETTLE_S, ended_s + SETTLE_S + NEIGHBOUR_S),
    }
    rates = {name: _rate(history, engine, *span) for name, span in spans.items()}
    p99 = {name: _p99(history, engine, *span) for name, span in spans.items()}
    told: dict[str, Any] = {"tokens_per_s": rates, "p99_s": p99, "overhead_frac": None, "why_not": None}
    before, inside, after = rates["before"], rates["in"], rates["after"]
    if before is None or inside is None or after is None:
        missing = ", ".join(name for name, rate in rates.items() if rate is None)
        return {**told, "why_not": f"the rate of tokens is not known {missing} the window"}
    if min(before, after) < LEAST_RATE:
        return {**told, "why_not": "there was no traffic"}
    if abs(after / before - 1) > MOVED_FRAC:
        return {**told, "why_not": f"the traffic moved: {before:.1f} tokens/s before, {after:.1f} after"}
    usual = (before + after) / 2
    return {
        **told,
        "overhead_frac": 1 - inside / usual,
        "low_frac": 1 - inside / min(before, after),
        "high_frac": 1 - inside / max(before, after),
    }


def _rate(history: History, engine: str, since_s: float, until_s: float) -> float | None:
    """Return tokens a second between two moments, from the totals nearest to them."""
    return history.rate(engine, TOKENS, until_s - since_s, until_s)


def _p99(history: History, engine: str, since_s: float, until_s: float) -> list[float | None] | None:
    found = history.quantile_range(engine, "itl_s", 0.99, until_s - since_s, until_s)
    if found is None:
        return None
    return [found.low, None if found.high == float("inf") else found.high]
