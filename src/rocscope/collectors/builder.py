"""Gathers what readers find in many files into one capture."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from rocscope import tables
from rocscope.capture import Capture, Clock, Dropped, Gpu, Manifest, Notice, Pass, Process, Provenance, Source


class CaptureBuilder:
    """Collects rows, devices, processes and passes; ``build`` makes the capture.

    Devices, processes and passes are registered by key and may be registered again: the same key gives the
    same index, and fields that were blank are filled in.
    """

    def __init__(self) -> None:
        self._batches: dict[str, list[pa.Table]] = {name: [] for name in tables.SCHEMAS}
        self._gpus: dict[tuple[str, str], Gpu] = {}
        self._processes: dict[tuple[str, int, int | None], Process] = {}
        self._passes: dict[tuple[tuple[str, ...], bool, str], Pass] = {}
        self._notices: dict[Notice, None] = {}
        self._dropped: Counter[tuple[str, str]] = Counter()
        self.manifest: dict[str, Any] = {}  # further manifest fields, set by readers: profiler, command…
        self.sources: list[Source] = []

    def gpu(self, agent: str, *, host: str = "", key: str = "", **known: Any) -> int:
        """Register a device and return its index.

        ``key`` tells devices apart where ``agent`` does not (two ranks that both call theirs 0);
        ``known`` are fields of :class:`rocscope.capture.Gpu`.
        """
        where = (host, key or agent)
        found = self._gpus.get(where) or Gpu(gpu=len(self._gpus), host=host, agent=agent)
        blanks = {k: v for k, v in known.items() if v not in (None, "") and getattr(found, k) in (None, "")}
        self._gpus[where] = found.model_copy(update=blanks)
        return found.gpu

    @property
    def gpu_count(self) -> int:
        """How many devices are registered so far."""
        return len(self._gpus)

    def process(self, pid: int, *, host: str = "", **known: Any) -> int:
        """Register a process and return its index; ``known`` are fields of :class:`Process`.

        Ranks keep processes apart that share a pid, as in containers or where the host is not recorded.
        Without a rank it is the first of that pid; a rank not known so far is filled in.
        """
        rank = known.get("rank")
        same = [key for key in self._processes if key[:2] == (host, pid)]
        wanted = [key for key in same if rank is None or key[2] in (rank, None)]
        key = min(
            wanted,
            key=lambda each: (each[2] != rank, self._processes[each].process),
            default=(host, pid, rank),
        )
        found = self._processes.pop(key, None) or Process(process=len(self._processes), pid=pid, host=host)
        blanks = {
            k: v for k, v in known.items() if v not in (None, "", ()) and getattr(found, k) in (None, "", ())
        }
        self._processes[(host, pid, key[2] if rank is None else rank)] = found.model_copy(update=blanks)
        return found.process

    def add_pass(self, counters: tuple[str, ...] = (), *, perturbed: bool = False, note: str = "") -> int:
        """Register a pass by its set of counters and return its index."""
        key = (tuple(sorted(counters)), perturbed, note)
        if key not in self._passes:
            self._passes[key] = Pass(index=len(self._passes), counters=key[0], perturbed=perturbed, note=note)
        return self._passes[key].index

    def append(self, table: str, rows: int, **columns: pa.Array | pa.ChunkedArray | pa.Scalar) -> None:
        """Add ``rows`` rows to ``table``; see :func:`rocscope.tables.conform`."""
        if rows:
            self._batches[table].append(tables.conform(table, columns, rows))

    def rows(self, table: str) -> int:
        """Return how many rows ``table`` has so far."""
        return sum(batch.num_rows for batch in self._batches[table])

    def dispatch_ids(self, pass_index: int, process: int) -> list[pa.ChunkedArray]:
        """Return the dispatch ids that one process has so far in one pass, a piece for each ``append``."""
        import pyarrow.compute as pc

        found = []
        for batch in self._batches["dispatches"]:
            rows = pc.and_(pc.equal(batch["pass"], pass_index), pc.equal(batch["process"], process))
            found.append(batch["dispatch_id"].filter(rows))
        return found

    def mark(self) -> dict[str, Any]:
        """Return the state, for :meth:`rollback` should a file turn out to be unusable half way."""
        state = {name: value.copy() for name, value in vars(self).items()}
        state["_batches"] = {name: list(batches) for name, batches in self._batches.items()}
        return state

    def rollback(self, mark: dict[str, Any]) -> None:
        """Return to the state of ``mark``."""
        vars(self).update(mark)

    def notice(self, code: str, message: str, source: str = "") -> None:
        """Tell the user something, once."""
        self._notices[Notice(code=code, message=message, source=source)] = None

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What was noticed so far."""
        return tuple(self._notices)

    def drop(self, reason: str, count: int, source: str = "") -> None:
        """Count rows that were left out."""
        if count:
            self._dropped[(reason, source)] += count

    def build(self, *, provenance: Provenance = "recorded", provenance_note: str = "") -> Capture:
        """Return the capture of all that was added."""
        manifest = Manifest(
            provenance=provenance,
            provenance_note=provenance_note,
            gpus=sorted(self._gpus.values(), key=lambda gpu: gpu.gpu),
            processes=sorted(self._processes.values(), key=lambda process: process.process),
            passes=sorted(self._passes.values(), key=lambda each: each.index),
            sources=self.sources,
            notices=list(self._notices),
            dropped=[Dropped(reason=r, count=n, source=s) for (r, s), n in self._dropped.items()],
            **{"clock": Clock(), **self.manifest},
        )
        found = {name: _concat(name, batches) for name, batches in self._batches.items()}
        return Capture(manifest=manifest, **found)


def _concat(name: str, batches: list[pa.Table]) -> pa.Table:
    """Join the pieces: text columns whole, numbers in pieces, since joining them would double the peak."""
    if not batches:
        return tables.empty(name)
    whole = pa.concat_tables(batches).unify_dictionaries()
    for index, field in enumerate(whole.schema):
        if field.type == tables.TEXT:
            whole = whole.set_column(index, field, whole.column(index).combine_chunks())
    return whole
