"""Each finding through `rocscope analyze` on files: fires on a twin of its case, silent on the counterpart.

The files are synthetic, made by hand; findings on recordings stand in test_rules_on_recordings.py and
test_targets_recorded.py.
"""

import json

import pyarrow as pa
import pytest
import synthetic_files as files
from synthetic_files import FILL, GPTQ4, RECONSTRUCT, REDUCE, TILED, US

from rocscope import pipeline
from rocscope.cli import run
from rocscope.rules import rules
from rocscope.tables import conform

MI100 = ("--gpu", "MI100")


@pytest.fixture
def analyze(capsys):
    def analyzed(*arguments):
        assert run(["analyze", "--json", "-q", *map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)

    return analyzed


def said(analysis):
    """The findings of an analysis: ids of rules, and the names of what is lost between kernels."""
    found = {rule.id for rule in rules() if any(f"[rule-{rule.id}]" in text for text in _evidence(analysis))}
    found |= {each["code"].removeprefix("rule-") for each in analysis["integrity"]["warnings"]}
    for slug in ("launch-gaps", "host-stalls", "straggler"):
        if any(each["id"].startswith(f"timeline-{slug}-") for each in analysis["targets"]):
            found.add(slug)
    return found


def _evidence(analysis):
    return [text for each in analysis["targets"] for text in each["evidence"]]


def trace(folder, *names, **more):
    return [files.torch_trace(folder / "trace.json", files.steps(*names, **more))]


def logged(folder, *lines):
    return [*trace(folder, "awq_gemm_kernel", TILED), files.server_log(folder / "server.log", *lines)]


def table(folder, **row):
    usual = {"kernel": "k", "duration_ns": 100_000, "dispatches": 9, "read_bytes": 12_000_000, "flops": 0}
    made = files.table(folder / "measured.csv", {**usual, "workgroups": 960, **row})
    return ["--table", made, *MI100]


def configured(folder, group_size):
    packed = {**files.CONFIG["quantization_config"], "group_size": group_size}
    path = folder / "config.json"
    path.write_text(json.dumps({**files.CONFIG, "quantization_config": packed}))
    return [*trace(folder, GPTQ4, times=8), "--model", path]


def ranks(folder, first_ns, second_ns, end_ns=90 * US):
    """Two ranks that meet in a collective after work of their own."""
    made = []
    for rank, own in enumerate((first_ns, second_ns)):
        events = [files.kernel(GPTQ4, 0, own), files.kernel(files.ALL_REDUCE, own, end_ns - own)]
        made.append(files.torch_trace(folder / f"rank{rank}.json", events, rank, 2))
    return made


def clocked(folder, hertz):
    """A capture of a run of which the GPU's clock was sampled: busy for 2 ms, then idle at a low clock."""
    last = 2_000_000
    events = [*files.steps(GPTQ4, times=200), files.kernel(GPTQ4, 2 * last, 10_000)]
    made = pipeline.load(files.torch_trace(folder / "trace.json", events))
    first = min(made.dispatches["start_ns"].to_pylist())
    times = [first + 1 + at * last // 20 for at in range(20)]
    times += [first + last + last // 2 + at for at in range(80)]
    constant = {"source": "amdsmi", "subject": "gpu:0", "metric": "clock_hz"}
    columns = {name: pa.array([value] * len(times)) for name, value in constant.items()}
    columns |= {"time_ns": pa.array(times), "value": pa.array([hertz] * 20 + [0.3e9] * 80)}
    made.samples = conform("samples", columns, len(times))
    return [made.save(folder / "capture")]


SPLIT = ("awq_gemm_kernel", REDUCE)
COUNTED = {"global_load_requests": 1e5, "l2_bytes": 24e6}
TUNED = "Failed validator: GCN_ARCH_NAME"
FIRST_CALL = "[hipBLASLt] first call M=1 N=4096 K=4096"
FORCED = "WARNING VLLM_USE_TRITON_AWQ is not set, enabling VLLM_USE_TRITON_AWQ."

FINDINGS = {
    "launch-gaps": (
        lambda at: trace(at, GPTQ4, times=20, pause_ns=8 * US),
        lambda at: trace(at, GPTQ4, times=20),
    ),
    "host-stalls": (
        lambda at: trace(at, GPTQ4, times=20, pause_ns=500 * US),
        lambda at: trace(at, GPTQ4, times=20, pause_ns=90 * US),
    ),
    "straggler": (lambda at: ranks(at, 20 * US, 80 * US), lambda at: ranks(at, 80 * US, 80 * US)),
    "clock-below-peak": (lambda at: clocked(at, 1.0e9), lambda at: clocked(at, 1.502e9)),
    "quantised-more-bytes-than-16-bit": (
        lambda at: trace(at, RECONSTRUCT, TILED, times=4),
        lambda at: trace(at, GPTQ4, TILED, times=4),
    ),
    "fill-per-projection": (
        lambda at: trace(at, FILL, GPTQ4, times=4),
        lambda at: trace(at, FILL, *[GPTQ4] * 8),
    ),
    "grid-smaller-than-the-gpu": (
        lambda at: table(at, workgroups=8),
        lambda at: table(at, workgroups=960),
    ),
    "split-k-partial-sums": (
        lambda at: trace(at, *SPLIT, times=4),
        lambda at: trace(at, REDUCE, *["awq_gemm_kernel"] * 8),
    ),
    "uncoalesced-global-loads": (
        lambda at: table(at, **COUNTED, global_load_sectors=64e5),
        lambda at: table(at, **COUNTED, global_load_sectors=16e5),
    ),
    "lds-bank-conflicts": (
        lambda at: table(at, lds_conflict_frac=0.4),
        lambda at: table(at, lds_conflict_frac=0.02),
    ),
    "occupancy-limited-by-registers-or-lds": (
        lambda at: table(at, vgprs=256, agprs=0, sgprs=32, lds_bytes=0, grid_x=960 * 256, workgroup_x=256),
        lambda at: table(at, vgprs=24, agprs=0, sgprs=32, lds_bytes=0, grid_x=960 * 256, workgroup_x=256),
    ),
    "tile-wider-than-the-problem": (lambda at: product(at, 1), lambda at: product(at, 512)),
    "largest-family-unclassified": (
        lambda at: trace(at, "mystery", GPTQ4),
        lambda at: trace(at, "mystery", *[GPTQ4] * 40),
    ),
    "group-size-128-on-gfx908": (lambda at: configured(at, 128), lambda at: configured(at, 32)),
    "triton-awq-forced": (
        lambda at: logged(at, FORCED),
        lambda at: [*trace(at, GPTQ4), files.server_log(at / "server.log", FORCED)],
    ),
    "tuning-results-for-another-gpu": (lambda at: logged(at, TUNED), logged),
    "hipblaslt-first-call-lines": (lambda at: logged(at, FIRST_CALL), logged),
}


def product(folder, rows):
    """A tiled dense product with the shapes of its operator."""
    events = []
    for at in range(4):
        start = at * 20 * US
        dims = {"Input Dims": [[rows, 4096], [4096, 4096]], "Input type": ["c10::Half", "c10::Half"]}
        call = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 9, "tid": 9, "ts": start / 1000}
        events += [
            {**call, "dur": 9, "args": {"External id": at + 1, **dims}},
            files.launch(start + US, US, at + 1),
            files.kernel(TILED, start + 9 * US, 10 * US, correlation=at + 1, **{"External id": at + 1}),
        ]
    return [files.torch_trace(folder / "trace.json", events)]


def test_every_rule_and_loss_of_time_is_among_them():
    assert set(FINDINGS) == {rule.id for rule in rules()} | {"launch-gaps", "host-stalls", "straggler"}


@pytest.mark.parametrize("name", FINDINGS)
def test_it_fires_on_its_case_and_is_silent_on_the_counterpart(name, analyze, tmp_path):
    (tmp_path / "loud").mkdir()
    (tmp_path / "quiet").mkdir()
    loud, quiet = FINDINGS[name]
    assert name in said(analyze(*loud(tmp_path / "loud")))
    analysis = analyze(*quiet(tmp_path / "quiet"))
    assert name not in said(analysis)
    assert name not in {each["rule"] for each in analysis["not_evaluated"]}


def test_a_low_clock_costs_no_more_than_the_time_in_which_the_gpu_worked(analyze, tmp_path):
    analysis = analyze(*clocked(tmp_path, 1.0e9))
    target = next(each for each in analysis["targets"] if each["id"].startswith("rule-clock-below-peak"))
    busy = analysis["gpus"][0]["busy_s"] / analysis["gpus"][0]["wall_s"]
    assert 0.4 < busy < 0.6
    assert target["expected_gain"]["high_frac"] == pytest.approx((1 - 1.0 / 1.502) * busy)
