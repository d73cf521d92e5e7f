"""Settings as the TOML that they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rocscope.daemon.settings import Settings


def as_toml(settings: Settings) -> str:
    """Write settings as the TOML that :func:`rocscope.daemon.settings.load` reads back to the same."""
    return "\n".join(_lines(settings.model_dump(mode="json"), ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], at: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not _is_table(value) and value is not None}
    lines = ["", f"[{'.'.join(at)}]"] if at and (plain or not table) else []
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*at, key))
        elif _is_table(value):
            for each in value:
                body = {name: part for name, part in each.items() if part is not None}
                lines += ["", f"[[{'.'.join((*at, key))}]]"]
                lines += [f"{name} = {_value(part)}" for name, part in body.items()]
    return lines


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    escaped = "".join(
        c
        if c.isprintable() and c not in '"\\'
        else f"\\u{ord(c):04x}"
        if ord(c) < 0x10000
        else f"\\U{ord(c):08x}"
        for c in str(value)
    )
    return f'"{escaped}"'
