"""A stream over damaged compressed data that gives what there still is."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, Final

_STEP_BYTES: Final = 8192  # what an error can cost: less is lost with small steps


class SalvagedStream:
    """Ends where a damaged stream breaks off, instead of raising; ``damage`` then says why.

    Parsers that read ahead in another thread report an error at once, with what precedes it lost. For them
    a cut stream must look like a short one.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self.damage = ""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, or all that is left."""
        parts = bytearray()
        while not self.damage and (size < 0 or len(parts) < size):
            try:
                part = self._stream.read(_STEP_BYTES if size < 0 else min(_STEP_BYTES, size - len(parts)))
            except (EOFError, OSError, zlib.error) as error:
                self.damage = str(error) or type(error).__name__
                break
            if not part:
                break
            parts += part
        return bytes(parts)

    def readable(self) -> bool:
        """Return ``True``; asked by what wraps a stream."""
        return True

    def close(self) -> None:
        """Part from the stream, which its owner closes."""
        self.closed = True
