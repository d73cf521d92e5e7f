"""Counter plans: never more than a block can count, every counter once, what belongs together in one run."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import counter_data
from rocscope.counter_data import ACCUMULATE, Counters
from rocscope.counter_plan import LEVELS, CounterPlan, over, plan, rotates
from rocscope.errors import InputError, UnknownGpu, UsageError
from rocscope.measures import formulas

ARCHS = ("gfx908", "gfx90a", "gfx942")
TOOLS = [
    ("rocprofv3", ""),
    ("rocprofv3", "1.0.0"),
    ("rocprofv3", "1.1.0"),
    ("rocprof", "2.0"),
    ("rocprofv2", "2.0"),
]
LEVEL = re.compile(r"SQ_\w*LEVEL\w*")
# by AMD's aqlprofile and by inputs of real MI100 runs; not read from our own data
HARDWARE = {"SQ": 8, "TA": 2, "TD": 2, "TCP": 4, "TCC": 4, "CPC": 2, "CPF": 2, "SPI": 6, "GRBM": 2, "GDS": 4}


def block(name: str) -> str:
    return {"SQC": "SQ"}.get(name.split("_", maxsplit=1)[0], name.split("_", maxsplit=1)[0])


def check_limits(made: CounterPlan) -> None:
    for one in made.passes:
        used: dict[str, int] = {}
        for name in one.counters:
            used[block(name)] = used.get(block(name), 0) + 1 + (name == ACCUMULATE)
        assert all(count <= HARDWARE[what] for what, count in used.items()), one


def check_groups(made: CounterPlan, data: Counters) -> None:
    """Counters of one group are in one pass, or a note says that they are not and why."""
    where = {name: number for number, one in enumerate(made.passes) for name in one.counters}
    for group in data.group:
        here = [name for name in group.counters if name in where]
        if len({where[name] for name in here}) > 1:
            said = [note for note in made.notes if note.startswith("not in one run") and group.why in note]
            assert said and ("has not the registers" in said[0] or "definition file" in said[0])


@st.composite
def wishes(draw: st.DrawFn) -> tuple[str, list[str], tuple[str, str]]:
    arch = draw(st.sampled_from(ARCHS))
    tool = draw(st.sampled_from(TOOLS))
    data = counter_data.of(arch)
    plain = [name for name in data.block_of if name != ACCUMULATE]
    names = draw(st.lists(st.sampled_from(plain), min_size=1, max_size=60, unique=True))
    return arch, names, tool


@given(wishes(), st.randoms(use_true_random=False))
def test_any_wish_fits_each_counter_once_and_whatever_its_order(
    wish: tuple[str, list[str], tuple[str, str]], shuffle: random.Random
) -> None:
    arch, names, (tool, version) = wish
    made = plan(",".join(names), arch, tool=tool, version=version)
    check_limits(made)
    check_groups(made, counter_data.of(arch))
    assert sorted(made.counters) == sorted(names)
    again = list(names)
    shuffle.shuffle(again)
    other = plan(" , ".join(name.lower() for name in again), arch, tool=tool, version=version)
    assert other.passes == made.passes and other.notes == made.notes


@given(wishes())
def test_no_two_passes_could_be_one(wish: tuple[str, list[str], tuple[str, str]]) -> None:
    arch, names, (tool, version) = wish
    made = plan(",".join(names), arch, tool=tool, version=version)
    data = counter_data.of(arch)
    for at, one in enumerate(made.passes):
        for other in made.passes[at + 1 :]:
            if tool == "rocprofv3" and one.defined != other.defined:
                continue  # kept apart so that the file of ours costs no others
            assert over([*one.counters, *other.counters], data)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("level", LEVELS[1:])
def test_levels_fit_on_every_gpu(arch: str, tool: tuple[str, str], level: str) -> None:
    made = plan(level, arch, tool=tool[0], version=tool[1])
    check_limits(made)
    check_groups(made, counter_data.of(arch))
    assert len(set(made.counters)) == len(made.counters)
    left = set(counter_data.of(arch).levels[level]) - set(made.counters)
    assert bool(left) == any(note.startswith("left out") for note in made.notes)
    reads = [name for name in made.passes[0].counters if re.fullmatch(r"TCC_EA0?_RDREQ", name)]
    assert reads, "what matters most comes first"


def test_levels_hold_one_another() -> None:
    for arch in ARCHS:
        levels = counter_data.of(arch).levels
        assert set(levels["bandwidth"]) < set(levels["standard"]) < set(levels["full"])
        assert set(levels) == set(LEVELS) - {"none"}


@pytest.mark.parametrize("arch", ARCHS)
def test_standard_gives_what_labels_rest_on(arch: str) -> None:
    version = "1.1.0"
    made = plan("standard", arch, version=version)
    taken = {*made.counters, *(f"{name}_sum" for name in made.counters)}
    given = {each.measure for each in formulas("rocprofv3", version, arch) if set(each.names) <= taken}
    wanted = {"read_bytes", "write_bytes", "l2_hit_frac", "valu_busy_frac", "salu_busy_frac", "valu_insts"}
    wanted |= {"vmem_insts", "lds_conflict_frac", "achieved_occupancy_frac", "mem_unit_busy_frac", "l2_bytes"}
    if arch == "gfx942":  # not among the counters recorded of it
        wanted -= {"mem_unit_stalled_frac"}
    assert wanted <= given


def test_standard_on_mi100_takes_two_passes_and_one_for_what_old_tools_lack() -> None:
    old = plan("standard", "gfx908:sramecc+:xnack-", version="1.0.0")
    assert [one.defined for one in old.passes] == [False, False, True]
    data = counter_data.of("gfx908")
    assert {name for one in old.passes[:2] for name in one.counters} <= set(data.stock)
    assert "SQ_WAVE_CYCLES" in old.passes[2].counters
    assert any("SQ_WAVE_CYCLES" in note and "a file of ours" in note for note in old.notes)
    assert any("unknown version" in note for note in plan("standard", "gfx908").notes)
    new = plan("standard", "gfx908", version="1.1.0")
    assert len(new.passes) == 2 and not any(one.defined for one in new.passes) and new.notes == ()
    renamed = plan("TCC_EA_RDREQ_LEVEL", "gfx908", version="1.2.0")
    assert renamed.passes[0].defined


def test_a_level_stands_directly_before_what_adds_it_up() -> None:
    made = plan("full", "gfx908", tool="rocprof")
    (one,) = [each for each in made.passes if ACCUMULATE in each.counters]
    assert one.counters[one.counters.index(ACCUMULATE) - 1] == "SQ_LEVEL_WAVES" == one.level
    assert [each.level for each in made.passes if each != one] == [""] * (len(made.passes) - 1)
    v3 = plan("full", "gfx908", version="1.0.0")
    assert ACCUMULATE not in v3.counters and any("rocprof does" in note for note in v3.notes)
    alone = plan(f"{ACCUMULATE},SQ_INST_LEVEL_LDS,SQ_INSTS_LDS", "gfx942", tool="rocprofv2")
    assert alone.passes[0].level == "SQ_INST_LEVEL_LDS"


def test_derived_counters_become_what_they_are_made_of_in_one_pass() -> None:
    made = plan("FETCH_SIZE,writesize,L2CacheHit,TCC_EA_WRREQ_STALL_sum", "gfx908")
    assert set(made.counters) == {
        *("TCC_EA_RDREQ", "TCC_EA_RDREQ_32B", "TCC_EA_WRREQ", "TCC_EA_WRREQ_64B"),
        *("TCC_HIT", "TCC_MISS", "TCC_EA_WRREQ_STALL"),
    }
    (bytes_pass,) = [one for one in made.passes if "TCC_EA_RDREQ" in one.counters]
    assert set(bytes_pass.counters) == {
        "TCC_EA_RDREQ",
        "TCC_EA_RDREQ_32B",
        "TCC_EA_WRREQ",
        "TCC_EA_WRREQ_64B",
    }
    busy = plan("VALUBusy,SALUBusy,MemUnitBusy,VALUUtilization", "gfx942")
    assert len(busy.passes) == 1 and "GRBM_GUI_ACTIVE" in busy.counters


def test_a_group_that_does_not_fit_is_said() -> None:
    made = plan("MemUnitBusy,VFetchInsts,VWriteInsts,ALUStalledByLDS", "gfx908")  # linked, of three TA
    check_limits(made)
    (note,) = made.notes
    assert note.startswith("not in one run") and "TA has not the registers" in note


@pytest.mark.parametrize(
    ("wish", "said", "hint"),
    [
        ("SQ_WAVEZ", "no counter of gfx908 is called so", "SQ_WAVES"),
        ("TCC_HIT[3]", "single instances", "TCC_HIT,"),
        ("TCC_HIT,,", "", ""),
        (" , ", "no counter named", "standard"),
        ("standart", "called so", "standard"),
        (ACCUMULATE, "adds up one level counter, and 0 are named", "SQ_LEVEL_WAVES"),
        (f"{ACCUMULATE},SQ_LEVEL_WAVES,SQ_IFETCH_LEVEL", "and 2 are named", "one beside it"),
        (f"{ACCUMULATE},SQ_LEVEL_WAVES", "does not keep a level before", "--profiler"),
        ("SQ_INSTS_VALU_MFMA_MOPS_F16", "called so", ""),
        ("zzzz", "called so", "data/counters/gfx908.toml"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_next_step(wish: str, said: str, hint: str) -> None:
    if not said:
        assert plan(wish, "gfx908").counters == ("TCC_HIT",)
        return
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        plan(wish, "gfx908")
    assert hint in caught.value.hint


def test_none_needs_no_gpu_and_others_need_one_that_is_known() -> None:
    assert plan("none", "").passes == ()
    with pytest.raises(UnknownGpu, match="gfx1100"):
        plan("standard", "gfx1100")


def test_only_rocprofv3_of_rocm_7_takes_turns() -> None:
    assert rotates("rocprofv3", "1.0.0") and rotates("rocprofv3", "1.3")
    assert (
        not rotates("rocprofv3", "") and not rotates("rocprofv3", "0.6.0") and not rotates("rocprof", "2.0.6")
    )


@pytest.mark.captures
def test_every_pass_of_real_mi100_inputs_is_one_that_fits(captures: Path) -> None:
    data = counter_data.of("gfx908")
    read = 0
    for path in sorted((captures / "omniperf/vcopy/MI100/perfmon").glob("*.txt")):
        line = re.search(r"^pmc:(.*)$", path.read_text(), re.MULTILINE)
        names = [re.sub(r"_sum$", "", word) for word in (line[1].split() if line else [])]
        if not names or "[" in line[1]:
            continue
        read += 1
        assert set(names) <= set(data.block_of), set(names) - set(data.block_of)
        assert not over(names, data), path.name
        for name in {name for name in names if not LEVEL.fullmatch(name) and name != ACCUMULATE}:
            assert data.block_of[name] == block(name)
    assert read > 10


def test_a_bad_file_is_named() -> None:
    good = 'arch = "gfx1"\nsource = "a test of ours"\n[levels]\nfull = ["A_B"]\n'
    good += '[block.A]\nlimit = 2\nnames = ["A_B"]\n'
    assert counter_data.parse(good, "x.toml").block_of == {"A_B": "A"}
    for broken, said in (
        (good.replace('full = ["A_B"]', 'full = ["A_C"]'), "levels.full: A_C is in no block"),
        (good + "[derived]\nX = ['Q']\n", "derived.X: Q"),
        (good + "surprise = 1\n", "surprise"),
        (good.replace("limit = 2", "limit = 0"), "limit"),
        ("=", "x.toml"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            counter_data.parse(broken, "x.toml")
