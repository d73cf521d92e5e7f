"""A server's log beside a recording: how many of its lines say what rules ask for. No text of it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from rocscope import log_lines
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.salvage import SalvagedStream
from rocscope.collectors.source import Source

_STAMPED: Final = re.compile(
    r"^(\(\w+[^()\n]{0,80}\) )?(DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d ", re.MULTILINE
)  # as vLLM writes them


class ServerLog:
    """The log of a vLLM server, or of a program that uses its libraries."""

    name = "server-log"
    help = "a vLLM server's log (beside a recording: rules read it)"
    order = 90
    content = "description"
    companion = True

    def recognises(self, source: Source) -> bool:
        """A log has lines stamped as vLLM does, or one of those that rules ask for."""
        return bool(_STAMPED.search(source.text_head)) or any(
            kind.search(source.head) for kind in log_lines.KINDS.values()
        )

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Count the lines; a damaged gzip gives those that precede the damage."""
        with source.stream() as stream:
            found = SalvagedStream(stream)
            counted = log_lines.count(_lines(found))
        builder.manifest["log_lines"] = log_lines.total(builder.manifest.get("log_lines"), counted)
        if found.damage:
            builder.notice("damaged-log", f"the log breaks off: {found.damage}", source.name)


def count_files(paths: Iterable[Path]) -> dict[str, int] | None:
    """Count the lines of logs that a run left; ``None`` where there are none or none can be read."""
    counts = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                counts.append(log_lines.count(_lines(stream)))
        except OSError:
            continue
    return log_lines.total(*counts)


def _lines(stream: IO[bytes] | SalvagedStream) -> Iterator[bytes]:
    """Give lines, and of one that never ends the pieces."""
    left = b""
    while piece := stream.read(1 << 20):
        *whole, left = (left + piece).split(b"\n")
        yield from whole
        if len(left) > log_lines.LONGEST_LINE_BYTES:
            yield left
            left = b""
    if left:
        yield left


READERS = (ServerLog(),)
