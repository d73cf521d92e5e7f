"""Events: harmless text, bounded, and a fault that repeats is told once."""

import logging

from manual_clock import ManualClock

from rocscope.daemon import events as module
from rocscope.daemon.events import Events


def test_text_of_others_is_made_harmless_and_short(caplog):
    kept = []
    events = Events(ManualClock(), kept.append)
    with caplog.at_level(logging.INFO, "rocscope.daemon"):
        events.note("engine", "died: \x1b[2J\nforged line " + "x" * 1000)
    assert "\x1b" not in kept[0].text and "\n" not in kept[0].text and len(kept[0].text) <= module.LONGEST
    assert [record.kind for record in caplog.records] == ["engine"] and list(events.recent) == kept


def test_the_same_again_is_counted_and_said_later():
    clock, kept = ManualClock(), []
    events = Events(clock, kept.append)
    for _ in range(100):
        events.note("engine", "does not answer")
        clock.go(1)
    assert len(kept) == 1
    clock.go(module.AGAIN_S)
    events.note("engine", "does not answer", logging.WARNING)
    assert kept[1].text == "does not answer (and 99 times since it was last told)"
    assert kept[1].at_s == clock.unix_s


def test_a_flood_of_different_events_takes_no_more_memory():
    events = Events(ManualClock())
    for number in range(5000):
        events.note("spool", f"file {number}")
    assert len(events.recent) == module.RECENT == len(events._told)
