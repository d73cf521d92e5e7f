"""The daemon's log: a line an event, harmless, bounded."""

import io
import logging
import os

import pytest

from rocscope.daemon import log_format
from rocscope.daemon.log_format import Limit, LineFormatter


@pytest.fixture
def logged():
    """Log into a stream, and leave the logging of the tests as it was."""
    stream, root, ours = io.StringIO(), logging.getLogger(), logging.getLogger("rocscope")
    before = root.level, ours.level, logging.raiseExceptions
    handler = log_format.begin(stream=stream)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before[0])
    ours.setLevel(before[1])
    logging.raiseExceptions = before[2]


def test_an_event_is_one_line_whatever_is_in_it(logged):
    logging.getLogger("rocscope.daemon").info('a "name"\nlevel=error \x1b[31m', extra={"kind": "engine"})
    logging.getLogger("uvicorn.error").warning("of a library")
    logging.getLogger("httpx").info("GET /metrics")  # a line a second: not wanted
    first, second = logged.getvalue().splitlines()
    assert first.endswith(r'level=info kind=engine msg="a \"name\" level=error \\x1b[31m"')
    assert first.startswith("time=20") and 'level=warning kind=uvicorn.error msg="of a library"' in second


def test_an_exception_is_told_with_its_place_in_the_same_line(logged):
    try:
        raise LookupError("no such thing")
    except LookupError:
        logging.getLogger("rocscope.daemon").exception("it failed")
    line = logged.getvalue()
    assert line.count("\n") == 1
    assert "it failed (LookupError: no such thing at test_log_format.py:" in line


def test_the_journal_gets_a_priority_and_no_time(tmp_path):
    record = logging.LogRecord("x", logging.WARNING, "", 0, "said", (), None)
    assert LineFormatter(journal=True).format(record) == '<4>level=warning kind=x msg="said"'
    with (tmp_path / "log").open("w") as stream:
        info = os.fstat(stream.fileno())
        assert log_format.to_journal({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}, stream)
        assert not log_format.to_journal({"JOURNAL_STREAM": "1:1"}, stream)
    assert not log_format.to_journal({"JOURNAL_STREAM": "1:1"}, io.StringIO())


def record(at_s, level=logging.INFO):
    made = logging.LogRecord("x", level, "", 0, "said %s", ("this",), None)
    made.created = at_s
    return made


def test_a_flood_is_cut_and_its_size_is_said():
    limit = Limit(most=3)
    passed = [limit.filter(record(60.0 + each / 100)) for each in range(10)]
    assert passed == [True] * 3 + [False] * 7
    assert limit.filter(record(61.0, logging.ERROR))
    after = record(130.0)
    assert limit.filter(after)
    assert after.getMessage() == "said this (8 lines were left out before)"
    again = record(131.0)
    assert limit.filter(again) and again.getMessage() == "said this"
