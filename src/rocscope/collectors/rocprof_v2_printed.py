"""What rocprofv2 prints where no output folder is named: a line a dispatch, amid the program's own output.

Dispatch_ID(1), GPU_ID(4), …, Kernel_Name("f(int)"), Begin_Timestamp(1), End_Timestamp(2), …, GRBM_COUNT(3.0)
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from typing import Final

import pyarrow as pa

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import agents_beside
from rocscope.collectors.rocprof_columns import COUNTER, Layout
from rocscope.collectors.rocprof_rows import DispatchRows
from rocscope.collectors.rocprof_text import numbers
from rocscope.collectors.rocprof_v2 import TOOL
from rocscope.collectors.source import Source
from rocscope.errors import InputError

BATCH_LINES: Final = 16384
MAX_LINE_BYTES: Final = 1 << 20  # names have 2,000 characters at most; a longer line is no dispatch

_BANNER: Final = "ROCProfilerV2:"
_START: Final = re.compile(r"Dispatch_ID\(\d")
_FIELD: Final = r"[A-Za-z_][\w\[\]:.-]*\([^()]*\)"
_LINE: Final = re.compile(
    rf'(?P<before>Dispatch_ID\([^()]*\)(?:, {_FIELD})*), Kernel_Name\("(?P<kernel>.*)"\)'
    rf"(?P<after>, (?:Begin|Start)_Timestamp\(\d+\)(?:, {_FIELD})*),?\s*$",
    re.DOTALL,
)
_PAIR: Final = re.compile(r"([A-Za-z_][\w\[\]:.-]*)\(([^()]*)\)")
_TWO_RECORDS: Final = re.compile(r'"\), (?:Begin|Start)_Timestamp\(\d+\)')
_TRACE: Final = re.compile(r"Domain\([A-Z_]+\), ")


def parse_line(line: str) -> dict[str, str] | None:
    """Return the fields of one printed dispatch by name, or ``None`` for a line that is not whole.

    The kernel's name goes to the last place where times can follow it, since it may hold parentheses, commas
    and quotes. Output of the program before the record is passed over.
    """
    start = _START.search(line)
    found = _LINE.match(line, start.start()) if start else None
    if found is None or _TWO_RECORDS.search(found["kernel"]):
        return None
    fields = dict(_PAIR.findall(found["before"]))
    fields["Kernel_Name"] = found["kernel"]
    return fields | dict(_PAIR.findall(found["after"]))


class RocprofV2PrintedReader:
    """Dispatches and counters from captured standard output."""

    name = "rocprofv2-printed"
    help = "what rocprofv2 prints without -d and -o"
    order = 56
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by a record or by the profiler's opening line."""
        head = source.text_head
        return _BANNER in head or bool(re.search(r"Dispatch_ID\(\d+\), GPU_ID\(\d+\), ", head))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each record as a dispatch; records that output of the program broke are counted.

        Raises :class:`InputError` where there are records and none is whole.
        """
        lines = _Lines(source, builder)
        with source.stream() as stream:
            try:
                while line := stream.readline(MAX_LINE_BYTES):
                    lines.add(line.decode("utf-8", "replace"))
            except (EOFError, OSError, zlib.error) as error:
                builder.notice("truncated-file", f"{source.name}: damaged ({error})", source.name)
        lines.commit()


class _Lines:
    """Collects records; those with the same fields make one table."""

    def __init__(self, source: Source, builder: CaptureBuilder) -> None:
        self._name = source.name
        self._builder = builder
        self._agents = agents_beside(source)
        self._waiting: defaultdict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        self._rows: dict[tuple[str, ...], DispatchRows] = {}
        self._found: Counter[str] = Counter()

    def add(self, line: str) -> None:
        """Take one line of output."""
        if fields := parse_line(line):
            waiting = self._waiting[tuple(fields)]
            waiting.append(tuple(fields.values()))
            self._found["whole"] += 1
            if len(waiting) >= BATCH_LINES:
                self._flush()
        elif _START.search(line) or ('Kernel_Name("' in line and "_Timestamp(" in line):
            self._found["broken"] += 1
        elif _TRACE.match(line):
            self._found["traced"] += 1

    def commit(self) -> None:
        """Hand all over to the builder. Raises :class:`InputError` where all records are broken."""
        broken, name = self._found["broken"], self._name
        if broken and not self._found["whole"]:
            raise InputError(
                f"{name}: none of its {broken} dispatch records is whole",
                "let rocprofv2 write files (-d FOLDER), so that the program's output does not break them",
            )
        self._flush()
        self._builder.manifest.setdefault("profiler", TOOL)
        self._builder.drop("broken-dispatch-line", broken, name)
        if self._found["traced"]:
            self._builder.notice(
                "printed-trace-not-read",
                f"{name}: {self._found['traced']} printed trace records are not read; "
                "use the files that rocprofv2 -d FOLDER writes",
                name,
            )
        if not self._found["whole"]:
            self._builder.notice("no-dispatches", f"{name}: rocprofv2 ran, and printed no dispatches", name)
        for rows in self._rows.values():
            rows.commit()

    def _flush(self) -> None:
        for cells, records in self._waiting.items():
            layout = Layout.of(cells)
            columns: dict[str, pa.Array] = {}
            for name, values in zip(layout.names, zip(*records, strict=True), strict=True):
                if name == "kernel":
                    columns[name] = pa.array(values, pa.string())
                elif name in layout.used:
                    columns[name], _ = numbers(pa.array(values, pa.string()), real=name.startswith(COUNTER))
            if layout.counters not in self._rows:
                self._rows[layout.counters] = DispatchRows(
                    self._name, self._builder, counters=layout.counters, tool=TOOL, agents=self._agents
                )
            self._rows[layout.counters].add(pa.table(columns))
        self._waiting.clear()


READERS = (RocprofV2PrintedReader(),)
