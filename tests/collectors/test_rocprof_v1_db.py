"""results.db of rocprof v1: recordings against sqlite3, table lists as versions have them as twins."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocprof_v1_db import RocprofV1DbReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

RECORDED = [
    "aiter_gfx942/results.db",
    "gunrock_gfx942/results.db",
    "llamacpp_gfx1201/results.db.gz",
    "stencil_xr/results.db",
]
KERN = '"Index","KernelName","gpu-id","queue-id","pid","grd","wgr","sig","obj","BeginNs","EndNs"'
KERN_ROW = (0, '"gemm<8, 1>"', 2, 0, 77, 640, 64, "0x0", "0x7f", 100, 150)
OPS_NEW = (
    '"BeginNs","EndNs","dev-id","queue-id","Name","pid","tid","roctx-range","stream-id","Index","DurationNs"'
)
OPS_2021 = '"BeginNs","EndNs","dev-id","queue-id","Name","proc-id","tid","Index","DurationNs"'
API = '"BeginNs","EndNs","pid","tid","Name","args","Index","DurationNs"'


def make(path: Path, tables: dict[str, tuple[str, list[tuple[object, ...]]]]) -> Path:
    connection = sqlite3.connect(path)
    for name, (columns, rows) in tables.items():
        typed = ", ".join(f"{column} INTEGER" for column in columns.split(","))
        connection.execute(f'CREATE TABLE "{name}" ({typed})')
        marks = ", ".join("?" * len(columns.split(",")))
        connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows)
    connection.commit()
    connection.close()
    return path


def read(path: Path) -> Capture:
    source = Source.open(path)
    assert RocprofV1DbReader().recognises(source)
    builder = CaptureBuilder()
    RocprofV1DbReader().read(source, builder)
    return builder.build()


@pytest.mark.captures
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_time_is_conserved(captures: Path, tmp_path: Path, name: str) -> None:
    path = captures / "rocprofv1" / name
    plain = path
    if path.suffix == ".gz":
        plain = tmp_path / "plain.db"
        plain.write_bytes(gzip.decompress(path.read_bytes()))
    connection = sqlite3.connect(f"file:{plain}?mode=ro&immutable=1", uri=True)
    rows = connection.execute('SELECT KernelName, EndNs - BeginNs, grd, "gpu-id" FROM KERN').fetchall()
    connection.close()
    found = read(path)
    assert found.dispatches.num_rows == len(rows)
    assert pc.sum(found.dispatches["duration_ns"]).as_py() == pytest.approx(sum(r[1] for r in rows), rel=1e-9)
    assert found.dispatches["kernel"].to_pylist() == [r[0].strip('"') for r in rows]
    assert found.dispatches["grid_x"].to_pylist() == [r[2] for r in rows]
    assert {g.agent for g in found.manifest.gpus} == {str(r[3]) for r in rows}
    assert not found.manifest.notices


@pytest.mark.parametrize("table", ["KERN", "A"])
def test_the_kernel_table_may_be_called_a_synthetic_twin(tmp_path: Path, table: str) -> None:
    found = read(make(tmp_path / "r.db", {table: (KERN, [KERN_ROW])}))
    assert found.dispatches.select(["kernel", "grid_x", "duration_ns"]).to_pylist() == [
        {"kernel": "gemm<8, 1>", "grid_x": 640, "duration_ns": 50}
    ]


@pytest.mark.parametrize("kern", [None, ('"Index","KernelName"', []), (KERN, [])])
@pytest.mark.parametrize("ops", [OPS_NEW, OPS_2021])
def test_tracing_runs_have_kernels_in_ops_synthetic_twin(
    tmp_path: Path, kern: tuple[str, list[tuple[object, ...]]] | None, ops: str
) -> None:
    extra: tuple[object, ...] = ("", 3) if ops == OPS_NEW else ()
    tables = {
        "OPS": (
            ops,
            [(100, 150, 0, 0, "gemm", 7, 7, *extra, 1, 50), (160, 150, 0, 0, "back", 7, 7, *extra, 2, 0)],
        ),
        "COPY": (
            ops,
            [
                (10, 40, 0, 0, "CopyHostToDevice", 7, 7, *extra, 1, 30),
                (50, 60, 0, 0, "FillBuffer", 7, 7, *extra, 2, 0),
            ],
        ),
        "HIP": (API, [(5, 45, 7, 9, "hipMemcpy", "( dst(0x1) )", 1, 40)]),
        "HSA": (API, [(6, 7, 7, 9, "hsa_init", "()", 1, 1)]),
        "rocTX": (API, [(1, 99, 7, 9, "prefill", "", 1, 98), (99, 1, 7, 9, "back", "", 1, 0)]),
    }
    if kern:
        tables = {"KERN": kern, **tables}
    found = read(make(tmp_path / "r.db", tables))
    assert found.dispatches.select(["kind", "kernel", "duration_ns"]).to_pylist() == [
        {"kind": "kernel", "kernel": "gemm", "duration_ns": 50},
        {"kind": "memcpy", "kernel": "CopyHostToDevice", "duration_ns": 30},
        {"kind": "memset", "kernel": "FillBuffer", "duration_ns": 10},
    ]
    assert found.spans.select(["kind", "name", "thread"]).to_pylist() == [
        {"kind": "api", "name": "hipMemcpy", "thread": 9},
        {"kind": "api", "name": "hsa_init", "thread": 9},
        {"kind": "annotation", "name": "prefill", "thread": 9},
    ]
    assert {(d.reason, d.count) for d in found.manifest.dropped} == {
        ("negative-duration", 1),
        ("negative-span", 1),
    }
    assert [p.pid for p in found.manifest.processes] == [7]
    assert [g.agent for g in found.manifest.gpus] == ["device 0"]  # a device number is not a KFD node


def test_kernels_in_both_tables_count_once_synthetic(tmp_path: Path) -> None:
    ops = [(100, 150, 0, 0, "gemm", 77, 77, "", 3, 1, 50)]
    found = read(make(tmp_path / "r.db", {"KERN": (KERN, [KERN_ROW]), "OPS": (OPS_NEW, ops)}))
    assert found.dispatches.num_rows == 1
    assert found.dispatches["grid_x"].to_pylist() == [640]


def test_any_type_in_any_column_is_borne_synthetic(tmp_path: Path) -> None:
    columns = KERN + ',"SQ_WAVES"'
    rows: list[tuple[object, ...]] = [
        (*KERN_ROW, 4),
        (1, b"raw\xff", "2", 0, 77, "many", 2.5, None, None, "200", "275", 1.5),
        (2, None, None, None, None, None, None, None, None, None, None, "none"),
    ]
    found = read(make(tmp_path / "r.db", {"KERN": (columns, rows)}))
    assert found.dispatches["kernel"].to_pylist() == ["gemm<8, 1>", "raw\ufffd", ""]
    assert found.dispatches["duration_ns"].to_pylist() == [50, 75, None]
    assert found.dispatches["grid_x"].to_pylist() == [640, None, None]
    assert found.counters["value"].to_pylist() == [4.0, 1.5, None]
    assert [g.agent for g in found.manifest.gpus] == ["2", "not recorded"]


def test_columns_of_nothing_but_null_are_read_synthetic(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(None,) * 11] * 3
    found = read(make(tmp_path / "r.db", {"KERN": (KERN, rows)}))
    assert found.dispatches.num_rows == 3
    assert found.dispatches["duration_ns"].null_count == 3


def test_a_database_without_dispatches_says_so_synthetic(tmp_path: Path) -> None:
    found = read(make(tmp_path / "r.db", {"KERN": (KERN, [])}))
    assert [n.code for n in found.manifest.notices] == ["no-dispatches"]


def test_a_table_without_times_or_names_adds_nothing_synthetic(tmp_path: Path) -> None:
    tables: dict[str, tuple[str, list[tuple[object, ...]]]] = {
        "KERN": (KERN, [KERN_ROW]),
        "COPY": ('"Name","Index"', [("x", 1)]),
        "HIP": ('"Name","Index"', [("x", 1)]),
    }
    found = read(make(tmp_path / "r.db", tables))
    assert (found.dispatches.num_rows, found.spans.num_rows) == (1, 0)


def test_a_column_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    path = make(tmp_path / "r.db", {"KERN": (KERN + ',"SQ_WAVES"', [(*KERN_ROW, 4)])})
    path.write_bytes(path.read_bytes().replace(b"SQ_WAVES", b"SQ_\xbfWAVE"))
    found = read(path)
    assert (found.dispatches.num_rows, found.counters.num_rows) == (1, 0)


def test_a_damaged_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = make(tmp_path / "r.db", {"KERN": (KERN, [KERN_ROW] * 2000)})
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4096] + b"\xa5" * (len(whole) - 4096)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"r\.db") as error:
            read(path)
        assert error.value.hint


def test_reading_leaves_the_file_and_folder_as_they_were(tmp_path: Path) -> None:
    path = make(tmp_path / "odd name%20?#.db", {"KERN": (KERN, [KERN_ROW])})
    before = path.read_bytes()
    assert read(path).dispatches.num_rows == 1
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_other_databases_are_not_taken_for_it(tmp_path: Path) -> None:
    reader = RocprofV1DbReader()
    other = make(tmp_path / "other.db", {"people": ('"name"', [("x",)])})
    assert not reader.recognises(Source.open(other))
    rocpd = make(tmp_path / "rocpd.db", {"rocpd_kernel_dispatch": ('"id"', []), "KERN": (KERN, [])})
    assert not reader.recognises(Source.open(rocpd))
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    assert not reader.recognises(Source.open(broken))
    text = tmp_path / "text.db"
    text.write_text("no database")
    assert not reader.recognises(Source.open(text))
