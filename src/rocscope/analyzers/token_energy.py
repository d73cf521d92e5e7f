"""Joules a token: by the server's own count, the load's, step annotations, phases that a file marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import intervals, steps
from rocscope.analyzers import gpu_samples
from rocscope.analyzers.gpu_samples import LEAST_SAMPLES, Meter, Telemetry
from rocscope.serving_metrics import Scrapes
from rocscope.study import Study
from rocscope.traffic import result
from rocscope.wording import percent

if TYPE_CHECKING:
    import pandas as pd

    from rocscope.analyzers.power import Energy

_LEVEL: Final = re.compile(r"c(\d{1,6})")  # a phase called after the concurrency of its load
_SAME_SPAN_FRAC: Final = 0.1  # by which a phase may differ from the load that it is taken for
Ints = NDArray[np.int64]


def add(study: Study, telemetry: Telemetry, meters: Mapping[int, Energy]) -> None:
    """Add ``energy_per_token`` to ``telemetry``: a row for each way to count tokens, or why there is none."""
    found: list[dict[str, Any]] = []
    why = _not_whole(study, telemetry, meters)
    if why is None and telemetry.unrelated is None:
        found += [*_served(study, meters), *_loaded(study, meters), *_stepped(study, telemetry, meters)]
    marked = [_marked(study, telemetry, name, span) for name, span in telemetry.phases.items()]
    found += [each["per_token"] for each in marked if each["per_token"] is not None]
    study.telemetry["marked_phases"] = marked
    study.telemetry["energy_per_token"] = found
    if found:
        why = None
    elif why is None:
        why = telemetry.unrelated or (
            "no tokens were counted while power was read: neither the server's metrics, a load, nor enough "
            "readings within annotated steps"
        )
    study.telemetry["energy_per_token_missing"] = why


def _not_whole(study: Study, telemetry: Telemetry, meters: Mapping[int, Energy]) -> str | None:
    """Say which GPU that ran kernels has no energy: the others' alone would not be that of a token."""
    ran = {int(gpu) for gpu in study.kernels["gpu"].unique()} or set(telemetry.gpus)
    missing = sorted(ran - set(meters))
    return f"the energy of GPU {', '.join(map(str, missing))} is not known" if missing else None


def _row(
    of: str, energy_j: float, tokens: float, *, seconds: float, basis: str, source: str
) -> dict[str, Any]:
    return {
        "of": of,
        "joules_per_token": energy_j / tokens,
        "energy_j": energy_j,
        "tokens": tokens,
        "seconds": seconds,
        "basis": basis,
        "source": source,
    }


def _between(meter: Meter, first: Ints, last: Ints) -> tuple[float, float] | None:
    """Return J and s from each of ``first`` to ``last``; ``None`` where too short for power readings."""
    if not meter.counts and float((last - first).sum()) * 1e-9 < gpu_samples.LEAST_BY_POWER_S:
        return None
    return energy_between(meter, first, last)


def energy_between(meter: Meter, first: Ints, last: Ints) -> tuple[float, float] | None:
    """Return J and s from each of ``first`` to ``last``; ``None`` where too much of it is not known."""
    joules, seconds = meter.between(first, last)
    whole = float((last - first).sum()) * 1e-9
    if whole <= 0 or seconds.sum() < gpu_samples.LEAST_COVERED_FRAC * whole:
        return None
    return float(joules.sum()) * whole / float(seconds.sum()), whole


def _served(study: Study, meters: Mapping[int, Energy]) -> list[dict[str, Any]]:
    """Count the tokens that the server says it generated between two scrapes."""
    window, scrapes = gpu_samples.window_ns(study.capture), Scrapes.read(study.capture.samples)
    if scrapes is None or not scrapes.timed:
        return []
    if window is not None:
        scrapes = scrapes.between(*window)
    scrapes, _ = scrapes.since_restart() if len(scrapes.times) else (scrapes, 0)
    tokens = scrapes.change("generation_tokens")
    if not tokens:
        return []
    ends = np.array([scrapes.times[0]]), np.array([scrapes.times[-1]])
    used = [_between(each.meter, *ends) for each in meters.values()]
    known = [each for each in used if each is not None]
    if len(known) < len(used):
        return []
    source = "energy of all GPUs between two readings of the server's /metrics, over the tokens it generated"
    return [
        _row(
            "generated tokens",
            sum(j for j, _ in known),
            tokens,
            seconds=known[0][1],
            basis="measured",
            source=source,
        )
    ]


def _loaded(study: Study, meters: Mapping[int, Energy]) -> list[dict[str, Any]]:
    """Hold mean power against the rate that the load saw while it was profiled."""
    if study.capture.manifest.load is None:
        return []
    load = result.numbers(study.capture.manifest.load)
    levels = (load["profiled"] or {}).get("levels") or []
    rate = result.tokens_per_s(load["profiled"]) if load["profiled"] else None
    if not rate:
        return []
    seconds = sum(each["duration_s"] for each in levels)
    power = sum(each.mean_w for each in meters.values())
    source = (
        "mean power of all GPUs in the window over the output tokens a second that the load saw with the "
        "profiler on: as if it ran evenly through all of the window"
    )
    return [
        _row(
            "output tokens of the load",
            power * seconds,
            rate * seconds,
            seconds=seconds,
            basis="modelled",
            source=source,
        )
    ]


def _stepped(study: Study, telemetry: Telemetry, meters: Mapping[int, Energy]) -> list[dict[str, Any]]:
    """Give each phase the energy within its steps, over the tokens that their annotations name."""
    frame = steps.annotated(study.capture)
    window = gpu_samples.window_ns(study.capture)
    if frame.empty or window is None or not frame["on_gpu"].iloc[0]:
        return []
    frame = frame[(frame["start_ns"] >= window[0]) & (frame["end_ns"] <= window[1])]
    return [
        told
        for phase, rows in frame.groupby("phase", sort=True)
        if (told := _phase(str(phase), rows, telemetry, meters)) is not None
    ]


def _phase(
    phase: str, rows: pd.DataFrame, telemetry: Telemetry, meters: Mapping[int, Energy]
) -> dict[str, Any] | None:
    total, seconds, tokens = 0.0, 0.0, 0.0
    for gpu, energy in meters.items():
        mine = rows[rows["gpu"] == gpu]
        first, last = (mine[name].to_numpy(np.int64) for name in ("start_ns", "end_ns"))
        # readings between the steps would be of another phase
        power = telemetry.gpus[gpu].get("power_w") or telemetry.gpus[gpu].get("energy_j")
        if power is None or (intervals.inside(power.times, first, last) >= 0).sum() < LEAST_SAMPLES:
            return None
        used = _between(energy.meter, first, last)
        made = mine["context_tokens"].astype(float) + mine["generation_tokens"].astype(float)
        if used is None or made.isna().any() or made.sum() <= 0:
            return None
        total, seconds, tokens = total + used[0], max(seconds, used[1]), max(tokens, float(made.sum()))
    source = (
        "energy of all GPUs within the steps of this phase, over the prompt and generated tokens that their "
        "annotations name, profiler on; readings are averages, which blur phases that alternate quickly"
    )
    return _row(f"tokens of {phase} steps", total, tokens, seconds=seconds, basis="modelled", source=source)


def _marked(study: Study, telemetry: Telemetry, name: str, span: tuple[int, int]) -> dict[str, Any]:
    """Return a phase that the samples' file marks: power of each GPU, and joules a token of its load."""
    since = span[0] + gpu_samples.SETTLING_NS
    gpus: list[dict[str, Any]] = []
    for gpu, samples in telemetry.gpus.items():
        power = samples.get("power_w")
        inside = power.between(since, span[1]) if power else None
        used = None
        if power is not None and inside is not None and len(inside.times) >= LEAST_SAMPLES:
            used = energy_between(Meter.of_power(power), np.array([since]), np.array([span[1]]))
        told = {"gpu": gpu, "samples": len(inside.times) if inside else 0}
        gpus.append(
            {**told, "energy_j": used[0] if used else None, "power_w": used[0] / used[1] if used else None}
        )
    seconds = (span[1] - span[0]) * 1e-9
    powers = [each["power_w"] for each in gpus]
    whole = None if None in powers or not powers else float(sum(powers))
    return {
        "phase": name,
        "seconds": seconds,
        "gpus": gpus,
        "basis": "measured",
        "source": "power, integrated by trapezoid over the readings that the file marks so, without the "
        "first second, in which the sensor still averages what was before",
        "per_token": _of_level(study, name, seconds, whole) if whole is not None else None,
    }


def _of_level(study: Study, name: str, seconds: float, power_w: float) -> dict[str, Any] | None:
    """Set a phase called ``c16`` against the load of that concurrency, if it took as long."""
    called, load = _LEVEL.fullmatch(name), study.capture.manifest.load
    if called is None or load is None:
        return None
    numbers = result.numbers(load)
    for side in ("unprofiled", "beside", "profiled"):
        for level in (numbers[side] or {}).get("levels") or []:
            tokens, took = level["output_tokens"], level["duration_s"]
            if level["concurrency"] != int(called[1]) or not tokens or not took:
                continue
            if abs(seconds / took - 1) > _SAME_SPAN_FRAC:
                continue
            source = (
                f"mean power of the phase {name} over the output tokens a second of the load at concurrency "
                f"{called[1]}, which took as long within {percent(_SAME_SPAN_FRAC)}"
            )
            return _row(
                f"output tokens at concurrency {called[1]}",
                power_w * took,
                tokens,
                seconds=took,
                basis="measured",
                source=source,
            )
    return None
