"""The time of a token as somebody measured it, to hold kernels and steps against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rocscope.study import Study
from rocscope.traffic import result
from rocscope.wording import digits

_SAME_BATCH_FRAC: Final = 0.25  # by which tokens a step may differ before two loads are not the same


@dataclass(frozen=True)
class MeasuredToken:
    """A time between tokens."""

    value_s: float
    basis: str  # whose figure it is
    words: str  # "the 18.82 ms that …" goes on so
    profiled: bool  # the profiler was on meanwhile
    batch: float | None = None  # tokens generated a step, on average


def measured(study: Study) -> MeasuredToken | None:
    """Return what the user gave, else what the load saw unprofiled, else what the server counted."""
    if study.options.tpot_s is not None:
        return MeasuredToken(
            study.options.tpot_s, "given", "that a token takes without the profiler", profiled=False
        )
    return _unprofiled(study.capture.manifest.load) or _served(study.serving)


def _unprofiled(load: dict[str, Any] | None) -> MeasuredToken | None:
    """Take the load's own mean; of several levels none is that of the recorded steps for certain."""
    ran = result.numbers(load)["unprofiled"] if load is not None else None
    levels = ran["levels"] if ran else []
    mean = (levels[0].get("tpot_s") or {}).get("mean") if len(levels) == 1 else None
    if not mean or mean <= 0:
        return None
    words = "that a token took under the same load without the profiler"
    return MeasuredToken(mean, "the load's clients, profiler off", words, profiled=False)


def _served(serving: dict[str, Any]) -> MeasuredToken | None:
    latencies = serving.get("latencies") or {}
    told = latencies.get("itl_s") or latencies.get("tpot_s")
    if not told or not told["mean_s"]:
        return None
    live = serving.get("span_s") is not None
    words = (
        "between tokens that the server counted while it was profiled"
        if live
        else "between tokens that the saved metrics tell"
    )
    return MeasuredToken(
        told["mean_s"], serving["source"], words, profiled=live, batch=serving["generation_tokens_per_step"]
    )


def other_load(token: MeasuredToken, batch: float | None) -> str | None:
    """Say why a measured token is not of the recorded steps: other batches; ``None`` where it may be."""
    if token.batch is None or not batch or abs(token.batch / batch - 1) <= _SAME_BATCH_FRAC:
        return None
    return (
        f"they are not of the same load: {digits(token.batch)} tokens a step there, {digits(batch)} in the "
        "recorded steps"
    )
