"""A stream over damaged data that gives what there still is."""

from __future__ import annotations

import codecs
import gzip
import zlib
from typing import IO, Final

_STEP_BYTES: Final = 8192  # what an error can cost: less is lost with small steps


class SalvagedStream:
    """Ends where a damaged stream breaks off, instead of raising; ``damage`` then says why.

    Parsers that read ahead in another thread report an error at once, with what precedes it lost. For them
    a cut stream must look like a short one. With ``mend_text``, bytes that are not UTF-8 come as replacement
    characters.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, *, mend_text: bool = False) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if mend_text else None
        self._left = b""  # mended text is longer than what was asked for
        self.damage = ""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, or all that is left."""
        parts = bytearray(self._left)
        while size < 0 or len(parts) < size:
            part = self._step(_STEP_BYTES if size < 0 else min(_STEP_BYTES, size - len(parts)))
            if self._decoder:
                parts += self._decoder.decode(part, final=not part).encode()
            else:
                parts += part
            if not part:
                break
        kept = len(parts) if size < 0 else size
        self._left = bytes(parts[kept:])
        return bytes(parts[:kept])

    def _step(self, size: int) -> bytes:
        if self.damage:
            return b""
        try:
            return self._stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            self.damage = str(error) or type(error).__name__
            return b""

    def readable(self) -> bool:
        """Return ``True``; asked by what wraps a stream."""
        return True

    def close(self) -> None:
        """Part from the stream, which its owner closes."""
        self.closed = True
