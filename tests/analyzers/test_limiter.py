import pytest

from rocscope.analyzers import limiter, runner
from synthetic_capture import SPEC, capture, row, study


def label(model, mean=10_000, family="gemm", spec=SPEC, passes=None, **shape):
    made = study(
        capture([row("k", 0, mean, **shape)], passes=passes), {"k": model}, families={"k": family}, spec=spec
    )
    runner.run(made)
    return made.kernels.iloc[0]


NARROW = {"grid_x": 2560}  # 10 workgroups on 100 compute units
LITTLE = {"bytes": 1e6, "flops": 1e6}  # a tenth of the memory roof, a hundredth of the other


@pytest.mark.parametrize(
    ("model", "more", "expected", "rule"),
    [
        ({"bytes": 7e6, "flops": 1e7}, {}, "memory-bandwidth", "limiter-memory-roof"),
        ({"bytes": 1e6, "flops": 8e7}, {}, "compute", "limiter-compute-roof"),
        ({"bytes": 6.2e7, "flops": 6.8e8}, {"mean": 100_000}, "balanced", "limiter-balanced"),
        ({"bytes": 6.2e6, "flops": 6.8e7}, {}, "compute", "limiter-compute-roof"),  # 1 MB of it in the L2
        ({"bytes": 8e5, "flops": 1e6}, {"mean": 1_000}, "unknown", "limiter-in-cache"),
        ({"bytes": 6.5e6, "flops": 1e7}, {}, "unknown", "limiter-in-cache"),  # 55 % from memory for certain
        ({"bytes": 6.2e6, "flops": 9e7}, {}, "compute", "limiter-compute-roof"),
        ({"bytes": 9e6, "flops": 6.2e7}, {}, "memory-bandwidth", "limiter-memory-roof"),
        (LITTLE, {}, "latency", "limiter-below-all-roofs"),
        (LITTLE, NARROW, "parallelism", "limiter-few-workgroups"),
        ({"bytes": 1e6, "flops": 5.5e7}, {"grid_x": 95 * 256}, "latency", "limiter-below-all-roofs"),
        ({"bytes": 1e6, "flops": 5.5e7}, {"grid_x": 80 * 256}, "parallelism", "limiter-few-workgroups"),
        (LITTLE, {"mean": 4_500}, "launch", "limiter-launch-floor"),
        ({}, {"mean": 4_500}, "launch", "limiter-launch-floor"),
        ({}, {"grid_x": 512}, "parallelism", "limiter-starved"),
        ({}, NARROW, "unknown", "limiter-not-enough-known"),
        ({"bytes": 1e6}, {}, "unknown", "limiter-not-enough-known"),
        ({"bytes": 7e6}, {}, "memory-bandwidth", "limiter-memory-roof"),
        (LITTLE, {"family": "communication"}, "communication", "limiter-link"),
        ({"bytes": 2e7, "flops": 0.0}, {}, "unknown", "limiter-withheld"),
        ({"bytes": 7e6, "flops": 1e7}, {**NARROW, "mean": 10_000}, "memory-bandwidth", "limiter-memory-roof"),
    ],
)
def test_the_first_rule_that_holds_decides(model, more, expected, rule):
    found = label(model, **more)
    assert (found["limiter"], found["limiter_rule"]) == (expected, rule)
    assert found["evidence"] and all(line.endswith("]") for line in found["evidence"])


def test_confidence():
    assert label(LITTLE)["confidence"] == "medium"
    assert label({"bytes": 7e6, "flops": 1e7})["confidence"] == "high"  # minima, and seven times the L2
    assert label({"bytes": 1.9e6, "flops": 0.0}, mean=1_950)["limiter"] == "unknown"  # may sit in the L2
    behind = SPEC.model_copy(update={"memory_side_cache_bytes": 8_000_000})
    assert label({"bytes": 7e6, "flops": 1e7}, spec=behind)["limiter"] == "unknown"  # may sit there
    assert label({"bytes": 1.7e7, "flops": 1e7}, mean=2e4, spec=behind)["limiter"] == "unknown"
    assert label({"bytes": 5.9e6, "flops": 1e7})["confidence"] == "low"  # near the line
    assert label({"bytes": 1e6, "flops": 9e6})["confidence"] == "low"  # near the ridge
    assert label({"bytes": 1e6})["confidence"] == "low"
    assert label({}, grid_x=512)["confidence"] == "medium"
    perturbed = [{"counters": ("SQ_WAVES",), "perturbed": True}]
    assert label({"bytes": 7e6, "flops": 1e7}, passes=perturbed)["confidence"] == "low"


def test_measured_bytes_alone_leave_room_for_other_limits():
    near_all = {"bytes": 9.5e6, "flops": 1e7}
    for model, sure in ((LITTLE, "medium"), ({"bytes": 7e6, "flops": 1e7}, "medium"), (near_all, "high")):
        made = study(capture([row("k", 0, 10_000)]), {"k": model})
        made.kernels["bytes_basis"] = "measured"
        runner.run(made)
        assert made.kernels.loc[0, "confidence"] == sure


def test_the_evidence_says_figures_source_and_rule():
    lines = label({"bytes": 5e6, "flops": 1e7})["evidence"]
    assert lines == [
        "moves 5 MB a dispatch (modelled: by hand) in 10 µs mean: 500 GB/s, 50 % of the 1 TB/s of the Paper "
        "datasheet [roofline-memory]",
        "does 10 MFLOP a dispatch (from the same): 10 % of the 10 TFLOP/s vector_fp16 of the Paper "
        "datasheet [roofline-compute]",
        "intensity 2 FLOP/B is below the ridge of 10 FLOP/B (vector_fp16 peak over memory bandwidth), so the "
        "memory roof lies above it [bound-ridge]",
        "below 60 % of both roofs with enough workgroups (no counters: issue stalls, cache traffic and "
        "occupancy were not seen) [limiter-below-all-roofs]",
    ]


def test_the_evidence_says_what_is_missing():
    assert "no bytes and no FLOPs" in label({}, **NARROW)["evidence"][0]
    assert "name it with --gpu" in label(LITTLE, spec=None)["evidence"][0]
    assert "1 workgroup on 100" in label({}, grid_x=256)["evidence"][-1]
    assert "near the line" in label({"bytes": 5.9e6, "flops": 1e7})["evidence"][-1]
    assert "launch shape was not recorded" in label(LITTLE, grid_x=None)["evidence"][-1]
    assert "not timed" in label({"bytes": 1e6}, mean=None)["evidence"][0]
    assert "no label is given" in label({"bytes": 2e7, "flops": 0.0})["evidence"][0]
    assert "over a link" in label({"bytes": 1e6}, family="communication")["evidence"][0]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"grid_x": 1024, "grid_y": 3, "workgroup_x": 256}, 12),
        ({"grid_x": 1000, "workgroup_x": 256}, 4),
        ({"grid_x": 4096, "grid_y": None, "grid_z": None, "workgroup_y": None, "workgroup_z": None}, 16),
    ],
)
def test_workgroups_are_counted_from_work_items(shape, expected):
    assert limiter.workgroups(study(capture([row("k", 0, 1, **shape)])).kernels).tolist() == [expected]


def test_workgroups_of_an_unknown_shape_are_unknown():
    frame = study(capture([row("k", 0, 1, grid_x=None), row("n", 1, 1, workgroup_x=None)])).kernels
    assert limiter.workgroups(frame).isna().all()


@pytest.mark.parametrize(("unit", "expected"), [("matrix_fp16", "latency"), ("vector_fp16", "occupancy")])
def test_few_waves_hold_back_no_kernel_that_keeps_the_matrix_pipes_busy(unit, expected):
    """At 54 % of that peak, nobody counted; one wave of four fits on each SIMD."""
    peak = SPEC.datasheet.flops_per_s["vector_fp16"]
    sheet = SPEC.datasheet.model_copy(update={"flops_per_s": {unit: peak}})
    shape = {"vgprs": 200, "sgprs": 32, "agprs": 0, "lds_bytes": 0, "wave_size": 64}
    made = study(
        capture([row("k", 0, 10_000, **shape)]),
        {"k": {"bytes": 1e6, "flops": 5.4e7}},
        families={"k": "gemm"},
        spec=SPEC.model_copy(update={"datasheet": sheet}),
    )
    made.kernels["flops_unit"] = unit
    runner.run(made)
    found = made.kernels.iloc[0]
    assert found["theoretical_occupancy_frac"] == pytest.approx(0.1)
    assert found["limiter"] == expected
