"""The counter input of rocprof (``pmc: SQ_WAVES …``): no data, but often kept beside the results."""

from __future__ import annotations

import re
from typing import Final

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source

_LINE: Final = re.compile(r"\s*(?:#.*|(?:pmc|gpu|range|kernel)\s*:.*)?$")
_PMC: Final = re.compile(r"^\s*pmc\s*:", re.MULTILINE)


class RocprofInputReader:
    """Counter input, told apart so that it is not mistaken for an unknown recording."""

    name = "rocprof-input"
    help = "rocprof counter input (pmc: lines); holds no data and is passed over"
    order = 90
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by every line being a comment, blank, or one of the four keys, with ``pmc`` among them."""
        text = source.text_head
        return bool(_PMC.search(text)) and all(_LINE.match(line) for line in text.splitlines())

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add nothing: which counters were read is told by the results."""


READERS = (RocprofInputReader(),)
