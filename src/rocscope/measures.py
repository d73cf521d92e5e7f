"""Hardware counters as measures: which formula of ``data/measures/*.toml`` holds for a tool and a GPU.

A measure is a closed expression: a weighted sum of counters, over another or over constants of the GPU or
the launch. Nothing in these files is evaluated as code. A ratio is taken from counters of one run; a formula
whose counters merely count work that repeats (bytes, requests, instructions) may say ``runs = "any"``.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rocscope.errors import InputError
from rocscope.study import MEASURE_COLUMNS

OTHER_MEASURES: Final = {
    "read_bytes_per_s": "device memory read, mean over dispatches of bytes over time",
    "write_bytes_per_s": "device memory written, likewise",
    "ipc": "instructions a busy CU issues a cycle",
    "resident_waves": "mean waves on the GPU while the kernel ran",
    "busy_cus": "mean CUs that held a wave while the kernel ran",
    "dependency_wait_frac": "share of the waves' life in waiting for what they asked for, mostly memory",
    "issue_wait_frac": "share of the waves' life in which they could go on and are not let issue",
    "issuing_frac": "share of the waves' life in which they issue",
    "vmem_latency_cycles": "cycles from a vector memory instruction to its data, mean",
    "smem_latency_cycles": "likewise of scalar memory",
    "lds_latency_cycles": "likewise of the LDS",
    "fabric_read_latency_cycles": "L2 cycles from a request to memory to its data, mean",
    "valu_busy_of_window_frac": "as Omniperf's VALU utilisation: over the window in which the GPU was on",
    "resident_waves_of_window": "as Omniperf's wavefront occupancy: over the window of its own run",
}
"""Measures beside :data:`rocscope.study.MEASURE_COLUMNS`; those ``of_window`` repeat a peer, to compare."""

GPU_CONSTANTS: Final = ("compute_units", "simds_per_cu", "waves_per_cu", "shader_engines")
WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,59}")

Constant = Literal["compute_units", "simds_per_cu", "waves_per_cu", "shader_engines", "waves"]
Per = Literal[Constant, "elapsed_cycles", "duration_s"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Formula(_Data):
    """``scale * sum(counters) / sum(over) * product(times) / product(per)``, a dispatch."""

    measure: str
    counters: dict[str, float] = Field(min_length=1)  # weight of each
    over: dict[str, float] = Field(default_factory=dict)
    scale: float = 1.0
    times: tuple[Constant, ...] = ()
    per: tuple[Per, ...] = ()
    level: str = ""  # the counter that SQ_ACCUM_PREV_HIRES must have added up in that run
    runs: Literal["one", "any"] = "one"
    note: str = ""  # what a reader of the figure must know

    @field_validator("measure")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in MEASURE_COLUMNS and value not in OTHER_MEASURES:
            raise ValueError(f"no measure is called {value!r}")
        return value

    @model_validator(mode="after")
    def _sound(self) -> Formula:
        for name in (*self.counters, *self.over):
            if not WORD.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a counter")
        if self.runs == "any" and not self.note:
            raise ValueError(f"{self.measure}: a formula across runs needs a note that says why it may be")
        if "SQ_ACCUM_PREV_HIRES" in (*self.counters, *self.over) and not self.level:
            raise ValueError(f"{self.measure}: SQ_ACCUM_PREV_HIRES means nothing without its level")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The counters it needs."""
        return tuple(dict.fromkeys((*self.counters, *self.over)))

    def text(self) -> str:
        """Return the formula as a reader may check it."""
        scale = f"{self.scale:g} × " if self.scale != 1 else ""
        top = _sum(self.counters)
        top = f"({top})" if (scale or self.over or self.times or self.per) and len(self.counters) > 1 else top
        bottom = [f"({_sum(self.over)})" if len(self.over) > 1 else _sum(self.over)] if self.over else []
        bottom += [each.replace("_", " ") for each in self.per]
        times = "".join(f" × {each.replace('_', ' ')}" for each in self.times)
        under = f"({' × '.join(bottom)})" if len(bottom) > 1 else "".join(bottom)
        level = f" of {self.level}" if self.level else ""
        return f"{scale}{top}{level}{times}{f' / {under}' if under else ''}"


def _sum(weights: dict[str, float]) -> str:
    parts = []
    for name, weight in weights.items():
        sign = "- " if weight < 0 else "+ "
        factor = f"{abs(weight):g} × " if abs(weight) != 1 else ""
        parts.append(f"{sign}{factor}{name}")
    return " ".join(parts).removeprefix("+ ")


class Book(_Data):
    """One file: formulas that hold for some tools and architectures, best first."""

    order: int  # books with a lower one are asked first
    tools: tuple[str, ...] = ()  # of ``manifest.profiler``; none: any
    from_version: str = ""
    below_version: str = ""
    archs: tuple[str, ...] = ()  # ``gfx908``; none: any
    source: str = Field(min_length=8)
    formula: tuple[Formula, ...] = Field(min_length=1)

    def holds(self, tool: str, version: str, arch: str) -> bool:
        """Whether it speaks of counters that ``tool`` took on ``arch``."""
        if (self.tools and tool not in self.tools) or (self.archs and arch not in self.archs):
            return False
        if not (self.from_version or self.below_version):
            return True
        found = _version(version)
        if not found:  # a range is given for a reason: what is not known to be in it is not
            return False
        below = _version(self.below_version)
        return found >= _version(self.from_version) and (not below or found < below)


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"\D{0,3}(\d{1,6}(?:\.\d{1,6}){0,3})", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@cache
def books() -> tuple[Book, ...]:
    """Return all books in their order. Raises :class:`InputError` that names file and field."""
    found = []
    for entry in sorted(resources.files("rocscope.data.measures").iterdir(), key=lambda each: each.name):
        if entry.name.endswith(".toml"):
            found.append(parse(entry.read_text(encoding="utf-8"), f"data/measures/{entry.name}"))
    return tuple(sorted(found, key=lambda book: book.order))


def parse(text: str, name: str) -> Book:
    """Read one book. Raises :class:`InputError` that names file and field."""
    try:
        return Book.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"{name}: {error}", "see data/measures for what a formula may hold") from error


def formulas(tool: str, version: str, arch: str) -> tuple[Formula, ...]:
    """Return the formulas for counters of ``tool`` on ``arch`` (``gfx908:sramecc+`` too), best first."""
    plain = arch.split(":", maxsplit=1)[0].lower()
    return tuple(each for book in books() if book.holds(tool, version, plain) for each in book.formula)
