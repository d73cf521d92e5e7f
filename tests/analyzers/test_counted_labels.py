"""Labels from counters, against Nsight Compute's verdicts of the same launches and the users' of theirs."""

import pandas as pd
import pytest
import truth_table

from rocscope import pipeline

GPTQ = "gemm_half_q_half_gptq_8bit_kernel<true, 1>"


def labels(frame, tmp_path, gpu):
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    return pipeline.analyze(pipeline.load_table(path), gpu=gpu)


@pytest.mark.captures
@pytest.mark.parametrize("hashed", [False, True], ids=["named", "hashed"])
@pytest.mark.parametrize(("name", "least"), [("h200", 21 / 22), ("h200_vllm", 0.92)])
def test_limiters_agree_with_the_counters_own_verdict(captures, tmp_path, name, least, hashed):
    truth = truth_table.read(captures / name / "kernel_truth.csv")
    found = labels(truth_table.table(truth, hashed=hashed), tmp_path, "H200")
    by_case = {kernel.case: kernel for kernel in found.kernels}
    assert len(by_case) == len(truth) == len(found.kernels)
    ours = [by_case[f"row {row}"] for row in range(len(truth))]
    right = pd.Series(
        [truth_table.agrees(row, k.limiter) for (_, row), k in zip(truth.iterrows(), ours, strict=True)]
    )
    sure = pd.Series([kernel.confidence == "high" for kernel in ours])
    time = truth["duration_ns"] / truth["duration_ns"].sum()
    bound = sum(share for share, kernel in zip(time, ours, strict=True) if kernel.bound != "unknown")
    print(
        f"{name} {'hashed' if hashed else 'named'}: {right.sum()} of {len(right)} agree, "
        f"{time[right].sum():.1%} of time; high for {time[sure].sum():.1%} of time, "
        f"{(sure & ~right).sum()} of those wrong; bound known for {bound:.1%}"
    )
    assert right.mean() >= least and time[right].sum() >= 0.97
    assert time[sure].sum() >= 0.5 and not (sure & ~right).any()


@pytest.mark.captures
@pytest.mark.parametrize("name", ["h200", "h200_vllm"])
def test_names_do_not_matter_to_labels_from_counters(captures, tmp_path, name):
    truth = truth_table.read(captures / name / "kernel_truth.csv")
    told = [
        {
            kernel.case: (kernel.limiter, kernel.bandwidth_frac)
            for kernel in labels(truth_table.table(truth, hashed=hashed), tmp_path, "H200").kernels
        }
        for hashed in (False, True)
    ]
    assert told[0] == told[1]


@pytest.mark.captures
@pytest.mark.parametrize(
    ("folder", "recording", "model"),
    [
        ("h200", "kineto_strided_graph", "w4_config"),
        ("h200", "kineto_strided_eager", "w4_config"),
        ("h200", "kineto_fp16_graph", "fp16_config"),
        ("h200_vllm", "gptq8_graph.kineto", "gptq8_config"),
        ("h200_vllm", "fp16_graph.kineto", "fp16_config"),
    ],
)
def test_timing_and_shapes_alone_say_the_same_or_nothing(captures, tmp_path, folder, recording, model):
    truth = truth_table.read(captures / folder / "kernel_truth.csv")
    counted = truth_table.table(truth)
    sides = ("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z")
    shapes = list(zip(*(counted[side] for side in sides), strict=True))
    measured = {kernel.case: kernel for kernel in labels(counted, tmp_path, "H200").kernels}
    found = pipeline.analyze(
        captures / folder / f"{recording}.json.gz",
        gpu="H200",
        model=captures / folder / f"{model}.json",
    )
    compared = limited = 0
    for kernel in found.kernels:
        launch = (*kernel.launch_shape.grid, *kernel.launch_shape.workgroup)
        for row, shape in enumerate(shapes):
            name, taken = truth["kernel_name"][row], truth["duration_ns"][row]
            alike = (
                kernel.mean_ns and 0.8 < kernel.mean_ns / taken < 1.25
            )  # the same shape may be another problem
            if shape != launch or name.split("(")[0] not in kernel.raw_name or not alike:
                continue
            bound = measured[f"row {row}"].bound
            assert "unknown" in (bound, kernel.bound) or kernel.bound == bound, (name, launch)
            agrees = truth_table.agrees(truth.iloc[row], kernel.limiter)
            assert kernel.limiter == "unknown" or agrees, (name, launch, kernel.limiter, kernel.evidence)
            compared, limited = compared + 1, limited + (kernel.limiter != "unknown")
    print(f"{recording}: {compared} launches were counted too, {limited} of them with a limiter, all agree")
    assert compared


def field_notes(**more):
    """Section C of the field notes: the GPTQ kernel at the times that their shares of the peak imply."""
    return pd.DataFrame(
        {
            "case": ["qkv", "gate_up"],
            "kernel": [GPTQ, GPTQ],
            "duration_ns": [45_000, 62_000],
            "dispatches": [64, 64],
            "read_bytes": [19.6e6, 46.5e6],
            "valu_busy_frac": [0.139, 0.252],
            "salu_busy_frac": [0.51, 0.51],
            "mem_unit_busy_frac": [0.205, 0.371],
            "mem_unit_stalled_frac": [0.0014, 0.0011],
            "lds_conflict_frac": [0.0, 0.0],
            "vgprs": [72, 72],
            "agprs": [72, 72],
            **more,
        }
    )


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"achieved_occupancy_frac": [0.1, 0.1]}, "occupancy"),
        ({}, "latency"),
        ({"flops": [2.0 * 5120 * 3584, 2.0 * 5120 * 8704]}, "latency"),
        ({"valu_busy_frac": [None, None], "flops": [2.0 * 5120 * 3584, 2.0 * 5120 * 8704]}, "latency"),
    ],
)
def test_the_gptq_kernel_of_the_field_notes(tmp_path, more, cause):
    found = labels(field_notes(**more), tmp_path, "MI100")
    by_case = {kernel.case: kernel for kernel in found.kernels}
    qkv, gate_up = by_case["qkv"], by_case["gate_up"]
    assert (qkv.bound, qkv.limiter) == ("memory", cause)
    assert gate_up.bound == "memory" and gate_up.limiter in ("memory-bandwidth", "latency")
    assert gate_up.confidence == "low" and any("near the line" in line for line in gate_up.evidence)
    (target,) = found.targets
    assert target.expected_gain.mid_frac < 0.15
    said = f"{target.problem} {target.advice} {target.confirm_by}"
    assert "MFMA" not in said and "Use matrix" not in said
    (family,) = found.families
    assert family.verdict == f"1 shape memory-bandwidth, 1 {cause}"
    assert [(part["limiter"], part["shapes"]) for part in family.split] == [
        ("memory-bandwidth", 1),
        (cause, 1),
    ]


ONE = {"case": ["it"], "kernel": ["k"], "duration_ns": [1e5], "grid_x": [256_000], "workgroup_x": [128]}


def one(tmp_path, **more):
    frame = pd.DataFrame({**ONE, **{name: [value] for name, value in more.items()}})
    (found,) = labels(frame, tmp_path, "H200").kernels
    return found


@pytest.mark.parametrize(
    ("more", "bound", "limiter"),
    [
        ({"read_bytes": 3e8, "write_bytes": 1e8}, "unknown", "memory-bandwidth"),
        ({"read_bytes": 3e8, "write_bytes": 1e8, "issue_active_frac": 0.1}, "memory", "memory-bandwidth"),
        ({"read_bytes": 1e6, "l2_bytes": 9e8, "issue_active_frac": 0.1}, "unknown", "cache-bandwidth"),
        ({"read_bytes": 1e7, "mfma_busy_frac": 0.9, "issue_active_frac": 0.2}, "compute", "compute"),
        ({"read_bytes": 1e7, "issue_active_frac": 0.9}, "unknown", "compute"),
        ({"read_bytes": 3.3e8, "issue_active_frac": 0.75}, "unknown", "balanced"),
        ({"read_bytes": 1e8, "l2_bytes": 9e9, "issue_active_frac": 0.3}, "unknown", "latency"),
        (
            {"read_bytes": 2e8, "issue_active_frac": 0.1, "achieved_occupancy_frac": 0.1},
            "memory",
            "occupancy",
        ),
        ({"read_bytes": 1e8, "issue_active_frac": 0.1, "waves_per_cu": 0.3}, "memory", "parallelism"),
        ({"issue_active_frac": 0.1}, "unknown", "unknown"),
        # what the L2 held before counts: 1 kB of traffic says nothing of the intensity
        ({"read_bytes": 1e3, "flops": 1e7, "flops_unit": "vector_fp32"}, "unknown", "latency"),
        (
            {"read_bytes": 1e3, "l2_bytes": 1e7, "flops": 1e7, "flops_unit": "vector_fp32"},
            "memory",
            "latency",
        ),
        ({"read_bytes": 1e6, "flops": 8e10, "flops_unit": "matrix_fp16"}, "compute", "compute"),
    ],
)
def test_rules_on_paper(tmp_path, more, bound, limiter):
    found = one(tmp_path, **more)
    assert (found.bound, found.limiter) == (bound, limiter), found.evidence
    assert all(line.endswith("]") for line in found.evidence)


def test_traffic_that_no_cache_can_carry_is_said_and_decides_nothing(tmp_path):
    frame = pd.DataFrame({**ONE, "read_bytes": [1e8], "l2_bytes": [9e9], "issue_active_frac": [0.1]})
    found = labels(frame, tmp_path, "H200")
    assert found.kernels[0].limiter == "latency"
    assert "cache-above-ceiling" in {warning.code for warning in found.integrity.warnings}
