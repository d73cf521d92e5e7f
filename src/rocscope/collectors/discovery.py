"""From the paths a user names to one capture: walk, recognise by content, leave duplicates out, read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.capture import Capture, is_capture
from rocscope.capture import Source as Record
from rocscope.collectors import companions as beside
from rocscope.collectors import counter_rows, saved, stems
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader, readers
from rocscope.collectors.source import GZIP_MAGIC, Source
from rocscope.errors import (
    DamagedInput,
    EmptyInput,
    InputError,
    NotFound,
    PermissionMissing,
    RocscopeError,
    UnknownFormat,
)

Progress = Callable[[str], None]
_SHOWN: Final = 5  # names listed in a notice
_PREFERENCE: Final = ("dispatches", "counters", "aggregate", "api")


@dataclass(frozen=True)
class _Found:
    source: Source
    reader: Reader

    @property
    def content(self) -> str:
        of = getattr(self.reader, "content_of", None)
        return str(of(self.source)) if of else getattr(self.reader, "content", "dispatches")

    @property
    def bundle(self) -> str:
        return str(getattr(self.reader, "bundle", self.reader.name))


def recognise(path: Path) -> Reader | None:
    """Return the reader for the content of ``path``, or ``None``. Raises :class:`InputError`."""
    return _reader_of(Source.open(path))


def load(paths: Sequence[Path], *, progress: Progress | None = None, companions: bool = True) -> Capture:
    """Read ``paths`` (files, folders, or one saved capture) into one capture.

    With one recording, unless ``companions`` is false, the files of its run that lie beside it are read too.

    A folder is walked; all that its files hold, of however many processes and ranks, becomes one capture.
    Files that nobody recognises or that cannot be read are noticed and the others used. ``progress`` is
    told what is being done, a sentence at a time. Raises :class:`InputError` if nothing can be used, and
    :class:`UnknownFormat` if a file that was named is of no known format. A recording without GPU kernels
    is returned with the notice ``no-gpu-kernels``.
    """
    if not paths:
        raise InputError("no recording named", "name a file or a folder that a profiler wrote")
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise NotFound(f"{path}: no such file or folder", "check the path")
    found = [inside for path in paths if path.is_dir() and (inside := saved.folder(path))]
    if found:
        if len(paths) > 1:
            raise InputError(
                f"{found[0]} is a saved capture, and {len(paths)} paths were named",
                "name one capture alone, or set two against each other with `rocscope compare A B`",
            )
        return Capture.load(found[0])
    if len(paths) == 1 and paths[0].is_file() and (shared := saved.shared(paths[0])) is not None:
        return shared
    builder, say = CaptureBuilder(), progress or (lambda _: None)
    found_files = _recognised(paths, builder)
    _read_all(found_files, builder, say)
    if companions and len(paths) == 1 and paths[0].is_file():
        _read_beside(found_files[0], builder, say)
    return _finish(builder)


def _read_beside(recording: _Found, builder: CaptureBuilder, progress: Progress) -> None:
    """Read what lies beside a recording and is of its run, and say so."""
    if recording.content == "description":
        return
    found = []
    for path in beside.beside(recording.source.path):
        try:
            source = Source.open(path)
        except InputError as error:
            builder.notice("unreadable-file", error.message, path.name)
            continue
        reader = _reader_of(source) if source.head else None
        if reader is not None and getattr(reader, "companion", False):
            found.append(_Found(source, reader))
    for each in sorted(found, key=lambda each: (each.reader.order, each.source.name)):
        _read_one(each, builder, progress)
    read = {source.path for source in builder.sources}
    if taken := [each.source.name for each in found if each.source.name in read]:
        builder.notice(
            "companions",
            f"taken along with {recording.source.name}, as their names say they are of its run: "
            f"{', '.join(taken)} (--no-companions leaves them out)",
            recording.source.name,
        )


def _recognised(paths: Sequence[Path], builder: CaptureBuilder) -> list[_Found]:
    found: list[_Found] = []
    unknown: list[str] = []
    seen: set[Path] = set()
    for named in paths:
        if not named.is_dir():
            each = _named(named)
            if each.source.path.resolve() not in seen:
                found.append(each)
            seen.add(each.source.path.resolve())
            continue
        empty = True
        for path, name in _walk(named, builder):
            empty = False
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                source = Source.open(path, name)
                reader = _reader_of(source) if source.head else None
            except (InputError, PermissionMissing) as error:
                builder.notice("unreadable-file", error.message, name)
                continue
            if reader is None:
                unknown.append(name)
            else:
                found.append(_Found(source, reader))
        if empty:
            raise EmptyInput(f"{named}: no file in it{_unfinished(builder)}", "check the path")
    if unknown:
        more = "" if len(unknown) <= _SHOWN else f" and {len(unknown) - _SHOWN} more"
        builder.notice(
            "unknown-files",
            f"{len(unknown)} files are of no format this tool reads: {', '.join(unknown[:_SHOWN])}{more}",
        )
    if not found:
        raise UnknownFormat(
            f"{', '.join(str(path) for path in paths)}: nothing in it is a format this tool reads"
            f"{_unfinished(builder)}",
            _readable(),
        )
    _refuse_several_runs(found)
    return _without_doubtful_models(found, builder)


def _refuse_several_runs(found: Sequence[_Found]) -> None:
    runs = beside.runs((each.source.name, each.reader.name, each.content != "description") for each in found)
    if runs:
        raise InputError(
            "several runs lie in one folder, each with a load or a server's metrics of its own: "
            f"{', '.join(runs)}",
            "name one of these files (what lies beside it is taken along), or two with `rocscope compare`",
        )


def _without_doubtful_models(found: list[_Found], builder: CaptureBuilder) -> list[_Found]:
    """Leave out the configs of models where there are several: whose kernels these are is not told."""
    configs = [each for each in found if each.reader.name == "model-config"]
    if len(configs) < 2 or len(configs) == len(found):
        return found
    names = ", ".join(each.source.name for each in configs)
    builder.notice(
        "model-ambiguous", f"several models' configs, none is used: {names}; name one with --model"
    )
    return [each for each in found if each not in configs]


def _named(path: Path) -> _Found:
    """Return the file that the user named. Raises :class:`InputError` where it cannot be used."""
    if not path.is_file():
        raise InputError(f"{path}: not a regular file", "name a file or a folder")
    source = Source.open(path)
    if not source.head:
        if source.compressed:
            raise DamagedInput(f"{path}: nothing can be unpacked from it", "copy the file again")
        raise EmptyInput(f"{path}: the file is empty", "copy the file again, or collect the recording again")
    reader = _reader_of(source)
    if reader is None:
        if source.compressed and source.head.startswith(GZIP_MAGIC):
            raise UnknownFormat(f"{path}: packed twice", f"unpack it once: gunzip {path.name}")
        raise UnknownFormat(f"{path}: not a format this tool reads", _readable())
    return _Found(source, reader)


def _reader_of(source: Source) -> Reader | None:
    return next((reader for reader in readers() if reader.recognises(source)), None)


def _readable() -> str:
    return "name one of these\n" + "\n".join(
        f"  - {told}" for told in dict.fromkeys(r.help for r in readers())
    )


def _unfinished(builder: CaptureBuilder) -> str:
    messages = [notice.message for notice in builder.notices if notice.code == "unfinished-run"]
    return f" ({'; '.join(messages)})" if messages else ""


def _walk(top: Path, builder: CaptureBuilder) -> Iterator[tuple[Path, str]]:
    """Give the regular files below ``top``, sorted, with their names relative to it.

    Hidden folders and links are not followed (a link may lead out, or round in a circle); a link to a
    file below ``top`` only repeats that file. Saved captures inside are skipped with a notice.
    """

    def refuse(error: OSError) -> None:
        builder.notice("unreadable-folder", f"{error.filename}: {error.strerror}", str(top))

    for folder, inner, files in os.walk(top, followlinks=False, onerror=refuse):
        here = Path(folder)
        for hidden in sorted(name for name in inner if name.startswith(".")):
            if hidden == ".rocprofv3":
                _note_temporary(here / hidden, here.relative_to(top), builder)
        inner[:] = sorted(
            name for name in inner if not name.startswith(".") and not (here / name).is_symlink()
        )
        for name in [name for name in inner if is_capture(here / name)]:
            inner.remove(name)
            builder.notice("capture-skipped", f"{name} is a saved capture, not a recording: not read")
        for name in sorted(files):
            path = here / name
            try:
                regular = stat.S_ISREG(path.lstat().st_mode)
            except OSError:
                continue
            if regular and not name.startswith("."):
                yield path, str(path.relative_to(top))


def _note_temporary(folder: Path, where: Path, builder: CaptureBuilder) -> None:
    """Say that a process ended before its results were written, where only its temporary files are left."""
    try:
        left = [path for path in folder.iterdir() if path.suffix == ".dat"]
        results = [path for path in folder.parent.iterdir() if path.is_file()]
    except OSError:
        return
    pids = {path.name.split("-", 1)[-1].split("-")[0] for path in left}
    missing = sorted(pid for pid in pids if not any(path.name.startswith(f"{pid}_") for path in results))
    if missing:
        builder.notice(
            "unfinished-run",
            f"{len(left)} temporary files of rocprofv3 and no results of process "
            f"{', '.join(missing[:_SHOWN])}: it was killed before its data were written",
            str(where / folder.name),
        )


def _choose(run: list[_Found]) -> tuple[list[_Found], list[_Found]]:
    """Return which files of one run to read, the best of them first, and which hold the same again.

    See :data:`rocscope.collectors.reader.CONTENT`.
    """
    told = [(each, each.content) for each in run]
    chosen = [each for each, what in told if what == "description"]
    held = [(each, what) for each, what in told if what != "description"]
    if not held:
        return chosen, []
    held.sort(key=lambda pair: (_PREFERENCE.index(pair[1]), pair[0].reader.order, pair[0].source.name))
    best, what = held[0]
    left = []
    for each, holds in held:
        totals = holds == "aggregate" and what in ("dispatches", "counters")
        if each.bundle == best.bundle and not totals:
            chosen.append(each)
        else:
            left.append(each)
    return chosen, left


def _read_all(found: list[_Found], builder: CaptureBuilder, progress: Progress) -> None:
    """Read the best files of each run, the others of a run only where none of the best can be used."""
    grouped: dict[tuple[Path, str], list[_Found]] = {}
    for each in found:
        stem = stems.split(each.source.path.name)[0]
        grouped.setdefault((each.source.path.parent.resolve(), stem), []).append(each)
    runs = list(grouped.values())
    failed: list[RocscopeError] = []
    used: set[Path] = set()
    while runs:
        choices = [_choose(run) for run in runs]
        files = [each for chosen, _ in choices for each in chosen]
        for each in sorted(files, key=lambda each: (each.reader.order, each.source.name)):
            error = _read_one(each, builder, progress)
            if error is None:
                used.add(each.source.path)
            elif len(found) == 1:
                raise error
            else:
                failed.append(error)
        runs = []
        for chosen, left in choices:
            good = [each for each in chosen if each.source.path in used and each.content != "description"]
            if left and not good:
                runs.append(left)
            for each in left if good else ():
                builder.notice(
                    "duplicate-format",
                    f"{each.source.name} is left out: {good[0].source.name} holds the same run",
                    each.source.name,
                )
    if failed and not used:
        raise InputError(
            f"none of {len(failed)} files can be used; the first: {failed[0].message}", failed[0].hint
        )


def _read_one(each: _Found, builder: CaptureBuilder, progress: Progress) -> InputError | None:
    """Read one file; return the error where nothing of it can be used, the builder being as before."""
    source = each.source
    progress(f"reading {source.name} ({each.reader.name})")
    mark = builder.mark()
    try:
        each.reader.read(source, builder)
    except InputError as error:
        builder.rollback(mark)
        builder.notice("unreadable-file", error.message, source.name)
        builder.drop("unreadable files", 1, source.name)
        return error
    with source.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    builder.sources.append(
        Record(path=source.name, format=each.reader.name, size_bytes=source.size_bytes, sha256=digest)
    )
    return None


def _finish(builder: CaptureBuilder) -> Capture:
    """Build the capture and fill in what follows from its tables."""
    if not builder.rows("dispatches"):
        builder.notice("no-gpu-kernels", "no GPU kernels in this recording")
    capture = builder.build()
    counter_rows.drop_dead(capture)
    manifest = capture.manifest
    rows = capture.dispatches.select(["pass", "start_ns", "end_ns"])
    clean = [each.index for each in manifest.passes if not each.perturbed]
    if 0 < len(clean) < len(manifest.passes):  # passes ran one after the other: the clean one is the run
        rows = rows.filter(pc.is_in(rows["pass"], pa.array(clean, pa.int16())))
    if not rows.num_rows:
        rows = capture.spans
    starts, ends = rows["start_ns"], rows["end_ns"]
    first, last = pc.min(starts).as_py(), pc.max(ends).as_py()
    if first is not None and last is not None:
        if manifest.duration_s is None:
            manifest.duration_s = (last - first) / 1e9
        if manifest.window_ns is None:
            manifest.window_ns = (first, last)
    hosts = {each.host for each in manifest.processes if each.host}
    if not manifest.host and len(hosts) == 1:
        manifest.host = hosts.pop()
    if not manifest.command:
        commands = {each.command for each in manifest.processes if each.command}
        if len(commands) == 1:
            manifest.command = list(commands.pop())
    return capture
