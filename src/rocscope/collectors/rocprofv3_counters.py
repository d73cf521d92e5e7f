"""rocprofv3's counter_collection.csv: a row for each dispatch and counter, instances already added up."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import counter_rows, csv_rows, rocprofv3_agents
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader
from rocscope.collectors.source import Source
from rocscope.errors import InputError
from rocscope.tables import TEXT

_KEYS: Final = {"guid": TEXT, "processid": pa.int64(), "threadid": pa.int64(), "dispatchid": pa.int64()}
_DISPATCH: Final = {
    "queue": "queueid",
    "dispatch_id": "dispatchid",
    "correlation_id": "correlationid",
    "kernel": "kernelname",
    "grid_x": "gridsize",  # the product of the three
    "workgroup_x": "workgroupsize",
    "lds_bytes": "ldsblocksize",
    "scratch_bytes": "scratchsize",
    "vgprs": "vgprcount",
    "agprs": "accumvgprcount",
    "sgprs": "sgprcount",
}


def counter_pass(source: Source) -> tuple[tuple[str, ...], str]:
    """Return the counters that were on in the run of ``source`` and its pass's note, ``((), "")`` if none.

    A sibling counter_collection.csv says so: counters serialise dispatches, so the whole run is perturbed.
    """
    path = rocprofv3_agents.sibling(source, "counter_collection")
    if path is None:
        return (), ""
    status = path.stat()
    return _counters_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _counters_of(path: Path, _mtime: int, _size: int) -> tuple[tuple[str, ...], str]:
    scratch = CaptureBuilder()
    try:
        source = Source.open(path)
        if not _Counters().recognises(source):
            return (), ""
        table = _usable(source, csv_rows.read(source, {**_KEYS, "countername": TEXT}, scratch), scratch)
    except InputError:
        return (), ""  # reading that file itself reports it
    if not table.num_rows:
        return (), ""
    process = rocprofv3_agents.processes(source, table, scratch)
    return counter_rows.pass_of(_key(process, table["dispatchid"]), _whole(table["countername"]))


class _Counters:
    name = "rocprofv3-csv-counters"
    help = "rocprofv3 --pmc -f csv: counter_collection.csv"
    order = 25
    content = "counters"
    bundle = "rocprofv3-csv"

    def recognises(self, source: Source) -> bool:
        """Tell by the columns."""
        return {"dispatchid", "kernelname", "countername", "countervalue"} <= set(csv_rows.header(source))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the counters, and the dispatches they belong to unless a kernel trace gave them already."""
        builder.manifest.setdefault("profiler", "rocprofv3")
        numbers = ("queueid", "correlationid", "gridsize", "ldsblocksize", "scratchsize")
        small = ("workgroupsize", "vgprcount", "accumvgprcount", "sgprcount")
        wanted = {
            **_KEYS,
            **dict.fromkeys(("agentid", "kernelname", "countername"), TEXT),
            **dict.fromkeys((*numbers, "starttimestamp", "endtimestamp"), pa.int64()),
            **dict.fromkeys(small, pa.int32()),
            "countervalue": pa.float64(),
        }
        table = _usable(source, csv_rows.read(source, wanted, builder), builder)
        if not table.num_rows:
            builder.notice(
                "matched-nothing",
                f"{source.name}: no counter values: the filter matched nothing, or a counter is unknown "
                "to this GPU",
                source.name,
            )
            return
        names = _whole(table["countername"])
        values = _numbers(source, table["countervalue"].combine_chunks(), names, builder)
        process = rocprofv3_agents.processes(source, table, builder)
        if isinstance(process, pa.Scalar):
            process = pa.repeat(process, table.num_rows)
        gpu = (
            rocprofv3_agents.gpus(source, table["agentid"], builder)
            if "agentid" in table.column_names
            else pa.repeat(pa.scalar(builder.gpu(""), pa.int32()), table.num_rows)
        )
        key = _key(process, table["dispatchid"])
        counters, note = counter_rows.pass_of(key, names)
        index = builder.add_pass(counters, perturbed=True, note=note)
        builder.append(
            "counters",
            table.num_rows,
            **{"pass": pa.scalar(index, pa.int16())},
            process=process,
            gpu=gpu,
            dispatch_id=table["dispatchid"],
            counter=names,
            value=values,
        )
        firsts = np.sort(np.unique(key, return_index=True)[1])
        _note_duplicates(source, key, names, builder)
        _check_waves(source, table, names, values, builder)
        own = table.append_column("process", process).append_column("gpu", gpu).take(pa.array(firsts))
        self._dispatches(source, own, index, builder)

    def _dispatches(self, source: Source, own: pa.Table, index: int, builder: CaptureBuilder) -> None:
        """Add the dispatches in ``own``, one a row, except for those that a kernel trace gave this pass."""
        ids, owner = own["dispatchid"].to_numpy(), own["process"].to_numpy()
        new = np.ones(own.num_rows, dtype=bool)
        for each in np.unique(owner):
            mine = owner == each
            for piece in builder.dispatch_ids(index, int(each)):
                new[mine] &= ~np.isin(ids[mine], piece.to_numpy())
        own = own.filter(pa.array(new))
        if not own.num_rows:
            return
        times = _times(source, own, builder) if "starttimestamp" in own.column_names else {}
        builder.append(
            "dispatches",
            own.num_rows,
            **{name: own[column] for name, column in _DISPATCH.items() if column in own.column_names},
            **{"pass": pa.scalar(index, pa.int16())},
            **times,
            kind=pa.scalar("kernel"),
            count=pa.scalar(1, pa.int64()),
            process=own["process"],
            gpu=own["gpu"],
        )


def _usable(source: Source, table: pa.Table, builder: CaptureBuilder) -> pa.Table:
    unreadable = table["dispatchid"].null_count
    builder.drop("unreadable dispatch ids", unreadable, source.name)
    return table.filter(pc.is_valid(table["dispatchid"])) if unreadable else table


def _whole(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.unify_dictionaries().combine_chunks()


def _key(process: pa.Array | pa.Scalar, dispatch: pa.ChunkedArray) -> np.ndarray:
    """Return one number a dispatch: ids restart in each process."""
    owner = process.as_py() if isinstance(process, pa.Scalar) else process.to_numpy().astype(np.int64)
    return np.asarray(dispatch.to_numpy() + (owner << 40))


def _numbers(
    source: Source, values: pa.Array, names: pa.DictionaryArray, builder: CaptureBuilder
) -> pa.Array:
    unreadable = values.null_count + (pc.sum(pc.is_nan(values)).as_py() or 0)
    if unreadable:
        builder.drop("unreadable counter values", unreadable, source.name)
        values = pc.if_else(pc.is_nan(values), None, values)
    return counter_rows.accept(values, names, source.name, builder)


def _times(source: Source, own: pa.Table, builder: CaptureBuilder) -> dict[str, pa.ChunkedArray]:
    """Return the times of dispatches that have some; a dispatch without stays, for its counters' sake."""
    start, end = own["starttimestamp"], own["endtimestamp"]
    good = pc.and_(pc.greater_equal(end, start), pc.greater(start, 0)).fill_null(False)
    if wrong := own.num_rows - pc.sum(good).as_py():
        builder.notice(
            "times-left-out",
            f"{source.name}: {wrong} dispatches have no times or end before they start; their counters stay",
            source.name,
        )
    start, end = pc.if_else(good, start, None), pc.if_else(good, end, None)
    return {"start_ns": start, "end_ns": end, "duration_ns": pc.subtract(end, start)}


def _note_duplicates(
    source: Source, key: np.ndarray, names: pa.DictionaryArray, builder: CaptureBuilder
) -> None:
    pairs = pa.table({"key": key, "code": names.indices}).group_by(["key", "code"]).aggregate([])
    if again := len(key) - pairs.num_rows:
        builder.notice(
            "duplicate-dispatches",
            f"{source.name}: {again} values repeat a dispatch and counter; all are kept",
            source.name,
        )


def _check_waves(
    source: Source, table: pa.Table, names: pa.DictionaryArray, values: pa.Array, builder: CaptureBuilder
) -> None:
    if not {"gridsize", "workgroupsize"} <= set(table.column_names):
        return
    rows = pc.equal(names, "SQ_WAVES")
    sizes = {agent.wave_size for agent in rocprofv3_agents.read_agents(source)}
    message = counter_rows.check_waves(
        values.filter(rows).to_numpy(zero_copy_only=False),
        table["gridsize"].filter(rows).to_numpy().astype(float),
        table["workgroupsize"].filter(rows).to_numpy().astype(float),
        next(iter(sizes)) if len(sizes) == 1 else None,
        source.name,
    )
    if message:
        builder.notice("waves-mismatch", message, source.name)


READERS: list[Reader] = [_Counters()]
