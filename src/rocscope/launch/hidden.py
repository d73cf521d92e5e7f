"""PATH without one program: folders of links stand in for the folders that hold it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

VENV: Final = "pyvenv.cfg"


def without(name: str, environment: Mapping[str, str], into: Path) -> tuple[str, dict[Path, Path]]:
    """Return a PATH on which ``name`` is not found, and the links (place to target) to make for it.

    A folder of PATH that holds ``name`` is replaced by ``into/N/bin``, which links to all else there. A
    Python virtual environment stays one: Python finds its packages from beside the link that started it.
    Nothing is written here. Folders that cannot be read stay as they are.
    """
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    links: dict[Path, Path] = {}
    for number, folder in enumerate(folders):
        place = Path(folder or ".").absolute()
        if not _holds(place, name):
            continue
        home = into / str(number)
        try:
            found = {home / "bin" / each.name: each for each in place.iterdir() if each.name != name}
            if (place.parent / VENV).is_file():
                found |= {home / each.name: each for each in place.parent.iterdir() if each.name != "bin"}
        except OSError:
            continue
        links |= found
        folders[number] = str(home / "bin")
    return os.pathsep.join(folders), links


def make(links: Mapping[Path, Path]) -> None:
    """Make ``links``. Raises ``OSError``."""
    for place, target in links.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def holding(name: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders of PATH that hold ``name``."""
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        if _holds(place := Path(folder or ".").absolute(), name):
            yield place


def _holds(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_file() and os.access(path, os.X_OK)
