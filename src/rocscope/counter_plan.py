"""Counter plans: which counters are taken in which run, so that no block of the GPU is asked for too many.

Pure: from names, an architecture and a tool to passes. The same wish gives the same plan, whatever the
order it is written in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rocscope import counter_data
from rocscope.counter_data import ACCUMULATE, Counters
from rocscope.errors import UsageError

NONE: Final = "none"
LEVELS: Final = (NONE, "bandwidth", "standard", "full")
V3: Final = "rocprofv3"
ROTATES_SINCE: Final = (1, 0)  # rocprofv3 of ROCm 7.0, which has pmc_groups
SLOWER: Final = 9  # a run under counters took nine times as long as one without (MI100, a server's kernels)
_SHOWN: Final = 6  # names in a note
_LEVEL: Final = re.compile(r"SQ_\w*LEVEL\w*")
_SUM: Final = re.compile(r"_(?:sum|avr|max|min)$")
_INSTANCE: Final = re.compile(r"\[\d+\]$")


@dataclass(frozen=True)
class CounterPass:
    """What is counted in one run."""

    counters: tuple[str, ...]  # raw names; a level directly before what adds it up
    why: str = ""  # which ratios it serves
    defined: bool = False  # the tool knows some of them only by a definition file

    @property
    def level(self) -> str:
        """The counter that the accumulator adds up here, ``""`` where there is none."""
        if ACCUMULATE not in self.counters:
            return ""
        return self.counters[self.counters.index(ACCUMULATE) - 1]


@dataclass(frozen=True)
class CounterPlan:
    """All passes for one wish."""

    wish: str
    arch: str
    passes: tuple[CounterPass, ...]
    notes: tuple[str, ...] = ()  # what the user has to know: left out, not kept together, defined by us

    @property
    def counters(self) -> tuple[str, ...]:
        """Every counter of every pass."""
        return tuple(name for each in self.passes for name in each.counters)


@dataclass(frozen=True)
class _Unit:
    """Counters that stay together."""

    counters: tuple[str, ...]
    why: tuple[str, ...]
    lane: int  # 1 where a definition file is needed: these passes may fail where others do not


def plan(wish: str, arch: str, *, tool: str = V3, version: str = "") -> CounterPlan:
    """Plan ``wish``, a level of :data:`LEVELS` or counters separated by commas, raw or derived.

    ``tool`` is the backend's name, ``version`` what it says of itself (``""``: unknown, so old). Raises
    :class:`UsageError` for a counter that is not known or cannot be taken with this tool, and
    :class:`rocscope.errors.UnknownGpu`.
    """
    if wish == NONE:
        return CounterPlan(wish, arch, ())
    data = counter_data.of(arch)
    wanted, asked = expand(wish, data)
    usable, notes = _usable(wanted, tool, strict=wish not in LEVELS)
    defined = {name for name in usable if needs_definition(name, data, tool, version)}
    lanes = {name: int(name in defined and tool == V3) for name in usable}
    groups = [(each.why, each.counters) for each in data.group] + list(asked.items())
    units, apart = _units(usable, groups, lanes, data)
    passes = tuple(
        CounterPass(
            _in_order((name for unit in one for name in unit.counters), data),
            "; ".join(dict.fromkeys(why for unit in one for why in unit.why)),
            any(name in defined for unit in one for name in unit.counters),
        )
        for one in _pack(units, data, {name: place for place, name in enumerate(wanted)})
    )
    if defined:
        notes.append(_about_definitions(defined, data, tool, version))
    return CounterPlan(wish, data.arch, passes, (*notes, *apart))


def expand(wish: str, data: Counters) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return the raw counters of a wish, each once, and what each derived counter in it needs.

    Raises :class:`UsageError` that names what is not known.
    """
    if wish in data.levels:
        return list(data.levels[wish]), {}
    raw = {name.lower(): name for name in data.block_of}
    derived = {name.lower(): name for name in data.derived}
    wanted: dict[str, None] = {}
    asked: dict[str, tuple[str, ...]] = {}
    for word in (part.strip() for part in wish.split(",")):
        if not word:
            continue
        if _INSTANCE.search(word):
            raise UsageError(
                f"--counters {word}: single instances are not planned",
                f"ask for {_INSTANCE.sub('', word)}, which is the sum over all of them",
            )
        plain = word.lower() if word.lower() in raw else _SUM.sub("", word.lower())
        if plain in raw:
            wanted[raw[plain]] = None
        elif word.lower() in derived:
            name = derived[word.lower()]
            asked[name] = data.derived[name]
            wanted |= dict.fromkeys(data.derived[name])
        else:
            raise _unknown(word, data)
    if not wanted:
        raise UsageError("--counters: no counter named", f"choose {', '.join(LEVELS)}, or name counters")
    _check_accumulator(wanted)
    place = {name: at for at, name in enumerate(data.block_of)}
    return sorted(wanted, key=lambda name: place[name]), asked


def _unknown(word: str, data: Counters) -> UsageError:
    known = [*LEVELS, *data.derived, *data.block_of]
    by_case = {name.lower(): name for name in known}
    close = [by_case[name] for name in difflib.get_close_matches(word.lower(), by_case, 3)]
    return UsageError(
        f"--counters {word}: no counter of {data.arch} is called so",
        f"did you mean {' or '.join(close)}?" if close else f"see data/counters/{data.arch}.toml",
    )


def _check_accumulator(wanted: Mapping[str, None]) -> None:
    levels = [name for name in wanted if _LEVEL.fullmatch(name)]
    if ACCUMULATE in wanted and len(levels) != 1:
        raise UsageError(
            f"--counters {ACCUMULATE}: it adds up one level counter, and {len(levels)} are named",
            f"name one beside it, e.g. SQ_LEVEL_WAVES,{ACCUMULATE}",
        )


def version_of(text: str) -> tuple[int, ...]:
    """Read ``1.0.0`` as ``(1, 0, 0)``; ``()`` where nothing is known."""
    return tuple(int(part) for part in re.findall(r"\d{1,6}", text)[:3])


def rotates(tool: str, version: str) -> bool:
    """Whether the tool can take several passes in one run by turns."""
    return tool == V3 and version_of(version) >= ROTATES_SINCE


def needs_definition(name: str, data: Counters, tool: str, version: str) -> bool:
    """Whether the tool has to be told what this counter is."""
    if not data.stock or name in data.stock:
        return False
    if tool == V3 and version_of(version) >= version_of(data.complete_since):
        return name in data.renamed
    return True


def _usable(wanted: Sequence[str], tool: str, *, strict: bool) -> tuple[list[str], list[str]]:
    """Leave out what the tool cannot take, and say why; where it was named that is an error."""
    reasons: dict[str, list[str]] = {}
    if tool == V3 and ACCUMULATE in wanted:
        reason = "rocprofv3 does not keep a level before what adds it up; rocprof does"
        reasons[reason] = [name for name in wanted if name == ACCUMULATE or _LEVEL.fullmatch(name)]
    if reasons and strict:
        reason, names = next(iter(reasons.items()))
        raise UsageError(
            f"--counters {', '.join(names)}: {reason}", "leave them out, or choose another --profiler"
        )
    out = {name for names in reasons.values() for name in names}
    notes = [f"left out: {_some(names)} ({reason})" for reason, names in reasons.items()]
    return [name for name in wanted if name not in out], notes


def _about_definitions(defined: Iterable[str], data: Counters, tool: str, version: str) -> str:
    names = _some(sorted(defined))
    if tool == V3:
        which = f"rocprofv3 {version}" if version else "a rocprofv3 of unknown version"
        return (
            f"{which} does not know {names} on {data.arch}: a file of ours defines them (--extra-counters; "
            "not tried on such a card so far), in launches of their own, so that its failure costs no others"
        )
    return f"{tool} does not know {names} on {data.arch}: a file of ours defines them (-m)"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _units(
    usable: Sequence[str],
    groups: Sequence[tuple[str, tuple[str, ...]]],
    lanes: Mapping[str, int],
    data: Counters,
) -> tuple[list[_Unit], list[str]]:
    """Join counters of one group, groups that share a counter too, as far as one run can hold them."""
    members: dict[str, list[str]] = {name: [name] for name in usable}
    why: dict[str, list[str]] = {name: [] for name in usable}
    apart: list[str] = []
    present = set(usable)
    level = [name for name in usable if _LEVEL.fullmatch(name)] if ACCUMULATE in present else []
    pairs = [("what a level adds up to", (*level, ACCUMULATE))] if level else []
    for reason, counters in (*pairs, *groups):
        here = [name for name in counters if name in present]
        if len(here) < 2:
            continue
        merged = list(dict.fromkeys(name for each in here for name in members[each]))
        full = over(merged, data)
        if full or len({lanes[name] for name in merged}) > 1:
            reasons = f"{full} has not the registers" if full else "some need a definition file of ours"
            apart.append(f"not in one run: {', '.join(here)} ({reason}): {reasons}")
            continue
        reasons_of = [*(each for name in here for each in why[name]), reason]
        for name in merged:
            members[name], why[name] = merged, list(dict.fromkeys(reasons_of))
    units = {_in_order(each, data) for each in members.values()}
    return [_Unit(unit, tuple(why[unit[0]]), lanes[unit[0]]) for unit in sorted(units)], apart


def _in_order(counters: Iterable[str], data: Counters) -> tuple[str, ...]:
    """Return counters in the order of the file, the level directly before what adds it up."""
    place = {name: at for at, name in enumerate(data.block_of)}
    found = sorted(counters, key=lambda name: place[name])
    if ACCUMULATE not in found:
        return tuple(found)
    last = [*(name for name in found if _LEVEL.fullmatch(name)), ACCUMULATE]
    return (*(name for name in found if name not in last), *last)


def over(counters: Iterable[str], data: Counters) -> str:
    """Return the block that has not enough registers for ``counters`` in one run, ``""`` if all have."""
    used: dict[str, int] = {}
    for name in counters:
        block = data.block_of[name]
        used[block] = used.get(block, 0) + data.cost(name)
    return next((block for block in sorted(used) if used[block] > data.block[block].limit), "")


def _pack(units: Sequence[_Unit], data: Counters, priority: Mapping[str, int]) -> list[list[_Unit]]:
    """First fit, the largest first; passes are ordered by the most wanted counter in them.

    A pass that is cut short by the user then costs what matters least.
    """

    def size(unit: _Unit) -> float:
        shares: dict[str, float] = {}
        for name in unit.counters:
            block = data.block_of[name]
            shares[block] = shares.get(block, 0.0) + data.cost(name) / data.block[block].limit
        return max(shares.values())

    bins: list[list[_Unit]] = []
    for unit in sorted(units, key=lambda each: (each.lane, -size(each), each.counters)):
        for one in bins:
            held = [name for each in one for name in each.counters]
            if one[0].lane == unit.lane and not over([*held, *unit.counters], data):
                one.append(unit)
                break
        else:
            bins.append([unit])
    return sorted(bins, key=lambda one: min(priority[name] for unit in one for name in unit.counters))
