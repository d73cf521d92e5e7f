"""How large a dropped file is once it is unpacked, told before anything is made of it.

Gzip is unpacked in a stream to nowhere and counted; zip archives say how large their members are, and are
counted likewise. Both limits hold for all files of a drop together: so many bytes, and so many times the
packed size. Runs in a confined child.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from rocscope.errors import DamagedInput, InputError

CHUNK: Final = 1 << 20
FREE_BYTES: Final = 1 << 20  # that any file may unpack to
GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"


def check(source: Path, most_bytes: int, most_ratio: float) -> int:
    """Return the bytes of a file, or of a folder's files, unpacked.

    Raises :class:`InputError` where they are too many, and :class:`DamagedInput` for a file that breaks off.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    packed = unpacked = 0
    for path in files:
        packed += path.stat().st_size
        for part in _parts(path):
            unpacked += part
            if unpacked > min(most_bytes, packed * most_ratio + FREE_BYTES):
                raise InputError(
                    f"{path.name} unpacks to more than {unpacked >> 20} MiB, from {packed >> 10} KiB", ""
                )
    return unpacked


def _parts(path: Path) -> Iterator[int]:
    """Give the sizes of what a file unpacks to, piece by piece."""
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        try:
            if head.startswith(GZIP):
                with gzip.open(stream) as inflated:
                    yield from _read(inflated)
            elif head == ZIP:
                with zipfile.ZipFile(stream) as archive:
                    for entry in archive.infolist():
                        with archive.open(entry) as member:
                            yield from _read(member)
            else:
                yield path.stat().st_size
        except (
            EOFError,
            OSError,
            zlib.error,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DamagedInput(f"{path.name}: damaged, or cut short ({error})", "drop it again") from error


def _read(stream: IO[bytes] | gzip.GzipFile) -> Iterator[int]:
    while part := stream.read(CHUNK):
        yield len(part)
