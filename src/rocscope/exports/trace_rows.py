"""Dispatches as slices of a trace: what many share is encoded once, what is each one's own a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from rocscope import columns
from rocscope.exports.trace_labels import Key, Label

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Runs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

_SHAPE: Final = ("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z")
_SHARED: Final = (*_SHAPE, "lds_bytes", "scratch_bytes", "vgprs", "agprs", "sgprs", "copied_bytes", "count")
_OWN: Final = ("process", "dispatch_id", "correlation_id")
_MOST_KNOWN: Final = 200_000  # heads that are kept; of half a kilobyte each
_ARGUMENTS: Final = ("kernel", "family", "kind", "operator")
_TEXTS: Final = (*_ARGUMENTS, "kernel_short")


@dataclass(frozen=True)
class Head:
    """What launches share: ``"name":…,"cat":…,"args":{…``, without closing braces, as a row's own follow."""

    text: str
    family: str


class Heads:
    """The heads of launches, each encoded once however many rows and batches have it."""

    def __init__(self, labels: Mapping[Key, Label]) -> None:
        self._labels = labels
        self._known: dict[tuple[Any, ...], Head] = {}

    def of(self, batch: pa.RecordBatch) -> tuple[list[Head], list[int]]:
        """Return the distinct launches of ``batch``, and which of them each row is."""
        table = pa.Table.from_batches([batch])
        texts = {name: columns.text(table[name]) for name in _TEXTS}
        numbers = {name: columns.ints(table[name]) for name in ("gpu", *_SHARED)}
        ids, size = columns.identify([*numbers.values(), *(codes for codes, _ in texts.values())])
        first = columns.first_rows(ids, size)
        parts = [columns.lookup(told, first) for told in texts.values()]
        parts += [values[first].tolist() for values in numbers.values()]
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        return [self._known.get(key) or self._new(key) for key in zip(*parts, strict=True)], ids.tolist()

    def _new(self, key: tuple[Any, ...]) -> Head:
        texts = dict(zip(_TEXTS, key, strict=False))
        numbers = dict(zip(("gpu", *_SHARED), key[len(_TEXTS) :], strict=True))
        args: dict[str, str | int | None] = {name: texts[name] for name in _ARGUMENTS}
        args |= {name: numbers[name] for name in _SHARED if numbers[name] >= 0}
        if args.get("count") == 1:
            del args["count"]  # as of nearly all
        launch = (numbers["gpu"], str(texts["kernel"]), tuple(numbers[name] for name in _SHAPE))
        label = self._labels.get(launch)
        args["family"] = label.family if label else args["family"]
        args = {name: value for name, value in args.items() if value is not None}
        named = f'"name":{json.dumps(texts["kernel_short"])},"cat":{json.dumps(args["family"])}'
        told = f'"args":{json.dumps(args)[:-1]}{label.args if label else ""}'
        self._known[key] = Head(f"{named},{told}", str(args["family"]))
        return self._known[key]


def own(batch: pa.RecordBatch) -> list[str]:
    """Return the arguments that each row has for itself, encoded."""
    parts = [
        [f',"{name}":{value}' if value >= 0 else "" for value in columns.ints(_chunked(batch, name)).tolist()]
        for name in _OWN
    ]
    return ["".join(row) for row in zip(*parts, strict=True)]


def _chunked(batch: pa.RecordBatch, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([batch.column(name)])


def runs(rows: Runs, pause_ns: int) -> Runs:
    """Return family, start and end of successive dispatches of one family, in order; none overlaps the next.

    A pause of more than ``pause_ns`` ends a run. Where families overlap a run ends as the next begins.
    """
    family, start, end = rows
    import numpy as np

    if not len(start):
        return family, start, end
    order = np.argsort(start, kind="stable")
    family, start, end = family[order], start[order], end[order]
    reach = np.maximum.accumulate(end)
    new = np.append(True, (family[1:] != family[:-1]) | (start[1:] > reach[:-1] + pause_ns))
    first = np.flatnonzero(new)
    last = np.maximum.reduceat(end, first)
    last[:-1] = np.minimum(last[:-1], start[first[1:]])
    return family[first], start[first], last
