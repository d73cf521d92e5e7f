"""One file to send: a capture folder in a ``.tar.gz`` or ``.zip`` that says nothing of who packed it.

An archive that was received is untrusted: only the files of a capture are taken out of it, by their own names
into a folder of ours, and no more of them than an archive of its size can honestly hold.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from rocscope import tables
from rocscope.capture import MANIFEST, Capture, is_capture
from rocscope.errors import DamagedInput, InputError, UsageError

SUFFIXES: Final = (".tar.gz", ".tgz", ".zip")
_FILES: Final = (MANIFEST, *(f"{name}.parquet" for name in tables.SCHEMAS))
_MAX_GROWTH: Final = 200  # Parquet is packed already, a manifest shrinks to a tenth; more is a bomb
_FREE_BYTES: Final = 1 << 20  # what an archive of any size may hold


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
    with tempfile.TemporaryDirectory(prefix="rocscope-share-") as scratch:
        pack_folder(capture.save(Path(scratch) / "capture"), target, like=like)


def pack_folder(folder: Path, target: Path, *, like: Path | None = None) -> None:
    """Write all files of ``folder``, below its own name, as an archive named ``target``; see :func:`pack`."""
    named = like or target
    check_name(named)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if named.name.endswith(".zip"):
        _zip(folder, files, target)
    else:
        _tar(folder, files, target)


def unpack(archive: Path) -> Capture | None:
    """Load the capture in an archive that :func:`pack` made; ``None`` where ``archive`` holds no capture.

    Raises :class:`DamagedInput` for an archive cut short and :class:`InputError` for one that unpacks to
    more than it can honestly hold.
    """
    left = archive.stat().st_size * _MAX_GROWTH + _FREE_BYTES
    with tempfile.TemporaryDirectory(prefix="rocscope-shared-") as scratch:
        folder = Path(scratch) / "capture"
        folder.mkdir()
        try:
            for name, stream in _members(archive):
                with (folder / name).open("xb") as out:
                    while chunk := stream.read(1 << 20):
                        left -= len(chunk)
                        if left < 0:
                            raise InputError(f"{archive}: unpacks to too much", "unpack it by hand")
                        out.write(chunk)
        except FileExistsError:
            raise InputError(f"{archive}: holds more than one capture", "unpack it, and name one") from None
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            if not any(folder.iterdir()):
                return None
            raise DamagedInput(f"{archive}: damaged archive ({error})", "copy the file again") from error
        return Capture.load(folder) if is_capture(folder) else None


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Give the files of a capture in ``archive``, by name and one after the other; nothing else of it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if PurePosixPath(entry.filename).name in _FILES and not entry.is_dir():
                    with packed.open(entry) as stream:
                        yield PurePosixPath(entry.filename).name, stream
        return
    with tarfile.open(archive, mode="r|gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            if member.isreg() and name in _FILES:
                content = tar.extractfile(member)
                if content is not None:
                    yield name, content


def _tar(folder: Path, files: list[Path], target: Path) -> None:
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def _zip(folder: Path, files: list[Path], target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with path.open("rb") as stream, packed.open(entry, "w") as out:
                while chunk := stream.read(1 << 20):
                    out.write(chunk)
