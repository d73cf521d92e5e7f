"""What labels from counters rest on: each counter that is missing or noisy costs confidence, never truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import truth_table

from rocscope import pipeline

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOISY = (
    *("read_bytes", "write_bytes", "l2_bytes", "waves_per_cu", "flops", "global_load_requests"),
    *("global_load_sectors", "issue_active_frac", "achieved_occupancy_frac", "mfma_busy_frac"),
    *("theoretical_occupancy_frac", "duration_ns"),
)
GRID = ("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z")
DROPPED = (
    *((name,) for name in (*NOISY[:-1], *GRID, "l2_hit_frac", "l1_hit_frac", "vgprs")),
    ("issue_active_frac", "mfma_busy_frac"),
    ("l2_bytes", "issue_active_frac"),
    ("l2_bytes", "global_load_sectors", "write_bytes"),
    ("mfma_busy_frac", "flops"),
    ("waves_per_cu", "grid_z"),
    ("waves_per_cu", *GRID),
)
ONE = {  # 2,000 workgroups of 128 on 132 multiprocessors, 100 us: nothing near any roof
    "kernel": "k",
    "duration_ns": 1e5,
    "grid_x": 256_000,
    "workgroup_x": 128,
    "read_bytes": 1.5e8,
    "write_bytes": 5e7,
    "l2_bytes": 3e8,
    "issue_active_frac": 0.03,
    "mfma_busy_frac": 0.0,
}


def labels(frame, tmp_path):
    """Return limiter and confidence of each row, and the analysis."""
    frame = frame.assign(case=[f"row {row}" for row in range(len(frame))])
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    found = pipeline.analyze(pipeline.load_table(path), gpu="H200")
    by_case = {kernel.case: kernel for kernel in found.kernels}
    told = [by_case[case] for case in frame["case"]]
    return pd.DataFrame(
        {
            "limiter": [kernel.limiter for kernel in told],
            "confidence": [kernel.confidence for kernel in told],
            "last": [kernel.evidence[-1] for kernel in told],
        }
    ), found


def one(tmp_path, **more):
    found, analysis = labels(pd.DataFrame([{**ONE, **more}]), tmp_path)
    return found.iloc[0], {warning.code for warning in analysis.integrity.warnings}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("latency", "high")),
        ({"read_bytes": 4e8, "write_bytes": None}, ("memory-bandwidth", "high")),  # writes only add to it
        (
            {"read_bytes": 4e8, "mfma_busy_frac": None},
            ("memory-bandwidth", "high"),
        ),  # nothing can lead by much
        ({"read_bytes": 3e8, "mfma_busy_frac": None}, ("memory-bandwidth", "medium")),
        ({"issue_active_frac": 0.1}, ("latency", "medium")),  # a load-store unit may be busy all the time
        ({"issue_active_frac": None}, ("latency", "medium")),
        ({"read_bytes": 2.5e8}, ("memory-bandwidth", "low")),  # 62.5 % of the memory roof
        ({"write_bytes": None, "l2_bytes": 2.5e8}, ("latency", "high")),  # the L2 had no room for more writes
        ({"write_bytes": None, "l2_bytes": 4e8}, ("latency", "low")),  # there it had
        ({"write_bytes": None, "l2_bytes": None}, ("latency", "medium")),
        ({"l2_bytes": None}, ("latency", "medium")),  # the L2 may be the roof
        ({"mfma_busy_frac": None}, ("latency", "low")),  # wide matrix instructions take few issue slots
        ({"mfma_busy_frac": None, "flops": 1e9, "flops_unit": "vector_fp32"}, ("latency", "medium")),
        # no CU without a workgroup is busy, whatever it is that was not counted
        ({"grid_x": 32 * 128, "issue_active_frac": 0.9}, ("parallelism", "high")),
        ({"grid_x": 32 * 128, "issue_active_frac": None, "mfma_busy_frac": None}, ("parallelism", "high")),
        ({"grid_x": 100 * 128, "issue_active_frac": 0.65}, ("parallelism", "medium")),
        # arithmetic that fills all slots leads, or shares the lead with what was not counted
        ({"issue_active_frac": 0.99, "duration_ns": 1e6, "grid_x": 132 * 128 * 16}, ("compute", "high")),
        ({"issue_active_frac": 0.8, "duration_ns": 1e6, "grid_x": 132 * 128 * 16}, ("compute", "low")),
        # the L1 at its peak, by sectors of coalesced loads
        ({"global_load_requests": 6e6, "global_load_sectors": 9.6e7}, ("cache-bandwidth", "high")),
        ({"l2_bytes": 9e8}, ("cache-bandwidth", "high")),
        ({"l2_bytes": 4.8e8}, ("latency", "medium")),  # single sectors would be 79 % of the L2's look-ups
        (
            {"l2_bytes": 4.8e8, "global_load_requests": 4e5, "global_load_sectors": 1.2e7},
            ("cache-bandwidth", "medium"),
        ),
        (
            {"l2_bytes": 4.8e8, "global_load_requests": 7.2e5, "global_load_sectors": 1.2e7},
            ("latency", "medium"),
        ),
        (  # lanes that read half a sector each, and its other half from the L1
            {
                "l2_bytes": 4.8e8,
                "global_load_requests": 4e5,
                "global_load_sectors": 1.2e7,
                "l1_hit_frac": 0.5,
            },
            ("latency", "medium"),
        ),
        # more FLOPs than vector pipes can do, while the matrix pipes were busy: those did them
        ({"flops": 3e10, "flops_unit": "vector_fp16", "mfma_busy_frac": 0.5}, ("latency", "medium")),
        ({"flops": 3e10, "flops_unit": "vector_fp16"}, ("unknown", "low")),
    ],
)
def test_each_label_is_as_sure_as_its_counters_allow(tmp_path, more, expected):
    found, _ = one(tmp_path, **more)
    assert (found["limiter"], found["confidence"]) == expected, found["last"]


def test_evidence_says_what_was_not_counted(tmp_path):
    assert "writes were not counted" in one(tmp_path, write_bytes=None)[0]["last"]
    assert "matrix pipes were not counted" in one(tmp_path, mfma_busy_frac=None)[0]["last"]
    scattered = {"l2_bytes": 4.8e8, "global_load_requests": 4e5, "global_load_sectors": 1.2e7}
    last = one(tmp_path, **scattered)[0]["last"]
    assert "78.9 % of the L2's look-ups" in last and last.endswith("[limiter-scattered-loads]")
    assert "not counted" not in one(tmp_path)[0]["last"]


@pytest.mark.parametrize("more", [{"waves_per_cu": 2.0}, {"achieved_occupancy_frac": 0.5}])
def test_a_grid_of_which_a_side_is_missing_makes_no_kernel_parallelism_limited(tmp_path, more):
    found, warnings = one(tmp_path, grid_x=32 * 128, issue_active_frac=0.9, **more)
    assert found["limiter"] == "compute" and "launch-contradicted" in warnings
    fine = {"waves_per_cu": 0.015, "achieved_occupancy_frac": 0.0625}
    found, warnings = one(tmp_path, grid_x=32 * 128, issue_active_frac=0.9, **fine)
    assert found["limiter"] == "parallelism" and "launch-contradicted" not in warnings


def variants(table):
    """Return the table with each counter 3 % less and more, without it, and with noise in all at once."""
    yield "as it is", table
    counted = [name for name in NOISY if name in table]
    for name in counted:
        for factor in (0.97, 1.03):
            yield f"{name} x {factor}", table.assign(**{name: noisy(table, name, factor)})
    for names in DROPPED:
        yield f"without {' and '.join(names)}", table.assign(**dict.fromkeys(names, np.nan))
    random = np.random.default_rng(7)
    for _ in range(6):
        shaken = {name: noisy(table, name, random.uniform(0.97, 1.03, len(table))) for name in counted}
        yield "all noisy", table.assign(**shaken)


def noisy(table, name, factor):
    made = table[name] * factor
    return made.clip(upper=1.0) if name.endswith("_frac") else made


@pytest.mark.parametrize(
    "name", ["h200_decoder", "h200_kernels", pytest.param("h200_vllm", marks=pytest.mark.captures)]
)
def test_noise_and_missing_counters_make_no_label_wrong_and_sure(request, tmp_path, name):
    folder = request.getfixturevalue("captures") if name == "h200_vllm" else EXAMPLES
    truth = truth_table.read(folder / name / "kernel_truth.csv")
    truth = truth.drop_duplicates(["kernel_name", "grid", "block"]).reset_index(drop=True)
    kinds, tables = zip(*variants(truth_table.table(truth, hashed=True)), strict=True)
    found, _ = labels(pd.concat(tables, ignore_index=True), tmp_path)
    found["variant"] = np.repeat(np.arange(len(kinds)), len(truth))
    found["row"] = np.tile(np.arange(len(truth)), len(kinds))
    found["right"] = [
        truth_table.agrees(truth.iloc[row], limiter)
        for row, limiter in zip(found["row"], found["limiter"], strict=True)
    ]
    wrong = found[(found["confidence"] == "high") & ~found["right"]]
    assert wrong.empty, [(kinds[each.variant], truth["kernel_name"][each.row]) for each in wrong.itertuples()]
    whole = found[found["variant"] == 0].set_index("row")["limiter"]
    flipped = found["limiter"].to_numpy() != whole[found["row"]].to_numpy()
    shaken = np.array([" x " in kind for kind in kinds])[found["variant"]]
    print(
        f"{name}: {flipped[shaken].sum()} of {shaken.sum()} labels flip where one counter is 3 % off, "
        f"{flipped[~shaken].sum()} of {(~shaken).sum()} where counters are missing or all are off; "
        f"none of {(found['confidence'] == 'high').sum()} labels of confidence high is wrong"
    )
    assert flipped[shaken].mean() <= 0.01


def test_sure_labels_of_other_kernels_of_vllm_are_right_with_noise_too(tmp_path):
    truth = truth_table.read(EXAMPLES / "h200_kernels" / "vllm_kernel_truth.csv")
    shaken = [table for kind, table in variants(truth_table.table(truth, hashed=True)) if " x " not in kind]
    chosen = [shaken[0], *shaken[-3:]]
    found, _ = labels(pd.concat(chosen, ignore_index=True), tmp_path)
    sure = found["confidence"] == "high"
    rows = np.tile(np.arange(len(truth)), len(chosen))
    right = np.array(
        [
            truth_table.agrees(truth.iloc[row], limiter)
            for row, limiter in zip(rows, found["limiter"], strict=True)
        ]
    )
    print(f"{right[: len(truth)].sum()} of {len(truth)} right, {sure.sum()} of {len(found)} labels are sure")
    assert right[sure].all() and right[: len(truth)].mean() >= 0.92
