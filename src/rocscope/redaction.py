"""A capture fit to send to others: no prompts, paths, environment, host names, users or arguments.

What is kept is kept because a list says it is harmless (:mod:`rocscope.redaction_words`); whatever no list
knows is replaced. Times, counters, launch shapes and kernel names stay, so that an analysis is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc

from rocscope import ceilings, hardware, log_lines, tables
from rocscope.capture import Capture, Clock, Dropped, Gpu, Manifest, Notice, Pass, Process, Source
from rocscope.redaction_words import (
    AGENT,
    ANNOTATIONS,
    API,
    ARCH,
    CODE,
    COUNTERS,
    FORMATS,
    GIVEN,
    METRICS,
    OPERATORS,
    OVERHEADS,
    PCI,
    PROCESS_NAME,
    PROFILERS,
    SAMPLE_SOURCES,
    SUBJECTS,
    SUFFIXES,
    VERSION,
    Words,
)
from rocscope.traffic import result as traffic

_SPAN_KINDS = frozenset({"api", "operator", "annotation", "gpu_annotation", "overhead"})
_DOMAINS = frozenset({"boottime", "monotonic", "realtime", "unknown"})
_SPAN_NAMES: dict[str, re.Pattern[str] | frozenset[str]] = {
    "api": API,
    "operator": OPERATORS,
    "annotation": ANNOTATIONS,
    "gpu_annotation": ANNOTATIONS,
    "overhead": OVERHEADS,
}


@dataclass(frozen=True)
class Redaction:
    """What was done: how many of what were removed or replaced."""

    removed: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a line for each kind, most first."""
        ordered = sorted(self.removed.items(), key=lambda item: (-item[1], item[0]))
        return [f"{count:,} {what}" for what, count in ordered]


def redact(capture: Capture) -> tuple[Capture, Redaction]:
    """Return a copy of ``capture`` without anything private, and what was removed."""
    words = Words()
    found = {name: _table(name, table, words) for name, table in capture.tables().items()}
    return Capture(manifest=_manifest(capture.manifest, words), **found), Redaction(words.removed)


def _table(name: str, table: pa.Table, words: Words) -> pa.Table:
    if name == "spans":
        return _spans(table, words)
    rules: dict[str, Callable[[str], str | None]] = {
        "kernel": words.kernel,
        "kind": lambda text: words.kept(text, frozenset(tables.KINDS), "kind"),
        "operator": lambda text: words.kept(text, OPERATORS, "operator"),
        "operator_shapes": words.shapes,
        "case": lambda text: words.pseudonym(text, "case"),
        "given_family": lambda text: words.kept(text, GIVEN, "family"),
        "given_flops_unit": lambda text: words.kept(text, GIVEN, "unit"),
        "counter": lambda text: words.kept(text, COUNTERS, "counter"),
        "source": lambda text: words.kept(text, SAMPLE_SOURCES, "source"),
        "subject": lambda text: _subject(text, words),
        "metric": lambda text: words.kept(text, METRICS, "metric"),
    }
    columns = {
        column: _mapped(table[column], rules[column]) if column in rules else table[column]
        for column in table.column_names
    }
    return tables.conform(name, columns, table.num_rows)


def _mapped(column: pa.ChunkedArray, rule: Callable[[str], str | None]) -> pa.ChunkedArray:
    """Apply ``rule`` once to each distinct text; texts that no row uses are gone."""
    known: dict[str, str | None] = {}
    chunks = []
    for chunk in column.unify_dictionaries().chunks:
        used = set(pc.unique(chunk.indices).to_pylist()) - {None}
        mapped: list[str | None] = []
        for index, text in enumerate(chunk.dictionary.to_pylist()):
            if index not in used or text is None:
                mapped.append(None)
                continue
            if text not in known:
                known[text] = rule(text)
            mapped.append(known[text])
        chunks.append(pa.array(mapped, pa.string()).take(chunk.indices).dictionary_encode())
    return pa.chunked_array(chunks, tables.TEXT)


def _spans(table: pa.Table, words: Words) -> pa.Table:
    """Redact spans; which names are allowed depends on the kind of the span."""
    columns = {name: table[name] for name in table.column_names}
    names, kinds = table["name"].cast(pa.string()), table["kind"].cast(pa.string())
    clean: dict[tuple[str, str], str] = {}
    pairs = pa.table({"kind": kinds, "name": names}).group_by(["kind", "name"]).aggregate([])
    for kind, name in zip(pairs["kind"].to_pylist(), pairs["name"].to_pylist(), strict=True):
        allowed = _SPAN_NAMES.get(kind)
        clean[kind, name] = words.kept(name, allowed, "span") if allowed else words.pseudonym(name, "span")
    redacted = names
    for kind in pairs["kind"].unique().to_pylist():
        of_kind = {name: text for (which, name), text in clean.items() if which == kind}
        replaced = _mapped(names.dictionary_encode(), of_kind.get).cast(pa.string())
        redacted = pc.if_else(pc.equal(kinds, kind), replaced, redacted)
    columns["name"] = redacted
    columns["kind"] = _mapped(table["kind"], lambda text: words.kept(text, _SPAN_KINDS, "kind"))
    return tables.conform("spans", columns, table.num_rows)


def _subject(text: str, words: Words) -> str:
    """Keep ``process:PID`` with a known process name and a device's address; replace other subjects."""
    if SUBJECTS.fullmatch(text):
        return text
    kind, _, rest = text.partition(":")
    pid, _, name = rest.partition(":")
    if kind == "process" and pid.isdecimal() and pid.isascii() and len(pid) <= 10:
        return f"process:{pid}:{words.kept(name, PROCESS_NAME, 'process')}"
    if kind == "device" and PCI.fullmatch(rest):
        return text
    return words.pseudonym(text, "subject")


def _manifest(manifest: Manifest, words: Words) -> Manifest:
    words.count("environment variables removed", len(manifest.environment))
    words.count("provenance notes removed", int(bool(manifest.provenance_note)))
    clock = manifest.clock
    return Manifest(
        id=words.pseudonym(manifest.id, "capture"),
        provenance=manifest.provenance,
        profiler=words.kept(manifest.profiler, PROFILERS, "profiler"),
        profiler_version=words.kept(manifest.profiler_version, VERSION, "version"),
        command=words.command(manifest.command),
        host=words.host(manifest.host),
        started_at=_moment(manifest.started_at, words),
        duration_s=manifest.duration_s,
        exit_code=manifest.exit_code,
        partial=manifest.partial,
        clock=Clock(
            domain=clock.domain if clock.domain in _DOMAINS else "unknown",
            wall_offset_ns=clock.wall_offset_ns,
        ),
        window_ns=manifest.window_ns,
        load=None if manifest.load is None else traffic.numbers(manifest.load),
        gpus=[_gpu(gpu, words) for gpu in manifest.gpus],
        processes=[_process(process, words) for process in manifest.processes],
        passes=[_pass(each, words) for each in manifest.passes],
        sources=[_source(source, index, words) for index, source in enumerate(manifest.sources)],
        notices=[_notice(notice, words) for notice in manifest.notices],
        dropped=[_dropped(drop, words) for drop in manifest.dropped],
        model=None if manifest.model is None else words.model(manifest.model),
        model_tp=manifest.model_tp,
        world_size=manifest.world_size,
        ceilings=ceilings.anonymous(manifest.ceilings),
        log_lines=log_lines.total(manifest.log_lines),  # known kinds alone
    )


def _moment(text: str | None, words: Words) -> str | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        words.count("start times removed")
        return None


def _gpu(gpu: Gpu, words: Words) -> Gpu:
    known = {part for spec in hardware.specs() for part in spec.marketing_names if part in gpu.name.lower()}
    if gpu.name and gpu.name.lower() not in known:
        words.count("GPU names cut to the model")
    return gpu.model_copy(
        update={
            "host": words.host(gpu.host),
            "agent": words.kept(gpu.agent, AGENT, "agent"),
            "pci": gpu.pci if PCI.fullmatch(gpu.pci) else "",
            "arch": gpu.arch if ARCH.fullmatch(gpu.arch) else "",
            "name": max(known, key=len, default=""),
        }
    )


def _process(process: Process, words: Words) -> Process:
    return process.model_copy(
        update={
            "host": words.host(process.host),
            "name": words.kept(process.name, PROCESS_NAME, "process"),
            "command": tuple(words.command(process.command)),
        }
    )


def _pass(each: Pass, words: Words) -> Pass:
    counters = tuple(words.kept(counter, COUNTERS, "counter") for counter in each.counters)
    words.count("notes removed", int(bool(each.note)))
    words.count("kernel filters removed", int(bool(each.kernels)))
    kernels = "removed" if each.kernels else ""  # that kernels are missing on purpose has to stay known
    return each.model_copy(update={"counters": counters, "note": "", "kernels": kernels})


def _source(source: Source, index: int, words: Words) -> Source:
    words.count("file names removed")
    suffixes = [suffix for suffix in PurePath(source.path).suffixes[-2:] if suffix in SUFFIXES]
    return Source(
        path=f"file-{index}{''.join(suffixes)}",
        format=words.kept(source.format, FORMATS, "format"),
        size_bytes=source.size_bytes,
    )


def _notice(notice: Notice, words: Words) -> Notice:
    words.count("messages removed")
    return Notice(
        code=words.kept(notice.code, CODE, "notice"), message="The message was removed before sharing."
    )


def _dropped(drop: Dropped, words: Words) -> Dropped:
    return Dropped(reason=words.sentence(drop.reason, "reason"), count=drop.count)
