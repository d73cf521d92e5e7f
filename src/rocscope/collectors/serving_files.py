"""Saved texts of a vLLM server's ``/metrics``, from before and after a load, beside a recording."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

import pyarrow as pa

from rocscope import serving_names as ours
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.salvage import SalvagedStream
from rocscope.collectors.serving import MAX_BYTES, Snapshot, looks_like
from rocscope.collectors.source import Source
from rocscope.errors import InputError

_WHEN: Final = re.compile(r"(?:^|[._-])(before|during|after)(?:[._-]|$)")
_ORDER: Final = ("before", "during", "after")


class MetricsText:
    """One text; its place in the order is in its name, times are not known."""

    name = "server-metrics"
    help = "texts of a vLLM server's /metrics, with before, during or after in their names"
    order = 95
    content = "description"
    companion = True

    def recognises(self, source: Source) -> bool:
        """It has samples whose names begin with ``vllm:``."""
        return looks_like(source.text_head)

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add one row a metric. Raises :class:`InputError` where the name does not tell its place."""
        when = _WHEN.search(PurePath(source.name).name)
        if when is None:
            raise InputError(
                f"{source.name}: a text of /metrics, and nothing says of when",
                "rename a pair so that the names have before and after in them, e.g. run1.before.txt",
            )
        with source.stream() as stream:
            body = SalvagedStream(stream).read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise InputError(
                f"{source.name}: larger than {MAX_BYTES >> 20} MiB", "is this a text of /metrics?"
            )
        try:
            snapshot = Snapshot.parse(body.decode("utf-8", "replace"))
        except InputError as error:
            raise InputError(f"{source.name}: {error.message}", error.hint) from error
        builder.drop("lines of /metrics that are no samples", snapshot.bad_lines, source.name)
        path = PurePath(source.name)
        of = str(path.with_name(path.name.replace(when[1], "", 1)))
        rows = len(snapshot.values)
        builder.append(
            "samples",
            rows,
            time_ns=pa.scalar(_ORDER.index(when[1]), pa.int64()),
            source=pa.scalar(ours.SOURCE),
            subject=pa.scalar(f"{ours.SAVED}{of}"),
            metric=pa.array(list(snapshot.values)),
            value=pa.array(list(snapshot.values.values()), pa.float64()),
        )


READERS = (MetricsText(),)
