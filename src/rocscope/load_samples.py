"""What single requests of a load took, as rows of ``samples``: for intervals of what the load measured.

``time_ns`` counts the requests, since the clients' clock is seldom the recording's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope import tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOURCE: Final = "load"


def subject(run: str, level: int) -> str:
    """Name the requests of a level: its place among those of ``run`` in the manifest's ``load``."""
    return f"load:{run}:{level}"


def columns(
    run: str, level: int, found: Mapping[str, Sequence[float]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give, for each latency, how many rows it has, and their columns."""
    for metric, values in found.items():
        yield (
            len(values),
            {
                "time_ns": pa.array(range(len(values)), pa.int64()),
                "source": pa.scalar(SOURCE),
                "subject": pa.scalar(subject(run, level)),
                "metric": pa.scalar(metric),
                "value": pa.array(values, pa.float64()),
            },
        )


def table(run: str, levels: Sequence[Mapping[str, Sequence[float]]]) -> pa.Table:
    """Return the rows of all levels of ``run``."""
    made = [
        tables.conform("samples", each, rows)
        for index, found in enumerate(levels)
        for rows, each in columns(run, index, found)
    ]
    return pa.concat_tables([tables.empty("samples"), *made]).unify_dictionaries()


def of(samples: pa.Table, run: str, level: int) -> dict[str, NDArray[np.float64]]:
    """Return the latencies of a level's requests in s by metric, ``{}`` where only sums were told."""
    mine = pc.and_(
        pc.equal(samples["source"].cast(pa.string()), SOURCE),
        pc.equal(samples["subject"].cast(pa.string()), subject(run, level)),
    )
    rows = samples.filter(mine)
    names = rows["metric"].cast(pa.string())
    return {
        name: rows.filter(pc.equal(names, name))["value"].to_numpy() for name in pc.unique(names).to_pylist()
    }
