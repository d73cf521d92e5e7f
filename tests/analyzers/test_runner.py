"""Analyzers run one after the other over one frame."""

from dataclasses import dataclass

import pytest

from rocscope.analyzers import runner
from synthetic_capture import capture, row, study


@dataclass
class Adds:
    """Adds columns one at a time, as analyzers do."""

    name: str
    adds: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: int = -1
    help: str = "adds columns"

    def run(self, found) -> None:
        for column in self.adds[: self.makes if self.makes >= 0 else None]:
            found.kernels[column] = 1.0


def test_a_hundred_columns_added_one_by_one_leave_no_fragments():
    checked = study(capture([row("mm", 0, 10)]))
    many = [Adds(f"a{i}", tuple(f"a{i}_{j}" for j in range(40))) for i in range(4)]
    runner.run(checked, many)  # pandas' PerformanceWarning would be an error
    checked.kernels["one_more"] = 1
    assert set().union(*(each.adds for each in many)) <= set(checked.kernels.columns)


def test_an_analyzer_that_adds_less_than_it_promised_is_named():
    with pytest.raises(LookupError, match="the analyzer short did not add \\['b'\\]"):
        runner.run(study(capture([row("mm", 0, 10)])), [Adds("short", ("a", "b"), makes=1)])


def test_what_nobody_adds_is_named():
    with pytest.raises(LookupError, match=r"lost.*wanted"):
        runner.run(study(capture([row("mm", 0, 10)])), [Adds("lost", (), needs=("wanted",))])
