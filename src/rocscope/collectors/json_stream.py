"""Walks a JSON text that is too large to hold as Python objects.

The text is a memory map. A cursor goes through objects member by member and decodes small values whole.
A large array is cut into pieces of a few MiB at places that look like the end of an element; msgspec
decodes each piece into typed structs, skipping the fields that nobody asked for. A piece that starts at an
element and decodes as an array ends at an element, so a wrong guess (braces in a text, nested arrays)
shows as an error and is then settled by walking brackets and texts exactly.

    with JsonStream.open(path, "trace.json") as text:
        for key in text.members():
            if key == "traceEvents":
                for events in text.batches(Decoder(list[Event])):
                    ...
    if text.damage: ...
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from rocscope.errors import DamagedInput, EmptyInput, InputError

T = TypeVar("T")

CHUNK_BYTES: Final = 1 << 20  # small enough that a chunk's objects stay in the cache
_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SEPARATOR: Final = re.compile(rb"[ \t\r\n,]*")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_LITERAL: Final = re.compile(rb'[^\s,:\[\]{}"]+')
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
_FIRST_KEY: Final = re.compile(rb'\{\s*("(?:[^"\\]|\\.){0,80}")')
_BAD_NUMBER: Final = rb"[-+]?(?:nan|inf(?:inity)?)(?:\([^)\"]*\))?(?=\s*[,\]}])"
_HAS_BAD_NUMBER: Final = re.compile(rb"[:,\[]\s*" + _BAD_NUMBER, re.IGNORECASE)
_STRING_OR_BAD_NUMBER: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|' + _BAD_NUMBER, re.DOTALL | re.IGNORECASE)


class Nothing(msgspec.Struct, gc=False):
    """An element of which no field is wanted."""


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested too deep
_SKIP: Final = msgspec.json.Decoder(list[Nothing])
_KEY: Final = msgspec.json.Decoder(str)


class JsonStream:
    """A cursor over one JSON text.

    ``damage`` says where and why reading stopped early, or is ``None``. ``unreadable`` counts elements of
    arrays that were skipped because they are not JSON or have fields of the wrong type.
    """

    def __init__(self, text: bytes | mmap.mmap, name: str, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.text = text
        self.name = name
        self.chunk_bytes = chunk_bytes
        self.position = len(_BOM) if text[: len(_BOM)] == _BOM else 0
        self.damage: str | None = None
        self.unreadable = 0
        self._end = len(text)
        self._space()

    @classmethod
    @contextmanager
    def open(cls, path: Path, name: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[JsonStream]:
        """Map ``path`` (inflated); ``name`` is for messages. Raises :class:`InputError` if it is empty."""
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise EmptyInput(f"{name}: the file is empty", "collect it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield cls(text, name, chunk_bytes=chunk_bytes)

    def peek(self) -> bytes:
        """Return the byte at the cursor; empty at the end of the text."""
        return self.text[self.position : self.position + 1]

    def members(self) -> Iterator[str]:
        """Go through the object at the cursor: give each key, with the cursor on its value.

        A value that the caller does not read is skipped. Keys may repeat. Raises :class:`InputError` if
        there is no object.
        """
        self._enter(b"{", "an object")
        while self._separate(b"}"):
            key = _STRING.match(self.text, self.position)
            colon = key and _COLON.match(self.text, key.end())
            if not key or not colon:
                self._stop("a key", whole=self.text.find(b'"', self.position + 1) >= 0)
                return
            try:
                found = _KEY.decode(key.group())
            except _UNREADABLE:
                found = key.group().decode("utf-8", "replace")
            self.position = value = colon.end()
            yield found
            if self.position == value:
                self.skip()

    def items(self) -> Iterator[None]:
        """Go through the array at the cursor, with the cursor on each element; as :meth:`members`.

        For arrays of few, large elements; see :meth:`batches` for many small ones.
        """
        self._enter(b"[", "an array")
        while self._separate(b"]"):
            element = self.position
            yield
            if self.position == element:
                self.skip()

    def decode(self, decoder: msgspec.json.Decoder[T]) -> T | None:
        """Decode the value at the cursor whole and go past it; ``None`` if it is cut off or does not fit."""
        start, end = self.position, self._value_end(self.position)
        if end < 0:
            self._stop("a value")
            return None
        self.position = end
        raw = self.text[start:end]
        for attempt in (raw, _mend(raw)):
            try:
                return decoder.decode(attempt)
            except _UNREADABLE:
                continue
        self.unreadable += 1
        return None

    def skip(self) -> None:
        """Go past the value at the cursor."""
        if self.peek() == b"[" and self.text[self.position + 1 : self.position + 64].lstrip()[:1] == b"{":
            before = self.unreadable
            for _ in self.batches(_SKIP):
                pass
            self.unreadable = before
            return
        end = self._value_end(self.position)
        if end < 0:
            self._stop("a value")
        else:
            self.position = end

    def batches(self, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[list[T]]:
        """Decode the array at the cursor piece by piece.

        Elements that do not decode are left out and counted in ``unreadable``. An array that is cut off
        gives its whole elements and sets ``damage``. Raises :class:`InputError` if there is no array.
        """
        self._enter(b"[", "an array")
        yield from self.elements(decoder)

    def elements(self, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[list[T]]:
        """As :meth:`batches`, from inside an array: the cursor is on an element or a comma before one.

        Numbers that JSON does not know (``nan``, ``inf``) are read as null.
        """
        hint = None
        while self._separate(b"]"):
            start = self.position
            if hint is None:
                hint = _boundary(self.text, start)
            batch, end = self._guess(decoder, start, hint)
            if batch is None:
                batch, end = self._exact(decoder, start)
            if end <= start:
                self._stop("an element")
                return
            self.position = end
            if isinstance(self.text, mmap.mmap) and hasattr(self.text, "madvise"):
                done = end - end % mmap.PAGESIZE
                self.text.madvise(mmap.MADV_DONTNEED, 0, done)  # read pages count as our memory
            if batch:
                yield batch

    def error(self, wanted: str) -> InputError:
        """Return the error for a text that holds something else than ``wanted`` at the cursor."""
        found = self.text[self.position : self.position + 20]
        return DamagedInput(
            f"{self.name}: {self._where()}: expected {wanted}, found {found!r}",
            "the file is damaged or of another format: copy or collect it again",
        )

    def _guess(
        self, decoder: msgspec.json.Decoder[list[T]], start: int, hint: re.Pattern[bytes]
    ) -> tuple[list[T] | None, int]:
        """Decode up to the last place within a chunk that looks like an element's end."""
        limit = min(start + self.chunk_bytes, self._end)
        end = -1
        for width in (1 << 13, self.chunk_bytes):
            for match in hint.finditer(self.text, max(start, limit - width), limit):
                end = match.start() + 1
            if end > start:
                break
        else:
            return None, start
        piece = b"".join((b"[", self.text[start:end], b"]"))
        try:
            return decoder.decode(piece), end
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            return None, start
        except msgspec.DecodeError:
            mended = _mend(piece)
            if mended is piece:
                return None, start
        try:
            return decoder.decode(mended), end
        except _UNREADABLE:
            return None, start

    def _exact(self, decoder: msgspec.json.Decoder[list[T]], start: int) -> tuple[list[T], int]:
        """Decode about a chunk of elements (at least one) whose ends are found by walking."""
        spans: list[tuple[int, int]] = []
        at = start
        while at < self._end and at - start < self.chunk_bytes and self.text[at : at + 1] != b"]":
            end = self._value_end(at)
            if end < 0:
                break
            spans.append((at, end))
            at = _skip(_SEPARATOR, self.text, end)
        if not spans:
            return [], start
        end = spans[-1][1]
        piece = b"".join((b"[", b",".join(self.text[a:b] for a, b in spans), b"]"))
        for attempt in (piece, _mend(piece)):
            try:
                return decoder.decode(attempt), end
            except _UNREADABLE:
                continue
        found: list[T] = []
        for a, b in spans:
            try:
                found += decoder.decode(_mend(b"".join((b"[", self.text[a:b], b"]"))))
            except _UNREADABLE:
                self.unreadable += 1
        return found, end

    def _value_end(self, start: int) -> int:
        """Return where the value at ``start`` ends, or -1 if the text ends first."""
        first = self.text[start : start + 1]
        if first not in (b"{", b"["):
            match = (_STRING if first == b'"' else _LITERAL).match(self.text, start)
            return match.end() if match and (first == b'"' or match.end() < self._end) else -1
        depth = 0
        for token in _STRUCTURE.finditer(self.text, start):
            mark = token.group()
            if mark in (b"{", b"["):
                depth += 1
            elif mark in (b"}", b"]"):
                depth -= 1
                if not depth:
                    return token.end()
            elif mark == b'"':  # a text without its end
                return -1
        return -1

    def _enter(self, bracket: bytes, wanted: str) -> None:
        if self.peek() != bracket:
            raise self.error(wanted)
        self.position += 1

    def _separate(self, closing: bytes) -> bool:
        """Go to the next element; ``False`` at the end, past the bracket, or where reading must stop."""
        if self.damage:
            return False
        self.position = _skip(_SEPARATOR, self.text, self.position)
        if self.position >= self._end:
            self._stop("its end")
            return False
        if self.peek() == closing:
            self.position += 1
            return False
        return True

    def _space(self) -> None:
        self.position = _skip(_SPACE, self.text, self.position)

    def _stop(self, wanted: str, *, whole: bool = False) -> None:
        """Note that nothing past the cursor can be used."""
        where = self._where()
        left = self.text[self.position : self.position + 1]
        odd = whole or (left and left not in b'{["-0123456789tfn')
        self.damage = f"not JSON at {where}" if odd else f"cut off at {where}, within {wanted}"

    def _where(self) -> str:
        line, step = 1, 1 << 24
        for at in range(0, self.position, step):
            line += self.text[at : min(at + step, self.position)].count(b"\n")
        return f"byte {self.position}, line {line}"


def _skip(pattern: re.Pattern[bytes], text: bytes | mmap.mmap, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _boundary(text: bytes | mmap.mmap, start: int) -> re.Pattern[bytes]:
    """Return a pattern of what lies between elements, from how the first one opens.

    Naming its first key keeps most guesses out of nested arrays. The match starts at the closing brace.
    """
    key = _FIRST_KEY.match(text, start)
    opening = rb"\{\s*" + re.escape(key.group(1)) if key else rb"\{"
    return re.compile(rb"\}\s*,\s*(?=" + opening + rb")")


def _mend(piece: bytes) -> bytes:
    """Replace numbers that JSON does not know by null; the same object if there are none."""
    if not _HAS_BAD_NUMBER.search(piece):
        return piece
    return _STRING_OR_BAD_NUMBER.sub(lambda m: m.group() if m.group()[:1] == b'"' else b"null", piece)
