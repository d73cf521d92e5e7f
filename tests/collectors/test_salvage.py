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
    stream = SalvagedStream(gzip.open(io.BytesIO(packed[: len(packed) // 2])))
    found = b"".join(iter(lambda: stream.read(size), b""))
    assert TEXT.startswith(found)
    assert len(found) > len(TEXT) // 4
    assert "end-of-stream" in stream.damage
    assert stream.read() == b""


def test_a_whole_stream_is_given_whole() -> None:
    stream = SalvagedStream(gzip.open(io.BytesIO(gzip.compress(TEXT))))
    assert stream.readable()
    assert stream.read(10) + stream.read() == TEXT
    assert not stream.damage
    stream.close()
    assert stream.closed
