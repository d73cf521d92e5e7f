"""Formulas of counters are data: closed, validated, chosen by tool, version and architecture."""

from __future__ import annotations

import pytest

from rocscope import measures
from rocscope.errors import InputError
from rocscope.study import MEASURE_COLUMNS

BOOK = """
order = 1
tools = ["rocprof"]
from_version = "2.0"
below_version = "3"
archs = ["gfx908"]
source = "made up for tests"
[[formula]]
measure = "read_bytes"
counters = {{ AA = 64, BB = -32 }}
{more}
"""


def _uses(tool: str, arch: str, measure: str, version: str = "") -> list[tuple[str, ...]]:
    return [each.names for each in measures.formulas(tool, version, arch) if each.measure == measure]


def test_every_book_is_valid_and_every_measure_of_counters_has_a_formula() -> None:
    named = {formula.measure for book in measures.books() for formula in book.formula}
    without = {
        "l1_bytes",  # TCP_TOTAL_CACHE_ACCESSES counts two accesses a line of doubles
        "l1_hit_frac",  # likewise, which makes 50 % of a stream
        "issue_active_frac",  # no counter of AMD's is this
        "global_load_sectors",  # none counts what a wave asked for
        *("workgroups", "waves", "waves_per_cu", "theoretical_occupancy_frac"),  # of the launch
    }
    assert named == (set(MEASURE_COLUMNS) - without) | set(measures.OTHER_MEASURES)


def test_the_hit_rate_of_v1_that_reads_half_the_channels_is_not_used() -> None:
    assert _uses("rocprof", "gfx908", "l2_hit_frac") == [("TCC_HIT_sum", "TCC_MISS_sum")]
    assert ("L2CacheHit",) in _uses("rocprofv3", "gfx908", "l2_hit_frac")


def test_the_two_definitions_of_mem_unit_busy_say_whose_they_are() -> None:
    notes = {
        tool: [f.note for f in measures.formulas(tool, "", "gfx908") if "MemUnitBusy" in f.counters]
        for tool in ("rocprof", "rocprofv3")
    }
    assert len(notes["rocprof"]) == len(notes["rocprofv3"]) == 1
    assert "as v1 has it" in notes["rocprof"][0] and "as v3 has it" in notes["rocprofv3"][0]


@pytest.mark.parametrize(
    ("arch", "counter", "line"), [("gfx908", "TCC_EA_RDREQ_sum", 64), ("gfx942", "TCC_EA0_RDREQ_sum", 128)]
)
def test_names_and_line_sizes_follow_the_architecture(arch: str, counter: str, line: int) -> None:
    assert counter in _uses("omniperf", arch, "read_bytes")[0]
    (l2,) = [f for f in measures.formulas("omniperf", "", arch) if f.measure == "l2_bytes"]
    assert l2.counters == {"TCC_REQ_sum": line}


def test_features_after_the_architecture_do_not_hide_it() -> None:
    assert measures.formulas("omniperf", "", "gfx908:sramecc+:xnack-") == measures.formulas(
        "omniperf", "", "gfx908"
    )


def test_raw_counters_of_an_unknown_gpu_have_no_formula_but_fetch_size_is_in_kibibytes_everywhere() -> None:
    assert _uses("rocprof", "", "l2_hit_frac") == []
    (formula,) = [f for f in measures.formulas("rocprof", "", "") if f.measure == "read_bytes"]
    assert formula.counters == {"FETCH_SIZE": 1024}


@pytest.mark.parametrize(
    ("tool", "version", "arch", "holds"),
    [
        ("rocprof", "2.1", "gfx908", True),
        ("rocprof", "v2.0.0-RC1", "gfx908", True),
        ("rocprof", "3.0", "gfx908", False),
        ("rocprof", "1.9", "gfx908", False),
        ("rocprof", "", "gfx908", False),  # a range is given for a reason
        ("rocprofv3", "2.1", "gfx908", False),
        ("rocprof", "2.1", "gfx90a", False),
    ],
)
def test_a_book_holds_for_its_tools_versions_and_architectures(
    tool: str, version: str, arch: str, holds: bool
) -> None:
    assert measures.parse(BOOK.format(more=""), "paper").holds(tool, version, arch) is holds


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('runs = "any"', "needs a note"),
        ('over = { "__import__" = 1 }', "not the name of a counter"),
        ('per = ["moon_phase"]', "per"),
        ('level = "X"\nsurprise = 1', "surprise"),
        ("over = { SQ_ACCUM_PREV_HIRES = 1 }", "without its level"),
    ],
)
def test_a_formula_is_checked_at_the_door(more: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        measures.parse(BOOK.format(more=more), "paper")


def test_a_measure_nobody_knows_a_level_without_name_and_broken_toml_are_errors() -> None:
    with pytest.raises(InputError, match="no measure is called 'read_byte'"):
        measures.parse(BOOK.format(more="").replace("read_bytes", "read_byte"), "paper")
    with pytest.raises(InputError, match="without its level"):
        measures.parse(BOOK.format(more="").replace("AA = 64", "SQ_ACCUM_PREV_HIRES = 1"), "paper")
    with pytest.raises(InputError, match="paper"):
        measures.parse("[[", "paper")


def test_a_formula_can_be_read() -> None:
    (formula,) = measures.parse(
        BOOK.format(more='over = { CC = 1, DD = 2 }\nscale = 4\ntimes = ["waves"]\nper = ["elapsed_cycles"]'),
        "paper",
    ).formula
    assert formula.text() == "4 × (64 × AA - 32 × BB) × waves / ((CC + 2 × DD) × elapsed cycles)"
