"""``analysis.json``: the analysis as other programs read it, and read back."""

from __future__ import annotations

from pathlib import Path

from rocscope import garbage
from rocscope.errors import InputError
from rocscope.findings import SCHEMA_VERSION, Analysis


class _Contract:
    name = "json"
    help = "the contract other programs read, every figure unrounded"
    filename = "analysis.json"

    def render(self, analysis: Analysis) -> str:
        """Return the analysis as JSON; NaN and infinity are null."""
        return analysis.model_dump_json(indent=1) + "\n"


def read(path: Path) -> Analysis | None:
    """Return the analysis stored in ``path``, or ``None`` if that is no ``analysis.json`` but something else.

    Told by the content: an object that opens with our schema version and a capture. Raises
    :class:`InputError` that names the field where it is one and is damaged or too new.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(200).split()
    if head[:2] != [b"{", b'"schema_version":'] and not b"".join(head).startswith(b'{"schema_version":"'):
        return None
    content = path.read_bytes()
    try:
        data = from_json(content)
    except ValueError as error:
        raise InputError(f"{path}: damaged JSON ({error})", "write it again with rocscope analyze") from error
    if "kernels" not in data:
        return None
    if data["schema_version"] != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version {data['schema_version']} is not ours", "upgrade rocscope")
    try:
        with garbage.resting():
            return Analysis.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {where}: {first['msg']}", "write it again with rocscope analyze"
        ) from error


REPORT = _Contract()
