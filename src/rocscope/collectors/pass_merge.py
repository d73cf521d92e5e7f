"""Joins what several launches of one command left: each is a pass, and only one has clean times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rocscope.capture import Capture, Gpu, Pass
from rocscope.collectors.counter_input import Counting


@dataclass(frozen=True)
class Taken:
    """One launch that left something to read."""

    number: int  # as the user was told: pass 2 of 5
    capture: Capture
    counting: Counting | None  # None: the launch without counters


def merge(taken: Sequence[Taken]) -> Capture:
    """Return one capture of all launches; the first gives times, host spans, samples and the description.

    Processes of different launches stay apart; GPUs are one where host, number and architecture agree.
    """
    first, *others = taken
    merged = first.capture
    manifest = merged.manifest
    manifest.passes = _passes(first, 0)
    parts: dict[str, list[pa.Table]] = {"dispatches": [merged.dispatches], "counters": [merged.counters]}
    for each in others:
        theirs = each.capture.manifest
        shift = {"pass": len(manifest.passes), "process": len(manifest.processes)}
        gpus = _gpus(merged, each.capture, f"pass {each.number}")
        for name, tables in parts.items():
            tables.append(_moved(getattr(each.capture, name), shift, gpus))
        manifest.passes = [*manifest.passes, *_passes(each, shift["pass"])]
        manifest.processes += [
            process.model_copy(update={"process": process.process + shift["process"]})
            for process in theirs.processes
        ]
        where = f"pass {each.number}"
        manifest.sources += [
            source.model_copy(update={"path": f"pass-{each.number}/{source.path}"})
            for source in theirs.sources
        ]
        manifest.dropped += [
            drop.model_copy(update={"source": f"{where} {drop.source}".strip()}) for drop in theirs.dropped
        ]
        for notice in theirs.notices:
            merged.notice(notice.code, notice.message, f"{where} {notice.source}".strip())
        manifest.partial = manifest.partial or theirs.partial
    for name, tables in parts.items():
        setattr(merged, name, pa.concat_tables(tables).unify_dictionaries())
    return merged


def _passes(taken: Taken, shift: int) -> list[Pass]:
    """Return the passes of a launch with what is known of it: which kernels, which level was added up."""
    found: list[Pass] = []
    for each in taken.capture.manifest.passes:
        known: dict[str, object] = {"index": each.index + shift}
        if taken.counting is not None:
            level = next((one.level for one in taken.counting.passes if one.level), "")
            note = ", ".join(part for part in (f"level {level}" if level else "", each.note) if part)
            known |= {"perturbed": True, "note": note}
            known |= {"kernels": taken.counting.kernels, "dispatches": taken.counting.dispatches}
        found.append(each.model_copy(update=known))
    return found


def _gpus(merged: Capture, other: Capture, where: str) -> dict[int, int]:
    """Say which GPU of ``merged`` each of ``other`` is; one that is none of them is added."""
    ours = merged.manifest.gpus
    found: dict[int, int] = {}
    for gpu in other.manifest.gpus:
        same = [each for each in ours if _same(each, gpu)]
        if not same and len(ours) == len(other.manifest.gpus) == 1 and _alike(ours[0].arch, gpu.arch):
            same = ours
        if len(same) == 1:
            found[gpu.gpu] = same[0].gpu
            continue
        if ours:
            merged.notice(
                "gpu-unmatched",
                f"{where}: which GPU {gpu.agent or gpu.gpu} is of the others cannot be told; its counters "
                "stay apart",
            )
        found[gpu.gpu] = len(ours)
        ours.append(gpu.model_copy(update={"gpu": len(ours)}))
    return found


def _same(one: Gpu, other: Gpu) -> bool:
    numbers = [re.search(r"\d+$", each.agent) for each in (one, other)]
    if not numbers[0] or not numbers[1] or int(numbers[0][0]) != int(numbers[1][0]):
        return False
    return _alike(one.host, other.host) and _alike(one.arch, other.arch)


def _alike(one: str, other: str) -> bool:
    return one == other or not one or not other


def _moved(table: pa.Table, shift: dict[str, int], gpus: dict[int, int]) -> pa.Table:
    """Give rows their new indices."""
    if not table.num_rows:
        return table
    place = np.zeros(max(gpus, default=0) + 1, np.int32)
    for old, new in gpus.items():
        place[old] = new
    for name in ("pass", "process", "gpu"):
        at = table.schema.get_field_index(name)
        values = table[name].to_numpy()
        moved = place[values] if name == "gpu" else values + shift[name]
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(moved.astype(field.type.to_pandas_dtype())))
    return table
