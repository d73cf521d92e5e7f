"""Forecasts of changes made live on an H200 against what the changes gave: hit or miss, as found.

Reads examples/h200_changes: plan.toml (written before anything was measured), forecasts/ (targets as they
were ranked from a profile of the base) and measured.json (times without a profiler, a list a side, the first
to warm up). usage: bench_forecasts.py [--smoke] [--write docs/forecasts.md]
"""

import json
import statistics
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "examples" / "h200_changes"

HEAD = """# Forecasts against what changes gave

Changes made on an H200: to a real vLLM 0.24 (Qwen3-8B shapes, random weights) and to the decoder of
examples/triton_decoder. The plan (examples/h200_changes/plan.toml: which target is scored, what is changed,
how the gain is measured) was committed before any of it was measured. A forecast is what rocscope ranked from
a profile of the base; the gain is 1 - new / base, medians of times without a profiler. A forecast hits where
the gain lies in its interval.

Made by `python benchmarks/bench_forecasts.py --write docs/forecasts.md`.

"""


def forecast(change: dict[str, Any], targets: list[dict[str, Any]]) -> tuple[float, float, float] | None:
    """Give low, middle and high of the target that the plan names, or of all of its family together."""
    if starts := change.get("target_starts_with"):
        chosen = [each for each in targets if each["id"].startswith(starts)][:1]
    else:
        kernels = [each for each in targets if each["id"].startswith("kernel-")]
        chosen = [each for each in kernels if each["family"] == change["target_family"]]
    if not chosen:
        return None
    gains = [each["expected_gain"] for each in chosen]
    low, mid, high = (
        sum(float(each[key] or 0) for each in gains) for key in ("low_frac", "mid_frac", "high_frac")
    )
    return low, mid, high


def rows() -> list[dict[str, Any]]:
    """Score each change that was measured."""
    plan = tomllib.loads((PLACE / "plan.toml").read_text(encoding="utf-8"))["change"]
    measured = json.loads((PLACE / "measured.json").read_text(encoding="utf-8"))
    scored = []
    for change in plan:
        found = measured.get(change["name"])
        if found is None:
            continue
        targets = json.loads((PLACE / found["forecast"]).read_text(encoding="utf-8"))["targets"]
        expected = forecast(change, targets)
        base, new = (statistics.median(found[side][1:]) for side in ("base_s", "new_s"))
        gain = 1 - new / base
        hit = None if expected is None else expected[0] <= gain <= expected[2]
        scored.append(
            {**change, "expected": expected, "base_s": base, "new_s": new, "gain": gain, "hit": hit}
        )
    return scored


def line(row: dict[str, Any]) -> str:
    """Set one change as a row of a table."""
    told = (
        "none"
        if row["expected"] is None
        else "{:.1%} to {:.1%}, middle {:.1%}".format(
            row["expected"][0], row["expected"][2], row["expected"][1]
        )
    )
    verdict = {None: "no forecast", True: "hit", False: "MISS"}[row["hit"]]
    return (
        f"| {row['name']} | {row['base']} | {row['new']} | {told} | {row['base_s'] * 1e3:.4g} | "
        f"{row['new_s'] * 1e3:.4g} | {row['gain']:.1%} | {verdict} |"
    )


table = [
    "| change | base | new | forecast | base, ms | new, ms | gain | |",
    "|---|---|---|---|---:|---:|---:|---|",
]
table += [line(row) for row in rows()]
print("\n".join(table))
if "--write" in sys.argv:
    notes = (PLACE / "notes.md").read_text(encoding="utf-8")
    text = HEAD + "\n".join(table) + "\n\n" + notes
    Path(sys.argv[sys.argv.index("--write") + 1]).write_text(text, encoding="utf-8")
