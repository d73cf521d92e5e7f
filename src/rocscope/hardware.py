"""GPUs: what each can do by datasheet and by measurement, from ``data/gpus/*.toml``.

A GPU is added by adding one TOML there. Every figure carries its source. Datasheet peaks and achievable
ceilings are kept apart.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope.errors import InputError, UnknownGpu


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Data):
    """A number in SI units and where it comes from."""

    value: float = Field(gt=0)
    source: str = Field(min_length=8)


class Ceilings(_Data):
    """Rates that a kernel is held against. Keys of ``flops_per_s`` are unit names: ``vector_fp16``…"""

    bandwidth_bytes_per_s: Figure | None = None
    l2_bandwidth_bytes_per_s: Figure | None = None
    link_bandwidth_bytes_per_s: Figure | None = None  # to the other GPUs of the node, one direction
    flops_per_s: dict[str, Figure] = Field(default_factory=dict)


class GpuSpec(_Data):
    """One GPU model."""

    name: str  # as users say it: "MI100"
    vendor: Literal["amd", "nvidia"]
    arch: str  # "gfx908", "sm_90"
    marketing_names: tuple[str, ...]  # lower-case words in what drivers and tools call it
    not_marketing_names: tuple[str, ...] = ()  # words that make it another card: "nvl"
    aliases: tuple[str, ...] = ()  # other names --gpu accepts
    compute_units: int
    simds_per_cu: int
    wave_size: int
    waves_per_cu: int  # most that can be resident
    workgroups_per_cu: int
    vgprs_per_simd: int  # registers of one lane
    agprs_per_simd: int = 0  # separate accumulation file; 0 where there is none or it is unified
    unified_vgprs: bool = False  # architectural and accumulation registers share one file
    vgpr_granule: int
    sgprs_per_simd: int | None = None  # None where scalar registers never limit
    sgpr_granule: int = 16
    lds_bytes_per_cu: int
    lds_granule_bytes: int = 512  # a workgroup's share is rounded up to it
    lds_reserved_bytes: int = 0  # that the system takes of each workgroup's
    l2_bytes: int
    memory_side_cache_bytes: int = 0  # between the L2 and memory (Infinity Cache); 0 where there is none
    l2_channels: int | None = None
    shader_engines: int | None = None
    memory_bytes: int
    shared_memory: bool = False  # with the processor: memory_bytes is the most there may be
    clock_hz: Figure
    launch_floor_s: Figure | None = None  # shortest gap-free kernel seen without graphs
    datasheet: Ceilings
    achievable: Ceilings = Ceilings()


@cache
def specs() -> tuple[GpuSpec, ...]:
    """Return all known GPUs, by name. Raises :class:`InputError` that names file and field."""
    found = []
    for entry in sorted(resources.files("rocscope.data.gpus").iterdir(), key=lambda e: e.name):
        if not entry.name.endswith(".toml"):
            continue
        try:
            found.append(GpuSpec.model_validate(tomllib.loads(entry.read_text(encoding="utf-8"))))
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise InputError(f"data/gpus/{entry.name}: {error}") from error
    return tuple(sorted(found, key=lambda spec: spec.name))


def by_name(name: str) -> GpuSpec:
    """Return the GPU that a user named (``MI100``, ``gfx908``…). Raises :class:`UnknownGpu`."""
    wanted = name.strip().lower()
    exact = [
        s for s in specs() if wanted == s.name.lower() or wanted in (alias.lower() for alias in s.aliases)
    ]
    if not exact:
        exact = [s for s in specs() if wanted == s.arch]
    if len(exact) == 1:
        return exact[0]
    known = ", ".join(s.name for s in specs())
    if exact:
        raise UnknownGpu(f"{name} may be {' or '.join(s.name for s in exact)}", "name one of them with --gpu")
    raise UnknownGpu(
        f"no GPU called {name}", f"known are {known}; add one as a TOML in data/gpus (see CONTRIBUTING)"
    )


def identify(
    *, arch: str = "", name: str = "", compute_units: int | None = None, memory_bytes: int | None = None
) -> GpuSpec | None:
    """Return the GPU that a recording describes, or ``None`` where it cannot be told for certain.

    The architecture decides before the marketing name, which tools garble. A name that names another model is
    no match; one that names none ("AMD Radeon Graphics") leaves the rest to decide. Where the compute units
    are known they must fit, since a partition of a card has not its rates; so must memory, within 15 %, where
    the name does not decide. Models with the same figures are returned as one, called by all their names.
    """
    if not arch and not name:
        return None
    wanted = arch.split(":", maxsplit=1)[0].lower()
    candidates = [s for s in specs() if not wanted or s.arch == wanted]
    named = [s for s in candidates if _is_called(s, name.lower())]
    if named or not arch or _NAMES_A_MODEL.search(_NOT_A_MODEL.sub("", name.lower())):
        candidates = named
    if compute_units is not None:
        candidates = [s for s in candidates if _has_compute_units(s, compute_units)]
    if memory_bytes is not None and not (named and len(candidates) == 1):
        candidates = [s for s in candidates if _has_memory(s, memory_bytes)]
    if len(candidates) > 1 and all(_alike(candidates[0], each) for each in candidates[1:]):
        return candidates[0].model_copy(update={"name": OR.join(each.name for each in candidates)})
    return candidates[0] if len(candidates) == 1 else None


OR: Final = " or "
"""Between the names of models that nothing recorded tells apart, and whose figures are the same."""


def _alike(one: GpuSpec, other: GpuSpec) -> bool:
    """Whether two models have the same limits, and the same rates within 1 %."""
    rates = [
        {
            "clock": spec.clock_hz.value,
            **{name: figure.value for name, figure in spec.datasheet.flops_per_s.items()},
            **{
                name: figure.value
                for name in (
                    "bandwidth_bytes_per_s",
                    "l2_bandwidth_bytes_per_s",
                    "link_bandwidth_bytes_per_s",
                )
                if (figure := getattr(spec.datasheet, name))
            },
        }
        for spec in (one, other)
    ]
    text = {"name", "marketing_names", "not_marketing_names", "aliases", "clock_hz", "datasheet"}
    return (
        one.model_dump(exclude=text) == other.model_dump(exclude=text)
        and set(rates[0]) == set(rates[1])
        and all(abs(rates[1][name] / rate - 1) <= 0.01 for name, rate in rates[0].items())
    )


_NOT_A_MODEL: Final = re.compile(r"gfx[0-9a-f]+|sm_\d+|\d+ ?gi?b\b|hbm\d\w?|\bmi[23]00\b")  # the last: series
_NAMES_A_MODEL: Final = re.compile(r"\d\d")


def _is_called(spec: GpuSpec, name: str) -> bool:
    """Whether ``name`` holds one of the GPU's names as words, so that H200 is not found in GH200."""
    words = f" {re.sub(r'[^a-z0-9+]+', ' ', name)} "
    if any(f" {word} " in words for word in spec.not_marketing_names):
        return False
    return any(f" {re.sub(r'[^a-z0-9+]+', ' ', part)} " in words for part in spec.marketing_names)


def _has_compute_units(spec: GpuSpec, count: int) -> bool:
    """Whether ``count`` is the GPU's; HIP counts RDNA's in pairs."""
    return count == spec.compute_units or (spec.arch.startswith("gfx1") and count * 2 == spec.compute_units)


def _has_memory(spec: GpuSpec, size: int) -> bool:
    return spec.shared_memory or abs(size / spec.memory_bytes - 1) < 0.15
