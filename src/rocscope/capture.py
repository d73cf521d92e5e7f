"""A capture: four tables and a manifest, in memory and as a folder.

The folder holds ``manifest.json``, one Parquet file a table, and optionally ``raw/`` and ``logs/``. It is
written to a temporary name beside its place, synced and renamed, so that a crash leaves no capture or a
whole one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rocscope import tables
from rocscope.ceilings import RecordedCeilings
from rocscope.errors import InputError

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
RISING: Final = frozenset({"start_ns", "end_ns", "time_ns", "dispatch_id", "correlation_id"})

Provenance = Literal["recorded", "replayed", "synthetic"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Record):
    """One device seen in the recording."""

    gpu: int  # its index in the tables
    host: str = ""
    agent: str = ""  # as the tool names it: "Agent 4", "4", "device 0"
    pci: str = ""  # its address, "0000:c1:00.0"
    arch: str = ""  # "gfx908", "sm_90", or "" where not recorded
    name: str = ""  # marketing name as recorded
    compute_units: int | None = None
    wave_size: int | None = None
    memory_bytes: int | None = None


class Process(_Record):
    """One process that left data."""

    process: int  # its index in the tables
    pid: int
    host: str = ""
    name: str = ""
    rank: int | None = None  # in its tensor-parallel group
    command: tuple[str, ...] = ()


class Pass(_Record):
    """One execution of the workload under one set of counters."""

    index: int
    counters: tuple[str, ...] = ()
    perturbed: bool = False  # counters were on: dispatches serialised, times not to be trusted
    kernels: str = ""  # regular expression of the kernels recorded; "": all
    dispatches: tuple[int, int] | None = None  # the part of them recorded; None: all
    note: str = ""


class Notice(_Record):
    """Something a reader wants the user to know; ``code`` is stable, in kebab-case."""

    code: str
    message: str
    source: str = ""


INFORMATION: Final = frozenset({"telemetry", "companions"})
"""Codes of notices that weaken nothing: they are no warnings."""
UNRELATED: Final = frozenset({"clocks-unrelated", "clock-unknown", "telemetry-unaligned"})
"""Codes of notices that say that the times of samples cannot be set against those of kernels."""


class Dropped(_Record):
    """Rows left out, and why."""

    reason: str
    count: int
    source: str = ""


class Clock(_Record):
    """The clock of all times in the tables, ns."""

    domain: str = "unknown"  # "boottime", "monotonic", "realtime", "unknown"
    wall_offset_ns: int | None = None  # add to a time to have Unix time


class Source(_Record):
    """One file that was read."""

    path: str  # relative to what the user named
    format: str
    size_bytes: int
    sha256: str = ""


class Manifest(BaseModel):
    """What is known of a capture beside its tables."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    provenance: Provenance = "recorded"
    provenance_note: str = ""  # of what, where it is not "recorded"
    profiler: str = "unknown"
    profiler_version: str = ""
    command: list[str] = Field(default_factory=list)
    host: str = ""
    started_at: str | None = None  # ISO 8601
    duration_s: float | None = None
    exit_code: int | None = None  # of the target
    partial: bool = False  # collection was cut short
    clock: Clock = Field(default_factory=Clock)
    window_ns: tuple[int, int] | None = None  # the part of the run that was asked for
    gpus: list[Gpu] = Field(default_factory=list)
    processes: list[Process] = Field(default_factory=list)
    passes: list[Pass] = Field(default_factory=list)
    sources: list[Source] = Field(default_factory=list)
    notices: list[Notice] = Field(default_factory=list)
    dropped: list[Dropped] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)  # from an allow-list only
    model: dict[str, object] | None = None  # the served model's config.json, where found
    model_tp: int | None = None  # tensor-parallel size, where known
    world_size: int | None = None  # ranks that ran together, where recorded; tensor-parallel or other
    # what the load measured: {"kind", "profiled", "unprofiled", "beside"}, each as traffic/result.py reads
    # it, or null; the last lay beside the recording, which does not tell whether a profiler was on
    load: dict[str, Any] | None = None
    # measured on the cards of this recording, where it was made; None: nobody looked
    ceilings: list[RecordedCeilings] | None = None
    log_lines: dict[str, int] | None = None  # of the server's log, by kind (log_lines.py); None: no log read


@dataclass
class Capture:
    """A recording in the four tables of :mod:`rocscope.tables`, with its manifest."""

    manifest: Manifest
    dispatches: pa.Table = field(default_factory=lambda: tables.empty("dispatches"))
    counters: pa.Table = field(default_factory=lambda: tables.empty("counters"))
    spans: pa.Table = field(default_factory=lambda: tables.empty("spans"))
    samples: pa.Table = field(default_factory=lambda: tables.empty("samples"))

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables by name."""
        return {name: getattr(self, name) for name in tables.SCHEMAS}

    def notice(self, code: str, message: str, source: str = "") -> None:
        """Add a notice to the manifest, once."""
        found = Notice(code=code, message=message, source=source)
        if found not in self.manifest.notices:
            self.manifest.notices.append(found)

    def save(self, folder: Path, *, attach: Iterable[tuple[Path, str]] = ()) -> Path:
        """Write the capture to ``folder``, which must not exist, and return it.

        ``attach`` are files to copy in, with their names inside (``raw/…``, ``logs/…``). Raises
        :class:`InputError` if the folder exists.
        """
        if folder.exists():
            raise InputError(f"{folder} exists", "name another folder, or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name, table in self.tables().items():
                _write(table, temporary / f"{name}.parquet")
            for source, inside in attach:
                target = temporary / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
            (temporary / MANIFEST).write_text(
                self.manifest.model_dump_json(indent=1) + "\n", encoding="utf-8"
            )
            for path in [*temporary.rglob("*"), temporary]:
                _sync(path)
            temporary.rename(folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Capture:
        """Read a capture folder. Raises :class:`InputError` that names the file or field at fault."""
        manifest = load_manifest(folder)
        found: dict[str, pa.Table] = {}
        for name, schema in tables.SCHEMAS.items():
            path = folder / f"{name}.parquet"
            if not path.exists():
                found[name] = tables.empty(name)
                manifest.notices.append(
                    Notice(code="table-missing", message=f"{path.name} is missing", source=folder.name)
                )
                continue
            try:
                table = pq.read_table(path)
                columns = {c: table[c] for c in table.column_names if c in schema.names}
                found[name] = tables.conform(name, columns, table.num_rows)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise InputError(
                    f"{path}: not a readable table ({error})", "collect the capture again"
                ) from error
        return cls(manifest=manifest, **found)


def unrelated(manifest: Manifest) -> str | None:
    """Return why samples and kernels have no common clock; ``None`` where they have."""
    if manifest.provenance == "replayed":
        return "the kernels are replayed: they did not run while the samples were taken"
    return next((each.message for each in manifest.notices if each.code in UNRELATED), None)


def is_capture(folder: Path) -> bool:
    """Return whether ``folder`` looks like a saved capture."""
    return (folder / MANIFEST).is_file() and (folder / "dispatches.parquet").is_file()


def load_manifest(folder: Path) -> Manifest:
    """Read only the manifest of a capture folder."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not a capture: no {MANIFEST}", "name a folder that `rocscope` wrote"
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: {error}", "collect the capture again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{path}: no schema_version", "this is not a manifest of rocscope")
    if version > SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version {version} is newer than this rocscope", "upgrade rocscope")
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}", "collect the capture again") from error


def _write(table: pa.Table, path: Path) -> None:
    """Write times and ids, which hardly repeat and mostly rise, as differences: two thirds of the size."""
    rising = {name for name in table.column_names if name in RISING and pa.types.is_integer(table[name].type)}
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=[name for name in table.column_names if name not in rising],
        column_encoding=dict.fromkeys(sorted(rising), "DELTA_BINARY_PACKED") or None,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
