"""From the analysis of a window to its ``result.json``. Runs in a child that ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from rocscope import columns, intervals, metrics, steps
from rocscope.analyzers import families as by_family
from rocscope.daemon import aggregates, comparable
from rocscope.findings import Analysis
from rocscope.hardware import GpuSpec
from rocscope.study import Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

TARGETS: Final = 5
_GRAPH: Final = "graphlaunch"
_LAUNCH: Final = "launchkernel"
_DRIVERS: Final = (Path("/sys/module/amdgpu/version"), Path("/sys/module/nvidia/version"))
_LONGEST: Final = 300  # characters of a text that goes into the ledger
_MOST_WARNINGS: Final = 20


def of(
    study: Study,
    analysis: Analysis,
    *,
    window_id: str,
    analysis_path: str,
    observed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the result; ``observed`` is what the daemon saw beside the window, ``None`` of foreign files."""
    manifest = study.capture.manifest
    seen = observed or {}
    key = _key(study, analysis, seen, here=observed is not None)
    return {
        "window_id": window_id,
        "capture_id": manifest.id[:200],
        "profiler": manifest.profiler[:200],
        "provenance": manifest.provenance,
        "duration_s": _window_s(study),
        "kernels": len(study.kernels),
        "key": key,
        "families": _families(study, analysis, seen),
        "phases": [_short(each.model_dump(mode="json")) for each in analysis.phases[:8]],
        "targets": [_short(_target(each.model_dump(mode="json"))) for each in analysis.targets[:TARGETS]],
        "integrity": _integrity(analysis),
        "serving": _serving(analysis, seen),
        "analysis_path": analysis_path,
    }


def _window_s(study: Study) -> float | None:
    window = study.capture.manifest.window_ns
    return (window[1] - window[0]) * 1e-9 if window else study.capture.manifest.duration_s


def _key(study: Study, analysis: Analysis, seen: Mapping[str, Any], *, here: bool) -> dict[str, Any]:
    manifest, served, table = study.capture.manifest, study.served, analysis.step_table
    names = sorted({_gpu_name(spec, gpu) for gpu, spec in study.specs.items()})
    sizes = asdict(served) if served is not None else None
    quantisation = None
    if served is not None:
        method = served.quantization
        quantisation = "none" if method is None else f"{method.method} {method.bits} bit"
    sequences = float(table.sequences) if table is not None and table.sequences else None
    clock = _clock_hz(analysis, seen)
    key: dict[str, Any] = {
        "model": served.model_type if served is not None else None,
        "model_hash": comparable.hidden(json.dumps(sizes, sort_keys=True)) if sizes else None,
        "model_name": seen.get("model_name"),
        "dtype": served.dtype if served is not None else None,
        "quantisation": quantisation,
        "tp": manifest.model_tp or manifest.world_size or (served.tp if served is not None else None),
        "engine": seen.get("engine"),
        "engine_version": seen.get("engine_version"),
        "mode": _mode(study),
        "gpu": names[0][:200] if len(names) == 1 and names[0] else None,
        "gpus": len(analysis.gpus) or None,
        "driver": _driver() if here else None,
        "power_cap_w": seen.get("power_cap_w"),
        "profiler": manifest.profiler[:200],
        "per": "step" if table is not None else "token" if seen.get("generation_tokens") else None,
        "sequences": sequences,
        "running": seen.get("requests_running"),
        "context_tokens": _context(study, sequences) or seen.get("context_tokens"),
        "prompt_share": seen.get("prompt_share"),
        "clock_hz": clock,
    }
    key["concurrency_band"] = comparable.concurrency_band(comparable.load(key))
    key["clock_band"] = comparable.clock_band(clock)
    return key


def _gpu_name(spec: GpuSpec | None, gpu: int) -> str:
    return spec.name if spec is not None else ""


def _driver() -> str | None:
    for path in _DRIVERS:
        try:
            return path.read_text(encoding="ascii")[:64].strip() or None
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _clock_hz(analysis: Analysis, seen: Mapping[str, Any]) -> float | None:
    """Return the mean clock of all GPUs while kernels ran; else of the whole window, as the daemon saw it."""
    told = [each.get("clock_hz") for each in analysis.telemetry.get("gpus") or ()]
    known = [float(each["mean"]) for each in told if isinstance(each, dict) and each.get("mean")]
    if known and len(known) == len(analysis.gpus):
        return sum(known) / len(known)
    found = seen.get("clock_hz")
    return float(found) if found else None


def _mode(study: Study) -> str | None:
    """Tell whether kernels were launched by graphs or one by one, from the calls that were recorded."""
    spans = study.capture.spans
    kinds = spans.filter(columns.holds(spans["kind"], lambda kind: kind == "api"))
    names = [str(name).lower().replace("_", "") for name in pc.unique(kinds["name"]).to_pylist()]
    if any(_GRAPH in name for name in names):
        return "graph"
    return "eager" if any(_LAUNCH in name for name in names) else None


def _context(study: Study, sequences: float | None) -> float | None:
    """Return the mean tokens of a sequence in the decode steps that times are of."""
    if not sequences:
        return None
    found = steps.annotated(study.capture)
    mine = found[(found["phase"] == "decode") & (found["generation_requests"] == sequences)]
    tokens = mine["attended_tokens"].astype(float)
    return float(tokens.mean()) / sequences if len(tokens) and tokens.notna().all() else None


def _families(study: Study, analysis: Analysis, seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    frame = study.kernels
    if frame.empty:
        return []
    busy = _busy_s(study)
    a_step = _a_step(analysis)
    total = float(frame["time_ns"].sum())
    counted_steps, tokens = _work(analysis, seen)
    found = []
    for name, rows in frame.groupby(["gpu", "family"], sort=True):
        gpu, family = _named(name)
        told = by_family.summary(family, rows, total)
        known = told.bytes is not None
        flops, flops_basis = _flops(rows)
        found.append(
            {
                "gpu": aggregates.label(study, gpu),
                "family": family,
                "dispatches": told.dispatches,
                "busy_s": busy.get((gpu, family), told.time_s),
                "bytes": told.bytes,
                "bytes_basis": _basis(rows, "bytes") if known else None,
                "flops": flops,
                "flops_basis": flops_basis,
                "steps": counted_steps,
                "tokens": tokens,
                "bandwidth_frac": told.bandwidth_frac,
                "step_s": a_step.get((gpu, family)),
            }
        )
    return found


def _busy_s(study: Study) -> dict[tuple[int, str], float]:
    """Return the union of intervals by GPU and family, where all its kernels have starts and ends."""
    rows = metrics.timing(study.capture).rows
    member = metrics.members(study.capture, study.kernels, study.placed)
    placed = np.asarray(pc.and_(rows["start_ns"].is_valid(), rows["end_ns"].is_valid()))
    start, end = columns.ints(rows["start_ns"]), columns.ints(rows["end_ns"])
    placed &= end >= start
    codes, names = _codes(study.kernels)
    mine = np.where(member >= 0, codes[member], -1)
    found = {}
    for code, name in enumerate(names):
        here = mine == code
        if here.any() and bool(placed[here].all()):
            order = np.argsort(start[here], kind="stable")
            found[name] = intervals.union_ns(start[here][order], end[here][order]) * 1e-9
    return found


def _codes(frame: pd.DataFrame) -> tuple[Any, list[tuple[int, str]]]:
    grouped = frame.groupby(["gpu", "family"], sort=True)
    return grouped.ngroup().to_numpy(np.int64), [_named(name) for name in grouped.groups]


def _named(name: Any) -> tuple[int, str]:
    gpu, family = name
    return int(gpu), str(family)


def _a_step(analysis: Analysis) -> dict[tuple[int, str], float]:
    table = analysis.step_table
    if table is None:
        return {}
    return {
        (rank.gpu, each.family): each.time_s[place]
        for each in table.families
        for place, rank in enumerate(table.ranks)
    }


def _work(analysis: Analysis, seen: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return steps, and tokens computed or, where no step says so, generated."""
    if analysis.phases:
        told = [each.tokens for each in analysis.phases]
        known = [each for each in told if each is not None]
        return sum(each.steps for each in analysis.phases), sum(known) if len(known) == len(told) else None
    counted = max((rank.steps for rank in analysis.step_table.ranks), default=0) if analysis.step_table else 0
    generated = seen.get("generation_tokens")
    return counted or None, None if generated is None else round(generated)


def _flops(rows: pd.DataFrame) -> tuple[float | None, str | None]:
    """Return the FLOPs of a family where most of its time has them."""
    known = rows[rows["flops"].notna()]
    time = float(rows["time_ns"].sum())
    if known.empty or float(known["time_ns"].sum()) < thresholds().families.majority_frac.value * time:
        return None, None
    return float((known["flops"] * known["dispatches"]).sum()), _basis(known, "flops")


def _basis(rows: pd.DataFrame, what: str) -> str | None:
    found = {each for each in rows[f"{what}_basis"].tolist() if isinstance(each, str) and each}
    return aggregates.mixed(found) if found else None


def _target(target: dict[str, Any]) -> dict[str, Any]:
    """Keep of a target what a list of them shows; the rest stands in analysis.json."""
    wanted = ("rank", "id", "problem", "scope", "family", "kernel", "bound", "limiter", "time_frac",
              "headroom_s", "expected_gain", "gpu", "confidence", "advice")  # fmt: skip
    return {name: target[name] for name in wanted}


def _integrity(analysis: Analysis) -> dict[str, Any]:
    told = analysis.integrity
    return {
        "labelled_time_frac": told.labelled_time_frac,
        "classified_time_frac": told.classified_time_frac,
        "dispatches": told.dispatches,
        "dropped": sum(each.count for each in told.dropped),
        "warnings": [
            {"code": each.code, "message": each.message[:_LONGEST]} for each in told.warnings[:_MOST_WARNINGS]
        ],
        "partial": analysis.capture.partial,
    }


def _serving(analysis: Analysis, seen: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("requests_running", "requests_waiting", "generation_tokens", "prompt_tokens",
              "generation_tokens_per_s", "prompt_tokens_per_s")  # fmt: skip
    told = {name: seen.get(name) for name in wanted}
    return {**told, "gpu": seen.get("gpus")}


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """Cut long texts."""
    return {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in record.items()}
