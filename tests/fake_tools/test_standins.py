"""The stand-ins against real files: their headers and formats are the tools' own, not the readers' idea."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NAP = [sys.executable, "-c", "import time; time.sleep(0.2)"]


def run(standins: Path, *command: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [standins / command[0], *command[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ROCPROF_TMPDIR": str(standins.parent / "tmp"), **environment},
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def header(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.readline().rstrip("\r\n")


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.rglob(pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def v3(standins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v3")
    flags = ["--kernel-trace", "--memory-copy-trace", "--stats", "-f", "csv", "json", "-d", str(out)]
    run(standins, "rocprofv3", *flags, "--", *NAP)
    return out


@pytest.mark.captures
@pytest.mark.parametrize(
    ("written", "real"),
    [
        ("*_kernel_trace.csv", "rocprofv3/sdk_docs/kernel_trace.csv"),
        ("*_kernel_trace.csv", "rocprofv3/gpudiag_mi300x/sq2_kernel_trace.csv"),
        ("*_memory_copy_trace.csv", "rocprofv3/sdk_docs/memory_copy_trace.csv"),
        ("*_agent_info.csv", "rocprofv3/gpudiag_mi300x/sq2_agent_info.csv"),
        ("*_kernel_stats.csv", "rocprofv3/sdk_docs/hip_api_stats.csv"),
    ],
)
def test_headers_of_rocprofv3_are_the_real_ones(v3: Path, captures: Path, written: str, real: str) -> None:
    assert header(only(v3, written)) == header(captures / real)


@pytest.mark.captures
@pytest.mark.parametrize(
    ("written", "real"),
    [
        ("*_kernel_trace.csv", "rocprofv3/sdk_docs/kernel_trace.csv"),
        ("*_agent_info.csv", "rocprofv3/gpudiag_mi300x/sq2_agent_info.csv"),
        ("*_memory_copy_trace.csv", "rocprofv3/sdk_docs/memory_copy_trace.csv"),
    ],
)
def test_cells_of_rocprofv3_are_quoted_as_in_real_files(
    v3: Path, captures: Path, written: str, real: str
) -> None:
    def shapes(path: Path) -> set[tuple[bool, ...]]:
        """Which cells of each row are numbers; QUOTE_NONNUMERIC reads what is not quoted as a number."""
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream, quoting=csv.QUOTE_NONNUMERIC))
        return {tuple(isinstance(cell, float) for cell in row) for row in rows[1:]}

    assert shapes(only(v3, written)) <= shapes(captures / real)


@pytest.mark.captures
def test_json_of_rocprofv3_holds_to_the_published_schema(v3: Path, captures: Path) -> None:
    import jsonschema

    with gzip.open(captures / "rocprofv3/schema/rocprofv3-schema.json.gz") as stream:
        schema = json.load(stream)
    written = json.loads(only(v3, "*_results.json").read_text())
    jsonschema.validate(written, schema)
    assert len(written["rocprofiler-sdk-tool"][0]["buffer_records"]["kernel_dispatch"]) > 5


@pytest.mark.captures
def test_input_files_are_held_to_the_published_schema(standins: Path, captures: Path, tmp_path: Path) -> None:
    schema = json.loads((captures / "rocprofv3/schema/rocprofv3_input_schema.json").read_text())
    known = set(schema["properties"]["jobs"]["items"]["properties"])
    namespace: dict[str, object] = {}
    source = (Path(__file__).parent / "rocprofv3").read_text()
    exec(source[source.index("JOB_KEYS") : source.index("TRACES")], namespace)
    assert namespace["JOB_KEYS"] == known
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"jobs": [{"kernel_trace": True, "output_format": ["csv"]}]}))
    run(standins, "rocprofv3", "-i", str(job), "-d", str(tmp_path / "o"), "--", *NAP)
    assert only(tmp_path / "o", "*_kernel_trace.csv")
    job.write_text(json.dumps({"jobs": [{"kernel_traces": True}]}))
    assert "kernel_traces" in run(standins, "rocprofv3", "-i", str(job), "--", "true", code=1)


@pytest.mark.captures
@pytest.mark.parametrize(
    ("table", "real"),
    [
        ("results.csv", "rocprofv1/aiter_gfx942/results.csv"),
        ("results.stats.csv", "rocprofv1/aiter_gfx942/results.stats.csv"),
        ("results.csv", "rocprofv1/stencil_xr/results.csv"),
    ],
)
def test_headers_of_rocprof_are_the_real_ones(
    standins: Path, captures: Path, tmp_path: Path, table: str, real: str
) -> None:
    flags = ["--timestamp", "on", "--stats", "-o", str(tmp_path / "results.csv")]
    run(standins, "rocprof", *flags, *NAP)
    assert header(tmp_path / table) == header(captures / real)


def test_the_times_lie_within_the_life_of_the_process(v3: Path) -> None:
    with only(v3, "*_kernel_trace.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    starts = [int(row["Start_Timestamp"]) for row in rows]
    assert starts == sorted(starts)
    spread = int(rows[-1]["End_Timestamp"]) - starts[0]
    assert 0.1e9 < spread < 5e9


def test_flags_that_rocprofv3_lacks_are_refused(standins: Path) -> None:
    assert "unrecognized arguments: --no-such-flag" in run(
        standins, "rocprofv3", "--no-such-flag", "--", "true", code=2
    )
    assert "invalid choice: 'xml'" in run(standins, "rocprofv3", "-f", "xml", "--", "true", code=2)
    assert "No application provided" in run(standins, "rocprofv3", "--kernel-trace", code=1)
    assert "No tracing options" in run(standins, "rocprofv3", "--stats", "--", "true", code=1)


def test_flags_that_rocprof_lacks_are_refused(standins: Path, tmp_path: Path) -> None:
    assert "Wrong option '--pmc'" in run(standins, "rocprof", "--pmc", "X", "true", code=1)
    assert ".csv" in run(standins, "rocprof", "-o", str(tmp_path / "x.txt"), "true", code=1)
    assert "Unknown option" in run(standins, "rocprofv2", "--pmc", "X", "true", code=1)


def test_a_killed_process_writes_nothing_and_one_that_is_told_to_end_writes_all(
    standins: Path, tmp_path: Path
) -> None:
    for signal_name, files in (("KILL", 0), ("TERM", 1), ("INT", 1)):
        out = tmp_path / signal_name
        script = f"sleep 0.2; kill -{signal_name} $$; sleep 5"
        subprocess.run(
            [standins / "rocprofv3", "--kernel-trace", "-f", "csv", "-d", out, "--", "bash", "-c", script],
            env={**os.environ, "ROCPROF_TMPDIR": str(out / "tmp")},
            check=False,
            timeout=30,
        )
        assert len(list(out.rglob("*_kernel_trace.csv"))) == files, signal_name
        assert len(list(out.rglob("*.dat"))) == 1 - files, signal_name


def test_rocprof_makes_its_table_only_after_the_application(standins: Path, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    script = f"import pathlib, time; time.sleep(0.2); assert not pathlib.Path({str(table)!r}).exists()"
    run(standins, "rocprof", "--stats", "-o", str(table), sys.executable, "-c", script)
    assert table.exists()
