"""One file on its way in: its head for recognising it, its bytes for reading it, compressed or not."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from rocscope.collectors.salvage import SalvagedStream
from rocscope.errors import DamagedInput, InputError, NotFound, PermissionMissing

HEAD_BYTES: Final = 1 << 16
GZIP_MAGIC: Final = b"\x1f\x8b"
SQLITE_MAGIC: Final = b"SQLite format 3\x00"
MAX_INFLATED_BYTES: Final = 64 << 30
MAX_INFLATION: Final = 500  # a profile text shrinks 10 to 100 times; more is a bomb


@dataclass(frozen=True)
class Source:
    """A file a user named or that lies in a folder a user named."""

    path: Path
    name: str  # relative to what the user named, for messages and the manifest
    head: bytes  # first 64 KiB, inflated
    size_bytes: int
    compressed: bool

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> Source:
        """Look at ``path``. Raises :class:`InputError` if it cannot be read or is a damaged gzip."""
        shown = name or path.name
        try:
            size = path.stat().st_size
            with path.open("rb") as stream:
                compressed = stream.read(2) == GZIP_MAGIC
            with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
                head = _read_some(stream, HEAD_BYTES)
        except FileNotFoundError:
            raise NotFound(f"{path}: no such file or folder", "check the path") from None
        except PermissionError:
            raise PermissionMissing(
                f"{path}: permission denied", "make the file readable to this user"
            ) from None
        except (OSError, zlib.error) as error:  # BadGzipFile is an OSError
            raise DamagedInput(f"{path}: {error}", "copy the file again") from error
        return cls(path=path, name=shown, head=head, size_bytes=size, compressed=compressed)

    @property
    def is_sqlite(self) -> bool:
        """Whether the (inflated) content is an SQLite database."""
        return self.head.startswith(SQLITE_MAGIC)

    @property
    def text_head(self) -> str:
        """The head as text, without a byte-order mark."""
        return self.head.decode("utf-8", "replace").removeprefix("\ufeff")

    def sibling(self, name: str) -> Path | None:
        """Return the file ``name`` beside this one, or ``None``."""
        path = self.path.with_name(name)
        return path if path.is_file() else None

    @contextmanager
    def stream(self) -> Iterator[IO[bytes]]:
        """Open the inflated bytes for one pass."""
        if self.compressed:
            with gzip.open(self.path, "rb") as inflated:
                yield inflated  # type: ignore[misc]  # GzipFile is an IO[bytes] in all but name
        else:
            with self.path.open("rb") as plain:
                yield plain

    @contextmanager
    def local(self, *, salvage: bool = False) -> Iterator[Path]:
        """Give a path to the inflated content: the file itself, or a temporary copy while in the block.

        With ``salvage`` a damaged gzip gives what precedes the damage. Raises :class:`InputError` for a
        damaged gzip otherwise, and for one that inflates beyond all reason.
        """
        if not self.compressed:
            yield self.path
            return
        with tempfile.NamedTemporaryFile(prefix="rocscope-", suffix=".inflated") as copy:
            limit = min(MAX_INFLATED_BYTES, self.size_bytes * MAX_INFLATION + HEAD_BYTES)
            free = shutil.disk_usage(copy.name).free
            written = 0
            try:
                with gzip.open(self.path, "rb") as inflated:
                    stream = SalvagedStream(inflated) if salvage else inflated
                    while chunk := stream.read(1 << 20):
                        written += len(chunk)
                        if written > min(limit, free // 2):
                            raise InputError(
                                f"{self.path}: inflates to more than {written >> 20} MiB", "unpack it by hand"
                            )
                        copy.write(chunk)
            except (EOFError, OSError, zlib.error) as error:
                raise DamagedInput(f"{self.path}: damaged gzip ({error})", "copy the file again") from error
            copy.flush()
            yield Path(copy.name)


def _read_some(stream: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """Read up to ``size`` bytes; keep what a truncated gzip still gives."""
    parts = bytearray()
    while len(parts) < size:
        try:
            part = stream.read(min(8192, size - len(parts)))
        except EOFError:
            break
        if not part:
            break
        parts += part
    return bytes(parts)
