"""What rocprofv2 prints: recordings against a plain search, hostile names and interleaving as twins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors import rocprof_v2_printed
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.discovery import recognise
from rocscope.collectors.rocprof_v2_printed import RocprofV2PrintedReader, parse_line
from rocscope.collectors.source import Source
from rocscope.errors import InputError

BANNER = "ROCProfilerV2: Collecting the following counters:\n- GRBM_COUNT\nEnabling Counter Collection\n"


def line(
    name: str, *, dispatch: int = 1, begin: int = 100, end: int = 150, counters: str = ", GRBM_COUNT(7.5)"
) -> str:
    return (
        f"Dispatch_ID({dispatch}), GPU_ID(4), Queue_ID(1), Process_ID(77), Thread_ID(77), "
        f"Grid_Size(1048576), Workgroup_Size(256), LDS(512), Scratch_Size(16), "
        f"Arch_VGPR(12), Accumulative_VGPR(4), SGPR(32), "
        f'Wave_Size(64), Kernel_Name("{name}"), Begin_Timestamp({begin}), End_Timestamp({end}), '
        f"Correlation_ID(0){counters}"
    )


def read_text(folder: Path, text: str | bytes) -> Capture:
    path = folder / "stdout.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = Source.open(path)
    assert RocprofV2PrintedReader().recognises(source)
    builder = CaptureBuilder()
    RocprofV2PrintedReader().read(source, builder)
    return builder.build()


@pytest.mark.captures
@pytest.mark.parametrize(
    ("name", "dispatches"),
    [
        ("hip_helloworld_golden_traces.txt", 1),
        ("hip_vectoradd_golden_traces.txt", 1),
        ("mpi_vectoradd_golden_traces.txt", 2),
    ],
)
def test_recorded_time_is_conserved(captures: Path, name: str, dispatches: int) -> None:
    text = (captures / "rocprofv2/golden" / name).read_text()
    begins = [int(each) for each in re.findall(r"Begin_Timestamp\((\d+)\)", text)]
    ends = [int(each) for each in re.findall(r"End_Timestamp\((\d+)\)", text)]
    builder = CaptureBuilder()
    reader = recognise(captures / "rocprofv2/golden" / name)
    assert reader is not None
    assert reader.name == "rocprofv2-printed"
    reader.read(Source.open(captures / "rocprofv2/golden" / name), builder)
    found = builder.build()
    assert found.dispatches.num_rows == len(begins) == dispatches
    assert sum(found.dispatches["duration_ns"].to_pylist()) == pytest.approx(
        sum(ends) - sum(begins), rel=1e-9
    )
    assert found.dispatches["kernel"].to_pylist() == re.findall(r'Kernel_Name\("(\w+)"\)', text)
    assert found.dispatches["agprs"].to_pylist() == [
        int(n) for n in re.findall(r"Accumulative_VGPR\((\d+)", text)
    ]
    assert found.counters["value"].to_pylist() == [float(n) for n in re.findall(r"GRBM_COUNT\((.*?)\)", text)]
    assert {g.agent for g in found.manifest.gpus} == set(re.findall(r"GPU_ID\((\d+)", text))
    assert {str(p.pid) for p in found.manifest.processes} == set(re.findall(r"Process_ID\((\d+)", text))
    assert all(p.perturbed for p in found.manifest.passes)
    assert not found.manifest.dropped


def test_both_spellings_of_lds_and_of_the_start_synthetic(tmp_path: Path) -> None:
    other = line("b", dispatch=2).replace("LDS(", "LDS_Per_Workgroup(").replace("Begin_", "Start_")
    found = read_text(tmp_path, f"{line('a')}\n{other}\n").dispatches
    assert found["lds_bytes"].to_pylist() == [512, 512]
    assert found["duration_ns"].to_pylist() == [50, 50]


def test_records_without_counters_are_a_clean_pass_synthetic(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"{line('a', counters='')}\n{line('b', dispatch=2, counters=', ')}\n")
    assert found.dispatches["duration_ns"].to_pylist() == [50, 50]
    assert [p.perturbed for p in found.manifest.passes] == [False]


def test_output_of_the_program_is_passed_over_and_broken_records_counted_synthetic(tmp_path: Path) -> None:
    whole = line("a")
    text = "\n".join(
        [
            BANNER,
            "Max error: 0.000000",
            f"step 1 {whole}",  # the program had not ended its line
            line("cut")[:-60],
            line("torn").replace("Begin_Timestamp", "Begin_TimeMax error"),
            line("torn")[40:],
            f"{whole}{whole}",
            "the kernel gemm(float*) took 3 ms",
            "Domain(HIP_API_DOMAIN), Function(hipMalloc), Start_Timestamp(1), End_Timestamp(2)",
        ]
    )
    found = read_text(tmp_path, text)
    assert found.dispatches["kernel"].to_pylist() == ["a"]
    assert [(d.reason, d.count) for d in found.manifest.dropped] == [("broken-dispatch-line", 4)]
    assert [n.code for n in found.manifest.notices] == ["printed-trace-not-read"]


def test_a_line_cut_in_its_counters_is_broken() -> None:
    assert parse_line(line("a")) is not None
    assert parse_line(line("a")[:-3]) is None
    assert parse_line("") is None


def test_names_that_are_not_utf8_are_replaced_synthetic(tmp_path: Path) -> None:
    found = read_text(tmp_path, line("k@").encode().replace(b"k@", b"k\xff\x00"))
    assert found.dispatches["kernel"].to_pylist() == ["k\ufffd\x00"]


def test_many_records_go_in_batches_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocprof_v2_printed, "BATCH_LINES", 7)
    text = "\n".join(line(f"k{i}", dispatch=i, begin=i * 10 + 1, end=i * 10 + 4) for i in range(40))
    found = read_text(tmp_path, text)
    assert found.dispatches["dispatch_id"].to_pylist() == list(range(40))
    assert found.counters.num_rows == 40


def test_a_run_that_printed_none_says_so(tmp_path: Path) -> None:
    assert [n.code for n in read_text(tmp_path, BANNER).manifest.notices] == ["no-dispatches"]


def test_nothing_but_broken_records_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stdout\.txt: none of its 2") as error:
        read_text(tmp_path, BANNER + f"{line('a')[:90]}\n{line('b')[:90]}\n")
    assert "-d" in error.value.hint


@pytest.mark.parametrize("content", ["", "GPU_ID(4), Queue_ID(1)", "\x00\x01", "Dispatch_ID(x), GPU_ID(4), "])
def test_other_content_is_not_taken_for_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stdout.txt"
    path.write_text(content)
    assert not RocprofV2PrintedReader().recognises(Source.open(path))


hostile = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\n\r"), max_size=50
) | st.sampled_from(
    [
        'f("x"), g(1)',
        "{lambda(int)#1}",
        '")',
        '"), (',
        "a), LDS(3), Grid_Size(9",
        "(anonymous namespace)::k<1, 'c'>",
    ]
)


@given(hostile, st.integers(0, 2**50), st.integers(0, 2**50), st.lists(st.floats(0, 1e15), max_size=4))
def test_what_is_printed_is_read(name: str, begin: int, end: int, values: list[float]) -> None:
    counters = "".join(f", TCC_HIT[{i}]({value:f})" for i, value in enumerate(values))
    fields = parse_line(line(name, begin=begin, end=end, counters=counters) + "\n")
    assert fields is not None
    assert fields["Kernel_Name"] == name
    assert (fields["Begin_Timestamp"], fields["End_Timestamp"]) == (str(begin), str(end))
    assert fields["LDS"] == "512"
    for i, value in enumerate(values):
        assert float(fields[f"TCC_HIT[{i}]"]) == pytest.approx(value, abs=1e-6)
