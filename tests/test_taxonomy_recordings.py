"""Every kernel that matters in the recordings has the right family.

For the recordings of this project a golden file holds name and family. For those of others, what a person
read in the name stands here as a fragment of it: the kernels' identity, never the whole list.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rocscope.taxonomy import classify

OURS = (
    "h200/kernel_truth.csv",
    "h200/kineto_fp16_graph.json.gz",
    "h200/kineto_strided_eager.json.gz",
    "h200/kineto_strided_graph.json.gz",
    "h200/tp2_straggler_rank1.json.gz",
    "h200_vllm/fp16_graph.kineto.json.gz",
    "h200_vllm/gptq8_graph.kineto.json.gz",
    "h200_vllm/kernel_truth.csv",
)
TORCH = {
    r"(vectorized|templated)_elem|elementwise_kernel_manual|unrolled_elementwise_kernel<": "elementwise",
    r"multi_tensor_apply|dropout|max_pool": "elementwise",
    r"reduce_kernel<|lpnorm_cleanup": "reduction",
    r"layer_norm|GammaBeta|batch_norm": "layernorm",
    r"^(Custom_)?Cijk_": "gemm",
    r"CatArrayBatched|compute_grad_weight|sum_and_scatter|_segment|gather|with_index": "embedding",
    r"radix_sort|merge_oddeven|lookback_scan_kernel|partition_kernel": "sampling",
    r"__amd_rocclr_(fill|copy)|^Mem(cpy|set)": "memcpy",
}
LLAMA = {
    r"mul_mat_(vec_)?q|quantize_(mmq_)?q8_1|mul_mat_vec_dq": "gguf_gemm",
    r"mul_mat_vec_f|^Cijk_|batched_ptrs": "gemm",
    r"soft_max_f32|flash_attn": "attention",
    r"gated_op|unary_op": "activation",
    r"convert_unary|cpy_scalar|bin_bcast|scale_f32|concat_cont": "elementwise",
    r"rope_": "rope",
    r"set_rows": "kv_cache",
    r"get_rows": "embedding",
    r"rms_norm|l2_norm": "rmsnorm",
    r"gated_delta_net|ssm_conv": "ssm",
    r"__amd_rocclr_(fill|copy)": "memcpy",
}
THEIRS = {
    "torch_traces/vllm_decode_full_graph_execution.json.gz": {
        r"^_matmul_ogs|^_combined_routing|^_sum_bitmatrix|^_topk_forward|^_finalize_matmul": "moe",
        r"unified_attention|reduce_segments": "attention",
        r"Rmsnorm2dFwd": "rmsnorm",
        r"triton_poi": "elementwise",
        r"rotary": "rope",
        r"reshape_and_cache": "kv_cache",
    }
    | TORCH,
    "torch_traces/mi210_gpu_only_trace.json.gz": {
        r"^igemm|^batched_transpose|^SubTensorOp": "conv",
        r"batch_norm": "layernorm",
    }
    | TORCH,
    "rocprofv1/aiter_gfx942/results.stats.csv": {r"distribution_elementwise": "sampling"} | TORCH,
    "rocprofv3/tracelens_908/908_results.json.gz": {
        r"^ncclDevKernel": "communication",
        r"^attn_fwd|^bwd_kernel": "attention",
    }
    | TORCH,
    "rocprofv1/llamacpp_gfx1201/results.stats.csv": LLAMA,
    "rocprofv1/llamacpp_gfx900/results_f16.stats.csv": LLAMA,
    "rocprofv1/llamacpp_gfx900/results_q4.stats.csv": LLAMA,
    "rocprofv3/llamacpp_gfx1151/decode_kernel_trace.csv": LLAMA,
    "rocprofv3/llamacpp_gfx1151/prefill_kernel_trace.csv": LLAMA,
}
STRANGERS = {  # nothing in these belongs to a family, but for copies
    "rocprofv1/stencil_xr/results.stats.csv": 0.99,
    "rocprofv1/laplacian_xr/results.stats.csv": 0.99,
    "rocprofv1/gunrock_gfx942/results.stats.csv": 0.93,
    "rocprofv3/gpudiag_mi300x/sq2_kernel_trace.csv": 1.0,
    "rocprofv3/sdk_docs/kernel_trace.csv": 1.0,
    "omniperf/vcopy/MI100/pmc_perf.csv": 1.0,
}


def times(path: Path) -> Counter[str]:
    """Return time by kernel name, whatever the unit, read without the project's own readers."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    found: Counter[str] = Counter()
    if ".json" in path.name:
        document = json.loads(text)
        for tool in document.get("rocprofiler-sdk-tool", ()):
            names = {s["kernel_id"]: s["formatted_kernel_name"] for s in tool["kernel_symbols"]}
            for record in tool["buffer_records"]["kernel_dispatch"]:
                name = names[record["dispatch_info"]["kernel_id"]]
                found[name] += record["end_timestamp"] - record["start_timestamp"]
        for event in document.get("traceEvents", ()):
            if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
                found[event["name"]] += event["dur"]
        return found
    for row in csv.DictReader(text.splitlines()):
        name = next(row[column] for column in ("Kernel_Name", "Name", "kernel_name") if row.get(column))
        if "Start_Timestamp" in row:
            found[name] += int(row["End_Timestamp"]) - int(row["Start_Timestamp"])
        else:
            found[name] += float(row.get("TotalDurationNs") or row["duration_ns"])
    return Counter({name: time for name, time in found.items() if name != "<barrier packet>"})


@pytest.mark.parametrize("recording", OURS)
def test_our_recordings(captures: Path, golden: Callable[[str, str], None], recording: str) -> None:
    found = times(captures / recording)
    total = sum(found.values())
    frame = classify(sorted(name for name, time in found.items() if time > 0.0005 * total))
    lines = [f"{row.family:14} {row.kernel:40} {row.raw_name}" for row in frame.itertuples()]
    golden(f"families/{recording.replace('/', '_')}.txt", "\n".join(sorted(lines)) + "\n")
    assert "other" not in set(frame.family)


@pytest.mark.parametrize("recording", THEIRS)
def test_recordings_of_others(captures: Path, recording: str) -> None:
    found = times(captures / recording)
    total = sum(found.values())
    wrong, right = [], 0.0
    for row in classify(list(found)).itertuples():
        expected = next((f for piece, f in THEIRS[recording].items() if re.search(piece, row.raw_name)), None)
        if row.family == expected:
            right += found[row.raw_name]
        elif found[row.raw_name] > 0.0005 * total:
            wrong.append((row.kernel, row.family, expected))
    assert not wrong
    assert right / total >= 0.995


@pytest.mark.parametrize("recording", STRANGERS)
def test_kernels_that_belong_to_no_family_stay_other(captures: Path, recording: str) -> None:
    path = captures / recording
    found = times(path) if "pmc_perf" not in path.name else names_only(path)
    frame = classify(list(found))
    assert set(frame.family) <= {"other", "memcpy"}
    other = sum(found[name] for name in frame.raw_name[frame.family == "other"])
    assert other / sum(found.values()) >= STRANGERS[recording]


def names_only(path: Path) -> Counter[str]:
    with path.open() as stream:
        return Counter(row["Kernel_Name"] for row in csv.DictReader(stream))
