"""A cut gzip looks like a short file."""

from __future__ import annotations

import gzip
import io

import pytest

from rocscope.collectors.salvage import SalvagedStream

TEXT = b"".join(b"line %d of the text\n" % (n * 7919 % 10007) for n in range(20000))


@pytest.mark.parametrize("size", [-1, 100, 1 << 20])
def test_what_precedes_the_cut_is_given_and_the_cut_remembered(size: int) -> None:
    packed = gzip.compress(TEXT)
    with gzip.open(io.BytesIO(packed[: len(packed) // 2])) as cut:
        stream = SalvagedStream(cut)
        found = b"".join(iter(lambda: stream.read(size), b""))
    assert TEXT.startswith(found)
    assert len(found) > len(TEXT) // 4
    assert "end-of-stream" in stream.damage
    assert stream.read() == b""


def test_a_whole_stream_is_given_whole() -> None:
    with gzip.open(io.BytesIO(gzip.compress(TEXT))) as whole:
        stream = SalvagedStream(whole)
        assert stream.readable()
        assert stream.read(10) + stream.read() == TEXT
    assert not stream.damage
    stream.close()
    assert stream.closed


@pytest.mark.parametrize("size", [-1, 1, 7, 1 << 20])
def test_bytes_that_are_not_utf8_come_as_replacement_characters(size: int) -> None:
    text = "naïve カーネル ".encode() * 900 + b"\xff\xfe broken \xe3\x82"  # the last character is cut
    stream = SalvagedStream(io.BytesIO(text), mend_text=True)
    pieces = list(iter(lambda: stream.read(size), b""))
    assert b"".join(pieces).decode() == text.decode("utf-8", "replace")
    assert size < 0 or max(map(len, pieces)) <= size
