"""Labels from counters against Nsight Compute's own verdict, kernel by kernel: right or wrong, as found.

Reads examples/h200_decoder and examples/h200_kernels, and the recordings' h200_vllm where it is there. Only
times, bytes, hit rates, occupancy and activity go in; speed-of-light percentages and verdicts stay out.
usage: bench_labels.py [--smoke] [--write docs/labels.md]
"""

import os
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "data_makers"))
import truth_table  # noqa: E402  # its folder is put on the path above

from rocscope import pipeline  # noqa: E402  # as above
from rocscope.kernel_names import short_name  # noqa: E402  # as above

VLLM_NAME = "h200_kernels of vLLM"
HEAD = """# Labels against hardware counters, on kernels beside those that thresholds were set on

Measured on an H200 with Nsight Compute, one launch each: Triton kernels written for this, PyTorch's own and
the BLAS library's, from a copy of 1 GB to a chase through memory. `memory` and `compute` are Nsight Compute's
speed-of-light percentages; its verdict follows its published rule (below 60 % of both: latency). What
rocscope says comes from the same counters without those percentages.

As first scored, unseen: 40 of 43 right (89.3 % of time), confidence high for 27.4 % of time, none of it
wrong. Since then `transpose_naive` and `chase_many`, both wrong then, showed that scattered loads are limited
by the look-ups of the L2; docs/adr/0008 has the physics and what else was sharpened. So the table is what
rocscope says now, and no longer a score of unseen kernels; the 242 launches of vLLM below have one.

These labels rest on measured bytes. Where bytes are modelled, and caches may have served so many of them that
60 % of the memory roof is not certain, the limiter is `unknown` (`limiter-in-cache`). What bounds rest on is
told as three shares of kernel time: bytes and FLOPs (`bound_with_bytes_time_frac`), busy pipes
(`bound_by_pipes_time_frac`) and a limit of FLOPs a byte (`bound_by_limit_time_frac`); they add up to
`labelled_time_frac`. docs/adr/0008 says why they are apart.

Made by `python benchmarks/bench_labels.py --write docs/labels.md`.

"""
VLLM = """
## 242 launches of vLLM's own kernels

examples/h200_kernels/vllm_kernel_truth.csv: kernels of vLLM 0.24 on an H200. No line and no rule was set on
them when they were first scored, so that score is one of unseen kernels: 232 of 242 right (95.9 %), 84.2 % of
time, confidence high for 21.6 % of time, none of it wrong; with the L1's bytes and the unit of FLOPs given
too, which this table leaves out, 228. docs/adr/0008 says what was mended after and what stays wrong. Only the
wrong rows are listed.

"""
COLUMNS = """| case | time, us | memory, % | compute, % | counters say | rocscope says | sure | |
|---|---:|---:|---:|---|---|---|---|
"""


def scored(path: Path, place: Path) -> pd.DataFrame:
    truth = truth_table.read(path)
    made = truth_table.table(truth)
    made.to_csv(place / "table.csv", index=False)
    analysis = pipeline.analyze(pipeline.load_table(place / "table.csv"), gpu="H200")
    by_case = {kernel.case: kernel for kernel in analysis.kernels}
    ours = [by_case[f"row {row}"] for row in range(len(truth))]
    truth["limiter"] = [kernel.limiter for kernel in ours]
    truth["bound"] = [kernel.bound for kernel in ours]
    truth["confidence"] = [kernel.confidence for kernel in ours]
    truth["right"] = [
        truth_table.agrees(row, kernel.limiter)
        for (_, row), kernel in zip(truth.iterrows(), ours, strict=True)
    ]
    return truth


def summary(name: str, truth: pd.DataFrame) -> str:
    time = truth["duration_ns"] / truth["duration_ns"].sum()
    high = truth["confidence"] == "high"
    return (
        f"{name}: limiter right on {truth['right'].sum()} of {len(truth)} ({truth['right'].mean():.1%}), "
        f"{time[truth['right']].sum():.1%} of time; confidence high for {time[high].sum():.1%} of time, "
        f"{(high & ~truth['right']).sum()} of those wrong"
    )


def rows(truth: pd.DataFrame) -> str:
    return COLUMNS + "".join(
        f"| {row['case']} | {row['duration_ns'] / 1e3:.1f} | {row['memory_sol_pct']:.1f} | "
        f"{row['compute_sol_pct']:.1f} | {row['counter_verdict']} | {row['limiter']} | "
        f"{row['confidence']} | {'right' if row['right'] else 'WRONG'} |\n"
        for row in truth.to_dict("records")
    )


def page(mixed: pd.DataFrame, vllm: pd.DataFrame) -> str:
    wrong = vllm[~vllm["right"]]
    wrong = wrong.assign(case=wrong["case"] + ": " + wrong["kernel_name"].map(short_name))
    return (
        f"{HEAD}{summary('These kernels', mixed)}.\n\n{rows(mixed)}"
        f"{VLLM}{summary('Now', vllm)}.\n\n{rows(wrong)}"
    )


recordings = Path(os.environ.get("ROCSCOPE_CAPTURES") or ROOT.parent / "shared" / "captures")
files = {name: ROOT / "examples" / name / "kernel_truth.csv" for name in ("h200_decoder", "h200_kernels")}
files[VLLM_NAME] = ROOT / "examples" / "h200_kernels" / "vllm_kernel_truth.csv"
files["h200_vllm"] = recordings / "h200_vllm" / "kernel_truth.csv"
found = {}
with tempfile.TemporaryDirectory() as folder:
    for name, path in files.items():
        if not path.is_file():
            print(f"{name}: no recording")
            continue
        found[name] = scored(path, Path(folder))
        print(summary(name, found[name]))
if "--write" in sys.argv:
    text = page(found["h200_kernels"], found[VLLM_NAME])
    Path(sys.argv[sys.argv.index("--write") + 1]).write_text(text, encoding="utf-8")
