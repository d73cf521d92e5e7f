"""The recorded scrapes of a real server, as rows of a capture's samples."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from rocscope import tables
from rocscope.collectors.serving import Snapshot

FOLDER = Path(__file__).parent / "data" / "serving"


def texts() -> list[tuple[int, str]]:
    """Each recorded text of /metrics with its time, ns."""
    whole = gzip.decompress((FOLDER / "scrapes.txt.gz").read_bytes()).decode()
    parts = re.split(r"^# scrape at (\d+)\n", whole, flags=re.MULTILINE)[1:]
    return [(int(time), text) for time, text in zip(parts[::2], parts[1::2], strict=True)]


def bench() -> dict[str, Any]:
    """What vllm bench serve said of it."""
    found: dict[str, Any] = json.loads((FOLDER / "bench_serve.json").read_text())
    return found


def samples(scrapes: list[tuple[int, dict[str, float]]], subject: str = "server") -> pa.Table:
    """The table ``samples`` of scrapes."""
    rows = [(time, name, value) for time, values in scrapes for name, value in values.items()]
    return tables.conform(
        "samples",
        {
            "time_ns": pa.array([time for time, _, _ in rows], pa.int64()),
            "source": pa.scalar("serving"),
            "subject": pa.scalar(subject),
            "metric": pa.array([name for _, name, _ in rows], pa.string()),
            "value": pa.array([value for _, _, value in rows], pa.float64()),
        },
        len(rows),
    )


def recorded() -> pa.Table:
    """All of them, as a live run would have sampled them."""
    return samples([(time, Snapshot.parse(text).values) for time, text in texts()])
