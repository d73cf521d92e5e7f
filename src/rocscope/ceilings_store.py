"""Where measured ceilings are kept on a machine: one JSON file a card."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rocscope.ceilings import CardCeilings, card, normal_uuid
from rocscope.errors import InputError, NotFound, PermissionMissing, RocscopeError
from rocscope.hardware import GpuSpec

VARIABLE: Final = "ROCSCOPE_CEILINGS"
MOST_BYTES: Final = 1 << 20  # of one file
_MEMORY_FRAC: Final = 0.05  # by which tools differ on the size of one card's memory


def folder(environment: Mapping[str, str]) -> Path:
    """Return where ceilings are kept: ``$ROCSCOPE_CEILINGS``, else the user's data folder."""
    if named := environment.get(VARIABLE):
        return Path(named)
    data = environment.get("XDG_DATA_HOME", "")
    base = (
        Path(data) if data.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".local/share"
    )
    return base / "rocscope" / "ceilings"


def save(measured: CardCeilings, where: Path) -> Path:
    """Write a card's ceilings, in place of earlier ones. Raises :class:`PermissionMissing`."""
    path = where / f"{key(measured)}.json"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        where.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(measured.model_dump_json(indent=1) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PermissionMissing(
            f"{error.filename or where}: {error.strerror}", "name another folder with --store"
        ) from error
    return path


def key(measured: CardCeilings) -> str:
    """Return the name under which a card is kept: its id, else what it is."""
    if measured.uuid:
        return measured.uuid
    what = f"{measured.arch} {measured.name} {measured.memory_bytes or ''}"
    return re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-") or "card"


def load(where: Path) -> tuple[list[CardCeilings], list[str]]:
    """Return all cards that are kept, and what is wrong with files that cannot be used."""
    cards: list[CardCeilings] = []
    faults: list[str] = []
    try:
        paths = sorted(where.glob("*.json"))
    except OSError as error:
        return [], [f"{where}: {error.strerror}"]
    for path in paths:
        try:
            cards.append(read(path))
        except RocscopeError as error:
            faults.append(error.message)
    return cards, faults


def read(path: Path) -> CardCeilings:
    """Read one file, of the store or what the program printed. Raises :class:`InputError` that names it."""
    try:
        if not path.is_file():  # a pipe of that name would be waited for
            raise NotFound(f"{path}: no such file", "measure with `rocscope doctor --measure`")
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"{path}: too large for the ceilings of a card", "name another file")
        raw = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: {reason}", "measure again with `rocscope doctor --measure`") from error
    return card(raw, str(path))


def find(
    cards: Sequence[CardCeilings], spec: GpuSpec, *, uuid: str = "", memory_bytes: int | None = None
) -> tuple[CardCeilings, bool] | None:
    """Return the ceilings of the card ``uuid``, else the latest of its model, and whether it is that card."""
    same = normal_uuid(uuid)
    fitting = [
        each
        for each in cards
        if each.model == spec.name
        and (
            memory_bytes is None
            or each.memory_bytes is None
            or abs(each.memory_bytes / memory_bytes - 1) <= _MEMORY_FRAC
        )
    ]
    latest = sorted(fitting, key=lambda each: (each.measured_at or "", each.uuid), reverse=True)
    own = [each for each in latest if same and each.uuid == same]
    if own:
        return own[0], True
    return (latest[0], False) if latest else None
