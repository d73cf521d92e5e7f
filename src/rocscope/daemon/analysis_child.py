"""The process that analyses one window or spooled recording: reads what may be hostile, writes its result.

Run as ``python -P -m rocscope.daemon.analysis_child PARENT`` with its orders as one JSON line on standard
input; answers with one JSON object. It is confined before it reads anything (:mod:`confinement`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from rocscope.daemon.confinement import Limits, confine
from rocscope.errors import InputError, RocscopeError

ORDERS_BYTES: Final = 1 << 20
THREADS: Final = 2
UNFINISHED: Final = ("truncated-file",)  # notices that say that a file breaks off


class Orders(BaseModel):
    """What the daemon wants."""

    model_config = ConfigDict(extra="forbid")

    limits: Limits
    window_id: str
    node: str
    at_s: float  # Unix time of the window
    source: str  # a capture's folder, or what was dropped into the spool
    foreign: bool  # it came through the spool
    result: str | None  # folder to make; None: only the capture is wanted
    capture: str | None  # folder to make for a redacted copy of the capture; None: not wanted
    gpu: str | None = None  # name in the GPU table
    observed: dict[str, Any] | None = None  # what the daemon saw beside the window
    unpacked_bytes: int = 1 << 33
    unpacked_ratio: float = 200.0


def main(arguments: list[str]) -> int:
    """Do what is ordered; return 0 where it is done."""
    line = sys.stdin.buffer.readline(ORDERS_BYTES)
    orders = Orders.model_validate_json(line)
    if not confine(orders.limits, int(arguments[0]), writes=[Path.cwd()]):  # the window's folder
        return 1
    try:
        answer = work(orders)
    except RocscopeError as error:
        answer = {"failed": error.message}
    except MemoryError:
        answer = {"failed": f"it needs more than {orders.limits.memory_bytes >> 20} MiB of memory"}
    except RecursionError:
        answer = {"failed": "it is nested too deeply"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 1 if "failed" in answer else 0


def work(orders: Orders) -> dict[str, Any]:
    """Load, analyse, write. Raises :class:`RocscopeError` for what cannot be used."""
    source = Path(orders.source)
    if orders.foreign:
        from rocscope.daemon import unpacked

        unpacked.check(source, orders.unpacked_bytes, orders.unpacked_ratio)
    import pyarrow as pa

    from rocscope import pipeline

    pa.set_cpu_count(THREADS)
    pa.set_io_thread_count(THREADS)
    capture = pipeline.load(source)
    if orders.foreign:
        _usable(capture)
    done: dict[str, Any] = {"done": True, "capture_id": capture.manifest.id}
    if orders.result is not None:
        from rocscope.config import AnalyzeOptions

        options = AnalyzeOptions(gpu=orders.gpu) if orders.gpu and not orders.foreign else AnalyzeOptions()
        study, analysis = pipeline.studied(capture, options)
        _make(Path(orders.result), lambda folder: _write(folder, orders, study, analysis))
    if orders.capture is not None:
        from rocscope import redaction

        redacted, _ = redaction.redact(capture)
        _sync(redacted.save(Path(orders.capture)))
    return done


def _usable(capture: Any) -> None:
    """Refuse what was dropped and is not whole, or holds nothing."""
    codes = {each.code: each.message for each in capture.manifest.notices}
    for code in UNFINISHED:
        if code in codes:
            raise InputError(f"it breaks off: {codes[code]}", "drop it again once it is whole")
    if not capture.dispatches.num_rows:
        raise InputError("there are no GPU kernels in it", "")


def _write(folder: Path, orders: Orders, study: Any, analysis: Any) -> None:
    from rocscope.daemon import aggregates, window_result
    from rocscope.daemon.result import Result

    aggregates.write(
        study, folder / "aggregates.parquet", window_id=orders.window_id, node=orders.node, at_s=orders.at_s
    )
    found = window_result.of(
        study,
        analysis,
        window_id=orders.window_id,
        analysis_path="analysis.json",
        observed=orders.observed,
    )
    (folder / "result.json").write_text(Result.model_validate(found).model_dump_json(), encoding="utf-8")
    private = analysis.model_copy(
        update={"capture": analysis.capture.model_copy(update={"command": [], "host": None})}
    )
    (folder / "analysis.json").write_text(private.model_dump_json(), encoding="utf-8")


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder whose files are on disk when it returns."""
    folder.mkdir(mode=0o750)
    fill(folder)
    _sync(folder)


def _sync(folder: Path) -> None:
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
