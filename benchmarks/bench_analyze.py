"""CPU time and memory of one million synthetic dispatches, from a capture to an analysis.

python benchmarks/bench_analyze.py            the whole million; fails above the budget
python benchmarks/bench_analyze.py --smoke    20,000 dispatches, no budget
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import pyarrow as pa

BUDGET_CPU_S = 2.0
BUDGET_BYTES = 800 * 10**6
NAMES = (
    "void gemm_half_q_half_gptq_8bit_kernel<true, 1>(int)",
    "Cijk_Ailk_Bljk_HHS_BH_MT128x128x32_SE_1LDSB0",
    "void vllm::rms_norm_kernel<c10::Half>(c10::Half*)",
    "void vllm::act_and_mul_kernel<c10::Half>(c10::Half*)",
    "__amd_rocclr_copyBuffer",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>>(int)",
)


def synthetic_capture(rows: int, seed: int = 7):
    """Four queues of seeded random dispatches: 240 kernels, seven grids each; nothing was recorded."""
    from rocscope.collectors.builder import CaptureBuilder

    random = np.random.default_rng(seed)
    builder = CaptureBuilder()
    builder.gpu("0", arch="gfx908", name="AMD Instinct MI100", compute_units=120)
    builder.process(1)
    builder.add_pass()
    kernel = random.integers(0, 240, rows)
    duration = random.integers(2_000, 80_000, rows)
    start = np.cumsum(duration + random.integers(-500, 3_000, rows)) - duration
    names = pa.array([f"{NAMES[i % len(NAMES)]} [{i}]" for i in range(240)])
    builder.append(
        "dispatches",
        rows,
        **{
            "pass": pa.scalar(0, pa.int16()),
            "process": pa.scalar(0, pa.int32()),
            "gpu": pa.scalar(0, pa.int32()),
            "kind": pa.scalar("kernel"),
            "kernel": pa.DictionaryArray.from_arrays(pa.array(kernel.astype(np.int32)), names),
            "queue": pa.array(kernel % 4),
            "dispatch_id": pa.array(np.arange(rows)),
            "correlation_id": pa.array(np.arange(rows)),
            "start_ns": pa.array(start),
            "end_ns": pa.array(start + duration),
            "duration_ns": pa.array(duration),
            "count": pa.scalar(1, pa.int64()),
            "grid_x": pa.array(random.integers(1, 8, rows) * 256),
            "grid_y": pa.scalar(1, pa.int64()),
            "grid_z": pa.scalar(1, pa.int64()),
            "workgroup_x": pa.scalar(256, pa.int32()),
            "workgroup_y": pa.scalar(1, pa.int32()),
            "workgroup_z": pa.scalar(1, pa.int32()),
            "vgprs": pa.scalar(72, pa.int32()),
        },
    )
    return builder.build(provenance="synthetic", provenance_note="seeded random dispatches for a benchmark")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="20,000 dispatches, no budget")
    smoke = parser.parse_args().smoke
    rows = 20_000 if smoke else 1_000_000
    made = synthetic_capture(rows)
    from rocscope import pipeline

    before = time.process_time()
    analysis = pipeline.analyze_capture(made)
    text = analysis.model_dump_json()
    used = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{rows} synthetic dispatches, {len(analysis.kernels)} groups, {len(text) / 1e6:.1f} MB of JSON")
    print(f"{used:.2f} s CPU (budget {BUDGET_CPU_S}), {peak / 1e6:.0f} MB (budget {BUDGET_BYTES / 1e6:.0f})")
    return 0 if smoke or (used <= BUDGET_CPU_S and peak <= BUDGET_BYTES) else 1


if __name__ == "__main__":
    sys.exit(main())
