"""Made-up recordings, as files that profilers write, for tests at the command line; nothing was recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

US = 1_000
FILL = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>>(int)"
GPTQ4 = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>(unsigned int const*)"
RECONSTRUCT = "void vllm::gptq::reconstruct_exllama_8bit_kernel(unsigned int const*)"
REDUCE = "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(int)"
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
TILED = "Cijk_Alik_Bljk_HHS_BH_MT128x128x32_MI32x32x8x1_SN_1LDSB0"
MI100 = {
    "id": 0,
    "name": "AMD Instinct MI100",
    "totalGlobalMem": 34342961152,
    "computeMajor": 9,
    "computeMinor": 0,
    "warpSize": 64,
    "numSms": 120,
}
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
}
KERNEL_TRACE = (
    *("Kind", "Agent_Id", "Queue_Id", "Stream_Id", "Thread_Id", "Dispatch_Id", "Kernel_Id", "Kernel_Name"),
    *("Correlation_Id", "Start_Timestamp", "End_Timestamp", "LDS_Block_Size", "Scratch_Size", "VGPR_Count"),
    *("Accum_VGPR_Count", "SGPR_Count", "Workgroup_Size_X", "Workgroup_Size_Y", "Workgroup_Size_Z"),
    *("Grid_Size_X", "Grid_Size_Y", "Grid_Size_Z"),
)
_ONES = ("Queue_Id", "Stream_Id", "Workgroup_Size_Y", "Workgroup_Size_Z", "Grid_Size_Y", "Grid_Size_Z")
COUNTER_COLLECTION = (
    *("Correlation_Id", "Dispatch_Id", "Agent_Id", "Queue_Id", "Process_Id", "Thread_Id", "Grid_Size"),
    *("Kernel_Id", "Kernel_Name", "Workgroup_Size", "LDS_Block_Size", "Scratch_Size", "VGPR_Count"),
    *("Accum_VGPR_Count", "SGPR_Count", "Counter_Name", "Counter_Value", "Start_Timestamp", "End_Timestamp"),
)
AGENTS = (
    '"Node_Id","Logical_Node_Id","Agent_Type","Wave_Front_Size","Cu_Count","Local_Mem_Size","Hive_Id","Name",'
    '"Product_Name"\n0,0,"CPU",0,0,0,0,"cpu","cpu"\n'
    '2,1,"GPU",64,120,34342961152,17123293265367099072,"gfx908","AMD Instinct MI100"\n'
)


def kernel(name: str, start_ns: int, length_ns: int, **more: Any) -> dict[str, Any]:
    """One kernel of a PyTorch trace: 480 workgroups of 256 unless said otherwise."""
    args = {"device": 0, "stream": 7, "grid": [480, 1, 1], "block": [256, 1, 1], **more}
    when = {"ts": start_ns / 1000, "dur": length_ns / 1000}
    return {"ph": "X", "cat": "kernel", "name": name, "pid": args["device"], "tid": 7, **when, "args": args}


def launch(start_ns: int, length_ns: int, correlation: int) -> dict[str, Any]:
    """The host's call that launched the kernel of that correlation."""
    when = {"ts": start_ns / 1000, "dur": length_ns / 1000}
    call = {"ph": "X", "cat": "cuda_runtime", "name": "hipLaunchKernel", "pid": 9, "tid": 9}
    return {**call, **when, "args": {"correlation": correlation}}


def steps(*names: str, each_ns: int = 10 * US, pause_ns: int = 0, times: int = 1) -> list[dict[str, Any]]:
    """Kernels one after the other, with a pause after each."""
    return [kernel(name, at * (each_ns + pause_ns), each_ns) for at, name in enumerate([*names] * times)]


def torch_trace(
    path: Path, events: Iterable[dict[str, Any]], rank: int | None = None, world: int = 1
) -> Path:
    """Write a trace as the PyTorch profiler does on an MI100."""
    head: dict[str, Any] = {"schemaVersion": 1, "deviceProperties": [MI100], "baseTimeNanoseconds": 0}
    if rank is not None:
        head["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": world}
    path.write_text(json.dumps({**head, "traceEvents": list(events)}))
    return path


def kernel_trace(folder: Path, rows: Sequence[dict[str, Any]], name: str = "77_kernel_trace.csv") -> Path:
    """Write ``rows`` as rocprofv3 does: a kernel trace beside the agents of a node with one MI100."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "77_agent_info.csv").write_text(AGENTS)
    usual: dict[str, Any] = dict.fromkeys(KERNEL_TRACE, 0) | dict.fromkeys(_ONES, 1)
    usual |= {"Kind": "KERNEL_DISPATCH", "Agent_Id": "Agent 1", "SGPR_Count": 32, "VGPR_Count": 32}
    usual |= {"Workgroup_Size_X": 256, "Grid_Size_X": 480 * 256}
    with (folder / name).open("w", newline="") as stream:
        out = csv.DictWriter(stream, KERNEL_TRACE, quoting=csv.QUOTE_NONNUMERIC)
        out.writeheader()
        for at, row in enumerate(rows, 1):
            out.writerow({**usual, "Dispatch_Id": at, "Correlation_Id": at, **row})
    return folder


def dispatch(name: str, start_ns: int, length_ns: int, **more: Any) -> dict[str, Any]:
    """One row of a kernel trace."""
    return {"Kernel_Name": name, "Start_Timestamp": start_ns, "End_Timestamp": start_ns + length_ns, **more}


def counters(folder: Path, counter: str, values: Sequence[float], name: str = "k") -> Path:
    """Write one counter of each dispatch of ``name``, as rocprofv3 does: of a grid only its product."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "88_agent_info.csv").write_text(AGENTS)
    with (folder / "88_counter_collection.csv").open("w", newline="") as stream:
        out = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC)
        out.writerow(COUNTER_COLLECTION)
        for at, value in enumerate(values, 1):
            times = (10**9 + at * 20 * US, 10**9 + at * 20 * US + 15 * US)
            launched = (at, at, "Agent 1", 1, 88, 88, 480 * 256, 1, name, 256, 0, 0, 32, 0, 32)
            out.writerow([*launched, counter, value, *times])
    return folder


def table(path: Path, *rows: dict[str, Any]) -> Path:
    """Write kernels measured elsewhere, as ``rocscope analyze --table`` reads them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        out = csv.DictWriter(stream, columns)
        out.writeheader()
        out.writerows(rows)
    return path


def server_log(path: Path, *lines: str) -> Path:
    """Write a server's log with some lines of its own before."""
    start = "(EngineCore pid=1) INFO 11-20 21:38:56 [parallel_state.py:1588] world_size=1"
    path.write_text("\n".join([start, *lines]) + "\n")
    return path
