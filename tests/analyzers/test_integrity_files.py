"""Each integrity check at the command line: caught in files with a seeded fault, silent on their twins."""

import json

import pytest
import synthetic_files as files
import truth_table
from synthetic_files import GPTQ4, US

from rocscope.cli import run

MI100 = ("--gpu", "MI100")
STARTS = [10**9 + at * 20 * US for at in range(40)]


@pytest.fixture
def integrity(capsys):
    def analyzed(*arguments):
        assert run(["analyze", "--json", "-q", *map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)["integrity"]

    return analyzed


def codes(found):
    return {each["code"] for each in found["warnings"]}


def dispatches(**more):
    return [files.dispatch("k", start, 10 * US, **more) for start in STARTS]


def traced(folder, rows):
    return [files.kernel_trace(folder / "run", rows)]


def unreadable(folder):
    return traced(
        folder,
        [{**row, "Start_Timestamp": "?"} if at % 9 == 0 else row for at, row in enumerate(dispatches())],
    )


def backwards(folder):
    rows = dispatches()
    for row in rows[::9]:
        row["End_Timestamp"] = row["Start_Timestamp"] - 5
    return traced(folder, rows)


def overlapping(folder):
    return traced(folder, [{**row, "End_Timestamp": row["End_Timestamp"] + 30 * US} for row in dispatches()])


def counted(folder, values, counter="SQ_WAVES", runs=40):
    made = traced(folder, dispatches()[:runs])
    return [*made, files.counters(folder / "counters", counter, values)]


def replayed(folder, grids):
    events = files.steps(GPTQ4, times=40)
    for event in events if not grids else ():
        del event["args"]["grid"], event["args"]["block"]
    return [files.torch_trace(folder / "trace.json", events)]


def launched(folder, early_ns):
    """Kernels with the host's calls, whose clock is ahead by ``early_ns``."""
    events = []
    for at in range(40):
        start = 100 * US + at * 20 * US
        events.append(files.launch(start - 5 * US + early_ns, US, at))
        events.append(files.kernel(GPTQ4, start, 10 * US, correlation=at))
    return [files.torch_trace(folder / "trace.json", events)]


def ranks(folder, numbers, world, shift_ns=0):
    made = []
    for rank in numbers:
        events = []
        for at in range(20):
            start = at * 20 * US + (shift_ns if rank else 0)
            events.append(files.kernel(GPTQ4, start, 10 * US))
            events.append(files.kernel(files.ALL_REDUCE, start + 10 * US, 5 * US))
        made.append(files.torch_trace(folder / f"rank{rank}.json", events, rank, world))
    return made


def table(folder, read_bytes):
    row = {"kernel": "k", "duration_ns": 10_000, "read_bytes": read_bytes, "write_bytes": 0, "flops": 0}
    return ["--table", files.table(folder / "measured.csv", row), *MI100]


def first_rocprof(folder, name):
    """A table of the first rocprof, in which waiting for another queue is a row like a kernel's."""
    head = "Index,KernelName,gpu-id,queue-id,queue-index,pid,tid,grd,wgr,lds,scr,arch_vgpr,accum_vgpr,sgpr"
    head += ",wave_size,sig,obj,DispatchNs,BeginNs,EndNs,CompleteNs,DurationNs"
    lines = [head]
    for at, start in enumerate(STARTS):
        what = name if at % 4 == 3 else "k"
        shape = "0,0,0,0,0,0,0" if what != "k" else "122880,256,0,0,32,0,32"
        times = f"{start - 1},{start},{start + 10 * US},{start + 11 * US},{10 * US}"
        lines.append(f'{at},"{what}",0,0,{at},7,7,{shape},64,0x0,0x0,{times}')
    path = folder / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return [path, *MI100]


ALL = range(40)
FAULTS = {
    "dropped-dispatches": (unreadable, lambda at: traced(at, dispatches())),
    "negative times": (backwards, lambda at: traced(at, dispatches())),
    "overlapping-dispatches": (overlapping, lambda at: traced(at, dispatches())),
    "saturated-counters": (
        lambda at: counted(at, [48 * (2**32 - 1)] * 40, "SQ_INSTS_VALU"),
        lambda at: counted(at, [48 * 2**16] * 40, "SQ_INSTS_VALU"),
    ),
    "saturated-counters that wrapped": (
        lambda at: counted(at, [2.0**64 - 2**12] * 40, "SQ_INSTS_VALU"),
        lambda at: counted(at, [2.0**20] * 40, "SQ_INSTS_VALU"),
    ),
    "saturated-counters below zero": (
        lambda at: counted(at, [-7] * 40, "SQ_INSTS_VALU"),
        lambda at: counted(at, [7] * 40, "SQ_INSTS_VALU"),
    ),
    "ranks-missing": (lambda at: ranks(at, [0], 2), lambda at: ranks(at, [0, 1], 2)),
    "ranks-missing in between": (lambda at: ranks(at, [0, 2], 3), lambda at: ranks(at, [0, 1, 2], 3)),
    "passes-disagree": (lambda at: counted(at, [1920] * 39), lambda at: counted(at, [1920] * 40)),
    "clock-drift": (lambda at: launched(at, 50 * US), lambda at: launched(at, 0)),
    "clock-drift of ranks": (
        lambda at: ranks(at, [0, 1], 2, shift_ns=7 * US),
        lambda at: ranks(at, [0, 1], 2, shift_ns=3 * US),
    ),
    "launch-shapes-missing": (lambda at: replayed(at, False), lambda at: replayed(at, True)),
    "barriers-excluded": (
        lambda at: first_rocprof(at, "<barrier packet>"),
        lambda at: first_rocprof(at, "k"),
    ),
}
CODES = {"negative times": "dropped-dispatches"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_said_and_its_twin_raises_nothing(name, integrity, tmp_path):
    (tmp_path / "faulty").mkdir()
    (tmp_path / "sound").mkdir()
    faulty, sound = FAULTS[name]
    assert CODES.get(name, name.split(" ")[0]) in codes(integrity(*faulty(tmp_path / "faulty")))
    assert integrity(*sound(tmp_path / "sound"))["warnings"] == []


def test_beyond_a_twentieth_above_the_peak_a_value_is_flagged_and_no_label(capsys, tmp_path):
    """12.288 MB in 10 us is the peak of an MI100."""
    for read_bytes, flagged in ((13.0e6, True), (12.8e6, False)):
        assert run(["analyze", "--json", "-q", *map(str, table(tmp_path, read_bytes))]) == 0
        analysis = json.loads(capsys.readouterr().out)
        kernel = analysis["kernels"][0]
        assert ("above-ceiling" in codes(analysis["integrity"])) is flagged
        assert (kernel["bandwidth_frac"] is None) is flagged
        assert kernel["limiter"] == ("unknown" if flagged else "memory-bandwidth")


def test_what_was_dropped_is_counted_by_reason(integrity, tmp_path):
    found = integrity(*unreadable(tmp_path))
    assert [each["count"] for each in found["dropped"]] == [5] and found["dispatches"] == 35
    (tmp_path / "other").mkdir()
    found = integrity(*backwards(tmp_path / "other"))
    assert [(each["reason"], each["count"]) for each in found["dropped"]] == [("ends before it starts", 5)]


def test_barriers_are_in_no_figure(integrity, tmp_path):
    assert integrity(*first_rocprof(tmp_path, "<barrier packet>"))["dispatches"] == 30


def test_the_share_that_is_labelled_is_that_of_time(integrity, tmp_path):
    known = {"kernel": "known", "duration_ns": 30_000, "read_bytes": 9e6, "write_bytes": 0, "flops": 0}
    rows = [known, {"kernel": "dark", "duration_ns": 10_000}]
    path = files.table(tmp_path / "measured.csv", *rows)
    assert integrity("--table", path, *MI100)["labelled_time_frac"] == pytest.approx(0.75)


RECORDED = [
    (("h200/kineto_fp16_graph.json.gz",), "h200/fp16_config.json"),
    (("h200/kineto_strided_eager.json.gz",), "h200/w4_config.json"),
    (("h200/kineto_strided_graph.json.gz",), "h200/w4_config.json"),
    (("h200/tp2_straggler_rank0.json.gz", "h200/tp2_straggler_rank1.json.gz"), "h200/w4_config.json"),
    (("h200_vllm/fp16_graph.kineto.json.gz", "h200_vllm/fp16_graph.log.gz"), "h200_vllm/fp16_config.json"),
    (("h200_vllm/gptq8_graph.kineto.json.gz", "h200_vllm/gptq8_graph.log.gz"), "h200_vllm/gptq8_config.json"),
]


@pytest.mark.captures
@pytest.mark.parametrize(("names", "model"), RECORDED, ids=lambda each: each[0])
def test_clean_recordings_raise_no_warning_at_all(captures, integrity, names, model):
    split = ["--tp", "2"] if "tp2" in names[0] else []
    found = integrity(*(captures / name for name in names), "--model", captures / model, *split)
    assert found["warnings"] == [] and found["dropped"] == []


@pytest.mark.captures
@pytest.mark.parametrize("name", ["h200", "h200_vllm"])
def test_clean_counters_raise_no_warning_at_all(captures, integrity, tmp_path, name):
    path = tmp_path / "table.csv"
    truth_table.table(truth_table.read(captures / name / "kernel_truth.csv")).to_csv(path, index=False)
    found = integrity("--table", path, "--gpu", "H200")["warnings"]
    assert {each["code"] for each in found} <= {"aggregate-only", "bad-cell"}  # a table has totals alone
    # Nsight Compute says 106 to 112 % of the L2's hits and of occupancy in some rows
    assert all("more than the whole" in each["message"] for each in found if each["code"] == "bad-cell")
