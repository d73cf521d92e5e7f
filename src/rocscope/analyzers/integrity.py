"""What is wrong with a recording, said before anything is concluded from it."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope import columns, metrics
from rocscope.analyzers import clocks, whereabouts
from rocscope.capture import INFORMATION
from rocscope.kernel_names import clean
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent

_SATURATED: Final = 2**32 - 1  # a 32-bit counter that stopped; sums over instances are multiples of it
_NO_KERNELS: Final = re.compile(r"counter|within the host|span|files")  # drops that lose no kernel
_MISSING: Final = frozenset({"dropped-dispatches", "partial-recording", "launches-without-kernels"})
_SHAPE: Final = ("kernel", *metrics.SHAPE)


class Integrity:
    """Adds warnings, and whether times are perturbed."""

    name = "integrity"
    help = "what is missing from the recording, contradicts itself or weakens the labels"
    needs = ("gpu", "kind", "time_ns", "grid_x")
    adds = ("perturbed",)  # times were taken with counters on

    def run(self, study: Study) -> None:
        """Run every check; each warns under a code of its own."""
        for check in _CHECKS:
            check(study)
        study.kernels["perturbed"] = metrics.timing(study.capture).perturbed


def kernels_missing(study: Study) -> list[str]:
    """Return why kernels are missing, so that a gap may not be idle time; to be asked after the checks."""
    return [warned.message for warned in study.warnings if warned.code in _MISSING]


def _notices(study: Study) -> None:
    for notice in study.capture.manifest.notices:
        where = f" ({notice.source})" if notice.source else ""
        if notice.code not in INFORMATION:
            study.warn(notice.code, notice.message + where)


def _provenance(study: Study) -> None:
    manifest = study.capture.manifest
    if manifest.provenance != "recorded":
        note = f": {manifest.provenance_note}" if manifest.provenance_note else ""
        study.warn(f"provenance-{manifest.provenance}", f"the device side is {manifest.provenance}{note}")


def _empty(study: Study) -> None:
    said = any(notice.code == "no-gpu-kernels" for notice in study.capture.manifest.notices)
    if study.kernels.empty and not said:
        study.warn("no-gpu-kernels", "no GPU kernels in this recording")


def _dropped(study: Study) -> None:
    drops = study.capture.manifest.dropped
    dropped = sum(each.count for each in drops if not _NO_KERNELS.search(each.reason))
    kept = pc.sum(study.capture.dispatches["count"]).as_py() or 0
    if dropped and dropped > thresholds().integrity.missing_dispatch_frac.value * (dropped + kept):
        share = percent(dropped / (dropped + kept))
        study.warn(
            "dropped-dispatches",
            f"{dropped} rows were left out beside {kept} that were used: {share}",
        )


def _partial(study: Study) -> None:
    if study.capture.manifest.partial:
        study.warn("partial-recording", "the recording was cut short, so kernels at its end are missing")


def _launches(study: Study) -> None:
    """Launch calls that no dispatch answers to: what they launched was not recorded."""
    capture = study.capture
    rows, spans = capture.dispatches, capture.spans
    if not spans.num_rows or rows["correlation_id"].null_count == rows.num_rows or study.options.between_s:
        return
    spans = spans.filter(columns.holds(spans["name"], lambda name: bool(clocks.LAUNCH.search(name))))
    last = pc.max(rows["end_ns"]).as_py()
    spans = spans.filter(pc.and_(spans["correlation_id"].is_valid(), pc.less(spans["end_ns"], last)))
    keys = ["process", "correlation_id"]
    if not spans.num_rows or study.options.steps:
        return
    missing = spans.join(rows.select(keys).group_by(keys).aggregate([]), keys, join_type="left anti")
    share = missing.num_rows / spans.num_rows
    if share > thresholds().integrity.unmatched_launch_frac.value:
        study.warn(
            "launches-without-kernels",
            f"{missing.num_rows} of {spans.num_rows} launch calls have no kernel in the recording: what they "
            "launched is missing, so gaps are not idle time",
        )


def _times(study: Study) -> None:
    timing = metrics.timing(study.capture)
    rows = timing.rows
    if timing.perturbed:
        study.warn(
            "perturbed-times",
            "no pass without counters: times were taken under counters, which serialise and slow kernels, "
            "and are fit only for comparing kernels of this recording",
        )
    if timing.barrier_rows:
        study.warn(
            "barriers-excluded",
            f"{timing.barrier_rows} barrier packets ({duration(timing.barrier_ns)}) are waiting, not work, "
            "and are in no figure",
        )
    if not rows.num_rows:
        return
    negative = pc.sum(pc.less(rows["duration_ns"], 0)).as_py() or 0
    if negative:
        study.warn("negative-durations", f"{negative} dispatches end before they start and are not timed")
    untimed = rows["duration_ns"].null_count
    if untimed and not any(warned.code == "untimed-dispatches" for warned in study.warnings):
        study.warn("untimed-dispatches", f"{untimed} of {rows.num_rows} rows carry no times")
    if rows["start_ns"].null_count == rows.num_rows and untimed < rows.num_rows:
        study.warn(
            "aggregate-only",
            "only totals per kernel were recorded: no percentiles, overlap, busy or idle time",
        )
    _overlap(study, rows)


def _overlap(study: Study, rows: pa.Table) -> None:
    """Dispatches of one queue that start before the one before has ended."""
    placed = rows.filter(
        pc.and_(rows["start_ns"].is_valid(), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    )
    lane = pc.coalesce(placed["stream"], placed["queue"])
    if not placed.num_rows or lane.null_count == placed.num_rows:
        return
    start, end = placed["start_ns"].to_numpy(), placed["end_ns"].to_numpy()
    lanes, _ = columns.number([placed["gpu"], placed["process"], lane])
    overlapped, shared = 0, 0
    for each in range(int(lanes.max()) + 1):
        here = np.flatnonzero(lanes == each)
        if len(here) < 2:
            continue
        if np.any(np.diff(start[here]) < 0):
            here = here[np.argsort(start[here], kind="stable")]
        first, last = start[here], end[here]
        excess = np.minimum(np.maximum.accumulate(last)[:-1], last[1:]) - first[1:]
        overlapped += int(np.sum(excess > 0))
        shared += int(excess[excess > 0].sum())
    total = int((end - start).sum())
    if shared > thresholds().integrity.overlap_frac.value * total:
        study.warn(
            "overlapping-dispatches",
            f"{overlapped} of {placed.num_rows} dispatches start before an earlier one on their queue has "
            f"ended, by {percent(shared / total)} of kernel time: kernel times are sums and may exceed wall "
            "time; busy time is their union",
        )


def _counters(study: Study) -> None:
    values = study.capture.counters["value"]
    if not len(values):
        return
    known = pc.fill_null(values, 0.0).to_numpy()
    stuck = int(np.sum((known > 0) & (known % _SATURATED == 0)))
    if stuck:
        study.warn(
            "saturated-counters", f"{stuck} counter values are multiples of 2^32-1: they stopped counting"
        )


def _ranks(study: Study) -> None:
    manifest = study.capture.manifest
    if study.options.ranks is not None:
        return
    seen = sorted({each.rank for each in manifest.processes if each.rank is not None})
    gaps = sorted(set(range(max(seen) + 1)) - set(seen)) if seen else []
    if gaps:
        study.warn("ranks-missing", f"ranks {gaps} are not in the recording; {seen} are")
    expected = study.options.tp or manifest.model_tp or manifest.world_size
    gpus = study.kernels["gpu"].nunique()
    if not gaps and expected and 0 < max(len(seen), gpus) < expected:
        study.warn(
            "ranks-missing", f"the run had {expected} ranks, the recording holds {max(len(seen), gpus)}"
        )


def _passes(study: Study) -> None:
    """Passes repeat one workload, so that each must launch the same kernels as often."""
    timing = metrics.timing(study.capture)
    table = study.capture.dispatches
    passes = study.capture.manifest.passes
    if len(passes) < 2 or len(timing.passes) != 1:
        return
    if any(each.counters for each in passes):  # no counter is of a copy, and most tools leave copies out
        table = table.filter(columns.holds(table["kind"], lambda kind: kind == "kernel"))
    counted = table.group_by(["pass", *_SHAPE]).aggregate([("count", "sum")]).to_pandas()
    keys = ["pass", "kernel", "grid", "workgroup"]
    counted["kernel"] = counted["kernel"].astype(object).map(clean)
    for size in ("grid", "workgroup"):  # counter files hold only the product of a grid
        sides = counted[[f"{size}_{axis}" for axis in "xyz"]].astype(float)
        counted[size] = sides.prod(axis=1).where(sides[f"{size}_x"].notna(), -1)
    wide = counted.groupby(keys)["count_sum"].sum().unstack("pass")
    chosen = {each.index for each in passes if each.kernels or each.dispatches}  # hold a part on purpose
    whole = wide[[index for index in wide if index not in chosen]]
    counted = wide[[each.index for each in passes if each.index in wide and each.dispatches is None]]
    missing = whole.isna().any(axis=1)
    differs = wide[~missing & (counted.nunique(axis=1) > 1)]
    absent = wide[missing]
    if len(differs) or len(absent):
        study.warn(
            "passes-disagree",
            f"of {len(wide)} kernels and shapes {len(differs)} ran a different number of times in different "
            f"passes and {len(absent)} are not in every pass: counters and times may be of different work",
        )


def _shapes(study: Study) -> None:
    frame = study.kernels[study.kernels["kind"] == "kernel"]
    total = frame["time_ns"].sum()
    bare = frame.loc[frame["grid_x"].isna(), "time_ns"].sum()
    if bare > 0:
        study.warn(
            "launch-shapes-missing",
            f"{percent(bare / total)} of kernel time has no launch shape (as in graph replays): these "
            "kernels are told apart by name only, and shapes cannot be derived from their grids",
        )


def _unknown_gpus(study: Study) -> None:
    names = {each.gpu: each.name or each.arch or "not named" for each in study.capture.manifest.gpus}
    for gpu in sorted(set(study.kernels["gpu"])):
        if study.specs.get(int(gpu)) is None:
            study.warn(
                "unknown-gpu",
                f"GPU {gpu} ({names.get(gpu, 'not described')}) is not in the GPU table or not certain, so "
                "it has no roofs; name it with --gpu",
            )


_CHECKS: Final = (
    *(_provenance, _empty, _notices, _dropped, _partial, _launches, _times, _counters, _ranks, _passes),
    *(clocks.between_host_and_gpu, clocks.between_ranks, _shapes, _unknown_gpus, whereabouts.unplaced),
)

ANALYZER = Integrity()
