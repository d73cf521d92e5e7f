"""From the workspace of an analysis to the contract: rows of the frame become findings."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from rocscope.capture import INFORMATION, Capture
from rocscope.config import AnalyzeOptions
from rocscope.findings import (
    Analysis,
    CaptureInfo,
    Drop,
    Integrity,
    KernelFinding,
    NotEvaluated,
    Target,
    Warned,
)
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel


_OF_THE_LAUNCH: Final = frozenset({"workgroups", "waves", "waves_per_cu", "theoretical_occupancy_frac"})


def analysis(study: Study, targets: list[Target], not_evaluated: list[NotEvaluated]) -> Analysis:
    """Return what ``study`` found, as ``analysis.json`` says it."""
    return Analysis(
        capture=_info(study.capture, study.options),
        integrity=_integrity(study),
        gpus=study.gpus,
        families=study.families,
        kernels=_kernels(study.kernels),
        targets=targets,
        phases=study.phases,
        step_table=study.step_table,
        step_table_missing=study.step_table_missing,
        timeline=study.timeline,
        lost_time=study.lost_time,
        serving=study.serving,
        telemetry=study.telemetry,
        not_evaluated=[*study.not_evaluated, *not_evaluated],
    )


def without_kernels(capture: Capture, options: AnalyzeOptions) -> Analysis:
    """Return the analysis of a capture for which no device data was collected: what is known beside it.

    It needs none of the libraries that tables of kernels do, so that a run without a profiler ends fast.
    """
    from rocscope import serving_metrics
    from rocscope.traffic import result

    manifest = capture.manifest
    warnings = [Warned(code="no-gpu-kernels", message="no GPU kernels in this recording")]
    told = [each for each in manifest.notices if each.code not in INFORMATION]
    warnings += [Warned(code=each.code, message=each.message) for each in told]
    return Analysis(
        capture=_info(capture, options),
        integrity=Integrity(
            labelled_time_frac=None,
            classified_time_frac=None,
            dispatches=0,
            dropped=[Drop(reason=each.reason, count=each.count) for each in manifest.dropped],
            warnings=warnings,
        ),
        gpus=[],
        families=[],
        kernels=[],
        targets=[],
        serving=serving_metrics.of_capture(capture) | (result.told(manifest.load) if manifest.load else {}),
    )


def _info(capture: Capture, options: AnalyzeOptions) -> CaptureInfo:
    manifest = capture.manifest
    chosen = {"ranks": options.ranks, "steps": options.steps, "between_s": options.between_s}
    return CaptureInfo(
        id=manifest.id,
        profiler=manifest.profiler,
        profiler_version=manifest.profiler_version,
        provenance=manifest.provenance,
        provenance_note=manifest.provenance_note,
        command=manifest.command,
        host=manifest.host,
        started_at=manifest.started_at,
        duration_s=manifest.duration_s,
        passes=[_told(each) for each in manifest.passes],
        partial=manifest.partial,
        sources=[_told(each) for each in manifest.sources],
        selection={
            name: [_finite(part) for part in value] for name, value in chosen.items() if value is not None
        },
    )


def _told(record: BaseModel) -> dict[str, Any]:
    """Return a record of the manifest; a text that it does not have is null."""
    return {name: None if value == "" else value for name, value in record.model_dump(mode="json").items()}


def _finite(value: float) -> float | None:
    """JSON has no infinity; an open end of a range is null."""
    return value if math.isfinite(value) else None


def _integrity(study: Study) -> Integrity:
    frame = study.kernels
    total = float(frame["time_ns"].sum())
    dropped: dict[str, int] = {}
    for each in study.capture.manifest.dropped:
        dropped[each.reason] = dropped.get(each.reason, 0) + each.count
    return Integrity(
        labelled_time_frac=_share(frame, frame["bound"] != "unknown", total),
        **_grounds(frame, total),
        classified_time_frac=_share(frame, frame["family"] != "other", total),
        dispatches=int(frame["dispatches"].sum()),
        dropped=[Drop(reason=reason, count=count) for reason, count in sorted(dropped.items())],
        warnings=study.warnings,
    )


def _grounds(frame: pd.DataFrame, total: float) -> dict[str, float | None]:
    """Return the shares of kernel time whose bound rests on bytes and FLOPs, on a limit, on busy pipes.

    A limit of the intensity follows from what a kernel does a byte, told by its name, and is no count of
    either: it is kept apart from what rests on both.
    """
    bound, limit = frame["bound"] != "unknown", frame["bound_rule"] == "bound-limit"
    counted = bound & frame["bytes"].notna() & frame["flops"].notna()
    return {
        "bound_with_bytes_time_frac": _share(frame, counted, total),
        "bound_by_limit_time_frac": _share(frame, bound & limit & ~counted, total),
        "bound_by_pipes_time_frac": _share(frame, bound & ~limit & ~counted, total),
    }


def _share(frame: pd.DataFrame, rows: pd.Series, total: float) -> float | None:
    return float(frame.loc[rows, "time_ns"].sum()) / total if total > 0 else None


def _kernels(frame: pd.DataFrame) -> list[KernelFinding]:
    """Return the findings of all rows, longest first; checked many at once, as there may be very many."""
    from pydantic import TypeAdapter

    from rocscope import columns, garbage

    total = float(frame["time_ns"].sum())
    ordered = frame.sort_values(["time_ns", "gpu", "raw_name"], ascending=[False, True, True], kind="stable")
    read = _READ.union(*frame["measures_source"])
    rows = columns.records(ordered[[name for name in ordered.columns if name in read]])
    found: list[KernelFinding] = []
    several = TypeAdapter(list[KernelFinding])
    with garbage.resting():
        while part := [_kernel(row, total) for row in itertools.islice(rows, _TOGETHER)]:
            found += several.validate_python(part)
    return found


_TOGETHER: Final = 1000
_SIDES: Final = {side: [f"{side}_{axis}" for axis in "xyz"] for side in ("grid", "workgroup")}
_NUMBERS: Final = (  # columns that are fields of a finding
    *("mean_ns", "p50_ns", "p99_ns", "achieved_bandwidth_bytes_per_s", "bandwidth_frac", "compute_frac"),
    *("intensity_flop_per_byte", "ridge_flop_per_byte"),
)
_TEXTS: Final = (
    *("kernel", "raw_name", "family", "gpu", "dispatches", "bound", "limiter", "confidence", "evidence"),
    "case",
)
_READ: Final = frozenset(
    [
        *(*_NUMBERS, *_TEXTS, *_SIDES["grid"], *_SIDES["workgroup"]),
        *("problem_shape", "time_ns", "headroom_ns", "exposed_ns", "measures_source"),
        *("theoretical_occupancy_frac", "achieved_occupancy_frac", "occupancy_limited_by"),
        *(f"{what}{part}" for what in ("bytes", "flops") for part in ("", "_basis", "_source")),
    ]
)


def _kernel(row: dict[Any, Any], total: float) -> dict[str, Any]:
    time = _number(row["time_ns"])
    return {
        **{name: row[name] for name in _TEXTS},
        **{name: _number(row[name]) for name in _NUMBERS},
        "launch_shape": {side: [_whole(row[name]) for name in names] for side, names in _SIDES.items()},
        "problem_shape": row["problem_shape"] if isinstance(row["problem_shape"], dict) else None,
        "time_s": _seconds(row["time_ns"]),
        "time_frac": time / total if time is not None and total > 0 else None,
        "bytes_per_dispatch": _quantity(row, "bytes"),
        "flops_per_dispatch": _quantity(row, "flops"),
        "occupancy": {
            "theoretical_frac": _number(row["theoretical_occupancy_frac"]),
            "achieved_frac": _number(row["achieved_occupancy_frac"]),
            "limited_by": row["occupancy_limited_by"],
        },
        "measures": _measures(row),
        "headroom_s": _seconds(row["headroom_ns"]),
        "exposed_s": _seconds(row["exposed_ns"]),
    }


def _measures(row: dict[Any, Any]) -> list[dict[str, Any]]:
    return [
        {
            "measure": name,
            "value": float(row[name]),
            "basis": None if name in _OF_THE_LAUNCH and not source.startswith("given") else "measured",
            "source": source,
        }
        for name, source in sorted(row["measures_source"].items())
    ]


def _quantity(row: dict[Any, Any], what: str) -> dict[str, Any]:
    value = _number(row[what])
    if value is None:
        return {}
    return {
        "value": value,
        "basis": row[f"{what}_basis"] or None,
        "source": row[f"{what}_source"] or None,
    }


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _seconds(value: float) -> float | None:
    return None if math.isnan(value) else float(value) * 1e-9
