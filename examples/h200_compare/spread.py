"""Print how far repeats of the same run lie apart: what notes.md says, from the files beside it.

python3 examples/h200_compare/spread.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from rocscope import archive, steps

HERE = Path(__file__).resolve().parent
FIGURES = {
    "tokens/s": lambda level: level["output_tokens_per_s"],
    "TPOT ms": lambda level: level["tpot_s"]["mean"] * 1e3,
    "TTFT ms": lambda level: level["ttft_s"]["p50"] * 1e3,
}


def main() -> None:
    """Print both tables as Markdown."""
    print("| model | at a time | " + " | ".join(f"{name} | std | range" for name in FIGURES) + " |")
    print("|---|---|" + "---|---|---|" * len(FIGURES))
    for model in ("fp16", "gptq8"):
        runs = [json.loads(path.read_text())["levels"] for path in sorted(HERE.glob(f"load/{model}_*.json"))]
        for levels in zip(*runs, strict=True):
            cells = [_spread([of(level) for level in levels]) for of in FIGURES.values()]
            print(f"| {model} | {levels[0]['concurrency']} | " + " | ".join(cells) + " |")
    print()
    print("| capture | decode steps | period, median µs | std | lag-1 | kernels, median µs | std | lag-1 |")
    print("|---|---|---|---|---|---|---|---|")
    for path in sorted(HERE.glob("*.tar.gz")):
        period_ns, busy_ns = _steps(path)
        cells = [
            f"{np.median(each) / 1e3:.1f} | {_percent(each)} | {_lag(each):.2f}"
            for each in (period_ns, busy_ns)
        ]
        print(f"| {path.name.removesuffix('.tar.gz')} | {len(period_ns)} | " + " | ".join(cells) + " |")


def _spread(values: list[float]) -> str:
    """Return mean, standard deviation and range, the last two as shares of the mean."""
    mean = float(np.mean(values))
    return f"{mean:.4g} | {np.std(values, ddof=1) / mean:.1%} | {np.ptp(values) / mean:.1%}"


def _steps(path: Path) -> tuple[pd.Series, pd.Series]:
    """Return period and kernel time, ns, of each full decode step that another one follows."""
    capture = archive.unpack(path)
    assert capture is not None
    frame = steps.annotated(capture)
    dispatches = capture.dispatches.select(["start_ns", "duration_ns"]).to_pandas()
    step = np.searchsorted(frame["start_ns"], dispatches["start_ns"], side="right") - 1
    frame["busy_ns"] = dispatches["duration_ns"].groupby(step).sum()
    frame["period_ns"] = frame["start_ns"].diff().shift(-1)
    largest = frame["generation_requests"].max()
    wanted = (frame["phase"] == "decode") & (frame["generation_requests"] == largest)
    frame = frame[wanted & wanted.shift(-1, fill_value=False)]
    return frame["period_ns"], frame["busy_ns"]


def _percent(values: pd.Series) -> str:
    return f"{values.std() / values.median():.2%}"


def _lag(values: pd.Series) -> float:
    return float(values.autocorr(1))


if __name__ == "__main__":
    main()
