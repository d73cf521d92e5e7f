"""A capture that was saved before: its folder, the folder of its reports, or the archive that shares it."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from rocscope import archive
from rocscope.capture import Capture, is_capture
from rocscope.collectors.source import GZIP_MAGIC


def folder(path: Path) -> Path | None:
    """Return the capture that ``path`` is, or that we wrote into it with our reports, or unpacked there.

    It knows more than the profiler's files beside it: what ran, the host's samples, what was replayed.
    """
    if is_capture(path):
        return path
    inside = path / "capture"
    if not is_capture(inside):
        return None
    alone = all(entry.name == "capture" for entry in path.iterdir())
    return inside if alone or (path / "analysis.json").is_file() else None


def shared(path: Path) -> Capture | None:
    """Return the capture in an archive that ``rocscope capture share`` made."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            if head[:2] == GZIP_MAGIC:
                stream.seek(0)
                with gzip.open(stream, "rb") as inflated:
                    if inflated.read(262)[257:] != b"ustar":
                        return None
            elif head != b"PK\x03\x04":
                return None
    except (OSError, EOFError, zlib.error):
        return None  # the readers say what is wrong with it
    return archive.unpack(path)
