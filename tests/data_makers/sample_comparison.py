"""Comparisons made by hand for the tests of reports: synthetic, nothing was measured for them."""

from __future__ import annotations

from typing import Any

from sample_analysis import HOSTILE_NAMES

from rocscope.comparison.result import Comparison, Difference, Forecast, Reason, Statistics, Tier


def sample_tier(tier: str, metric: str, base: float, change: float, **changes: Any) -> Tier:
    """A figure that changes by ``change``, known to a fiftieth."""
    more = metric == "output_tokens_per_s"
    better = "better" if (change > 0) == more else "worse"
    known: dict[str, Any] = {
        "tier": tier,
        "metric": metric,
        "unit": "tokens/s" if more else "s",
        "base": base,
        "new": base * (1 + change),
        "change_frac": change,
        "low_frac": change - 0.02,
        "high_frac": change + 0.02,
        "verdict": better if abs(change) > 0.02 else "no difference shown",
        "basis": "mean of 200 and 200 periods",
        "noise_floor_frac": 0.015,
    }
    return Tier(**{**known, **changes})


def sample_difference(name: str, base_s: float | None, new_s: float | None, **changes: Any) -> Difference:
    """A part of a step of 20 ms."""
    change = None if not base_s or new_s is None else new_s / base_s - 1
    part = ((new_s or 0.0) - (base_s or 0.0)) / 0.020
    known: dict[str, Any] = {
        "name": name,
        "family": name,
        "base_s": base_s,
        "new_s": new_s,
        "change_frac": change,
        "low_frac": None if change is None else change - 0.03,
        "high_frac": None if change is None else change + 0.03,
        "verdict": "worse" if part > 0.005 else "better" if part < -0.005 else "no difference shown",
        "step_frac": part,
        "step_low_frac": part - 0.004,
        "step_high_frac": part + 0.004,
        "base_frac": None if base_s is None else base_s / 0.019,
        "new_frac": None if new_s is None else new_s / 0.019,
        "base_calls": None if base_s is None else 64.0,
        "new_calls": None if new_s is None else 64.5,
    }
    return Difference(**{**known, **changes})


def sample_kernels() -> list[Difference]:
    """A renamed kernel, one that vanished, one that is new, one that stayed."""
    shape = {"grid": [3584, 40, 1], "workgroup": [256, 1, 1]}
    return [
        sample_difference(
            "LLGemm1_kernel -> gemm_half_q_half", 3.1e-3, 6.2e-3, family="gptq_gemm", match="renamed",
            base_name="LLGemm1_kernel", new_name="gemm_half_q_half_gptq_8bit_kernel",
            base_kernels=["LLGemm1_kernel", "splitKreduce_kernel"],
            new_kernels=["gemm_half_q_half_gptq_8bit_kernel"], role="product after rms_norm_kernel",
            launch_shape={"base": None, "new": shape}, problem_shape={"M": 1, "N": 3584, "K": None},
        ),
        sample_difference("cross_device_reduce", 3.4e-3, 0.12e-3, family="communication", match="same",
                          launch_shape=shape, explained_by="the clock, 3.0 % lower in new"),
        sample_difference("FillFunctor", None, 0.9e-3, family="elementwise", match="new only",
                          new_name="FillFunctor", new_kernels=["FillFunctor"]),
        sample_difference("rms_norm_kernel", 0.45e-3, 0.451e-3, family="rmsnorm", match="same",
                          base_name="rms_norm_kernel", new_name="rms_norm_kernel"),
        sample_difference("softmax", 0.4e-3, None, family="sampling", match="base only", verdict=None,
                          base_name="softmax", base_kernels=["softmax"]),
    ]  # fmt: skip


def sample_forecast(target: str, low: float, high: float, **changes: Any) -> Forecast:
    """A forecast that was tried and met."""
    known: dict[str, Any] = {
        "target_id": target,
        "problem": f"{target} is limited by latency",
        "family": "gptq_gemm",
        "low_frac": low,
        "mid_frac": (low + high) / 2,
        "high_frac": high,
        "actual_frac": (low + high) / 2.5,
        "hit": True,
        "tried": True,
        "basis": "its kernel takes less time at the same launch shapes",
    }
    return Forecast(**{**known, **changes})


def sample_comparison(**changes: Any) -> Comparison:
    """A change that helps one request at a time and harms six, as people who tuned an MI100 met it."""
    known: dict[str, Any] = {
        "comparable": True,
        "why_not": [],
        "base": {"id": "base1", "provenance": "synthetic", "sources": ["before/"], "gpus": ["MI100"] * 4,
                 "dispatches": 900, "repeats": 3},
        "new": {"id": "new1", "provenance": "synthetic", "sources": ["after/"], "gpus": ["MI100"] * 4,
                "dispatches": 910, "repeats": 3},
        "tiers": [
            sample_tier("step", "period_s", 0.020, 0.004),
            sample_tier("concurrency 2", "output_tokens_per_s", 52.9, 0.0633, noise_floor_frac=None),
            sample_tier("concurrency 2", "tpot_s", 0.03717, -0.0724),
            sample_tier("concurrency 6", "output_tokens_per_s", 120.72, -0.0712),
            sample_tier("concurrency 6", "tpot_s", 0.04786, 0.0671, same_cycles_frac=0.06),
        ],
        "phases": [sample_difference("decode", 20e-3, 20.08e-3, family=None),
                   sample_difference("prefill", 40e-3, None, family=None, match="base only", verdict=None)],
        "families": [sample_difference("gptq_gemm", 3.1e-3, 6.2e-3),
                     sample_difference("communication", 3.4e-3, 0.12e-3),
                     sample_difference("elementwise", None, 0.9e-3),
                     sample_difference("rmsnorm", 0.45e-3, 0.451e-3)],
        "kernels": sample_kernels(),
        "gaps": [sample_difference("idle", 1e-3, 1.02e-3, family=None)],
        "times_of": "step",
        "reasons": [
            Reason(about="step", text="the step changes: gptq_gemm +3.1 ms, communication −3.28 ms",
                   evidence=["gptq_gemm: 3.1 ms in base, 6.2 ms in new a step"], basis="measured"),
            Reason(about="concurrency 6", text="at 6 rows each weight is read twice", evidence=[],
                   basis="extrapolated"),
        ],
        "forecasts": [
            sample_forecast("kernel-reduce", 0.1, 0.2),
            sample_forecast("kernel-fill", 0.02, 0.04, hit=False, actual_frac=-0.045, family="elementwise"),
            sample_forecast("timeline-idle", 0.01, 0.03, tried=False, hit=None, actual_frac=None),
        ],
        "noise_floor_frac": 0.015,
        "statistics": Statistics(method="Student's t over the means of repeats", unit="repeat", units=(3, 3),
                                 level=0.95, comparisons=40, draws=None, seed=None, run_to_run_frac=None),
        "differs": ["vLLM: 0.10 against 0.11"],
        "notes": ["clocks: new ran 3.0 % lower"],
    }  # fmt: skip
    return Comparison(**{**known, **changes})


def several_comparison() -> Comparison:
    """Two recordings against one base."""
    other = sample_comparison(
        new={"id": "new2", "provenance": "recorded", "sources": ["other/"], "gpus": ["MI100"], "repeats": 1},
        tiers=[sample_tier("step", "period_s", 0.020, -0.12)],
        across=["gpu"],
    )
    return sample_comparison(more=[other])


def unlike_comparison() -> Comparison:
    """Two recordings that cannot be compared."""
    return sample_comparison(
        comparable=False, why_not=["GPU: MI100 against MI210", "model: hidden_size is 4096 against 5120"],
        tiers=[], phases=[], families=[], kernels=[], gaps=[], reasons=[], forecasts=[], statistics=None,
        noise_floor_frac=None, differs=[],
    )  # fmt: skip


def hostile_comparison() -> Comparison:
    """Every text one that would act if it were not text."""
    bad = HOSTILE_NAMES[0]
    base = sample_comparison()
    names = {"name": bad, "base_name": bad, "new_name": bad, "role": bad, "explained_by": bad}
    kernels = [
        row.model_copy(
            update={**names, "base_kernels": list(HOSTILE_NAMES), "new_kernels": [bad], "family": bad,
                    "launch_shape": {bad: bad}, "problem_shape": {bad: [1, 2]}}
        )
        for row in base.kernels
    ]  # fmt: skip
    about = {"id": bad, "provenance": bad, "sources": list(HOSTILE_NAMES), "gpus": [bad], "repeats": 2}
    return base.model_copy(
        update={
            "base": about,
            "new": about,
            "tiers": [
                tier.model_copy(update={"tier": bad, "unit": bad, "basis": bad}) for tier in base.tiers
            ],
            "families": [row.model_copy(update={"name": bad, "family": bad}) for row in base.families],
            "phases": [row.model_copy(update={"name": bad}) for row in base.phases],
            "kernels": kernels,
            "reasons": [
                each.model_copy(update={"about": bad, "text": name, "evidence": [name]})
                for each, name in zip(base.reasons, HOSTILE_NAMES, strict=False)
            ],
            "forecasts": [
                each.model_copy(update={"target_id": bad, "problem": name, "basis": name, "family": bad})
                for each, name in zip(base.forecasts, HOSTILE_NAMES, strict=False)
            ],
            "differs": list(HOSTILE_NAMES),
            "across": [bad],
            "notes": list(HOSTILE_NAMES),
        }
    )
