"""One server's ``/metrics`` read again and again: what a line means is worked out once, then looked up.

A server's text has the same lines each second with other values at their ends. Taking it apart with a parser
costs some 3 ms of CPU for 50 kB, looking its lines up a tenth of that; what both give is the same (there is
a test for it). A text with a line that is new, or with anything that is not plain, is parsed as a whole.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.collectors import serving
from rocscope.collectors.serving import Labels, Snapshot

MAX_KNOWN: Final = 20_000  # lines; beyond them texts are parsed as a whole
_PLAIN: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?", re.ASCII)
_Meaning = tuple[str, Labels]  # name and labels


class SteadyParser:
    """Parses the texts of one server as :meth:`Snapshot.parse` does."""

    def __init__(self) -> None:
        self.whole = 0  # texts that had to be parsed as a whole
        self._known: dict[str, _Meaning | None] = {}  # by all of a line before its value; None: not wanted

    def parse(self, text: str) -> Snapshot:
        """Read a text. Raises :class:`InputError` as :meth:`Snapshot.parse` does."""
        series = self._look_up(text) if len(text) <= serving.MAX_BYTES else None
        if series is not None:
            values = serving.values_of(series)
            if serving.is_vllms(values):
                return Snapshot(values)
        self.whole += 1
        snapshot = Snapshot.parse(text)
        self._learn(text)
        return snapshot

    def _look_up(self, text: str) -> serving.Series | None:
        """Return the series of a text of which every line is known, else ``None``."""
        known = self._known
        found: serving.Series = {}
        plain = _PLAIN.fullmatch
        for line in text.splitlines():
            if not line or line[0] == "#":
                continue
            key, _, value = line.rpartition(" ")
            try:
                meaning = known[key]
            except KeyError:
                return None
            if meaning is None:
                continue
            name, labels = meaning
            series = found.get(name)
            if series is None:
                series = found[name] = {}
            if labels in series or not plain(value):
                return None
            series[labels] = float(value)
        return found

    def _learn(self, text: str) -> None:
        """Remember what the lines of a text mean, if each is a sample without a timestamp."""
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        for line in text.splitlines():
            key, _, value = line.rpartition(" ")
            if not key or line[0] == "#" or key in self._known or len(self._known) > MAX_KNOWN:
                continue
            if not serving.wanted(line):
                self._known[key] = None
            elif _PLAIN.fullmatch(value) and len(line) < serving.MAX_LINE // 2:
                samples = [each for each in serving.samples([line]) if each is not None]
                if len(samples) == 1 and samples[0].timestamp is None:
                    self._known[key] = serving.meaning_of(samples[0])
