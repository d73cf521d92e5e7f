"""The most tokens a second that memory allows: bytes of a step over bandwidth, beside what was reached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from rocscope import step_context
from rocscope.hardware import Figure
from rocscope.models import token_bytes
from rocscope.study import Study
from rocscope.wording import digits, percent

_ABOVE: Final = 1.05  # a rate above its ceiling by more says that the ceiling is not this model's


class TokenCeiling:
    """Adds ``study.serving["decode_ceiling"]``; no columns."""

    name = "token_ceiling"
    help = "tokens a second that weights and cache allow at achievable bandwidth, beside the measured rate"
    needs = ("gpu", "family", "dispatches")
    adds = ()

    def run(self, study: Study) -> None:
        """Say the ceiling of the recorded decode steps and of the served load, where both sides are known."""
        bandwidth = _bandwidth(study)
        if study.served is None or bandwidth is None or _pipelined(study.capture.manifest.command):
            return
        weights = token_bytes.weights(study.served)
        if weights is None:
            return
        found = [each for each in (_recorded(study), _served(study)) if each is not None]
        told = [_ceiling(study, each, weights, *bandwidth) for each in found]
        if told:
            study.serving["decode_ceiling"] = told


def _pipelined(command: Sequence[str]) -> bool:
    """Tell whether each GPU has only some of the layers: how many is not told."""
    words = [part for word in command for part in word.replace("_", "-").split("=", 1)]
    sizes = [size for name, size in pairwise(words) if name in ("--pipeline-parallel-size", "-pp")]
    return any(size != "1" for size in sizes)


def _bandwidth(study: Study) -> tuple[Figure, str] | None:
    """Return the lowest of the GPUs' bandwidths and which it is; ``None`` where a GPU's is not known."""
    used = sorted(set(study.kernels["gpu"])) or sorted(study.specs)
    figures = []
    for gpu in used:
        spec = study.specs.get(gpu)
        figure = (
            (spec.achievable.bandwidth_bytes_per_s or spec.datasheet.bandwidth_bytes_per_s) if spec else None
        )
        if spec is None or figure is None:
            return None
        figures.append((figure, "achievable" if spec.achievable.bandwidth_bytes_per_s else "datasheet"))
    return min(figures, key=lambda each: each[0].value, default=None)


def _recorded(study: Study) -> dict[str, Any] | None:
    """Return batch, context and rate of the decode steps in the step table, profiler on."""
    table = study.step_table
    if table is None or table.phase != "decode" or not table.sequences:
        return None
    periods = [each.period_s for each in table.ranks if each.period_s is not None]
    context, basis = _context(study, table.sequences)
    return {
        "of": "recorded decode steps",
        "sequences": float(table.sequences),
        "context_tokens": context,
        "context_basis": basis,
        "measured_tokens_per_s": table.sequences / max(periods) if periods else None,
        "measured_basis": "the recorded steps, profiler on" if periods else None,
    }


def _context(study: Study, sequences: float) -> tuple[float | None, str | None]:
    """Return the tokens in the cache at a decode step, of all sequences, and who says so."""
    steps = step_context.described(study.capture)
    if not steps.empty:
        rows = steps[(steps["phase"] == "decode") & (steps["generation_requests"] == sequences)]
        mean = rows["step_context_tokens"].mean()  # of those that are known
        if not np.isnan(mean):
            return float(mean), "step annotations"
    each = _mean_context(study) if study.serving.get("span_s") else None  # saved texts may be of another load
    return (None, None) if each is None else (each * sequences, "mean lengths of the finished requests")


def _mean_context(study: Study) -> float | None:
    """Return the tokens of a request half way through its answer, from the finished requests' means."""
    prompt, made = (study.serving.get(f"mean_request_{what}_tokens") for what in ("prompt", "generation"))
    return None if prompt is None or made is None else float(prompt) + float(made) / 2


def _served(study: Study) -> dict[str, Any] | None:
    """Return batch, context and rate of the served load, of one engine."""
    serving = study.serving
    batch, active = serving.get("generation_tokens_per_step"), serving.get("active")
    if not batch:
        return None
    context = _mean_context(study)
    rate = active["generation_tokens_per_s"] if active else None
    rate = None if rate is None else rate / (serving.get("engines") or 1)
    return {
        "of": "the served load, one engine",
        "sequences": float(batch),
        "context_tokens": None if context is None else context * float(batch),
        "context_basis": None if context is None else "mean lengths of the finished requests",
        "measured_tokens_per_s": rate,
        "measured_basis": None if rate is None else "the server's count while it worked",
    }


def _ceiling(
    study: Study, found: dict[str, Any], weights: token_bytes.WeightBytes, figure: Figure, basis: str
) -> dict[str, Any]:
    assert study.served is not None  # noqa: S101  # looked before
    sequences, context = found["sequences"], found["context_tokens"]
    cache = None if context is None else token_bytes.cache(study.served, context, sequences)
    floor = (weights.value + (cache or 0.0)) / figure.value
    most = sequences / floor
    rate = found["measured_tokens_per_s"]
    reached = None if rate is None else rate / most
    if reached is not None and reached > _ABOVE:
        study.warn(
            "above-decode-ceiling",
            f"{found['of']}: {digits(rate or 0.0)} tokens/s are {percent(reached)} of what the weights allow"
            ": the model, its split over GPUs or the bandwidth is not what it is taken for",
        )
        reached = None
    return {
        **found,
        "weight_bytes": weights.value,
        "weight_source": weights.source,
        "cache_bytes": cache,
        "bytes_per_token": (weights.value + (cache or 0.0)) / sequences,
        "basis": "modelled" if cache is not None else "modelled, weights alone: the cache would add to it",
        "bandwidth_bytes_per_s": figure.value,
        "bandwidth_basis": basis,
        "bandwidth_source": figure.source,
        "floor_s": floor,
        "ceiling_tokens_per_s": most,
        "reached_frac": reached,
    }


ANALYZER = TokenCeiling()
