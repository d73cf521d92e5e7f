"""Analyses made by hand for the tests of reports: synthetic, no GPU was measured for them."""

from __future__ import annotations

from typing import Any

from sample_timeline import hostile_timeline, sample_timeline

from rocscope.findings import (
    Analysis,
    CaptureInfo,
    Drop,
    FamilySummary,
    Gain,
    GpuSummary,
    Integrity,
    KernelFinding,
    LaunchShape,
    NotEvaluated,
    Occupancy,
    PhaseSummary,
    Quantity,
    Target,
    Warned,
)

HOSTILE_NAMES = (
    "<script>window.pwned=1</script><img src=x onerror=window.pwned=2>",
    "=cmd|' /C calc'!A0",
    "a|b `tick` @everyone </script> [link](javascript:window.pwned=3) {{7*7}} ${pwned}",
    "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] \u202eright-to-left",
)
GEMM = "gemm_half_q_half_gptq_8bit_kernel<true, 1>"
RAW_GEMM = f"void vllm::gptq::{GEMM}(__half const*, unsigned int const*, __half*, int, int, int)"


def sample_capture(**changes: Any) -> CaptureInfo:
    known: dict[str, Any] = {
        "id": "synthetic0001",
        "profiler": "rocprofv3",
        "profiler_version": "1.0.0",
        "provenance": "synthetic",
        "provenance_note": "Figures made up after the field notes.",
        "command": ["vllm", "serve", "MODEL", "--tensor-parallel-size", "4"],
        "host": "node-1",
        "started_at": "2026-01-02T03:04:05Z",
        "duration_s": 1.25,
        "passes": [{"index": 0, "counters": [], "perturbed": False}],
    }
    return CaptureInfo(**{**known, **changes})


def sample_kernel(**changes: Any) -> KernelFinding:
    known: dict[str, Any] = {
        "kernel": GEMM,
        "raw_name": RAW_GEMM,
        "family": "gptq_gemm",
        "gpu": 0,
        "launch_shape": LaunchShape(grid=[3584, 40, 1], workgroup=[256, 1, 1]),
        "problem_shape": {"M": 1, "N": 3584, "K": 5120},
        "dispatches": 64,
        "time_s": 0.0025137,
        "time_frac": 0.11907,
        "mean_ns": 39276.5,
        "p50_ns": 39100.0,
        "p99_ns": 41220.0,
        "bytes_per_dispatch": Quantity(value=19.6e6, basis="measured", source="FetchSize + WriteSize"),
        "flops_per_dispatch": Quantity(value=2 * 3584 * 5120.0, basis="modelled", source="2 M N K"),
        "achieved_bandwidth_bytes_per_s": 499.03e9,
        "bandwidth_frac": 0.40612,
        "compute_frac": 0.02027,
        "intensity_flop_per_byte": 1.87244,
        "ridge_flop_per_byte": 37.516,
        "occupancy": Occupancy(theoretical_frac=0.1, achieved_frac=0.0961, limited_by="workgroup size"),
        "bound": "memory",
        "limiter": "latency",
        "confidence": "high",
        "evidence": [
            "40.6 % of datasheet bandwidth, 2.03 % of vector fp16 FLOP/s: below 60 % of both",
            "memory unit stalled 0.14 %, busy 20.5 %: requests are too few, not too slow",
        ],
        "headroom_s": 0.00121,
        "exposed_s": 0.0025137,
    }
    return KernelFinding(**{**known, **changes})


def unknown_kernel(name: str, **changes: Any) -> KernelFinding:
    blank = dict.fromkeys(
        ("p50_ns", "p99_ns", "achieved_bandwidth_bytes_per_s", "bandwidth_frac", "compute_frac",
         "intensity_flop_per_byte", "ridge_flop_per_byte", "headroom_s", "exposed_s", "problem_shape")
    )  # fmt: skip
    known: dict[str, Any] = {
        "kernel": name,
        "raw_name": name,
        "family": "other",
        "launch_shape": LaunchShape(grid=[4096, None, None], workgroup=[None, None, None]),
        "bytes_per_dispatch": Quantity(),
        "flops_per_dispatch": Quantity(),
        "occupancy": Occupancy(),
        "bound": "unknown",
        "limiter": "unknown",
        "confidence": "low",
        "evidence": [],
    }
    return sample_kernel(**{**blank, **known, **changes})


def sample_kernels() -> list[KernelFinding]:
    return [
        sample_kernel(
            problem_shape={"M": 1, "N": 8704, "K": 5120},
            launch_shape=LaunchShape(grid=[8704, 40, 1], workgroup=[256, 1, 1]),
            time_s=0.0039,
            time_frac=0.18474,
            mean_ns=60937.5,
            bandwidth_frac=0.621,
            achieved_bandwidth_bytes_per_s=763e9,
            intensity_flop_per_byte=1.917,
            flops_per_dispatch=Quantity(value=2 * 8704 * 5120.0, basis="modelled", source="2 M N K"),
            bytes_per_dispatch=Quantity(value=46.5e6, basis="measured", source="FetchSize + WriteSize"),
            limiter="memory-bandwidth",
            evidence=["62.1 % of datasheet bandwidth"],
        ),
        sample_kernel(),
        sample_kernel(
            kernel="LLGemm1_kernel<4>",
            raw_name="void LLGemm1_kernel<4>(float4 const*, float4 const*, __half2*, int)",
            family="gemm",
            dispatches=50,
            time_s=0.001415,
            time_frac=0.06703,
            mean_ns=28300.0,
            bandwidth_frac=0.702,
            achieved_bandwidth_bytes_per_s=862e9,
            intensity_flop_per_byte=0.998,
            limiter="memory-bandwidth",
            confidence="medium",
            evidence=["70.2 % of datasheet bandwidth, bytes from the shape"],
        ),
        unknown_kernel(
            "cross_device_reduce_1stage<__half, 4>",
            family="communication",
            dispatches=129,
            time_s=0.0011352,
            time_frac=0.05377,
            mean_ns=8800.0,
            limiter="communication",
            confidence="medium",
            evidence=["family communication: waits for the other ranks are part of its time"],
        ),
        sample_kernel(
            kernel="elementwise_kernel FillFunctor<half>",
            raw_name="void at::native::vectorized_elementwise_kernel<4, FillFunctor<half>>(int)",
            family="elementwise",
            dispatches=256,
            time_s=0.000998,
            time_frac=0.04727,
            mean_ns=3898.0,
            flops_per_dispatch=Quantity(value=0.0, basis="modelled", source="fills count no FLOPs"),
            compute_frac=None,
            intensity_flop_per_byte=0.0,
            bandwidth_frac=0.0031,
            achieved_bandwidth_bytes_per_s=3.8e9,
            limiter="launch",
            evidence=["3.90 µs is at the launch floor of 5 µs"],
        ),
        unknown_kernel("softmax_warp_forward<float>", family="sampling", dispatches=4, time_s=0.00047,
                       time_frac=0.02226, mean_ns=117400.0),
    ]  # fmt: skip


def sample_families() -> list[FamilySummary]:
    def one(
        family: str, dispatches: int, time_s: float | None, frac: float | None, **more: Any
    ) -> FamilySummary:
        known: dict[str, Any] = {
            "bytes": None,
            "achieved_bandwidth_bytes_per_s": None,
            "bandwidth_frac": None,
            "bound": "unknown",
            "limiter": "unknown",
        }
        return FamilySummary(
            family=family, dispatches=dispatches, time_s=time_s, time_frac=frac, **{**known, **more}
        )

    return [
        one("gptq_gemm", 256, 0.01264, 0.59878, bytes=4.9e9, achieved_bandwidth_bytes_per_s=388e9,
            bandwidth_frac=0.31575, bound="memory", limiter="latency", modelled_time_frac=0.97),
        one("gemm", 50, 0.001415, 0.06703, bytes=1.22e9, achieved_bandwidth_bytes_per_s=862e9,
            bandwidth_frac=0.702, bound="memory", limiter="memory-bandwidth"),
        one("elementwise", 300, 0.00131, 0.06206, bound="memory", limiter="launch"),
        one("communication", 129, 0.0011352, 0.05377, limiter="communication"),
        one("other", 88, 0.00119, 0.05637),
        one("ssm", 36, 0.00075, 0.03553),
        one("memcpy", 128, 0.0005, 0.02369, bound="memory", limiter="launch"),
        one("sampling", 4, 0.00047, 0.02226),
        one("rmsnorm", 65, 0.00045, 0.02132, bound="memory", limiter="launch"),
        one("attention", 16, 0.00021, 0.00995),
        one("rope", 16, 0.00006, 0.00284),
        one("embedding", 1, None, None),
    ]  # fmt: skip


def sample_targets() -> list[Target]:
    return [
        Target(
            rank=1, id="kernel:gptq-latency", problem="GPTQ kernel bound by latency at low occupancy",
            scope="kernel", family="gptq_gemm", kernel=GEMM,
            launch_shapes=[LaunchShape(grid=[3584, 40, 1], workgroup=[256, 1, 1])],
            time_frac=0.59878, headroom_s=0.00641,
            expected_gain=Gain(low_frac=0.012, mid_frac=0.049, high_frac=0.098,
                               basis="a third of the headroom, as scored for latency-bound kernels"),
            confidence="medium", evidence=["VALUBusy 13.9 %, MemUnitBusy 20.5 %", "4 of 40 waves resident"],
            advice="Raise the waves in flight: two blocks a CU, or split K.",
            confirm_by="Achieved occupancy above 20 % and the mean below 30 µs at M=1.",
        ),
        Target(
            rank=2, id="timeline:fill", problem="A fill before each projection",
            scope="family", family="elementwise", kernel=None, time_frac=0.04727, headroom_s=None,
            expected_gain=Gain(low_frac=0.02, mid_frac=0.035, high_frac=0.047, basis="its exposed time"),
            confidence="high", evidence=["256 dispatches, one for each projection"],
            advice="Fuse the fill into the projection.", confirm_by="The fills are gone from the table.",
        ),
        Target(
            rank=3, id="configuration:awq", problem="Something of unknown gain",
            scope="configuration", family=None, kernel=None, time_frac=None, headroom_s=None,
            expected_gain=None, confidence="low", evidence=[], advice="", confirm_by="",
        ),
    ]  # fmt: skip


def sample_target_many(count: int) -> list[Target]:
    return [sample_targets()[0].model_copy(update={"rank": i + 1, "id": f"t{i}"}) for i in range(count)]


def sample_gpu(gpu: int = 0, **changes: Any) -> GpuSummary:
    known: dict[str, Any] = {
        "gpu": gpu, "arch": "gfx908", "model": "MI100", "host": "node-1", "rank": gpu,
        "peak_bandwidth_bytes_per_s": 1228.8e9, "achievable_bandwidth_bytes_per_s": 935e9,
        "achievable_source": "BabelStream, published",
        "peak_flops_per_s": {"vector_fp16": 46.1e12, "vector_fp32": 23.1e12, "matrix_fp16": 184.6e12},
        "wall_s": 0.0241, "busy_s": 0.02111, "idle_s": 0.00299, "busy_frac": 0.87593,
    }  # fmt: skip
    return GpuSummary(**{**known, **changes})


def sample_phases() -> list[PhaseSummary]:
    """64 decode steps of one sequence and 2 prompts of 512 tokens: µs a token by family, and idle time."""
    decode = {"gptq_gemm": 12640.0, "gemm": 1415.0, "elementwise": 1310.0, "communication": 1135.2,
              "other": 1190.0, "ssm": 750.0, "memcpy": 500.0, "sampling": 470.0, "rmsnorm": 450.0,
              "attention": 210.0, "rope": 60.0}  # fmt: skip
    prefill = {"gptq_gemm": 401.0, "attention": 33.1, "gemm": 20.4, "rmsnorm": 9.75, "rope": 1.2}

    def phase(name: str, steps: int, tokens: int, spent: dict[str, float], idle: float) -> PhaseSummary:
        kernels = sum(spent.values())
        return PhaseSummary(
            phase=name,
            steps=steps,
            tokens=tokens,
            time_s=(kernels + idle) * tokens * 1e-6,
            us_per_token=kernels + idle,
            kernel_time_s=kernels * tokens * 1e-6,
            kernel_us_per_token=kernels,
            idle_time_s=idle * tokens * 1e-6,
            idle_us_per_token=idle,
            families=[
                {
                    "family": family,
                    "dispatches": steps * 16,
                    "time_s": each * tokens * 1e-6,
                    "time_frac": each / kernels,
                    "us_per_token": each,
                    "bytes_per_token": 4.9e9 if (family, name) == ("gptq_gemm", "decode") else None,
                    "bytes_basis": "measured" if (family, name) == ("gptq_gemm", "decode") else None,
                }
                for family, each in spent.items()
            ],
        )

    return [phase("decode", 64, 64, decode, 2990.0), phase("prefill", 2, 1024, prefill, 41.5)]


def sample_analysis(**changes: Any) -> Analysis:
    """A decode step of a GPTQ model on an MI100, made up after the field notes."""
    known: dict[str, Any] = {
        "capture": sample_capture(),
        "integrity": Integrity(
            labelled_time_frac=0.81234,
            bound_with_bytes_time_frac=0.7002,
            bound_by_limit_time_frac=0.10204,
            bound_by_pipes_time_frac=0.0101,
            classified_time_frac=0.94363,
            dispatches=1089,
            dropped=[Drop(reason="end before start", count=3)],
            warnings=[Warned(code="graph-replay", message="256 dispatches of graph replays have no shapes")],
        ),
        "gpus": [sample_gpu()],
        "families": sample_families(),
        "kernels": sample_kernels(),
        "targets": sample_targets(),
        "phases": sample_phases(),
        "timeline": sample_timeline(),
        "not_evaluated": [
            NotEvaluated(rule="clock-throttling", missing="clock samples", collect_with="--telemetry amdsmi")
        ],
    }  # fmt: skip
    return Analysis(**{**known, **changes})


def long_analysis(count: int) -> Analysis:
    """So many kernels, each shorter than the one before."""
    kernels = [
        sample_kernel(kernel=f"kernel-{at}", raw_name=f"kernel-{at}", time_s=(count - at) * 1e-4)
        for at in range(count)
    ]
    return sample_analysis(kernels=kernels)


def hostile_analysis() -> Analysis:
    """Every text field filled with what would act if it were not text."""
    kernels = [
        sample_kernel(kernel=name, raw_name=name, evidence=[name], case=name, problem_shape={name: name})
        for name in HOSTILE_NAMES
    ]
    bad = HOSTILE_NAMES[0]
    base = sample_analysis()
    return sample_analysis(
        capture=sample_capture(
            provenance_note=bad, command=list(HOSTILE_NAMES), host=bad, profiler=bad, started_at=bad
        ),
        kernels=kernels,
        families=[family.model_copy(update={"family": bad}) for family in base.families[:1]]
        + base.families[1:],
        targets=[
            target.model_copy(
                update={
                    "problem": name,
                    "kernel": name,
                    "advice": name,
                    "confirm_by": name,
                    "evidence": [name],
                }
            )
            for target, name in zip(base.targets, HOSTILE_NAMES, strict=False)
        ],
        gpus=[sample_gpu(model=bad, arch=bad, host=bad, achievable_source=bad)],
        integrity=Integrity(
            labelled_time_frac=None,
            dispatches=4,
            dropped=[Drop(reason=bad, count=1)],
            warnings=[Warned(code=bad, message=name) for name in HOSTILE_NAMES],
        ),
        timeline=hostile_timeline(HOSTILE_NAMES),
        not_evaluated=[NotEvaluated(rule=bad, missing=bad, collect_with=bad)],
    )


def empty_analysis() -> Analysis:
    """A recording without a GPU kernel, as a CPU run gives."""
    return sample_analysis(
        capture=sample_capture(provenance="recorded", provenance_note="", profiler="torch"),
        integrity=Integrity(labelled_time_frac=None, dispatches=0, dropped=[], warnings=[]),
        gpus=[], families=[], kernels=[], targets=[], phases=[], timeline=None, not_evaluated=[],
    )  # fmt: skip
