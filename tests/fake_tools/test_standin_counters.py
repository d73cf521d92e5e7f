"""The stand-ins refuse what real profilers refuse, in their words, and write counters in their formats."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NAP = ["sleep", "0.2"]
FIVE_TCC = ["TCC_HIT", "TCC_MISS", "TCC_EA_RDREQ", "TCC_EA_RDREQ_32B", "TCC_EA_WRREQ"]


def run(standins: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(standins / command[0]), *map(str, command[1:])],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ROCPROF_TMPDIR": str(standins.parent / "tmp"), **environment},
    )


def header(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.readline().rstrip("\r\n")


def table(folder: Path, pattern: str) -> list[dict[str, str]]:
    (path,) = folder.rglob(pattern)
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rocprofv3_aborts_where_a_block_is_asked_for_too_many(standins: Path, tmp_path: Path) -> None:
    done = run(standins, "rocprofv3", "--pmc", *FIVE_TCC, "-f", "csv", "-d", tmp_path, "--", *NAP)
    assert done.returncode == -6  # SIGABRT, in the first dispatch
    said = "failed with error code 38: Request exceeds the capabilities of the hardware to collect"
    assert said in done.stderr
    assert not list(tmp_path.rglob("*.csv"))
    four = run(standins, "rocprofv3", "--pmc", *FIVE_TCC[:4], "-f", "csv", "-d", tmp_path, "--", *NAP)
    assert four.returncode == 0 and list(tmp_path.rglob("*_counter_collection.csv"))


def test_rocprofv3_writes_no_counters_of_a_run_with_one_it_does_not_know(
    standins: Path, tmp_path: Path
) -> None:
    flags = ["--pmc", "SQ_WAVES", "SQ_WAVE_CYCLES", "-f", "csv", "-d", tmp_path]
    done = run(standins, "rocprofv3", *flags, "--", *NAP)
    assert done.returncode == 0 and "Missing: [SQ_WAVE_CYCLES]" in done.stderr
    assert not list(tmp_path.rglob("*_counter_collection.csv"))
    newer = run(standins, "rocprofv3", *flags, "--", *NAP, STANDIN_V3_VERSION="1.1.0")
    assert newer.returncode == 0 and list(tmp_path.rglob("*_counter_collection.csv"))


def test_definitions_have_to_be_in_the_schema(standins: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("rocprofiler-sdk:\n  counters-schema-version: 1\n  counters:\n    - name: X\n")
    done = run(standins, "rocprofv3", "--pmc", "X", "-E", bad, "--", *NAP)
    assert done.returncode == 1 and "bad counter definition" in done.stderr
    bad.write_text("counters: []\n")
    assert "Expected structure" in run(standins, "rocprofv3", "--pmc", "X", "-E", bad, "--", *NAP).stderr


def test_rocm_6_knows_neither_definitions_nor_its_version(standins: Path, tmp_path: Path) -> None:
    old = {"STANDIN_V3_VERSION": "0.5.0"}
    assert run(standins, "rocprofv3", "--version", **old).returncode == 2
    done = run(standins, "rocprofv3", "--pmc", "X", "--extra-counters", "x", "--", "true", **old)
    assert done.returncode == 2 and "unrecognized arguments: --extra-counters" in done.stderr


def test_groups_take_turns(standins: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    groups = [["SQ_WAVES"], ["TCC_HIT", "TCC_MISS"]]
    job.write_text(json.dumps({"jobs": [{"pmc_groups": groups, "pmc_group_interval": 3}]}))
    run(standins, "rocprofv3", "-i", job, "-f", "csv", "-d", tmp_path, "--", *NAP)
    by_dispatch: dict[int, list[str]] = {}
    for row in table(tmp_path, "*_counter_collection.csv"):
        by_dispatch.setdefault(int(row["Dispatch_Id"]), []).append(row["Counter_Name"])
    assert [by_dispatch[at] for at in range(1, 13)] == [groups[(at - 1) // 3 % 2] for at in range(1, 13)]
    both = run(standins, "rocprofv3", "-i", job, "--pmc", "SQ_WAVES", "--", *NAP)
    assert both.returncode == 1 and "cannot be used together" in both.stderr


def test_filters_choose_kernels_and_their_dispatches(standins: Path, tmp_path: Path) -> None:
    flags = ["--kernel-include-regex", "gptq|rms_norm", "--kernel-iteration-range", "[2-4]"]
    run(standins, "rocprofv3", "--pmc", "SQ_WAVES", *flags, "-f", "csv", "-d", tmp_path, "--", *NAP)
    rows = table(tmp_path, "*_counter_collection.csv")
    assert [int(row["Dispatch_Id"]) for row in rows] == [6, 7, 11, 12, 16, 17]  # of five that take turns


@pytest.mark.captures
@pytest.mark.parametrize("real", ["sdk_docs/counter", "gpudiag_mi300x/w7900_counter"])
def test_the_counter_table_is_laid_out_as_real_ones(
    standins: Path, tmp_path: Path, captures: Path, real: str
) -> None:
    run(standins, "rocprofv3", "--pmc", "SQ_WAVES", "-f", "csv", "-d", tmp_path, "--", *NAP)
    (written,) = tmp_path.rglob("*_counter_collection.csv")
    assert header(written) == header(captures / f"rocprofv3/{real}_collection.csv")


@pytest.mark.captures
def test_rocprof_writes_counters_behind_the_geometry(standins: Path, tmp_path: Path, captures: Path) -> None:
    pmc, out = tmp_path / "in.txt", tmp_path / "results.csv"
    pmc.write_text("pmc: SQ_WAVES TCC_HIT_sum\n\nrange: 5:9\ngpu:\nkernel: gptq rms\n")
    done = run(standins, "rocprof", "-i", pmc, "-o", out, *NAP)
    assert done.returncode == 0, done.stderr
    ours = header(out).split(",")
    real = header(captures / "rocprofv1/stencil_xr/data_movement.csv").split(",")
    assert ours == [*real[: real.index("obj") + 1], "SQ_WAVES", "TCC_HIT_sum"]
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 and rows[0]["SQ_WAVES"] == "2240.0000000000"


def test_rocprof_proposes_groups_and_stops(standins: Path, tmp_path: Path) -> None:
    pmc = tmp_path / "in.txt"
    pmc.write_text("pmc: " + " ".join(f"{name}_sum" for name in FIVE_TCC) + "\n")
    done = run(standins, "rocprof", "-i", pmc, "-o", tmp_path / "results.csv", *NAP)
    assert done.returncode == 134
    assert "Input metrics out of HW limit. Proposed metrics group set:\n group1:" in done.stderr
    assert not (tmp_path / "results.csv").exists()
    pmc.write_text("pmc: SQ_WAVE_CYCLES\n")
    done = run(standins, "rocprof", "-i", pmc, "-o", tmp_path / "results.csv", *NAP)
    assert "'SQ_WAVE_CYCLES' not supported on this hardware: gfx908" in done.stderr


@pytest.mark.parametrize("tool", ["rocprof", "rocprofv2"])
def test_each_line_of_counters_runs_the_command_again(standins: Path, tmp_path: Path, tool: str) -> None:
    pmc, runs = tmp_path / "in.txt", tmp_path / "runs"
    pmc.write_text("pmc: SQ_WAVES\npmc: TCC_HIT_sum # two\n")
    flags = ["-o", tmp_path / "results.csv"] if tool == "rocprof" else ["--plugin", "file", "-d", tmp_path]
    code = f"import time; print('run', file=open({str(runs)!r}, 'a')); time.sleep(0.1)"
    run(standins, tool, "-i", pmc, *flags, sys.executable, "-c", code)
    assert runs.read_text() == "run\nrun\n"
    if tool == "rocprofv2":
        assert "TCC_HIT_sum" in header(next(tmp_path.glob("pmc_2/results_*.csv")))
