"""results.csv of rocprof v1: recordings against the csv module, quirks against synthetic twins."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.discovery import load, recognise
from rocscope.collectors.rocprof_columns import Layout, header_cells
from rocscope.collectors.rocprof_v1_csv import RocprofV1CsvReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

SHARED = "Index,KernelName,gpu-id,queue-id,queue-index,pid,tid,grd,wgr,lds,scr"
NEW = f"{SHARED},arch_vgpr,accum_vgpr,sgpr,wave_size,sig,obj"
OLD = f"{SHARED},vgpr,sgpr,fbar,sig,obj"
TIMES = "DispatchNs,BeginNs,EndNs,CompleteNs,DurationNs"

TIMED = [
    "aiter_gfx942/results.csv",
    "gunrock_gfx942/results.csv",
    "laplacian_xr/results.csv",
    "llamacpp_gfx1201/results.csv.gz",
    "stencil_xr/results.csv",
]
COUNTED = ["laplacian_xr/data_movement.csv", "stencil_xr/data_movement.csv", "stencil_xr/bankconflicts.csv"]


def row(index: int, name: str, begin: int, end: int, *, duration: int | None = None) -> str:
    times = f"{begin - 10},{begin},{end},{end + 10},{end - begin if duration is None else duration}"
    return f'{index},"{name}",2,0,{index},77,77,1024,256,512,16,24,8,32,64,0x0,0x7f01,{times}'


def table(*rows: str, header: str = f"{NEW},{TIMES}") -> str:
    return "\n".join([header, *rows]) + "\n"


def read(path: Path) -> Capture:
    builder = CaptureBuilder()
    RocprofV1CsvReader().read(Source.open(path), builder)
    return builder.build()


def read_text(folder: Path, text: str | bytes) -> Capture:
    path = folder / "synthetic.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert RocprofV1CsvReader().recognises(Source.open(path))
    return read(path)


def independent(path: Path) -> list[dict[str, str]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(raw.decode())))


def codes(capture: Capture) -> set[str]:
    return {notice.code for notice in capture.manifest.notices}


@pytest.mark.captures
@pytest.mark.parametrize("name", TIMED)
def test_recorded_time_is_conserved(captures: Path, name: str) -> None:
    path = captures / "rocprofv1" / name
    rows = independent(path)
    found = read(path)
    assert found.dispatches.num_rows == len(rows)
    total = sum(int(r["EndNs"]) - int(r["BeginNs"]) for r in rows)
    assert pc.sum(found.dispatches["duration_ns"]).as_py() == pytest.approx(total, rel=1e-9)
    assert found.dispatches["kernel"].to_pylist() == [r["KernelName"] for r in rows]
    for column, recorded in {
        "dispatch_id": "Index",
        "grid_x": "grd",
        "workgroup_x": "wgr",
        "lds_bytes": "lds",
        "scratch_bytes": "scr",
        "vgprs": "arch_vgpr",
        "agprs": "accum_vgpr",
        "sgprs": "sgpr",
        "wave_size": "wave_size",
        "start_ns": "BeginNs",
        "queue": "queue-id",
    }.items():
        assert found.dispatches[column].to_pylist() == [int(r[recorded]) for r in rows], column
    assert found.dispatches["grid_y"].null_count == len(rows)  # the tool gives the product only
    assert {g.agent for g in found.manifest.gpus} == {r["gpu-id"] for r in rows}
    assert {p.pid for p in found.manifest.processes} == {int(r["pid"]) for r in rows}
    assert not found.manifest.notices
    assert not found.manifest.dropped
    assert not found.manifest.passes[0].perturbed


@pytest.mark.captures
@pytest.mark.parametrize("name", COUNTED)
def test_recorded_counters_without_times_are_a_perturbed_pass(captures: Path, name: str) -> None:
    path = captures / "rocprofv1" / name
    rows = independent(path)
    counters = list(rows[0])[17:]
    found = read(path)
    assert RocprofV1CsvReader().content_of(Source.open(path)) == "counters"
    assert found.dispatches.num_rows == len(rows)
    for column in ("start_ns", "end_ns", "duration_ns"):
        assert found.dispatches[column].null_count == len(rows)
    assert found.counters.num_rows == len(rows) * len(counters)
    for counter in counters:
        values = found.counters.filter(pc.equal(found.counters["counter"].cast("string"), counter))
        assert values["value"].to_pylist() == [float(r[counter]) for r in rows]
    (only,) = found.manifest.passes
    assert only.perturbed
    assert only.note == "rocprof v1"
    assert set(only.counters) == set(counters)


@pytest.mark.captures
def test_a_folder_is_one_capture_with_a_clean_and_two_counter_passes(captures: Path) -> None:
    found = load([captures / "rocprofv1" / "stencil_xr"])
    assert [(p.perturbed, len(p.counters)) for p in found.manifest.passes] == [
        (True, 2),
        (True, 5),
        (False, 0),
    ]
    assert {s.path for s in found.manifest.sources} == {
        "bankconflicts.csv",
        "bankconflicts.txt",
        "data_movement.csv",
        "data_movement.txt",
        "results.csv",
    }


@pytest.mark.captures
def test_the_gpu_is_described_by_files_beside_the_recording(captures: Path) -> None:
    (by_json,) = read(captures / "rocprofv1/aiter_gfx942/results.csv").manifest.gpus
    assert (by_json.agent, by_json.arch, by_json.compute_units) == (
        "1",
        "gfx950",
        256,
    )  # whatever the folder says
    (by_dump,) = read(captures / "rocprofv1/llamacpp_gfx1201/results.csv.gz").manifest.gpus
    assert (by_dump.agent, by_dump.arch, by_dump.wave_size) == ("2", "gfx1201", 32)


def test_negative_durations_are_dropped_and_counted_synthetic_twin(tmp_path: Path) -> None:
    found = read_text(
        tmp_path, table(row(0, "a", 1000, 2000), row(1, "b", 3000, 2244), row(2, "c", 5000, 3958))
    )
    assert found.dispatches["kernel"].to_pylist() == ["a"]
    assert [(d.reason, d.count) for d in found.manifest.dropped] == [("negative-duration", 2)]


def test_two_clocks_are_noticed_and_durations_kept_synthetic_twin(tmp_path: Path) -> None:
    ahead = 12_420_000_000
    rows = [
        f'{i},"k",1,0,{i},7,7,64,64,0,0,8,0,16,64,0x0,0x1,{10**12 + i},{10**12 + ahead + i},'
        f"{10**12 + ahead + i + 500},{10**12 + i + 900},500"
        for i in range(4)
    ]
    found = read_text(tmp_path, table(*rows))
    (notice,) = found.manifest.notices
    assert notice.code == "clock-domains-differ"
    assert "12.420 s" in notice.message
    assert found.dispatches["duration_ns"].to_pylist() == [500] * 4


def test_a_duration_that_disagrees_is_noticed(tmp_path: Path) -> None:
    found = read_text(tmp_path, table(row(0, "a", 1000, 2000, duration=999)))
    assert codes(found) == {"duration-disagrees"}
    assert found.dispatches["duration_ns"].to_pylist() == [1000]


def test_header_of_2020_synthetic_twin(tmp_path: Path) -> None:
    text = table(
        '0,"k",1,0,0,5,5,64,64,128,4,24,16,0,0x0,0x1,10,20,30,40',
        header=f"{OLD},DispatchNs,BeginNs,EndNs,CompleteNs",
    )
    found = read_text(tmp_path, text).dispatches
    assert found["vgprs"].to_pylist() == [24]
    assert found["wave_size"].to_pylist() == [None]
    assert found["agprs"].to_pylist() == [None]
    assert found["duration_ns"].to_pylist() == [10]


def test_columns_are_told_by_name_in_any_order_and_case_synthetic_twin(tmp_path: Path) -> None:
    header = '"EndNs","TCC_HIT[0]","WGR","KernelName","BEGINNS","GPU-ID","Index","grd","Queue_Id"'
    found = read_text(tmp_path, table('9,2.5,64,"k",4,3,0,640,1', header=header))
    assert found.dispatches.select(["grid_x", "workgroup_x", "duration_ns", "queue"]).to_pylist() == [
        {"grid_x": 640, "workgroup_x": 64, "duration_ns": 5, "queue": 1}
    ]
    assert found.counters.select(["counter", "value"]).to_pylist() == [
        {"counter": "TCC_HIT[0]", "value": 2.5}
    ]


def test_barriers_are_waiting_and_runtime_kernels_are_kernels(tmp_path: Path) -> None:
    found = read_text(
        tmp_path,
        table(
            row(0, "<barrier packet>", 10, 20),
            row(1, "__amd_rocclr_copyBuffer.kd", 30, 40),
            row(2, "__amd_rocclr_fillBufferAligned.kd", 50, 60),
        ),
    )
    assert found.dispatches["kind"].to_pylist() == ["barrier", "kernel", "kernel"]


@pytest.mark.parametrize(
    "name",
    [
        "void f<&op_silu(float), {lambda()#1}>(float const*, int) [clone .kd]",
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
        "\x1b]0;owned\x07",
        "e" * 2000,
        "NA",
        "null",
        "naïve_カーネル",
    ],
)
def test_hostile_names_survive_untouched(tmp_path: Path, name: str) -> None:
    found = read_text(tmp_path, table(row(0, name, 10, 20), row(1, "after", 30, 40)))
    assert found.dispatches["kernel"].to_pylist() == [name, "after"]


def test_a_quote_that_swallows_a_line_costs_two_rows_that_are_counted_synthetic(tmp_path: Path) -> None:
    found = read_text(
        tmp_path, table(row(0, "a", 10, 20), row(1, 'b"', 30, 40), row(2, "c", 50, 60), row(3, "d", 70, 80))
    )
    assert found.dispatches["kernel"].to_pylist() == ["a", "d"]
    assert sum(d.count for d in found.manifest.dropped) == 2


def test_a_line_break_within_a_name_is_borne(tmp_path: Path) -> None:
    found = read_text(tmp_path, table(row(0, "a,\nb", 10, 20), row(1, "c", 30, 40)))
    assert found.dispatches["kernel"].to_pylist() == ["a,\nb", "c"]


def test_a_name_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    found = read_text(
        tmp_path, table(row(0, "k@", 10, 20), row(1, "b", 30, 40)).encode().replace(b"k@", b"k\xff")
    )
    assert found.dispatches["kernel"].to_pylist() == ["k\ufffd", "b"]


def test_header_only_is_no_time_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{NEW},{TIMES}\n")
    assert RocprofV1CsvReader().content_of(Source.open(path)) == "description"
    found = read(path)
    assert codes(found) == {"no-dispatches"}
    assert found.dispatches.num_rows == 0


def test_byte_order_mark_crlf_and_missing_final_newline(tmp_path: Path) -> None:
    text = table(row(0, "a", 10, 20), row(1, "b", 30, 40)).replace("\n", "\r\n").rstrip()
    found = read_text(tmp_path, b"\xef\xbb\xbf" + text.encode())
    assert found.dispatches["duration_ns"].to_pylist() == [10, 10]


def test_a_row_cut_in_the_middle_is_dropped_and_counted(tmp_path: Path) -> None:
    whole = table(row(0, "a", 10, 20), row(1, "b, c", 30, 40))
    for cut in (whole[:-30], whole[: whole.index("b, c") + 2]):
        found = read_text(tmp_path, cut)
        assert found.dispatches["kernel"].to_pylist() == ["a"]
        assert sum(d.count for d in found.manifest.dropped) == 1


def test_cells_that_are_no_numbers_are_null(tmp_path: Path) -> None:
    lossy = row(0, "a", 10, 20).replace(",10,20,", ",8.1097E+14,8.1097E+14,").replace(",1024,", ",many,")
    found = read_text(tmp_path, table(lossy, row(1, "b", 30, 40)))
    assert found.dispatches["duration_ns"].to_pylist() == [None, 10]
    assert found.dispatches["grid_x"].to_pylist() == [None, 1024]
    assert codes(found) == {"untimed-dispatches"}


def test_impossible_sizes_are_left_out(tmp_path: Path) -> None:
    found = read_text(tmp_path, table(row(0, "a", 10, 20).replace(",64,0x0", ",4000000000,0x0")))
    assert found.dispatches["wave_size"].to_pylist() == [None]
    assert codes(found) == {"impossible-values"}


def test_zero_times_are_no_times(tmp_path: Path) -> None:
    found = read_text(tmp_path, table(row(0, "a", 10, 20).replace(",0,10,20,30,10", ",0,0,0,0,0")))
    assert found.dispatches["duration_ns"].to_pylist() == [None]
    assert codes(found) == {"untimed-dispatches"} or codes(found) == {
        "untimed-dispatches",
        "duration-disagrees",
    }


def test_a_column_without_a_name_and_a_header_of_many_counters_are_borne(tmp_path: Path) -> None:
    counters = [f"A_LONG_NAME_OF_A_COUNTER_THAT_IS_MADE_UP[{i}]" for i in range(500)]
    header = f"{NEW},{TIMES},{','.join(counters)},"
    assert len(header) > 1 << 14
    found = read_text(tmp_path, table(row(0, "a", 10, 20) + ",1.5" * 500 + ",", header=header))
    assert found.dispatches["duration_ns"].to_pylist() == [10]
    assert found.counters["value"].to_pylist() == [1.5] * 500


def test_durations_without_begin_and_end_are_used(tmp_path: Path) -> None:
    found = read_text(
        tmp_path, table('0,"k",1,0,64,64,70', header="Index,KernelName,gpu-id,queue-id,grd,wgr,DurationNs")
    )
    assert found.dispatches.select(["start_ns", "duration_ns"]).to_pylist() == [
        {"start_ns": None, "duration_ns": 70}
    ]


def test_a_counter_that_is_no_number_is_null_and_one_without_dispatch_is_left_out(tmp_path: Path) -> None:
    shape = "1,0,0,7,7,64,64,0,0,8,0,16,64,0x0,0x1"
    text = table(f'0,"k",{shape},oops,2', f'x,"k",{shape},3,4', header=f"{NEW},SQ_WAVES,GRBM_COUNT")
    found = read_text(tmp_path, text)
    assert found.dispatches["dispatch_id"].to_pylist() == [0, None]
    assert found.counters.select(["dispatch_id", "counter", "value"]).to_pylist() == [
        {"dispatch_id": 0, "counter": "SQ_WAVES", "value": None},
        {"dispatch_id": 0, "counter": "GRBM_COUNT", "value": 2.0},
    ]


def test_rows_none_of_which_fits_are_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"synthetic\.csv: line 2") as error:
        read_text(tmp_path, table("1,2,3", "4,5"))
    assert error.value.hint


def test_a_gzip_cut_short_gives_what_precedes_or_an_error(tmp_path: Path) -> None:
    text = table(*[row(i, f"kernel{i * 7919 % 1000}", i * 100 + 10, i * 100 + 20) for i in range(60000)])
    packed = gzip.compress(text.encode())
    path = tmp_path / "results.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    found = read(path)
    assert 0 < found.dispatches.num_rows < 60000
    assert "truncated-file" in codes(found)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02" * 50, b"Index,KernelName\n", b"%PDF-1.7\n", b'"' * 100]
)
def test_other_content_is_not_taken_for_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    assert not RocprofV1CsvReader().recognises(Source.open(path))


def test_counter_input_is_known_and_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("# counters\npmc: SQ_WAVES, GRBM_COUNT\n\nrange: 1:4\ngpu: 0 1\nkernel: gemm\n")
    reader = recognise(path)
    assert reader is not None
    assert reader.name == "rocprof-input"
    builder = CaptureBuilder()
    reader.read(Source.open(path), builder)
    assert builder.build().manifest.notices == []
    path.write_text("pmc: SQ_WAVES\nand some prose\n")
    assert recognise(path) is None


def test_of_two_columns_with_one_meaning_the_first_counts() -> None:
    layout = Layout.of(["lds", "LDS_Per_Workgroup", "SQ_WAVES", "SQ_WAVES", ""])
    assert layout.used == ("lds_bytes", "counter:SQ_WAVES")
    assert header_cells("\x00,a\n") == header_cells("\n") == header_cells("a\rb,c\n") == []


names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"'), min_size=1, max_size=60
)
records = st.tuples(names, st.integers(1, 2**50), st.integers(0, 2**40))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path: Path, written: list[tuple[str, int, int]]) -> None:
    rows = [row(i, name, begin, begin + length) for i, (name, begin, length) in enumerate(written)]
    found = read_text(tmp_path, table(*rows)).dispatches
    assert (
        list(
            zip(
                found["kernel"].to_pylist(),
                found["start_ns"].to_pylist(),
                found["duration_ns"].to_pylist(),
                strict=True,
            )
        )
        == written
    )
