"""Each export holds every row, in units and names another tool understands, and is whole or absent."""

import csv
import gzip
import json
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_capture import HOSTILE, columns, dispatch, many_dispatches, sample_capture, sample_manifest

from rocscope import tables
from rocscope.capture import Capture, Manifest
from rocscope.errors import InputError, UsageError
from rocscope.exports import lanes
from rocscope.exports.export import Export, exports
from rocscope.exports.target import refuse_existing, replacing


def trace(capture: Capture, path: Path) -> list[dict]:
    exports()["perfetto"].write(capture, path)
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return json.loads(text)["traceEvents"]


def kernels_of(events: list[dict]) -> list[dict]:
    return [e for e in events if "kernel" in e.get("args", {})]


def test_every_export_is_found() -> None:
    assert set(exports()) == {"csv", "parquet", "perfetto"}
    assert all(isinstance(export, Export) and export.help for export in exports().values())


def test_parquet_holds_every_row_and_its_family(tmp_path: Path) -> None:
    capture = sample_capture()
    written = exports()["parquet"].write(capture, tmp_path / "out")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "out").iterdir()}
    for name, table in capture.tables().items():
        found = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert found.select(table.column_names).to_pylist() == table.to_pylist() or name == "samples"
    frame = pd.read_parquet(tmp_path / "out" / "dispatches.parquet")
    assert frame["family"].tolist()[0] == "gptq_gemm"
    assert frame["kernel_short"].tolist()[0].startswith("gemm_half_q_half_gptq_8bit")
    assert frame["family"].tolist()[3] == "memcpy"
    assert pq.read_table(tmp_path / "out" / "processes.parquet")["pid"].to_pylist() == [1234]


def test_csv_is_whole_and_cannot_act(tmp_path: Path) -> None:
    capture = sample_capture()
    exports()["csv"].write(capture, tmp_path)
    with (tmp_path / "dispatches.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == capture.dispatches.num_rows
    assert rows[1]["kernel"] == "'" + HOSTILE
    assert rows[0]["duration_ns"] == "45400"
    assert rows[0]["vgprs"] == ""
    assert rows[3]["queue"] == ""
    with (tmp_path / "counters.csv").open(newline="") as stream:
        assert [row["value"] for row in csv.DictReader(stream)] == ["19600", ""]
    with (tmp_path / "gpus.csv").open(newline="") as stream:
        assert [row["agent"] for row in csv.DictReader(stream)] == ["Agent 4", "Agent 5"]


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_perfetto_has_named_tracks_and_exact_times(tmp_path: Path, name: str) -> None:
    events = trace(sample_capture(), tmp_path / name)
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert sorted(names.values()) == [
        "GPU 0 AMD Instinct MI100 gfx908 node-1",
        "GPU 1 AMD Instinct MI100 gfx908 node-1",
        "VLLM::Worker_TP0 1234 rank 0 node-1",
        "telemetry",
    ]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    shown = [e for e in events if e["ph"] == "X"]
    assert all((e["pid"], e["tid"]) in tracks for e in shown)
    kernels = [e for e in shown if "kernel" in e.get("args", {})]
    assert len(kernels) == 4, "the counter pass and the untimed dispatch have no place on the timeline"
    first = kernels[0]
    assert (first["ts"], first["dur"]) == (3.0, 45.4)
    assert first["cat"] == first["args"]["family"] == "gptq_gemm"
    assert first["args"]["grid_x"] == 3584
    assert tracks[first["pid"], first["tid"]] == "queue 1"
    assert tracks[kernels[1]["pid"], kernels[1]["tid"]] == "queue 1 (2)", (
        "overlapping kernels lie side by side"
    )
    assert kernels[1]["args"]["kernel"] == HOSTILE
    assert names[kernels[3]["pid"]].startswith("GPU 1")
    assert tracks[kernels[3]["pid"], kernels[3]["tid"]] == "queue 7"
    annotation = next(e for e in shown if e["name"] == "ProfilerStep#3")
    assert tracks[annotation["pid"], annotation["tid"]] == "annotations"
    counters = [e for e in events if e["ph"] == "C"]
    assert [(names[e["pid"]], e["name"], e["args"]["value"]) for e in counters] == [
        ("GPU 0 AMD Instinct MI100 gfx908 node-1", "power (W)", 201.5),
        ("telemetry", "process:1234:VLLM::Worker_TP0 rss_bytes", 1e9),
    ]


def test_perfetto_of_counter_passes_alone_says_so(tmp_path: Path) -> None:
    capture = sample_capture()
    only = [each for each in capture.manifest.passes if each.perturbed]
    perturbed = Capture(manifest=sample_manifest(passes=only), dispatches=capture.dispatches)
    events = trace(perturbed, tmp_path / "t.json")
    assert [e["dur"] for e in kernels_of(events)] == [900.0]
    assert json.loads((tmp_path / "t.json").read_text())["otherData"]["passes_shown"] == [1]


def test_perfetto_without_a_manifest_entry_still_names_tracks(tmp_path: Path) -> None:
    capture = Capture(manifest=Manifest(), dispatches=columns([dispatch(start_ns=1, end_ns=2)], "dispatches"))
    events = trace(capture, tmp_path / "t.json")
    assert {e["args"].get("name") for e in events if e["ph"] == "M"} == {
        "telemetry",
        "GPU 0",
        "queue 1",
        "families",
        None,
    }


def test_perfetto_needs_times(tmp_path: Path) -> None:
    capture = Capture(manifest=sample_manifest(), dispatches=columns([dispatch(count=7)], "dispatches"))
    with pytest.raises(InputError, match="no times"):
        exports()["perfetto"].write(capture, tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.captures
def test_a_real_trace_goes_through_with_its_times(captures: Path, tmp_path: Path) -> None:
    from rocscope import pipeline

    capture = pipeline.load(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    events = trace(capture, tmp_path / "t.json.gz")
    total = sum(round(1000 * e["dur"]) for e in events if e["ph"] == "X" and "kernel" in e.get("args", {}))
    assert total == pd.Series(capture.dispatches["duration_ns"].to_pylist()).sum()
    by_track: dict[tuple[int, int], float] = {}
    for e in sorted((e for e in events if "kernel" in e.get("args", {})), key=lambda e: e["ts"]):
        key = (e["pid"], e["tid"])
        assert e["ts"] >= by_track.get(key, 0.0) - 1e-6, "two kernels overlap on a track"
        by_track[key] = e["ts"] + e["dur"]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.integers(0, 1)), max_size=40))
def test_no_two_rows_of_a_lane_overlap(spans: list[tuple[int, int, int]]) -> None:
    rows = [dispatch(start_ns=s, end_ns=s + d, queue=q) for s, d, q in spans]
    table = columns(rows, "dispatches") if rows else tables.empty("dispatches")
    lane = lanes.assign(table)
    assert len(lane) == len(rows)
    ends: dict[tuple[int, int], int] = {}
    for i in sorted(range(len(rows)), key=lambda i: (rows[i]["start_ns"], i)):
        key = (rows[i]["queue"], int(lane[i]))
        assert rows[i]["start_ns"] >= ends.get(key, 0)
        ends[key] = rows[i]["end_ns"]
    deepest = max((sum(s <= t < s + d for s, d, q in spans if q == w) for t, _, w in spans), default=1)
    assert int(lane.max(initial=0)) <= max(0, deepest) + 1


def test_rows_leave_in_batches(tmp_path: Path) -> None:
    """200,000 rows: the trace is right at its ends, and memory stays that of a batch, not of the table."""
    capture = many_dispatches(200_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    exports()["perfetto"].write(capture, tmp_path / "t.json")
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 250
    lines = (tmp_path / "t.json").read_text().splitlines()
    kernels = [line for line in lines if '"kernel":' in line]
    assert len(kernels) == 200_000
    assert json.loads(kernels[-1].rstrip(","))["ts"] == 199_999 * 2.0


@pytest.mark.parametrize("name", ["csv", "parquet", "perfetto"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        exports()[name].write(sample_capture(), tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_replaced_file_is_whole_or_as_before(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("before")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["t.json"]


def test_what_exists_is_refused_unless_forced(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new", force=False)
    refuse_existing(tmp_path, force=False)  # an empty folder is nothing
    (tmp_path / "a").write_text("x")
    for taken in (tmp_path, tmp_path / "a"):
        with pytest.raises(UsageError, match="exists"):
            refuse_existing(taken, force=False)
        refuse_existing(taken, force=True)


def test_lanes_take_any_order() -> None:
    table = pa.concat_tables([many_dispatches(3).dispatches.slice(i, 1) for i in (2, 0, 1)])
    assert np.array_equal(lanes.assign(table), [0, 0, 0])
