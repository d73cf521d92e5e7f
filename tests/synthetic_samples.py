"""Readings made by hand and put beside a synthetic capture. Nothing here was sampled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from rocscope import tables
from rocscope.analyzers import runner
from rocscope.capture import Capture
from rocscope.study import Study
from synthetic_capture import study

MS = 1_000_000
Reading = tuple[int, str, str, float]  # ns, subject, metric, value


def series(metric: str, points: Iterable[tuple[float, float]], subject: str = "gpu:0") -> list[Reading]:
    """Readings of (ms, value)."""
    return [(round(at * MS), subject, metric, float(value)) for at, value in points]


def sampled(made: Capture, *readings: list[Reading], source: str = "amdsmi") -> Capture:
    """``made`` with these readings; those of processes and hosts are the host's, of the server its own."""
    rows = [each for part in readings for each in part]
    of = {"process": "host", "host": "host", "rocscope": "host", "server": "serving"}
    columns = {
        "time_ns": pa.array([row[0] for row in rows], pa.int64()),
        "source": pa.array([of.get(row[1].split(":")[0], source) for row in rows], pa.string()),
        "subject": pa.array([row[1] for row in rows], pa.string()),
        "metric": pa.array([row[2] for row in rows], pa.string()),
        "value": pa.array([row[3] for row in rows], pa.float64()),
    }
    return replace(made, samples=tables.conform("samples", columns, len(rows)))


def analysed(made: Capture, **options: object) -> Study:
    """A workspace after all analyzers ran."""
    found = study(made, **options)  # type: ignore[arg-type]  # the keywords of study()
    runner.run(found)
    return found


def gpu(found: Study, index: int = 0) -> dict[str, object]:
    """One GPU's entry of the telemetry."""
    return next(each for each in found.telemetry["gpus"] if each["gpu"] == index)
