"""Workload folders of Omniperf: the recordings, against the csv module and what their input files say."""

from __future__ import annotations

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import median

import pyarrow.compute as pc
import pytest

from rocscope import pipeline
from rocscope.capture import Capture
from rocscope.collectors import omniperf_columns
from rocscope.collectors.discovery import load, recognise
from rocscope.collectors.source import Source

pytestmark = pytest.mark.captures

MI100 = [
    "device_inv_int/MI100",
    "dispatch_0_1/MI100",
    "ipblocks_SQ_SPI_TA_TCC_CPF/MI100",
    "ipblocks_TCC/MI100",
    "kernel_substr/MI100",
    "no_roof/MI100",
    "vcopy/MI100",
]
FOLDERS = [*MI100, "kernel_names/MI200", "openmp_collapse_MI300A", "vcopy/MI300X_A1"]
LEFTOVER = re.compile(r"(wave_size|obj|correlation_id|xcc_index)_\d+", re.IGNORECASE)
META = {
    *("dispatch_id", "kernel_name", "gpu_id", "queue-id", "queue-index", "queue_id", "pid", "tid"),
    *("grid_size", "workgroup_size", "lds_per_workgroup", "scratch_per_workitem", "arch_vgpr", "accum_vgpr"),
    *("sgpr", "wave_size", "sig", "obj", "dispatchns", "start_timestamp", "end_timestamp", "completens"),
    *("correlation_id", "xcc_index"),
}


@cache
def capture_of(folder: Path) -> Capture:
    return load([folder])


@cache
def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def tables_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.csv")) if path.name.startswith(("SQ_", "pmc_perf"))]


def counters_in(row: dict[str, str]) -> list[str]:
    return [name for name in row if name.lower() not in META and not LEFTOVER.fullmatch(name)]


@pytest.mark.parametrize("name", FOLDERS)
def test_dispatches_and_times_are_those_of_the_clean_run(captures: Path, name: str) -> None:
    folder = captures / "omniperf" / name
    found = capture_of(folder)
    clean = [each.index for each in found.manifest.passes if not each.perturbed]
    assert len(clean) == 1
    ours = found.dispatches.filter(pc.equal(found.dispatches["pass"], clean[0])).to_pylist()
    theirs = rows_of(folder / "timestamps.csv")
    assert [d["dispatch_id"] for d in ours] == [int(row["Dispatch_ID"]) for row in theirs]
    assert [d["kernel"] for d in ours] == [row["Kernel_Name"] for row in theirs]
    for column, field in (
        *(("grid_x", "Grid_Size"), ("workgroup_x", "Workgroup_Size"), ("vgprs", "Arch_VGPR")),
        *(("agprs", "Accum_VGPR"), ("sgprs", "SGPR"), ("lds_bytes", "LDS_Per_Workgroup")),
        ("scratch_bytes", "Scratch_Per_Workitem"),
    ):
        assert [d[column] for d in ours] == [int(row[field]) for row in theirs], column
    if name == "vcopy/MI300X_A1":  # 8.1097E+14 for each: nothing that could be subtracted
        assert [d["duration_ns"] for d in ours] == [None] * 3
        assert [n.code for n in found.manifest.notices] == ["untimed-dispatches"]
        assert "8.1097E+14" in found.manifest.notices[0].message
    else:
        spans = [(int(row["Start_Timestamp"]), int(row["End_Timestamp"])) for row in theirs]
        assert [(d["start_ns"], d["end_ns"]) for d in ours] == spans
        assert sum(d["duration_ns"] for d in ours) == sum(end - start for start, end in spans)
    others = found.dispatches.filter(pc.not_equal(found.dispatches["pass"], clean[0]))
    assert others["start_ns"].null_count == others.num_rows  # times that the tool copied there are not theirs
    assert not found.manifest.dropped


@pytest.mark.parametrize("name", FOLDERS)
def test_every_counter_value_arrives_once(captures: Path, name: str) -> None:
    folder = captures / "omniperf" / name
    theirs: Counter[tuple[str, int, float]] = Counter()
    for path in tables_of(folder):
        for row in rows_of(path):
            for counter in counters_in(row):
                plain = counter
                if name == "openmp_collapse_MI300A" and re.search(r"_1[0-3]$", counter):
                    plain = counter.rpartition("_")[0]  # SQ_WAVES_13, numbered since two runs have it
                theirs[plain, int(row["Dispatch_ID"]), float(row[counter])] += 1
    if name == "openmp_collapse_MI300A":  # its last run is joined into pmc_perf.csv too, value by value
        twice = rows_of(folder / "SQ_LEVEL_WAVES.csv")
        theirs.subtract(
            (counter, int(row["Dispatch_ID"]), float(row[counter]))
            for row in twice
            for counter in counters_in(row)
        )
    ours = Counter(
        (c["counter"], c["dispatch_id"], c["value"]) for c in capture_of(folder).counters.to_pylist()
    )
    assert ours == +theirs
    assert len(ours) > 20


@pytest.mark.parametrize("name", FOLDERS)
def test_each_value_belongs_to_one_dispatch_of_its_pass(captures: Path, name: str) -> None:
    found = capture_of(captures / "omniperf" / name)
    keys = ["pass", "process", "gpu", "dispatch_id"]
    dispatches = Counter(tuple(d[k] for k in keys) for d in found.dispatches.select(keys).to_pylist())
    assert set(dispatches.values()) == {1}
    values = Counter(tuple(c[k] for k in (*keys, "counter")) for c in found.counters.to_pylist())
    assert set(values.values()) == {1}
    assert {key[:-1] for key in values} <= set(dispatches)
    for each in found.manifest.passes:
        mine = found.counters.filter(pc.equal(found.counters["pass"], each.index))
        assert set(mine["counter"].to_pylist()) == set(each.counters)


@pytest.mark.parametrize("name", FOLDERS)
def test_one_gpu_as_sysinfo_describes_it(captures: Path, name: str) -> None:
    folder = captures / "omniperf" / name
    (said,) = rows_of(folder / "sysinfo.csv")
    assert "," not in said["ip_blocks"]  # quirk 28: blocks are parted by |, and what is absent is NA or empty
    assert (said["gpu_memory"], said["compute_partition"] in ("NA", "SPX")) == ("", True)
    manifest = capture_of(folder).manifest
    (gpu,) = manifest.gpus
    assert (gpu.arch, gpu.name, gpu.host) == (said["gpu_arch"], said["gpu_model"], said["hostname"])
    assert (gpu.compute_units, gpu.wave_size) == (int(said["cu_per_gpu"]), int(said["wave_size"]))
    assert (manifest.host, " ".join(manifest.command)) == (said["hostname"], said["command"])
    assert manifest.profiler == "omniperf"
    assert manifest.started_at
    assert manifest.started_at[:4] == "2024"


def test_runs_of_a_merged_table_are_those_of_its_inputs(captures: Path) -> None:
    """The stretches between leftovers hold, all 17, the counters that one input file asked for."""
    folder = captures / "omniperf/vcopy/MI100"
    inputs = {
        frozenset(path.read_text().splitlines()[0].removeprefix("pmc:").split())
        for path in (folder / "perfmon").glob("pmc_perf_*.txt")
    }
    manifest = capture_of(folder).manifest
    runs = [frozenset(p.counters) for p in manifest.passes if p.note.startswith("run ")]
    assert len(runs) == len(inputs) == 17
    assert set(runs) == inputs
    assert manifest.profiler_version == "2.0.0-RC1"


@pytest.mark.parametrize(
    "name", [each for each in FOLDERS if "ipblocks_TCC" not in each and "MI200" not in each]
)
def test_waves_are_those_of_the_launch(captures: Path, name: str) -> None:
    """SQ_WAVES is the grid over the wave size: the counters are of the kernels they are joined to."""
    found = capture_of(captures / "omniperf" / name)
    waves = found.counters.filter(pc.equal(found.counters["counter"].cast("string"), "SQ_WAVES"))
    assert waves.num_rows
    expected = 233472 / 64 if "MI300A" in name else 16384
    assert set(waves["value"].to_pylist()) == {expected}
    assert "waves-mismatch" not in {n.code for n in found.manifest.notices}


def test_level_passes_say_which_level(captures: Path) -> None:
    found = capture_of(captures / "omniperf/vcopy/MI100")
    notes = {p.note: p.counters for p in found.manifest.passes if p.note.startswith("level")}
    assert set(notes) == {
        f"level {each}"
        for each in (
            *("SQ_IFETCH_LEVEL", "SQ_INST_LEVEL_LDS", "SQ_INST_LEVEL_SMEM", "SQ_INST_LEVEL_VMEM"),
            "SQ_LEVEL_WAVES",
        )
    }
    assert all(omniperf_columns.ACCUMULATED in counters for counters in notes.values())
    merged = capture_of(captures / "omniperf/openmp_collapse_MI300A").manifest.passes
    assert {p.note for p in merged if p.note.startswith("level")} == {
        "level SQ_LEVEL_WAVES",
        "level SQ_IFETCH_LEVEL, run 9 of pmc_perf.csv",
        "level SQ_INST_LEVEL_LDS, run 10 of pmc_perf.csv",
        "level SQ_INST_LEVEL_SMEM, run 11 of pmc_perf.csv",
        "level SQ_INST_LEVEL_VMEM, run 12 of pmc_perf.csv",
    }
    assert [p for p in merged if not p.perturbed and p.counters] == []


@pytest.mark.parametrize("name", [each for each in MI100 if "ipblocks_TCC" not in each])
def test_figures_of_one_run_are_those_of_the_reference(captures: Path, name: str) -> None:
    """Latencies and occupancy, each from the counters of one level pass; MI100 has 8 shader engines."""
    path = captures.parent / "reference/omniperf/derived.csv"
    if not path.is_file():
        pytest.skip(f"no reference figures at {path}")
    workload = name.partition("/")[0]
    known = {r["quantity"]: float(r["value"]) for r in rows_of(path) if r["workload"] == workload}
    found = capture_of(captures / "omniperf" / name)

    def mean_ratio(level: str, divisor: str) -> float:
        (index,) = [p.index for p in found.manifest.passes if p.note == f"level {level}"]
        rows = [c for c in found.counters.to_pylist() if c["pass"] == index]
        value = {(c["dispatch_id"], c["counter"]): c["value"] for c in rows}
        ids = sorted({c["dispatch_id"] for c in rows})
        return sum(value[i, omniperf_columns.ACCUMULATED] / value[i, divisor] for i in ids) / len(ids)

    for level, divisor, scale, quantity in (
        ("SQ_INST_LEVEL_VMEM", "SQ_INSTS_VMEM", 1, "derived: VMEM latency (cycles)"),
        ("SQ_INST_LEVEL_SMEM", "SQ_INSTS_SMEM", 1, "derived: SMEM latency (cycles)"),
        ("SQ_LEVEL_WAVES", "SQ_BUSY_CYCLES", 8, "derived: occupancy over own pass SQ_BUSY_CYCLES/SE (waves)"),
    ):
        assert mean_ratio(level, divisor) * scale == pytest.approx(known[quantity], rel=1e-6), quantity


def test_cycles_of_a_counter_run_are_not_of_its_times(captures: Path) -> None:
    """Quirk 2: over the clean run's time these cycles would be a clock above the card's 1502 MHz."""
    found = capture_of(captures / "omniperf/vcopy/MI100")
    rows = found.counters.filter(pc.equal(found.counters["counter"].cast("string"), "GRBM_GUI_ACTIVE"))
    cycles = {
        c["dispatch_id"]: c["value"]
        for c in rows.to_pylist()
        if not _note(found, c["pass"]).startswith("level")
    }
    clean = {d["dispatch_id"]: d["duration_ns"] for d in found.dispatches.to_pylist() if d["duration_ns"]}
    assert [round(cycles[i] / clean[i], 2) for i in (0, 1, 2)] == [1.99, 2.29, 2.29]
    assert {d["pass"] for d in found.dispatches.to_pylist() if d["duration_ns"]} == {0}


def _note(found: Capture, index: int) -> str:
    return found.manifest.passes[index].note


def test_channels_are_kept_one_by_one(captures: Path) -> None:
    """Quirks 3 and 17: the hits are all in channels 0 to 15, so that 16 of 32 would show twice the rate."""
    rows = capture_of(captures / "omniperf/vcopy/MI100").counters.to_pylist()
    first = {c["counter"]: c["value"] for c in rows if c["dispatch_id"] == 0}
    hits = [first[f"TCC_HIT[{channel}]"] for channel in range(32)]
    assert sum(hits[:16]) == sum(hits) == 188
    half = sum(hits[:16]) / sum(hits[c] + first[f"TCC_MISS[{c}]"] for c in range(16))
    whole = first["TCC_HIT_sum"] / (first["TCC_HIT_sum"] + first["TCC_MISS_sum"])
    assert (round(100 * half, 3), round(100 * whole, 4)) == (0.143, 0.0716)
    wide = {c["counter"] for c in capture_of(captures / "omniperf/vcopy/MI300X_A1").counters.to_pylist()}
    assert {f"TCC_ATOMIC[{channel}]" for channel in range(128)} <= wide


def test_leftovers_of_the_join_are_no_counters(captures: Path) -> None:
    """Quirk 16: ``wave_size_7`` is left over, ``SQC_DCACHE_REQ_READ_2`` is a counter."""
    names = set(capture_of(captures / "omniperf/vcopy/MI100").counters["counter"].to_pylist())
    assert {f"SQC_DCACHE_REQ_READ_{n}" for n in (1, 2, 4, 8, 16)} <= names
    assert not {n for n in names if n.lower().startswith(("wave", "obj", "queue", "pid", "start", "end"))}
    merged = set(capture_of(captures / "omniperf/openmp_collapse_MI300A").counters["counter"].to_pylist())
    assert {"SQ_WAVES", "GRBM_COUNT", "SQ_ACCUM_PREV_HIRES", "SQC_DCACHE_REQ_READ_1"} <= merged
    assert not {"SQ_WAVES_13", "GRBM_COUNT_13", "SQ_ACCUM_PREV_HIRES_12"} & merged


def test_header_alone_is_said_to_be_nothing_not_zero(captures: Path) -> None:
    """Quirk 19: all 23 tables have two columns and no row."""
    found = load([captures / "omniperf/dispatch_7/MI100"])
    assert found.dispatches.num_rows == found.counters.num_rows == 0
    assert [n.code for n in found.manifest.notices] == ["matched-nothing", "no-gpu-kernels"]
    assert "matched nothing" in found.manifest.notices[0].message
    assert found.manifest.duration_s is None
    assert (found.manifest.host, found.manifest.profiler) == ("t007-001.hpcfund", "omniperf")
    alone = load([captures / "omniperf/dispatch_7/MI100/pmc_perf_0.csv"])
    assert [n.code for n in alone.manifest.notices] == ["matched-nothing", "no-gpu-kernels"]


def test_measured_ceilings_are_the_roofs_that_can_be_reached(captures: Path) -> None:
    found = capture_of(captures / "omniperf/kernel_names/MI200")
    assert not found.manifest.notices
    assert found.manifest.ceilings
    (recorded,) = found.manifest.ceilings
    measured = recorded.ceilings
    rows = rows_of(captures / "omniperf/kernel_names/MI200/roofline.csv")
    assert recorded.gpu == 0 and not recorded.same_card and measured.model == "MI210 or MI250"
    assert measured.bandwidth_bytes_per_s == median(float(row["HBMBw"]) for row in rows) * 1e9
    assert measured.l2_bandwidth_bytes_per_s == median(float(row["L2Bw"]) for row in rows) * 1e9
    assert measured.flops_per_s["matrix_fp16"] == median(float(row["MFMAF16Flops"]) for row in rows) * 1e9
    assert measured.flops_per_s["vector_fp32"] == median(float(row["FP32Flops"]) for row in rows) * 1e9
    assert measured.measured_at == "2024-03-21T16:25:47" and not measured.refused
    analysis = pipeline.analyze(found)
    assert analysis.gpus[0].model == "MI210 or MI250"
    assert analysis.gpus[0].achievable_bandwidth_bytes_per_s == measured.bandwidth_bytes_per_s
    assert "roofline benchmark (the median of 4 GPUs)" in (analysis.gpus[0].achievable_source or "")
    named = pipeline.analyze(found, gpu="MI250")
    assert named.gpus[0].achievable_bandwidth_bytes_per_s == measured.bandwidth_bytes_per_s
    assert not {each.code for each in named.integrity.warnings} & {"gpu-overridden", "unknown-gpu"}
    other = pipeline.analyze(found, gpu="MI250X")  # not the card that was measured
    assert other.gpus[0].achievable_bandwidth_bytes_per_s is None
    assert {each.code for each in other.integrity.warnings} == {"gpu-overridden"}


def test_pauses_that_the_tool_makes_are_no_target(captures: Path) -> None:
    """It holds each kernel back until the one before is done: two thirds of the window are its own."""
    for name in ("vcopy/MI100", "openmp_collapse_MI300A"):
        analysis = pipeline.analyze(capture_of(captures / "omniperf" / name))
        assert "launch-gaps" not in {each.id for each in analysis.targets}
        (said,) = [each for each in analysis.not_evaluated if each.rule == "timeline-launch-gaps"]
        assert "hold each kernel back" in said.missing


def test_flops_that_instructions_tell_are_said_to_be_counted(captures: Path) -> None:
    analysis = pipeline.analyze(capture_of(captures / "omniperf/openmp_collapse_MI300A"))
    assert all(each.flops_per_dispatch.basis == "measured" for each in analysis.kernels)
    said = [text for each in analysis.kernels for text in each.evidence if "FLOP a dispatch" in text]
    assert len(said) == 3 and all("instruction counters, at most this" in text for text in said)


def test_every_file_of_a_folder_is_known_and_none_left_out(captures: Path) -> None:
    for name in FOLDERS:
        found = capture_of(captures / "omniperf" / name).manifest
        assert not {"unknown-files", "duplicate-format"} & {n.code for n in found.notices}
        files = [path for path in (captures / "omniperf" / name).rglob("*") if path.is_file()]
        assert len(found.sources) == len(files)


def test_a_merged_table_named_alone_has_its_own_times_and_says_so(captures: Path) -> None:
    """Nothing else was read: neither its times nor the run that a level file repeats are left to others."""
    found = load([captures / "omniperf/openmp_collapse_MI300A/pmc_perf.csv"])
    assert [n.code for n in found.manifest.notices] == ["times-of-counter-run"]
    assert len(found.manifest.passes) == 14
    assert all(p.perturbed for p in found.manifest.passes)
    timed = found.dispatches.filter(found.dispatches["duration_ns"].is_valid())
    assert timed["pass"].to_pylist() == [0] * 6
    totals = rows_of(captures / "omniperf/openmp_collapse_MI300A/pmc_kernel_top.csv")
    assert pc.sum(timed["duration_ns"]).as_py() == sum(float(row["Sum(ns)"]) for row in totals)


def test_two_folders_are_two_machines(captures: Path) -> None:
    """Both call their GPU 2, and both their dispatches 0 to 2."""
    found = load([captures / "omniperf/vcopy"])
    assert [(g.agent, g.name) for g in found.manifest.gpus] == [("2", "MI100"), ("2", "MI300X_A1")]
    assert "folders-differ" in {n.code for n in found.manifest.notices}
    assert (found.manifest.host, found.manifest.started_at) == ("", None)
    assert " ".join(found.manifest.command) == "./tests/vcopy -n 1048576 -b 256 -i 3"
    one = [capture_of(captures / "omniperf/vcopy" / name) for name in ("MI100", "MI300X_A1")]
    assert found.counters.num_rows == sum(each.counters.num_rows for each in one)


@pytest.mark.parametrize("name", ["vcopy/MI100", "vcopy/MI300X_A1"])
def test_readers_take_precedence_over_rocprofv2(captures: Path, name: str) -> None:
    for path in tables_of(captures / "omniperf" / name):
        reader = recognise(path)
        assert reader is not None
        expected = "merged" if omniperf_columns.kind(Source.open(path)) == "merged" else "run"
        assert reader.name == f"omniperf-{expected}"


def test_analysis_of_the_mi100_folder(captures: Path) -> None:
    analysis = pipeline.analyze(captures / "omniperf/vcopy/MI100")
    (gpu,) = analysis.gpus
    assert (gpu.arch, gpu.model) == ("gfx908", "MI100")
    (kernel,) = analysis.kernels
    # a copy at 58 % of the datasheet bandwidth: two points below the line that makes it bandwidth
    assert (kernel.dispatches, kernel.bound, kernel.limiter) == (3, "memory", "latency")
    assert kernel.confidence == "low" and kernel.bytes_per_dispatch.basis == "measured"
    assert kernel.bandwidth_frac == pytest.approx(0.581, abs=0.002)
    assert kernel.mean_ns == pytest.approx(62560 / 3)
    assert analysis.integrity.warnings == []


def test_dispatches_without_times_are_counted_once(captures: Path) -> None:
    """The 20 runs of this folder repeat three launches; none has times, and they are still three."""
    analysis = pipeline.analyze(captures / "omniperf/vcopy/MI300X_A1")
    assert [(k.dispatches, k.mean_ns) for k in analysis.kernels] == [(3, None)]
    assert [w.code for w in analysis.integrity.warnings] == ["untimed-dispatches"]
