"""Measured ceilings beside those of the datasheet and those that others published."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from rocscope.ceilings import CardCeilings
from rocscope.hardware import Figure

BANDWIDTH: Final = "bandwidth_bytes_per_s"
LAUNCH: Final = "launch_floor_s"
_BELOW: Final = 0.9  # of what others reached on this model: less, and something was in the way


class Row(BaseModel):
    """One figure of one card; ``None`` is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str
    unit: str  # "bytes/s", "FLOP/s", "s"
    measured: float | None
    used: bool  # as a ceiling from now on
    datasheet: float | None
    datasheet_frac: float | None
    published: float | None
    published_source: str | None
    note: str | None = None


def rows(card: CardCeilings) -> list[Row]:
    """Return a row for each figure that was measured, refused, or could not be measured."""
    spec = card.spec()
    # the published figures, not those of an earlier measurement
    datasheet = dict(spec.datasheet.flops_per_s) if spec else {}
    published = dict(spec.achievable.flops_per_s) if spec else {}
    if spec and spec.datasheet.bandwidth_bytes_per_s:
        datasheet[BANDWIDTH] = spec.datasheet.bandwidth_bytes_per_s
    if spec and spec.achievable.bandwidth_bytes_per_s:
        published[BANDWIDTH] = spec.achievable.bandwidth_bytes_per_s
    if spec and spec.launch_floor_s:
        published[LAUNCH] = spec.launch_floor_s
    measured: dict[str, float] = {}
    if card.bandwidth_bytes_per_s:
        measured[BANDWIDTH] = card.bandwidth_bytes_per_s
    measured |= card.flops_per_s
    if card.launch_floor_s:
        measured[LAUNCH] = card.launch_floor_s
    found = [
        _row(name, value, datasheet, published, known=spec is not None) for name, value in measured.items()
    ]
    for each in card.refused:
        row = _row(each.figure, each.value, datasheet, published, known=True)
        found.append(row.model_copy(update={"used": False, "note": each.why}))
    for name, why in card.errors.items():
        found.append(
            Row(
                figure=name,
                unit="FLOP/s" if name.startswith(("matrix_", "vector_")) else "bytes/s",
                measured=None,
                used=False,
                datasheet=_value(datasheet.get(name)),
                datasheet_frac=None,
                published=_value(published.get(name)),
                published_source=None,
                note=f"not measured: {why}",
            )
        )
    return found


def _row(
    name: str, value: float, datasheet: dict[str, Figure], published: dict[str, Figure], *, known: bool
) -> Row:
    peak, reached = _value(datasheet.get(name)), published.get(name)
    note = None
    used = known and (peak is not None or name == LAUNCH)
    if not used:
        note = (
            "not used: the datasheet has no such unit"
            if known
            else "not used: the card is not in the GPU table"
        )
    elif name != LAUNCH and reached is not None and value < _BELOW * reached.value:
        note = "well below what others measured: was the GPU busy, hot or capped?"
    unit = "bytes/s" if name == BANDWIDTH else "s" if name == LAUNCH else "FLOP/s"
    return Row(
        figure=name,
        unit=unit,
        measured=value,
        used=used,
        datasheet=peak,
        datasheet_frac=value / peak if peak else None,
        published=_value(reached),
        published_source=reached.source if reached else None,
        note=note,
    )


def _value(figure: Figure | None) -> float | None:
    return figure.value if figure else None


def readable(value: float | None, unit: str) -> str:
    """Return ``4.36 TB/s``, ``755 TFLOP/s`` or ``0.814 us``; a dash for what is not known."""
    if value is None:
        return "-"
    if unit == "s":
        return f"{value * 1e6:.3g} us"
    return f"{value / 1e12:.4g} {'TB/s' if unit == 'bytes/s' else 'TFLOP/s'}"
