"""Build hook: put the smallest chart library that suffices into the package, where npm can fetch it.

PyPI's plotly carries the whole of plotly.js, 4.8 MB in every report; npm has the part for lines and bars,
1.2 MB. It is fetched at the pinned version, taken only if its hash is the pinned one, and kept out of git.
Without npm, without a network, or with another hash the build says so in one line and goes on: reports then
carry PyPI's, and are larger.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "plotly.js-basic-dist-min"
VERSION = "4.1.1"
INTEGRITY = "sha512-1oNF8PeQx2hv/y7tqEVWKD3JGwn/MGEMQ8mL9HUwsaqG9FGy/OU5FHUHvzqbqxN4mnwZGI9abTiE775C4kkjMQ=="
MEMBER = "package/plotly-basic.min.js"
SCRIPT_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
TARGET = Path("src/rocscope/reports/library/plotly-basic.min.js")
DEADLINE_S = 60
SWITCH = "ROCSCOPE_BUILD_OFFLINE"  # set, nothing is fetched


class Unavailable(Exception):
    """Why the library could not be had."""


class Hook(BuildHookInterface[Any]):
    """Fetches the library before a wheel is made or the package is installed from its sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the library, or say in one line why the build goes on without."""
        try:
            fetch(Path(self.root) / TARGET)
        except Unavailable as why:
            self.app.display_warning(f"reports will carry the whole of plotly.js (4.8 MB): {why}")


def fetch(target: Path) -> bool:
    """Put the script at ``target`` unless it is there already. Returns whether it was fetched.

    Raises :class:`Unavailable`; ``target`` is then as it was, or gone if it was not what is pinned.
    """
    if target.is_file():
        if hashlib.sha256(target.read_bytes()).hexdigest() == SCRIPT_SHA256:
            return False
        target.unlink()
    if os.environ.get(SWITCH):
        raise Unavailable(f"{SWITCH} is set")
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    with tempfile.TemporaryDirectory() as place:
        script = _script(_packed(npm, Path(place)))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        partial.write_bytes(script)
        partial.replace(target)
    return True


def _packed(npm: str, place: Path) -> Path:
    """Let npm fetch the package from the registry that it is set up for."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(place)]
    try:
        done = subprocess.run(
            command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"npm pack did not end well ({type(error).__name__})") from error
    found = sorted(place.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        raise Unavailable(f"npm pack {PACKAGE}@{VERSION} failed, code {done.returncode}")
    return found[0]


def _script(archive: Path) -> bytes:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise Unavailable(f"the hash of {PACKAGE}@{VERSION} is not the pinned one")
    with tarfile.open(archive) as packed:
        member = packed.extractfile(MEMBER)
        if member is None:
            raise Unavailable(f"{PACKAGE}@{VERSION} holds no {MEMBER}")
        return member.read()
