"""Which call and operator launched a GPU activity, in small synthetic Kineto traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.collectors.torch_trace import TorchTraceReader
from rocscope.collectors.torch_trace_operators import innermost

READER = TorchTraceReader()


def event(cat: str, name: str, ts: Any, dur: Any, **more: Any) -> dict[str, Any]:
    args = {key.replace("_", " "): more.pop(key) for key in list(more) if key not in ("pid", "tid", "ph")}
    found = {"ph": "X", "cat": cat, "name": name, "pid": 10, "tid": 10, "ts": ts, "dur": dur, **more}
    return {**found, "args": args} if args else found


def kernel(name: str = "k", ts: Any = 100.5, dur: Any = 2.25, **args: Any) -> dict[str, Any]:
    return event("kernel", name, ts, dur, pid=0, tid=7, **{"device": 0, "stream": 7, **args})


def write(path: Path, events: Any, **header: Any) -> Path:
    text = json.dumps({"schemaVersion": 1, "deviceProperties": [], **header, "traceEvents": events})
    path.write_text(text)
    return path


def read(path: Path) -> Capture:
    builder = CaptureBuilder()
    READER.read(Source.open(path), builder)
    return builder.build()


def dispatches(capture: Capture) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = capture.dispatches.to_pylist()
    return found


@pytest.mark.parametrize(
    ("call", "name", "grid"),
    [
        ("hipLaunchKernel", "k", (2560, 3)),
        ("hipModuleLaunchKernel", "Cijk_triton", (2560, 3)),
        ("hipExtModuleLaunchKernel", "Cijk_A", (10, 3)),
        ("hipExtModuleLaunchKernel", "batched_transpose", (10, 3)),
        (None, "Cijk_A", (10, 3)),
        (None, "Custom_Cijk_A", (10, 3)),
        (None, "k", (2560, 3)),
    ],
)
def test_grids_of_hip(tmp_path: Path, call: str | None, name: str, grid: tuple[int, int]) -> None:
    events = [kernel(name, correlation=5, grid=[10, 3, 1], block=[256, 1, 1])]
    if call:
        events.append(event("cuda_runtime", call, 90, 3, correlation=5))
    row = dispatches(read(write(tmp_path / "a.json", events, roctracer_version=4.1)))[0]
    assert (row["grid_x"], row["grid_y"], row["workgroup_x"]) == (*grid, 256)


def test_no_grid_without_a_block(tmp_path: Path) -> None:
    events = [kernel(grid=[10, 3, 1]), kernel(grid=[0, 0, 0], block=[0, 0, 0]), kernel(grid=[1 << 70, 1, 1])]
    assert {row["grid_x"] for row in dispatches(read(write(tmp_path / "a.json", events)))} == {None}


def test_operators_by_id_by_nesting_and_never_for_graphs(tmp_path: Path) -> None:
    shapes = {"Input Dims": [[2, 4], [[1], [2]]], "Input type": ["float", "TensorList"]}
    events = [
        event("cpu_op", "outer", 0, 100, **{"External id": 1}),
        event("cpu_op", "inner", 10, 20, **{"External id": 2}, **shapes),
        event("cpu_op", "elsewhere", 10, 80, tid=11, **{"External id": 3}),
        event("cuda_runtime", "hipLaunchKernel", 12, 2, correlation=1, **{"External id": 2}),
        event("cuda_driver", "hipModuleLaunchKernel", 15, 2, correlation=2),
        event("cuda_driver", "hipModuleLaunchKernel", 40, 2, correlation=3),
        event("cuda_driver", "hipModuleLaunchKernel", 120, 2, correlation=4),
        event("cuda_runtime", "hipGraphLaunch", 50, 2, correlation=5, **{"External id": 1}),
        kernel("by its id", correlation=99, **{"External id": 3}),
        kernel("by the call's id", correlation=1),
        kernel("within inner", correlation=2),
        kernel("within outer", correlation=3),
        kernel("within nothing", correlation=4),
        kernel("replayed", correlation=5, **{"External id": 1}),
        kernel("replayed", correlation=5),
        kernel("zero is no id", correlation=98, **{"External id": 0}),
    ]
    found = dispatches(read(write(tmp_path / "a.json", events)))
    assert [row["operator"] for row in found] == [
        "elsewhere",
        "inner",
        "inner",
        "outer",
        None,
        None,
        None,
        None,
    ]
    assert json.loads(found[1]["operator_shapes"]) == [
        {"dims": [2, 4], "dtype": "float"},
        {"dims": [[1], [2]], "dtype": "TensorList"},
    ]
    assert found[3]["operator_shapes"] is None


def test_shapes_that_do_not_match_their_types_are_left_out(tmp_path: Path) -> None:
    events = [
        event("cpu_op", "a", 0, 9, **{"External id": 1, "Input Dims": [[1]], "Input type": []}),
        event("cpu_op", "b", 0, 9, **{"External id": 2, "Input Dims": 4, "Input type": ["x"]}),
        kernel(**{"External id": 1}),
        kernel(**{"External id": 2}),
    ]
    found = dispatches(read(write(tmp_path / "a.json", events)))
    assert [(row["operator"], row["operator_shapes"]) for row in found] == [("a", None), ("b", None)]


def test_shapes_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    mm = event("cpu_op", "aten::mm", 0, 9, **{"External id": 1, "Input Dims": [[1]], "Input type": ["TYPE"]})
    path = write(tmp_path / "a.json", [mm, kernel(**{"External id": 1})])
    path.write_bytes(path.read_bytes().replace(b"TYPE", b"\xff"))
    (row,) = dispatches(read(path))
    assert (row["operator"], row["operator_shapes"]) == ("aten::mm", None)


@st.composite
def nested(draw: st.DrawFn, low: int = 0, high: int = 400, depth: int = 0) -> list[tuple[int, int]]:
    """Spans with distinct ends that nest, as operators of a thread do."""
    found: list[tuple[int, int]] = []
    at = low
    while at + 4 < high and draw(st.booleans()):
        start = draw(st.integers(at + 1, high - 3))
        end = draw(st.integers(start + 1, high - 1))
        found.append((start, end))
        if depth < 4:
            found += draw(nested(start, end, depth + 1))
        at = end
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.lists(nested(), min_size=1, max_size=2), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9)))
)
def test_innermost_agrees_with_looking_at_all(
    threads: list[list[tuple[int, int]]], calls: list[tuple[int, int]]
) -> None:
    spans = [(start, end, tid) for tid, found in enumerate(threads) for start, end in found]
    asked = [(start, start + length, tid) for start, length in calls for tid in range(len(threads) + 1)]

    def columns(rows: list[tuple[int, int, int]]) -> dict[str, Any]:
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return {
            "start": table[:, 0],
            "duration": table[:, 1] - table[:, 0],
            "tid": table[:, 2],
            "pid": np.ones(len(table), dtype=np.int64),
        }

    found = innermost(columns(spans), columns(asked)).tolist()
    for (start, end, tid), row in zip(asked, found, strict=True):
        last = max((s for s in spans if s[2] == tid and s[0] <= start < s[1]), default=None)
        assert (spans[row] if row >= 0 else None) == (last if last and end <= last[1] else None)


def test_graphs_that_left_no_kernels_are_told(tmp_path: Path) -> None:
    events = [
        event("cuda_runtime", "hipGraphLaunch", 50, 2, correlation=5),
        event("cuda_runtime", "hipGraphLaunch", 60, 2, correlation=6),
        kernel(correlation=5),
    ]
    (notice,) = read(write(tmp_path / "a.json", events)).manifest.notices
    assert notice.code == "graph-replays-missing"
    assert notice.message.startswith("1 of 2 graph launches left no kernel")
    (notice,) = read(write(tmp_path / "b.json", events[:2])).manifest.notices
    assert notice.message.startswith("2 of 2 graph launches left no kernel")
