"""Reads rocprofv3's JSON (``-f json``): one element a process, with its devices, kernels and records."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.columns import Codes
from rocscope.collectors.json_stream import JsonStream
from rocscope.collectors.rocprofv3_json_process import Metadata, ProcessRecords, Strings
from rocscope.collectors.rocprofv3_json_records import (
    Agent,
    Call,
    Copy,
    Counted,
    CounterInfo,
    Dispatch,
    KernelSymbol,
)
from rocscope.collectors.source import Source

_START: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"rocprofiler-sdk-tool"\s*:')
_METADATA: Final = msgspec.json.Decoder(Metadata)
_STRINGS: Final = msgspec.json.Decoder(Strings)
_AGENTS: Final = msgspec.json.Decoder(list[Agent])
_SYMBOLS: Final = msgspec.json.Decoder(list[KernelSymbol])
_COUNTERS: Final = msgspec.json.Decoder(list[CounterInfo])
_DISPATCHES: Final = msgspec.json.Decoder(list[Dispatch])
_COPIES: Final = msgspec.json.Decoder(list[Copy])
_CALLS: Final = msgspec.json.Decoder(list[Call])
_COUNTED: Final = msgspec.json.Decoder(list[Counted])
_CALL_LISTS: Final = ("hip_api", "rccl_api", "marker_api")


class Rocprofv3JsonReader:
    """rocprofv3 JSON."""

    name = "rocprofv3-json"
    help = "rocprofv3 -f json: <pid>_results.json"
    order = 30
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by the first key."""
        return bool(_START.match(source.head))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each process; see :class:`rocscope.collectors.reader.Reader`.

        A file that is cut off gives the records before the cut, and a notice.
        """
        with source.local(salvage=True) as path, JsonStream.open(path, source.name) as text:
            for key in text.members():
                if key == "rocprofiler-sdk-tool":
                    for _ in text.items():
                        records = ProcessRecords(Codes(), Codes())
                        _read_process(text, records)
                        records.add_to(builder, source.name)
            builder.drop("malformed rows", text.unreadable, source.name)
            if text.damage:
                message = f"{source.name} is {text.damage}; the records before it were used"
                builder.notice("truncated-file", message, source.name)


READERS: Final = (Rocprofv3JsonReader(),)


def _read_process(text: JsonStream, records: ProcessRecords) -> None:
    for key in text.members():
        if key in ("metadata", "strings"):
            lost = text.unreadable  # what a file says of itself is no lost row
            if key == "metadata":
                records.metadata = text.decode(_METADATA) or records.metadata
            else:
                records.strings = text.decode(_STRINGS) or records.strings
            text.unreadable = lost
        elif key in ("callback_records", "buffer_records") and text.peek() == b"{":
            for member in text.members():
                _read_list(text, member, records)
        else:
            _read_list(text, key, records)


def _read_list(text: JsonStream, key: str, records: ProcessRecords) -> None:
    """Read one list of records; one that is not wanted, or no list, is left to be skipped."""
    found = _takers(key, records)
    if found and text.peek() == b"[":
        decoder, take = found
        for batch in text.batches(decoder):
            take(batch)


def _takers(
    key: str, records: ProcessRecords
) -> tuple[msgspec.json.Decoder[Any], Callable[[Any], None]] | None:
    if key in _CALL_LISTS:
        return _CALLS, lambda batch: records.calls.add(batch, marker=key == "marker_api")
    known: dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Any], None]]] = {
        "agents": (_AGENTS, records.add_agents),
        "kernel_symbols": (_SYMBOLS, records.add_symbols),
        "counters": (_COUNTERS, records.add_counters),
        "kernel_dispatch": (_DISPATCHES, records.dispatches.add),
        "memory_copy": (_COPIES, records.copies.add),
        "counter_collection": (_COUNTED, records.counted.add),
    }
    return known.get(key)
