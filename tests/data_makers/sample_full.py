"""An analysis with every section: four ranks, one of them late. Synthetic, no GPU was measured for it."""

from __future__ import annotations

from typing import Any

from sample_analysis import HOSTILE_NAMES, hostile_analysis, sample_analysis, sample_gpu, sample_kernels
from sample_window import sample_window

from rocscope.findings import Analysis, StepFamily, StepKernel, StepRank, StepTable, Target

RANKS = 4
LATE = 2
STEP_S = {  # of a decode step on every rank; after the bucket table of people who tuned an MI100
    "gptq_gemm": 12.64e-3,
    "gemm": 1.40e-3,
    "elementwise": 1.31e-3,
    "communication": 1.25e-3,
    "other": 1.19e-3,
    "ssm": 0.75e-3,
    "memcpy": 0.46e-3,
    "sampling": 0.46e-3,
    "rmsnorm": 0.45e-3,
    "attention": 0.21e-3,
}
TOP = (
    ("gemm_half_q_half_gptq_8bit_kernel", "gptq_gemm", 256.0, 45.4e-6),
    ("LLGemm1_kernel", "gemm", 50.0, 28.3e-6),
    ("cross_device_reduce_1stage", "communication", 129.0, 8.8e-6),
    ("elementwise_kernel FillFunctor<half>", "elementwise", 256.0, 3.9e-6),
)
SERVING: dict[str, Any] = {
    "source": "the server's /metrics",
    "scrapes": 31,
    "span_s": 30.0,
    "generation_tokens": 1590,
    "generation_tokens_per_s": 53.0,
    "prompt_tokens": 4096,
    "requests_finished": 12,
    "requests_finished_by_reason": {"length": 11, "stop": 1},
    "requests_running": {"mean": 1.0, "most": 2},
    "kv_cache_used_frac": {"mean": 0.12, "most": 0.2},
    "latencies": {
        "ttft_s": {"mean_s": 0.21, "p50_s": 0.2, "p50_low_s": 0.1, "p50_high_s": 0.25},
        "itl_s": {"mean_s": 0.01882, "p50_s": 0.0188, "p50_low_s": 0.015, "p50_high_s": 0.02},
        "e2e_s": {"mean_s": 2.51, "p50_low_s": None, "p50_high_s": 2.5},
    },
    "tpot": {"statement": "a token is rebuilt as 23.1 ms, against 18.8 ms measured without the profiler"},
}
TELEMETRY: dict[str, Any] = {
    "gpus": [
        {
            "gpu": gpu,
            "energy_j": {"value": 7800.0 - 100 * gpu, "basis": "measured", "source": "energy counter"},
            "power_w": {"mean": 250.0, "at_work": 272.0, "idle": 41.0},
            "power_cap_frac": 0.94,
            "clock_hz": {"mean": 1.41e9 - 2e8 * (gpu == LATE), "peak": 1.502e9},
            "temperature_hotspot_c": {"mean": 80.0, "most": 91.0},
            "throttled_frac": {"power": 0.0, "thermal": 0.24 * (gpu == LATE)},
        }
        for gpu in range(RANKS)
    ],
    "host": {
        "processes": [
            {
                "pid": 712,
                "name": "VLLM::Worker_TP0",
                "cpu_frac": {"mean": 0.97, "most": 1.01},
                "rss_bytes": {"mean": 1e9, "most": 3.2e9},
                "threads": {"mean": 40, "most": 41},
                "io_read_bytes": 2e6,
                "io_write_bytes": 5e6,
            }
        ],
    },
}


def full_step(**changes: Any) -> StepTable:
    """One decode step: the late rank's GPTQ products take longer, the others wait for it."""
    late_s = 1.6e-3
    families = []
    for family, each in STEP_S.items():
        times = [each] * RANKS
        if family == "gptq_gemm":
            times[LATE] += late_s
        if family == "communication":
            times = [each + late_s * (rank != LATE) for rank in range(RANKS)]
        most = max(times)
        mean = sum(times) / RANKS
        families.append(
            StepFamily(
                family=family, time_s=times, calls=[64.0] * RANKS, mean_s=mean,
                time_frac=mean / (sum(STEP_S.values()) + late_s), spread_frac=(most - min(times)) / most,
            )
        )  # fmt: skip
    whole = [sum(family.time_s[rank] for family in families) for rank in range(RANKS)]
    known: dict[str, Any] = {
        "phase": "decode",
        "sequences": 1,
        "found_by": "decode steps of 1 sequence, as annotated",
        "ranks": [
            StepRank(
                label=f"rank {rank}", gpu=rank, rank=rank, steps=64, kernel_s=spent, busy_s=spent,
                period_s=23.1e-3, calls=640.0,
            )
            for rank, spent in enumerate(whole)
        ],
        "families": families,
        "mean_s": sum(whole) / RANKS,
        "spread_frac": 0.0,
        "kernels_of": "rank 0",
        "kernels": [
            StepKernel(kernel=name, raw_name=name, family=family, calls=calls, mean_s=mean)
            for name, family, calls, mean in TOP
        ],
        "reconciles": False,
        "reconciliation": "kernel time a step is more than the 18.82 ms of a token without the profiler",
    }  # fmt: skip
    return StepTable(**{**known, **changes})


def straggler() -> Target:
    """The target of the late rank."""
    return Target(
        rank=4, id="timeline-straggler-1", problem=f"rank {LATE} is late: the others wait for it",
        scope="timeline", family="communication", kernel=None, time_frac=0.07, headroom_s=0.1,
        expected_gain=None, confidence="medium", evidence=["a collective takes longer on all other ranks"],
        advice="Look at its clocks.", confirm_by="Even collectives.",
    )  # fmt: skip


def full_analysis(**changes: Any) -> Analysis:
    """Four ranks of a GPTQ model with everything that a report can show."""
    base = sample_analysis()
    known: dict[str, Any] = {
        "gpus": [sample_gpu(gpu, busy_frac=0.87 + 0.02 * gpu) for gpu in range(RANKS)],
        "kernels": [
            kernel.model_copy(update={"gpu": gpu}) for gpu in range(RANKS) for kernel in sample_kernels()
        ],
        "targets": [*base.targets, straggler()],
        "step_table": full_step(),
        "timeline": sample_window(RANKS),
        "serving": SERVING,
        "telemetry": TELEMETRY,
    }
    return sample_analysis(**{**known, **changes})


def hostile_full() -> Analysis:
    """Every section, every text in it one that would act if it were not text."""
    bad = HOSTILE_NAMES[0]
    base = hostile_analysis()
    step = full_step(found_by=bad, reconciliation=bad, notes=list(HOSTILE_NAMES), kernels_of=bad)
    families = [each.model_copy(update={"family": bad}) for each in step.families[:2]] + step.families[2:]
    phases = [
        phase.model_copy(
            update={
                "phase": bad,
                "families": [{**each, "family": bad} for each in phase.families[:1]] + phase.families[1:],
            }
        )
        for phase in base.phases
    ]
    return base.model_copy(
        update={
            "gpus": [base.gpus[0].model_copy(update={"gpu": gpu, "rank": gpu}) for gpu in range(RANKS)],
            "step_table": step.model_copy(update={"families": families}),
            "phases": phases,
            "serving": {**SERVING, "source": bad, "requests_finished_by_reason": {bad: 3}},
            "telemetry": {
                **TELEMETRY,
                "host": {"processes": [{"pid": 1, "name": name} for name in HOSTILE_NAMES]},
            },
        }
    )
