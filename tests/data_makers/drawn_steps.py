"""Captures made of steps that are drawn from a recorded one, laid end to end; and families slowed in them.

What comes out was never recorded: its provenance is synthetic, and says of which recording the steps are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope import columns, steps, tables, taxonomy
from rocscope.capture import Capture


class DrawnSteps:
    """The decode steps of the most frequent batch of a recorded capture, to draw from."""

    def __init__(self, recorded: Capture) -> None:
        frame = steps.annotated(recorded)
        following = np.append(frame["start_ns"].to_numpy(np.int64)[1:], -1)
        followed = np.append(frame["name"].to_numpy()[1:] == frame["name"].to_numpy()[:-1], False)
        detailed = frame["attended_tokens"].notna().to_numpy()  # of each step its own name
        decode = (frame["phase"] == "decode").to_numpy()
        followed |= np.append(decode[1:], False) & detailed
        frame = frame.assign(next_ns=following)[decode & followed]
        batch = frame["generation_requests"].mode().iloc[0]
        self.frame = frame[frame["generation_requests"] == batch].reset_index(drop=True)
        self._recorded = recorded
        table = recorded.dispatches
        start = columns.ints(table["start_ns"])
        self._start = start
        self._rows = [
            np.flatnonzero((start >= begin) & (start < end))
            for begin, end in zip(self.frame["start_ns"], self.frame["next_ns"], strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def capture(self, drawn: np.ndarray) -> Capture:
        """Lay the steps ``drawn`` end to end, and one more so that each is followed."""
        order = np.append(drawn, drawn[-1])
        begin = self.frame["start_ns"].to_numpy(np.int64)[order]
        length = self.frame["next_ns"].to_numpy(np.int64)[order] - begin
        at = np.concatenate(([0], np.cumsum(length)[:-1])) + 1_000_000
        rows = np.concatenate([self._rows[each] for each in order])
        shift = np.repeat(at - begin, [len(self._rows[each]) for each in order])
        table = self._recorded.dispatches.take(pa.array(rows))
        for name in ("start_ns", "end_ns"):
            moved = pa.array(columns.ints(table[name]) + shift)
            table = table.set_column(table.schema.get_field_index(name), tables.DISPATCHES.field(name), moved)
        annotated = self.frame.iloc[order]
        spans = tables.conform(
            "spans",
            {
                "process": pa.repeat(
                    pa.scalar(int(columns.ints(table["process"])[0]), pa.int32()), len(order)
                ),
                "kind": pa.repeat("gpu_annotation", len(order)),
                "name": pa.array(annotated["name"].tolist()),
                "start_ns": pa.array(at),
                "end_ns": pa.array(at + annotated["end_ns"].to_numpy(np.int64) - begin),
                "gpu": pa.array(annotated["gpu"].to_numpy(np.int32)),
            },
            len(order),
        )
        recorded = self._recorded.manifest
        manifest = recorded.model_copy(
            update={
                "provenance": "synthetic",
                "provenance_note": f"steps drawn from the recording {recorded.id}",
                "window_ns": None,
                "load": None,
            }
        )
        return Capture(manifest=manifest, dispatches=table, spans=spans)


def slowed(made: Capture, family: str, by_frac: float) -> Capture:
    """Return ``made`` with every dispatch of a family longer, and all that comes later as much later."""
    table = made.dispatches
    names = taxonomy.classify(sorted(set(pc.unique(table["kernel"]).to_pylist())))
    mine = set(names.loc[names["family"] == family, "raw_name"])
    of_family = columns.holds(table["kernel"], mine.__contains__).to_numpy()
    start, end = columns.ints(table["start_ns"]), columns.ints(table["end_ns"])
    more = np.where(of_family, np.rint((end - start) * by_frac), 0).astype(np.int64)
    order = np.argsort(start, kind="stable")
    before = np.zeros(len(start), np.int64)
    before[order] = np.cumsum(more[order]) - more[order]
    changed = {"start_ns": start + before, "end_ns": end + before + more, "duration_ns": end - start + more}
    for name, values in changed.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, tables.DISPATCHES.field(name), pa.array(values))
    added = np.concatenate(([0], np.cumsum(more[order])))
    spans = made.spans
    for name in ("start_ns", "end_ns"):
        moment = columns.ints(spans[name])
        later = moment + added[np.searchsorted(start[order], moment, side="left")]
        spans = spans.set_column(
            spans.schema.get_field_index(name), tables.SPANS.field(name), pa.array(later)
        )
    return replace(made, dispatches=table, spans=spans)
