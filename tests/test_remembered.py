"""What is kept of a capture: only as long as the capture and what it was made of stay the same."""

import gc
import weakref

from rocscope import remembered
from synthetic_capture import capture, row


def counting(**more):
    calls = []

    @remembered.by_capture(lambda given: (given.dispatches, given.manifest.profiler), **more)
    def rows(given):
        calls.append(given.dispatches.num_rows)
        return {"rows": given.dispatches.num_rows}

    return rows, calls


def test_it_is_worked_out_once_and_anew_when_a_table_or_a_value_is_another():
    rows, calls = counting()
    made = capture([row("a", 0, 5)])
    assert rows(made) is rows(made) and calls == [1]
    made.dispatches = capture([row("a", 0, 5), row("b", 9, 5)]).dispatches
    assert rows(made) == {"rows": 2} and calls == [1, 2]
    made.manifest.profiler = "another"
    rows(made)
    assert calls == [1, 2, 2]


def test_captures_that_hold_the_same_are_kept_apart_and_let_go():
    rows, calls = counting()
    for _ in range(3):  # each lies where the one before it lay
        rows(capture([row("a", 0, 5)]))
        gc.collect()
    first, second = (capture([row("a", 0, 5)]) for _ in range(2))
    assert rows(first) is not rows(second)
    assert len(calls) == 5


def test_a_copy_may_be_changed():
    rows, calls = counting(copied=True)
    made = capture([row("a", 0, 5)])
    rows(made)["rows"] = 7
    assert rows(made) == {"rows": 1} and calls == [1]


def test_a_table_that_was_replaced_is_let_go():
    rows, _ = counting()
    made = capture([row("a", 0, 5)])
    rows(made)
    old = weakref.ref(made.dispatches)
    made.dispatches = capture([row("b", 0, 5)]).dispatches
    gc.collect()
    assert old() is None
