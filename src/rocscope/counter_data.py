"""Hardware counters of each architecture, from ``data/counters/*.toml``: blocks, limits, groups, levels.

A block of the GPU has a few counting registers; what is asked of it beyond these cannot be counted in one
run. A GPU is added by adding a file there.
"""

from __future__ import annotations

import tomllib
from functools import cache, cached_property
from importlib import resources
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rocscope.errors import InputError, UnknownGpu

ACCUMULATE: Final = "SQ_ACCUM_PREV_HIRES"
"""Adds up, each cycle, the level counter that stands directly before it."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Block(_Data):
    """One kind of unit, and what its registers can count."""

    limit: int = Field(gt=0)  # counters in one run
    instances: int | None = Field(default=None, gt=1)  # units that rocprof adds up only where asked to
    events: dict[str, int] = Field(default_factory=dict)  # counter to the number that selects it
    names: tuple[str, ...] = ()  # counters whose numbers are not known here


class Group(_Data):
    """Counters that a ratio needs, which therefore share a run."""

    why: str = Field(min_length=3)
    counters: tuple[str, ...] = Field(min_length=2)


class Counters(_Data):
    """The counters of one architecture."""

    arch: str
    source: str = Field(min_length=8)
    stock: tuple[str, ...] = ()  # what older tools know of this GPU; none: all
    renamed: tuple[str, ...] = ()  # under another name in newer tools
    complete_since: str = ""  # the rocprofv3 (SDK version) that knows all others
    levels: dict[str, tuple[str, ...]]
    group: tuple[Group, ...] = ()
    derived: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    block: dict[str, Block]

    @model_validator(mode="after")
    def _sound(self) -> Counters:
        named = [("stock", self.stock), ("renamed", self.renamed)]
        named += [(f"levels.{name}", counters) for name, counters in self.levels.items()]
        named += [(f"derived.{name}", counters) for name, counters in self.derived.items()]
        named += [(f"the group {each.why!r}", each.counters) for each in self.group]
        for where, counters in named:
            unknown = [name for name in counters if name not in self.block_of]
            if unknown:
                raise ValueError(f"{where}: {', '.join(unknown)} is in no block")
        return self

    @cached_property
    def block_of(self) -> dict[str, str]:
        """The block of each raw counter, in the order of the file."""
        return {name: block for block, what in self.block.items() for name in (*what.events, *what.names)}

    def cost(self, counter: str) -> int:
        """Return how many registers of its block a counter takes; the accumulator is 64 bits wide."""
        return 2 if counter == ACCUMULATE else 1


@cache
def architectures() -> dict[str, Counters]:
    """Return the counters of each architecture. Raises :class:`InputError` that names file and field."""
    found = {}
    for entry in sorted(resources.files("rocscope.data.counters").iterdir(), key=lambda each: each.name):
        if entry.name.endswith(".toml"):
            each = parse(entry.read_text(encoding="utf-8"), f"data/counters/{entry.name}")
            found[each.arch] = each
    return found


def parse(text: str, name: str) -> Counters:
    """Read one file. Raises :class:`InputError` that names file and field."""
    try:
        return Counters.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"{name}: {error}", "see data/counters for what it may hold") from error


def of(arch: str) -> Counters:
    """Return the counters of ``arch`` (``gfx908:sramecc+`` too). Raises :class:`UnknownGpu`."""
    known = architectures()
    plain = arch.split(":", maxsplit=1)[0].lower()
    if plain not in known:
        raise UnknownGpu(
            f"the counter limits of {arch or 'this GPU'} are not known",
            f"known are {', '.join(known)}; add a file to data/counters, or profile with --counters none",
        )
    return known[plain]
