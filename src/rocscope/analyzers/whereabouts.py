"""Dispatches of which the recording does not say on which GPU they ran, or of which rank."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope import metrics
from rocscope.study import Study
from rocscope.wording import percent

_UNNAMED: Final = frozenset({"", "not recorded"})  # how readers call a GPU that a row does not name


def unplaced(study: Study) -> None:
    """Warn of queues whose GPU or rank is unknown beside others whose is known: their figures are apart."""
    manifest = study.capture.manifest
    rows = metrics.timing(study.capture).rows
    if not rows.num_rows:
        return
    bare = [each.gpu for each in manifest.gpus if each.agent in _UNNAMED and not (each.name or each.arch)]
    if len(bare) < len(manifest.gpus):
        _say(study, rows, "gpu", bare, ("dispatches-without-gpu", "a GPU that the recording does not name"))
    alone = [each.process for each in manifest.processes if each.rank is None]
    if len(alone) < len(manifest.processes):
        text = "a process of no known rank beside ranks"
        _say(study, rows, "process", alone, ("dispatches-without-rank", text))


def _say(study: Study, rows: pa.Table, column: str, of: list[int], said: tuple[str, str]) -> None:
    code, where = said
    found = rows.filter(pc.is_in(rows[column], pa.array(of, pa.int32())))
    if not found.num_rows:
        return
    lanes = pc.unique(pc.coalesce(found["stream"], found["queue"])).to_pylist()
    named = ", ".join("not recorded" if each is None else str(each) for each in sorted(lanes, key=str)[:5])
    time = (pc.sum(found["duration_ns"]).as_py() or 0) / max(pc.sum(rows["duration_ns"]).as_py() or 0, 1)
    study.warn(
        code,
        f"{found.num_rows} dispatches ({percent(time)} of kernel time, streams or queues {named}) are of "
        f"{where}: they are counted, but in no other GPU's or rank's busy time, steps or comparison",
    )
