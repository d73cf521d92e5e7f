"""A token's time rebuilt from the recorded steps, against the one that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers import phases
from rocscope.analyzers.measured_token import MeasuredToken, measured, other_load
from rocscope.study import Study
from rocscope.wording import duration, percent

_AGREE_FRAC: Final = 0.1  # by which rebuilt and measured may differ and reconcile
Floats = NDArray[np.float64]


class TokenTime:
    """Adds ``study.serving["tpot"]``; no columns."""

    name = "token_time"
    help = "a token's time rebuilt from kernels and gaps, held against the measured one"
    needs = ("gpu", "raw_name", "family")
    adds = ()

    def run(self, study: Study) -> None:
        """Rebuild the time between tokens and say whether it reconciles with the measured one."""
        token = measured(study)
        rebuilt = _from_annotations(study) or _from_table(study)
        if rebuilt is None and token is None:
            return
        study.serving["tpot"] = _told(study, rebuilt, token)


@dataclass(frozen=True)
class Rebuilt:
    """The mean time between two tokens of a request, in the recorded steps of the slowest GPU."""

    kernels_s: float | None  # in decode steps; None where no kernels were recorded
    gaps_s: float | None  # the rest of decode steps
    prompts_s: float | None  # in steps that compute prompts, alone or beside decoding; None where not known
    total_s: float
    batch: float | None  # tokens a step
    speculates: bool
    found_by: str


def _from_annotations(study: Study) -> Rebuilt | None:
    """Rebuild from all annotated steps that are followed by another, the time of each by who sat in it."""
    if study.options.steps is not None:  # the time between chosen steps is not known to be theirs
        return None
    placed = phases.place(study)
    if placed is None:
        return None
    frame = placed.steps[placed.steps["phase"] != "step"]
    if frame.empty:
        return None
    length = (frame["end_ns"] - frame["start_ns"]).to_numpy(float) * 1e-9
    gpu = frame["gpu"].to_numpy()
    slowest = max(np.unique(gpu).tolist(), key=lambda each: float(length[gpu == each].sum()))
    mine = gpu == slowest
    rows, length = frame[mine], length[mine]
    requests = rows["generation_requests"].to_numpy(float)
    tokens = rows["generation_tokens"].to_numpy(float)
    if not tokens.sum() or len(rows) < 3:
        return None
    sat = _sat_in(requests, rows["context_requests"].to_numpy(float))
    decode = (rows["phase"] == "decode").to_numpy()
    made = tokens.sum() if tokens.sum() == requests.sum() else requests.sum()
    parts = length * sat / made
    kernels = gaps = None
    if placed.rows is not None:
        busy = np.bincount(
            placed.at[placed.at >= 0],
            weights=placed.rows["duration_ns"].to_numpy()[placed.at >= 0] * 1e-9,
            minlength=len(placed.steps),
        )[rows["step"].to_numpy()]
        kernels = float((np.minimum(busy, length) * sat / made)[decode].sum())
        gaps = float(parts[decode].sum()) - kernels
    return Rebuilt(
        kernels,
        gaps,
        float(parts[~decode].sum()),
        float(parts.sum()),
        float(tokens.sum() / len(rows)),
        speculates=bool((tokens > requests).any()),
        found_by=f"{len(rows)} annotated steps",
    )


def _sat_in(requests: Floats, prompts: Floats) -> Floats:
    """Return how many requests waited for their next token in each step.

    Those that it generates for; in a step of prompts alone those that generated before it and go on after it.
    """
    before = np.concatenate(([0.0], requests[:-1]))
    after = np.concatenate((requests[1:], [0.0]))
    through = np.maximum(0.0, np.minimum(before, after - prompts))
    sat: Floats = np.where(requests > 0, requests, through)
    return sat


def _from_table(study: Study) -> Rebuilt | None:
    """Take the steps that repeat, where nothing annotates them."""
    table = study.step_table
    if table is None:
        return None
    sides = [each for each in table.ranks if each.period_s is not None]
    if not sides:
        return None
    slowest = max(sides, key=lambda each: (each.period_s or 0.0, -each.gpu))
    period, busy = slowest.period_s or 0.0, slowest.busy_s
    return Rebuilt(
        busy,
        None if busy is None else max(0.0, period - busy),
        None,
        period,
        None if table.sequences is None else float(table.sequences),
        speculates=False,
        found_by=table.found_by,
    )


def _told(study: Study, rebuilt: Rebuilt | None, token: MeasuredToken | None) -> dict[str, Any]:
    error = rebuilt.total_s / token.value_s - 1 if rebuilt and token else None
    reconciles, statement = _statement(study, rebuilt, token, error)
    return {
        "kernels_s": rebuilt.kernels_s if rebuilt else None,
        "gaps_s": rebuilt.gaps_s if rebuilt else None,
        "prompts_s": rebuilt.prompts_s if rebuilt else None,
        "rebuilt_s": rebuilt.total_s if rebuilt else None,
        "rebuilt_from": rebuilt.found_by if rebuilt else None,
        "recorded_tokens_per_step": rebuilt.batch if rebuilt else None,
        "measured_s": token.value_s if token else None,
        "measured_by": token.basis if token else None,
        "measured_with_profiler": token.profiled if token else None,
        "error_frac": error,
        "reconciles": reconciles,
        "statement": statement,
    }


def _statement(
    study: Study, rebuilt: Rebuilt | None, token: MeasuredToken | None, error: float | None
) -> tuple[bool | None, str]:
    """Say whether the two reconcile, and in words; ``None`` where they need not."""
    if rebuilt is None:
        assert token is not None  # noqa: S101  # one of them is known
        why = "no kernel was recorded" if study.kernels.empty else "steps are not known"
        return None, f"the {_ms(token.value_s)} {token.words} cannot be rebuilt: {why}"
    text = f"a token is rebuilt as {_ms(rebuilt.total_s)} ({_parts(rebuilt)}), profiler on"
    if token is None or error is None:
        return None, f"{text}; no measured time of a token is known to hold against it"
    text += f", against the {_ms(token.value_s)} {token.words}: "
    text += f"{percent(abs(error))} {'more' if error > 0 else 'less'}"
    if doubt := _doubt(study, rebuilt, token):
        return None, f"{text}; {doubt}"
    agree = abs(error) <= _AGREE_FRAC
    off = "" if agree or token.profiled else ", as the profiler was on for one of them only"
    return agree, f"{text}; the two {'' if agree else 'do not '}reconcile{off}"


def _doubt(study: Study, rebuilt: Rebuilt, token: MeasuredToken) -> str | None:
    """Say why rebuilt and measured need not be the same."""
    if study.capture.manifest.provenance == "replayed":
        return "the kernels are of another run, so the two need not reconcile"
    if rebuilt.speculates:
        return "steps may make several tokens of a request, so the two need not reconcile"
    return other_load(token, rebuilt.batch)


def _parts(rebuilt: Rebuilt) -> str:
    parts = [
        (rebuilt.kernels_s, "of kernels"),
        (rebuilt.gaps_s, "between kernels"),
        (rebuilt.prompts_s, "in steps that compute prompts"),
    ]
    told = [f"{_ms(value)} {what}" for value, what in parts if value]
    if rebuilt.kernels_s is None:
        told.insert(0, "by the host's annotations")
    return ", ".join(told)


def _ms(value_s: float) -> str:
    return f"{value_s * 1e3:.2f} ms" if value_s >= 1e-4 else duration(value_s * 1e9)


ANALYZER = TokenTime()
