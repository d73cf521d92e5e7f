"""Each check against a recording under the stand-ins that is right, and against one fault each."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable
from typing import Any

import pytest
import synthetic_known as synthetic

from rocscope import pipeline
from rocscope.capture import Capture, Manifest
from rocscope.validation import examine
from rocscope.validation.trials import Trial
from rocscope.validation.truth import PROGRAM, parse
from rocscope.validation.verdict import Verdict


def failed(verdicts: Iterable[Verdict]) -> set[tuple[str, str]]:
    return {(each.check, each.kernel) for each in verdicts if each.status == "fail"}


def judged(bench: Any, profiler: str = "rocprofv3", level: str = "bandwidth") -> list[Verdict]:
    trial, capture, truths = bench.record(profiler, level)
    return examine.trial(trial, capture, truths, bench.truth)


@pytest.mark.parametrize("profiler", ["rocprofv3", "rocprofv2", "rocprof"])
def test_what_is_read_rightly_passes_under_each_profiler(bench: Any, profiler: str) -> None:
    verdicts = judged(bench, profiler)
    assert failed(verdicts) == set()
    passed = {(each.check, each.kernel) for each in verdicts if each.status == "pass"}
    assert passed >= {("waves", "copy"), ("read-bytes", "copy"), ("write-bytes", "copy"), ("time", "fma")}
    assert passed >= {
        ("launches", "library_matrix"),
        ("grid", "matrix"),
        ("passes-agree", ""),
        ("cycles", ""),
    }


@pytest.mark.parametrize(
    ("case", "fault", "found"),
    [
        ("copy", {"read": 300e6}, {("read-bytes", "copy")}),
        ("copy", {"written": 240e6}, {("write-bytes", "copy")}),
        ("w4a16", {"read": 60e6}, {("read-bytes", "w4a16")}),
        ("rmsnorm", {"launches": 5}, {("launches", "rmsnorm")}),
        ("library_matrix", {"launches": 9}, set()),  # the library may launch more
        ("attention", {"x": 65536}, {("grid", "attention"), ("waves", "attention")}),
        ("attention", {"workgroup": 128}, {("workgroup", "attention")}),
        ("matrix", {"mean_ns": 2_100_000}, {("time", "matrix")}),
        ("copy", {"mean_ns": 400_000}, {("time", "copy"), ("bandwidth", "copy")}),
        ("fma", {"mean_ns": 1_300_000}, {("time", "fma"), ("flop-rate", "fma")}),
        ("rmsnorm", {"name": "another"}, {("launches", "rmsnorm")}),
    ],
)
def test_a_fault_in_what_is_read_is_found_and_nothing_else(
    bench: Any, case: str, fault: dict[str, Any], found: set[tuple[str, str]]
) -> None:
    bench.play(**{case: fault})
    assert failed(judged(bench)) == found


def test_faults_of_counters_are_found(bench: Any) -> None:
    bench.patch.setenv("STANDIN_WAVES_LOST", "1")
    bench.patch.setenv("STANDIN_SATURATED", "GRBM_GUI_ACTIVE")
    found = failed(judged(bench))
    assert found == {("counter-values", "")} | {
        ("waves", case) for case in synthetic.EVENT_US if not case.startswith("library")
    }


def test_standard_counters_tell_instructions_and_occupancy(bench: Any) -> None:
    bench.play(fma={"valu": 1e8})
    trial, capture, truths = bench.record("rocprofv3", "standard")
    verdicts = examine.trial(trial, capture, truths, bench.truth)
    assert failed(verdicts) == {("vector-instructions", "fma")}
    assert [each.status for each in verdicts if each.check == "occupancy"] == ["pass"]


def test_planned_counters_that_were_not_read_are_named(bench: Any) -> None:
    trial, capture, truths = bench.record("rocprofv3", "bandwidth")
    wanted = Trial(trial.name, "rocprofv3", "bandwidth", 2, ("SQ_WAVES", "TCC_REQ"))
    verdicts = examine.trial(wanted, capture, truths, bench.truth)
    (missing,) = [each for each in verdicts if each.check == "counters-read"]
    assert missing.status == "fail" and missing.seen == "missing: TCC_REQ"


def test_a_program_that_dies_under_the_profiler_is_no_silence(bench: Any) -> None:
    bench.patch.setenv("STANDIN_FAULT", "crash")
    trial, capture, truths = bench.record("rocprofv3", "none")
    verdicts = examine.trial(trial, capture, truths, bench.truth)
    assert [(each.check, each.status) for each in verdicts] == [("recorded", "fail"), ("launches", "not run")]
    assert "code 3" in verdicts[0].why


def test_a_kernel_that_runs_only_without_the_profiler_is_a_failure(bench: Any) -> None:
    bench.patch.setenv("STANDIN_FAULT", "left-out")
    assert ("kernel", "library_matrix") in failed(judged(bench, level="none"))


def test_a_kernel_that_runs_nowhere_is_not_run(bench: Any) -> None:
    bench.told["left_out"] = {"w4a16": "CompilationError: x"}
    bench.told["kernels"] = [each for each in bench.told["kernels"] if each["case"] != "w4a16"]
    bench.play()
    verdicts = judged(bench, level="none")
    (left,) = [each for each in verdicts if each.kernel == "w4a16"]
    assert (left.status, left.detail) == ("not run", "CompilationError: x")
    assert failed(verdicts) == set()


def test_the_recording_of_a_real_gpu_passes(examples: Any) -> None:
    """An H200 under PyTorch's profiler: kernels, events and trace are recorded, nothing is made up."""
    folder = examples / "h200_known_kernels"
    plain = parse((folder / "plain.json").read_text(), "plain.json")
    own = parse((folder / "profiled.json").read_text(), "profiled.json")
    capture = pipeline.load(folder / "known.pt.trace.json.gz")
    trial = Trial("torch", "torch", "none", 1)
    verdicts = [*examine.plain(capture, plain), *examine.trial(trial, capture, {own.pid: own}, plain)]
    assert failed(verdicts) == set()
    rates = {each.kernel: each.seen for each in verdicts if each.check in ("bandwidth", "flop-rate")}
    assert rates["copy"] == "4224.1 GB/s (88 %)" and rates["fma"] == "61.5 TFLOP/s (92 %)"
    assert sum(each.status == "pass" for each in verdicts) == 58


def test_what_an_archive_holds_is_judged_again_as_it_was(examples: Any, tmp_path: Any) -> None:
    """The archive that a whole run on an H200 wrote, with its sensors."""
    with tarfile.open(examples / "h200_known_kernels" / "rocscope-validation.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    sent = tmp_path / "rocscope-validation"
    plain, own = (
        parse(json.dumps(json.loads((sent / "truth" / f"{name}.json").read_text())[0]), name)
        for name in ("no-profiler", "torch")
    )
    verdicts = examine.plain(Capture.load(sent / "captures" / "no-profiler"), plain)
    recorded = Capture.load(sent / "captures" / "torch")
    verdicts += examine.trial(Trial("torch", "torch", "none", 1), recorded, {own.pid: own}, plain)
    then = [
        Verdict.model_validate(each) for each in json.loads((sent / "verdicts.json").read_text())["verdicts"]
    ]
    assert verdicts == [each for each in then if each.check != "profiler"]
    (energy,) = [each for each in verdicts if each.check == "energy"]
    assert energy.status == "pass" and energy.seen == "2753.5 J"


def test_wrong_results_and_unsteady_events_fail(bench: Any) -> None:
    by_case = {each["case"]: each for each in bench.told["kernels"]}
    by_case["w4a16"]["result_error_frac"] = 0.3
    by_case["matrix"]["result_error_frac"] = None
    by_case["rmsnorm"]["event_most_ns"] = 400e3
    plain = parse(json.dumps(bench.told), "x")
    found = failed(examine.plain(Capture(Manifest()), plain))
    assert found == {("result", "w4a16"), ("result", "matrix"), ("events-steady", "rmsnorm")}


def test_the_program_compiles_and_its_recording_has_all_its_cases(examples: Any) -> None:
    for name in ("known_kernels", "known_cases", "known_triton"):
        source = PROGRAM.with_name(f"{name}.py").read_text()
        compile(source, name, "exec")
    cases = PROGRAM.with_name("known_cases.py").read_text()
    plain = parse((examples / "h200_known_kernels" / "plain.json").read_text(), "plain.json")
    listed = set(re.findall(r'^ {4}"(\w+)": ', cases, re.M)) | set(
        re.findall(r'"(library_\w+)": library', cases)
    )
    assert {each.case for each in plain.kernels} == listed
