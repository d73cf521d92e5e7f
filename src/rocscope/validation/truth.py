"""What ``data/programs/known_kernels.py`` prints: kernels of which everything is known beforehand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import rocscope.data
from rocscope import hardware
from rocscope.errors import InputError

PROGRAM: Final = Path(rocscope.data.__file__).parent / "programs" / "known_kernels.py"
MOST_BYTES: Final = 1 << 20  # of one file
_Sides = tuple[int, int, int]


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may say more


class Device(_Data):
    """The card as torch sees it."""

    index: int = 0
    count: int = Field(default=1, ge=1)
    name: str
    arch: str
    compute_units: int = Field(gt=0)
    memory_bytes: int = Field(gt=0)
    wave_size: int = Field(gt=0)

    def spec(self) -> hardware.GpuSpec | None:
        """Return its model in the GPU table; ``None`` where it is not there."""
        return hardware.identify(
            arch=self.arch.partition(":")[0],
            name=self.name,
            compute_units=self.compute_units,
            memory_bytes=self.memory_bytes,
        )


class KnownKernel(_Data):
    """One kernel, and what must be true of each launch. ``None`` where it is not known."""

    case: str
    pattern: str  # that the whole name matches
    launches: int = Field(gt=0)
    launches_exact: bool = True  # False: the library may launch more kernels of such a name
    timed_launches: int = Field(gt=0)  # the last of all
    programs: _Sides | None = None  # workgroups along x, y, z
    workgroup: _Sides | None = None  # work-items
    read_least_bytes: int | None = None  # touched once, in a cache or beyond
    read_most_bytes: int | None = None  # asked for, were there no cache
    write_least_bytes: int | None = None
    write_most_bytes: int | None = None
    flops: int | None = None
    flops_unit: str | None = None
    event_ns: float = Field(gt=0, allow_inf_nan=False)  # a launch, by the GPU's events around several
    event_least_ns: float = Field(gt=0, allow_inf_nan=False)
    event_most_ns: float = Field(gt=0, allow_inf_nan=False)
    queued: bool = False  # launched without gaps; else the events include waiting for the host
    result_error_frac: float | None = None  # largest error, as a share of the largest value

    @property
    def grid(self) -> _Sides | None:
        """Work-items along x, y, z."""
        if self.programs is None or self.workgroup is None:
            return None
        x, y, z = (count * size for count, size in zip(self.programs, self.workgroup, strict=True))
        return x, y, z

    def waves(self, wave_size: int) -> int | None:
        """Return how many waves a launch has: those of a workgroup are rounded up."""
        if self.programs is None or self.workgroup is None:
            return None
        return math.prod(self.programs) * math.ceil(math.prod(self.workgroup) / wave_size)

    @property
    def streams(self) -> bool:
        """Whether each byte is read once and written once, as by a copy."""
        return (
            self.flops == 0 and bool(self.read_least_bytes) and self.read_least_bytes == self.read_most_bytes
        )


class EnergyWindow(_Data):
    """When the GPU was kept busy, ns since boot."""

    start_boottime_ns: int
    end_boottime_ns: int


class Truth(_Data):
    """What one run of the program printed."""

    schema_version: Literal["1"]
    pid: int
    start_boottime_ns: int = 0
    device: Device
    software: dict[str, str | None] = Field(default_factory=dict)
    kernels: list[KnownKernel] = Field(default_factory=list)
    left_out: dict[str, str] = Field(default_factory=dict)  # cases that could not be run, and why
    energy: EnergyWindow | None = None

    def kernel(self, case: str) -> KnownKernel | None:
        """Return the kernel of that case."""
        return next((each for each in self.kernels if each.case == case), None)


def parse(text: str, where: str) -> Truth:
    """Check what the program printed. Raises :class:`InputError` that names the field at fault."""
    hint = "run `rocscope doctor --validate` again; the program's messages are above"
    try:
        raw: Any = json.loads(text)
        return Truth.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{where}: {field}: {first['msg'].lower()}", hint) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON ({error})", hint) from error


def collect(folder: Path) -> dict[int, Truth]:
    """Read what the runs of one trial wrote into ``folder``, by process. Raises :class:`InputError`."""
    found: dict[int, Truth] = {}
    for path in sorted(folder.glob("*.json")):
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(f"{path}: too large for what known kernels print", "run it again")
        truth = parse(data.decode("utf-8", "replace"), str(path))
        found[truth.pid] = truth
    return found
