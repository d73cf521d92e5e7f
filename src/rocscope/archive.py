"""One file to send: a capture folder in a ``.tar.gz`` or ``.zip`` that says nothing of who packed it."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from rocscope.capture import Capture
from rocscope.errors import UsageError

SUFFIXES: Final = (".tar.gz", ".tgz", ".zip")


def check_name(target: Path) -> None:
    """Raise :class:`UsageError` unless the name says which kind of archive it shall be."""
    if not target.name.endswith(SUFFIXES):
        raise UsageError(
            f"{target}: not a name for an archive", "end it in .tar.gz or .zip, for example -o capture.tar.gz"
        )


def pack(capture: Capture, target: Path, *, like: Path | None = None) -> None:
    """Write ``capture`` as an archive named ``target``, with one folder inside: its tables and manifest.

    The suffix of ``like``, or else of ``target``, says which kind. Neither owner nor time nor local path
    is recorded. Raises :class:`UsageError` for an unknown suffix.
    """
    named = like or target
    check_name(named)
    with tempfile.TemporaryDirectory(prefix="rocscope-share-") as scratch:
        folder = capture.save(Path(scratch) / "capture")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if named.name.endswith(".zip"):
            _zip(folder, files, target)
        else:
            _tar(folder, files, target)


def _tar(folder: Path, files: list[Path], target: Path) -> None:
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            entry = tarfile.TarInfo(f"capture/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def _zip(folder: Path, files: list[Path], target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            entry = zipfile.ZipInfo(f"capture/{path.relative_to(folder).as_posix()}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with path.open("rb") as stream, packed.open(entry, "w") as out:
                while chunk := stream.read(1 << 20):
                    out.write(chunk)
