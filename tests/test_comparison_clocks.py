"""Two runs at different clocks: what the clock explains is said, and what it does not is left alone."""

import pytest

from rocscope import pipeline
from synthetic_capture import capture, row
from synthetic_samples import MS, sampled, series


def run(clock_hz, a_ms=10.0, b_ms=10.0, count=40):
    """A step of two kernels, forty times, and the clock every 20 ms."""
    rows, at = [], 0.0
    for _ in range(count):
        for name, length in (("a", a_ms), ("b", b_ms)):
            rows.append(row(name, round(at * MS), round(length * MS)))
            at += length
    clocks = (
        [] if clock_hz is None else series("clock_hz", [(i * 20, clock_hz) for i in range(int(at / 20) + 1)])
    )
    return sampled(capture(rows), clocks)


def test_a_slowdown_by_the_clock_is_said_to_be_so():
    """20 % lower, so that the same cycles take 25 % longer: ``a`` does, ``b`` waits for memory."""
    found = pipeline.compare(run(1.5e9), run(1.2e9, a_ms=12.5))
    by = {each.name: each.explained_by for each in found.kernels}
    assert by["a"] == "the clock: a dispatch takes +25 %, the same cycles +25 %" and by["b"] is None
    note = next(each for each in found.notes if "clock" in each)
    assert "1.5 GHz in base and 1.2 GHz in new" in note and "50 % of base's kernel time became slower" in note
    both = pipeline.compare(run(1.2e9, 12.5, 12.5), run(1.5e9))
    assert all(each.explained_by for each in both.kernels)
    assert any("became faster" in each for each in both.notes)
    assert any("explains the change of the step" in each for each in both.notes)


def test_what_the_clock_does_not_explain_is_not_blamed_on_it():
    found = pipeline.compare(run(1.5e9), run(1.2e9, a_ms=20.0))
    assert not any(each.explained_by for each in found.kernels)
    assert any("no kernel's time follows it" in each for each in found.notes)


@pytest.mark.parametrize("clocks", [(None, 1.2e9), (1.5e9, None), (1.5e9, 1.49e9), (None, None)])
def test_without_clocks_or_at_the_same_clock_nothing_is_said(clocks):
    found = pipeline.compare(run(clocks[0]), run(clocks[1], a_ms=12.5))
    assert not any("clock" in each for each in found.notes)
    assert not any(each.explained_by for each in found.kernels)
