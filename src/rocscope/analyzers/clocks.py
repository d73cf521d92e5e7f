"""Clocks of one recording against each other: kernels start after their launch, ranks meet in collectives."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, metrics
from rocscope.study import Study
from rocscope.wording import duration

LAUNCH: Final = re.compile(r"launch_?(cooperative_?)?kernel|graph_?launch|ModuleLaunch", re.IGNORECASE)
_MEETING: Final = re.compile(r"all_?reduce|all_?gather|reduce_?scatter|cross_device_reduce", re.IGNORECASE)
_DISORDER_FRAC: Final = 0.01  # of launches or collectives: beyond it, it is the clocks and not a stray record
_ROUNDING_NS: Final = 1000  # some tools give microseconds
Ints = NDArray[np.int64]


def between_host_and_gpu(study: Study) -> None:
    """Warn where kernels start before the host called for them."""
    spans = study.capture.spans
    if not spans.num_rows:
        return
    rows = metrics.timing(study.capture).rows
    rows = rows.filter(pc.and_(rows["correlation_id"].is_valid(), rows["start_ns"].is_valid()))
    if not rows.num_rows:
        return
    spans = spans.filter(columns.holds(spans["name"], lambda name: bool(LAUNCH.search(name))))
    keys = ["process", "correlation_id"]
    calls = spans.filter(spans["correlation_id"].is_valid()).group_by(keys).aggregate([("start_ns", "min")])
    pairs = rows.select([*keys, "start_ns"]).join(calls, keys, join_type="inner")
    if not pairs.num_rows:
        return
    early = pairs["start_ns_min"].to_numpy() - pairs["start_ns"].to_numpy()
    wrong = early > _ROUNDING_NS
    if wrong.sum() > _DISORDER_FRAC * len(early):
        study.warn(
            "clock-drift",
            f"{int(wrong.sum())} of {len(early)} kernels start before the host's call that launched them, by "
            f"up to {duration(float(early.max()))}: the clocks of host and GPU differ, so host spans and "
            "kernels cannot be set side by side",
        )


def between_ranks(study: Study) -> None:
    """Warn where collectives that ranks can only do together do not overlap in time."""
    met = _meetings(metrics.timing(study.capture).rows)
    if met is None:
        return
    starts, ends = met
    apart = starts.max(axis=0) - ends.min(axis=0)
    wrong = apart > _ROUNDING_NS
    if wrong.sum() <= _DISORDER_FRAC * len(apart):
        return
    # by which the clocks differ at least, over the recording
    worst = duration(float(apart.max()))
    study.warn(
        "clock-drift",
        f"{int(wrong.sum())} of {len(apart)} collectives of the ranks do not overlap in time, by up to "
        f"{worst}: their clocks differ, so busy, idle and waiting time of ranks cannot be set side by side",
    )


def _meetings(rows: pa.Table) -> tuple[Ints, Ints] | None:
    """Return starts and ends of collectives, [rank, ordinal]; ``None`` where ranks did others."""
    rows = rows.select(["gpu", "kernel", "start_ns", "end_ns"])
    rows = rows.filter(columns.holds(rows["kernel"], lambda name: bool(_MEETING.search(name))))
    rows = rows.filter(rows["start_ns"].is_valid())
    gpus = sorted(pc.unique(rows["gpu"]).to_pylist())
    if len(gpus) < 2:
        return None
    each = [rows.filter(pc.equal(rows["gpu"], gpu)).sort_by("start_ns") for gpu in gpus]
    names = [table["kernel"].to_pylist() for table in each]
    if any(name != names[0] for name in names[1:]):
        return None
    return (
        np.stack([table["start_ns"].to_numpy() for table in each]),
        np.stack([table["end_ns"].to_numpy() for table in each]),
    )
