"""What the package carries for those who watch many daemons: Grafana dashboards and Prometheus rules."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rocscope.errors import InputError, UsageError
from rocscope.exports.target import replacing

Kind = Literal["dashboards", "rules"]
Outcome = Literal["written", "replaced", "unchanged"]
_WHERE: Final[dict[Kind, tuple[str, str]]] = {
    "dashboards": ("dashboards", ".json"),
    "rules": ("alerts", ".rules.yml"),
}


class Written(NamedTuple):
    """A file that was asked for, and what became of it."""

    path: Path
    outcome: Outcome


def texts(kind: Kind) -> dict[str, str]:
    """Return the files of a kind by name."""
    folder, ending = _WHERE[kind]
    found = (files("rocscope") / "data" / folder).iterdir()
    named = {each.name: each for each in found if each.name.endswith(ending)}
    return {name: named[name].read_text(encoding="utf-8") for name in sorted(named)}


def write(kind: Kind, folder: Path, *, force: bool = False) -> list[Written]:
    """Write the files of a kind into ``folder``, which is made; each is there whole or not at all.

    One that is there with the same text is left alone. Raises :class:`UsageError`, before anything is
    written, where one is there with another text and ``force`` is not set, or where something else has its
    name; :class:`InputError` where the folder cannot be used.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "name a folder: files of several names are written")
    wanted = texts(kind)
    outcomes = {name: _outcome(folder / name, text) for name, text in wanted.items()}
    differing = [name for name, outcome in outcomes.items() if outcome == "replaced"]
    if differing and not force:
        raise UsageError(
            f"{', '.join(str(folder / name) for name in differing)}: there with other content",
            "compare it with what another folder gets, or replace it with --force",
        )
    for name, outcome in outcomes.items():
        if outcome != "unchanged":
            _replace(folder / name, wanted[name])
    return [Written(folder / name, outcome) for name, outcome in outcomes.items()]


def _replace(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    except InputError as error:  # it speaks of an option that this command has not
        raise InputError(error.message, "name another folder, or have it made writable") from error


def _outcome(path: Path, text: str) -> Outcome:
    """Tell what writing ``text`` to ``path`` would do."""
    try:
        if not os.path.lexists(path):
            return "written"
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "name another place, or move it away")
        return "unchanged" if path.read_bytes() == text.encode() else "replaced"
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error})", "name another place, or move it away"
        ) from error
