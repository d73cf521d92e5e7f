"""An analysis as large as one may be: what a million dispatches of many shapes on 8 GPUs leave. Synthetic."""

from __future__ import annotations

from sample_analysis import sample_analysis, sample_gpu, sample_kernel
from sample_window import sample_window

from rocscope.findings import Analysis, LaneFamily, LaunchShape, TimelineGap, TimelineLane

KERNELS = 5000
GPUS = 8
BINS = 600
FAMILIES = ("gptq_gemm", "attention", "gemm", "rmsnorm", "elementwise", "rope", "kv_cache", "sampling")


def large_lane(gpu: int) -> TimelineLane:
    """A GPU whose families change from bin to bin, so that nothing in the page can be shared."""
    shares = [
        [round((1 + (bin * 7 + index * 13 + gpu * 3) % 11) / 100, 4) for bin in range(BINS)]
        for index in range(len(FAMILIES))
    ]
    return TimelineLane(
        gpu=gpu,
        label=f"rank {gpu}",
        busy_frac=[round(sum(each), 4) for each in zip(*shares, strict=True)],
        families=[
            LaneFamily(family=name, busy_frac=share) for name, share in zip(FAMILIES, shares, strict=True)
        ],
    )


def large_analysis() -> Analysis:
    """A million dispatches of 5,000 kernels and shapes, each with all the evidence that there may be."""
    sentence = "moves 8.4 MB a dispatch (modelled: each datum once) in 144 µs mean; " * 4
    evidence = [f"{number}: {sentence}" for number in range(6)]
    kernels = [
        sample_kernel(
            raw_name=f"void vllm::gptq::kernel_{index}<{'__half, ' * 30}{index}>({'int const*, ' * 30}int)",
            kernel=f"gemm_half_q_half_gptq_8bit_kernel_{index}",
            family=FAMILIES[index % len(FAMILIES)],
            gpu=index % GPUS,
            launch_shape=LaunchShape(grid=[index, 40, 1], workgroup=[256, 1, 1]),
            dispatches=200,
            time_s=1.0 / (index + 1),
            time_frac=0.1 / (index + 1),
            intensity_flop_per_byte=0.5 + index / 100,
            evidence=evidence,
        )
        for index in range(KERNELS)
    ]
    window = sample_window(GPUS)
    gaps = [
        TimelineGap(gpu=n % GPUS, start_s=n / 200, duration_s=0.004, during="no request was running")
        for n in range(200)
    ]
    timeline = window.model_copy(
        update={"lanes": [large_lane(gpu) for gpu in range(GPUS)], "bin_s": 1.2 / BINS, "gaps": gaps}
    )
    return sample_analysis(kernels=kernels, gpus=[sample_gpu(gpu) for gpu in range(GPUS)], timeline=timeline)
