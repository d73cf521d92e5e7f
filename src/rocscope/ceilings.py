"""Ceilings measured on a card by ``rocscope doctor --measure``, held against its datasheet.

A figure well above the datasheet is a fault of the measurement, and one far below it of the program that
measured, which did not reach the unit: both are kept apart (``refused``) and used for nothing. Bandwidth
counts only where what is moved does not fit the caches.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rocscope import hardware
from rocscope.errors import InputError
from rocscope.hardware import Ceilings, Figure, GpuSpec

SCHEMA_VERSION: Final = "1"
MOST_ABOVE: Final = 1.05  # times the datasheet: clocks and rounding, no more
LEAST: Final = 0.4  # times the datasheet: products reach half of it on cards whose power runs out
UNPACKED: Final = 0.6  # of the gain that packed 16-bit arithmetic has by datasheet: less, and it was not used
CACHES_AWAY: Final = 4  # a copy counts as memory's if it moves so many times what the caches hold
LIKELY_CACHES_BYTES: Final = 256 << 20  # of a card that is not in the table: the largest known
_ARCH: Final = re.compile(r"(gfx[0-9a-f]{3,5}|sm_\d{2,3})\b")
_HEX_OF_HEX: Final = re.compile(r"(?:3[0-9]|6[1-6]){16}")  # sixteen hexadecimal digits as ASCII

Positive = Field(gt=0, allow_inf_nan=False)
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may say more


class Device(_Data):
    """The card as torch sees it."""

    index: int = 0
    count: int = Field(default=1, ge=1)  # of cards that torch sees
    name: str
    arch: str
    uuid: str | None = None
    compute_units: int = Field(gt=0)
    memory_bytes: int = Field(gt=0)


class Rate(_Data):
    """Bytes a second of one size."""

    size_bytes: int = Field(gt=0)
    bytes_per_s: float = Positive


class Flops(_Data):
    """FLOPs a second of one type on one pipe."""

    flops_per_s: float = Positive


class Launch(_Data):
    """Seconds a launch of an empty kernel; ``None`` where no graph could be made."""

    graph_launch_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    eager_launch_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Measurement(_Data):
    """What the program ``data/programs/ceilings.py`` prints."""

    schema_version: Literal["1"]
    device: Device
    software: dict[str, str | None] = Field(default_factory=dict)
    repeats: int = Field(default=1, ge=1)
    copy_: list[Rate] = Field(alias="copy", min_length=1)
    read: Rate | None = None
    flops: dict[str, Flops] = Field(default_factory=dict)
    launch: Launch = Launch()
    errors: dict[str, str] = Field(default_factory=dict)  # what could not be measured, and why


class Refused(_Data):
    """A figure that is no ceiling."""

    figure: str  # "bandwidth_bytes_per_s", "matrix_fp16"
    value: float
    datasheet: float
    why: str


class CardCeilings(_Data):
    """What is stored of one card, and what a capture carries of the cards that it was recorded on."""

    schema_version: Literal["1"] = "1"
    measured_at: str | None = None  # ISO 8601
    name: str
    arch: str
    uuid: str = ""  # in no capture: it tells one card from all others
    compute_units: int | None = None
    memory_bytes: int | None = None
    model: str | None = None  # in the GPU table; None: not there
    software: dict[str, str | None] = Field(default_factory=dict)
    tool: Literal["", "AMD's roofline benchmark"] = ""  # that measured it; "": our own
    bandwidth_bytes_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    bandwidth_of: str = ""  # "a read of 4 GiB"
    l2_bandwidth_bytes_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    flops_per_s: dict[str, float] = Field(default_factory=dict)
    launch_floor_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    refused: list[Refused] = Field(default_factory=list)
    errors: dict[str, str] = Field(default_factory=dict)

    @field_validator("flops_per_s")
    @classmethod
    def _rates(cls, value: dict[str, float]) -> dict[str, float]:
        if not all(0 < rate < float("inf") for rate in value.values()):
            raise ValueError("a rate has to be above 0")
        return value

    @field_validator("measured_at")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.fromisoformat(value)
        return value

    def source(self, *, same_card: bool) -> str:
        """Say where these figures come from, for a report."""
        when = f"on {self.measured_at[:10]}" if self.measured_at else "at a time not recorded"
        which = "this card" if same_card else "a card of this model"
        return f"measured on {which} {when} by {self.tool or 'rocscope doctor --measure'}"

    def spec(self) -> GpuSpec | None:
        """Return this card's model in the GPU table."""
        names = (self.model or "").split(hardware.OR)
        return next((each for each in hardware.specs() if each.name in names), None)


class RecordedCeilings(_Data):
    """The ceilings of one GPU of a capture."""

    gpu: int
    same_card: bool  # False: of another card of its model, on the machine of the recording
    ceilings: CardCeilings


def anonymous(recorded: list[RecordedCeilings] | None) -> list[RecordedCeilings] | None:
    """Return ceilings fit to share: figures of models in the GPU table, and the day; no text of a machine."""
    if recorded is None:
        return None
    known = ((each, spec) for each in recorded if (spec := each.ceilings.spec()) is not None)
    return [
        RecordedCeilings(
            gpu=each.gpu,
            same_card=each.same_card,
            ceilings=CardCeilings(
                measured_at=each.ceilings.measured_at and each.ceilings.measured_at[:10],
                name=spec.name,
                arch=spec.arch,
                model=spec.name,
                tool=each.ceilings.tool,
                bandwidth_bytes_per_s=each.ceilings.bandwidth_bytes_per_s,
                l2_bandwidth_bytes_per_s=each.ceilings.l2_bandwidth_bytes_per_s,
                flops_per_s={
                    unit: rate
                    for unit, rate in each.ceilings.flops_per_s.items()
                    if unit in spec.datasheet.flops_per_s
                },
                launch_floor_s=each.ceilings.launch_floor_s,
            ),
        )
        for each, spec in known
    ]


def measurement(raw: Any) -> Measurement:
    """Check what the program printed. Raises :class:`InputError` that names the field at fault."""
    return _checked(Measurement, raw, "what the measurement printed", "run `rocscope doctor --measure` again")


def card(raw: Any, where: str) -> CardCeilings:
    """Check stored ceilings, or make them of a program's output. Raises :class:`InputError`."""
    if isinstance(raw, dict) and "copy" in raw:
        return judge(measurement(raw))
    return _checked(CardCeilings, raw, where, "measure again with `rocscope doctor --measure`")


def judge(measured: Measurement, *, measured_at: str | None = None) -> CardCeilings:
    """Choose what of a measurement is a ceiling, and refuse what is none."""
    device = measured.device
    arch = found[1] if (found := _ARCH.search(device.arch)) else ""
    spec = hardware.identify(
        arch=arch, name=device.name, compute_units=device.compute_units, memory_bytes=device.memory_bytes
    )
    bandwidth, of = _bandwidth(measured, spec)
    rates = {unit: each.flops_per_s for unit, each in measured.flops.items()}
    refused = not_ceilings(spec, bandwidth, rates) if spec else []
    named = {each.figure for each in refused}
    if "bandwidth_bytes_per_s" in named:
        bandwidth, of = None, ""
    return CardCeilings(
        measured_at=measured_at,
        name=device.name,
        arch=arch or (spec.arch if spec else ""),
        uuid=normal_uuid(device.uuid),
        compute_units=device.compute_units,
        memory_bytes=device.memory_bytes,
        model=spec.name if spec else None,
        software=measured.software,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_of=of,
        flops_per_s={unit: rate for unit, rate in rates.items() if unit not in named},
        launch_floor_s=measured.launch.graph_launch_s,
        refused=refused,
        errors=measured.errors,
    )


def not_ceilings(spec: GpuSpec, bandwidth: float | None, rates: dict[str, float]) -> list[Refused]:
    """Return what of ``rates`` (FLOPs a second by unit) and of a bandwidth is no ceiling of this card."""
    peaks = dict(spec.datasheet.flops_per_s)
    found = {**rates, **({"bandwidth_bytes_per_s": bandwidth} if bandwidth else {})}
    if spec.datasheet.bandwidth_bytes_per_s:
        peaks["bandwidth_bytes_per_s"] = spec.datasheet.bandwidth_bytes_per_s
    refused = []
    for figure, value in found.items():
        peak = peaks.get(figure)
        if peak is None:
            continue
        why = ""
        if value > MOST_ABOVE * peak.value:
            why = "above the datasheet, so the measurement is at fault"
        elif value < LEAST * peak.value or (figure == "vector_fp16" and _unpacked(rates, peaks)):
            why = "so far below the datasheet that the program did not reach what the card can do"
        if why:
            refused.append(Refused(figure=figure, value=value, datasheet=peak.value, why=why))
    return refused


def _unpacked(rates: dict[str, float], peaks: dict[str, Figure]) -> bool:
    """Tell whether 16-bit arithmetic ran one value at a time, at the rate of 32-bit."""
    if "vector_fp32" not in rates or "vector_fp32" not in peaks:
        return False
    gain = rates["vector_fp16"] / rates["vector_fp32"]
    return gain < UNPACKED * peaks["vector_fp16"].value / peaks["vector_fp32"].value


def _bandwidth(measured: Measurement, spec: GpuSpec | None) -> tuple[float | None, str]:
    """Return the highest rate of what the caches cannot have served, and of what it is."""
    caches = spec.l2_bytes + spec.memory_side_cache_bytes if spec else LIKELY_CACHES_BYTES
    rates = [(each, "a copy", 2 * each.size_bytes) for each in measured.copy_]
    if measured.read is not None:
        rates.append((measured.read, "a read", measured.read.size_bytes))
    beyond = [
        (each.bytes_per_s, f"{what} of {_size(each)}")
        for each, what, moved in rates
        if moved >= CACHES_AWAY * caches
    ]
    return max(beyond, default=(None, ""))


def _size(rate: Rate) -> str:
    return f"{rate.size_bytes / (1 << 30):.3g} GiB"


def normal_uuid(text: str | None) -> str:
    """Return a card's id in one form: hexadecimal digits; ``""`` where it has none.

    NVIDIA's tools write ``GPU-8f2b…`` and torch the same without ``GPU-``. HIP gives the sixteen digits of
    AMD's unique id as text in sixteen bytes, which torch writes as the hexadecimal of each.
    """
    digits = re.sub(r"[^0-9a-f]", "", (text or "").lower().removeprefix("gpu-"))
    if _HEX_OF_HEX.fullmatch(digits):
        digits = bytes.fromhex(digits).decode("ascii")
    return digits if digits.strip("0") else ""


def applied(spec: GpuSpec, measured: CardCeilings, *, same_card: bool) -> GpuSpec:
    """Return ``spec`` with measured figures in place of published ones; what was not measured stays.

    Of rates only those count that the datasheet has too: the others are of no pipe of this card.
    """
    said = measured.source(same_card=same_card)
    published = spec.achievable
    rates = {
        unit: Figure(value=rate, source=said)
        for unit, rate in measured.flops_per_s.items()
        if unit in spec.datasheet.flops_per_s
    }
    bandwidth = published.bandwidth_bytes_per_s
    if measured.bandwidth_bytes_per_s:
        of = f" ({measured.bandwidth_of})" if measured.bandwidth_of else ""
        bandwidth = Figure(value=measured.bandwidth_bytes_per_s, source=said + of)
    l2 = published.l2_bandwidth_bytes_per_s
    if measured.l2_bandwidth_bytes_per_s:
        l2 = Figure(value=measured.l2_bandwidth_bytes_per_s, source=said)
    floor = spec.launch_floor_s
    if measured.launch_floor_s:
        floor = Figure(value=measured.launch_floor_s, source=f"{said} (empty kernels in a graph)")
    achievable = Ceilings(
        bandwidth_bytes_per_s=bandwidth,
        l2_bandwidth_bytes_per_s=l2,
        link_bandwidth_bytes_per_s=published.link_bandwidth_bytes_per_s,
        flops_per_s={**published.flops_per_s, **rates},
    )
    return spec.model_copy(update={"achievable": achievable, "launch_floor_s": floor})


def _checked(kind: type[_Kind], raw: Any, where: str, hint: str) -> _Kind:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{where}: {field}: {first['msg'].lower()}", hint) from error
