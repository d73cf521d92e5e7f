"""Forecasts of changes made live on an H200 against what the changes gave: hit or miss, as found.

Reads examples/h200_changes: plan.toml (written before anything was measured), forecasts/ (targets as they
were ranked from a profile of the base) and measured.json (times without a profiler, a list a side, the first
to warm up). usage: bench_forecasts.py [--smoke] [--write docs/forecasts.md] [--ledger FILE]

--ledger writes the same as `rocscope forecasts import` takes it.
"""

import json
import math
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

Made by `python benchmarks/bench_forecasts.py --write docs/forecasts.md`; `rocscope forecasts import
examples/h200_changes/ledger.json` lets your own forecasts learn from it ([ledger.md](ledger.md)).

"""


HIGH_SHARE = 0.75  # of [gain.latency] in thresholds.toml when these forecasts were made


def named(change: dict[str, Any], targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the target that the plan names, or all of its family."""
    if starts := change.get("target_starts_with"):
        return [each for each in targets if each["id"].startswith(starts)][:1]
    kernels = [each for each in targets if each["id"].startswith("kernel-")]
    return [each for each in kernels if each["family"] == change["target_family"]]


def forecast(chosen: list[dict[str, Any]]) -> tuple[float, float, float] | None:
    """Give low, middle and high of targets together."""
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
        told = json.loads((PLACE / found["forecast"]).read_text(encoding="utf-8"))
        chosen = named(change, told["targets"])
        expected = forecast(chosen)
        base, new = (statistics.median(found[side][1:]) for side in ("base_s", "new_s"))
        gain = 1 - new / base
        hit = None if expected is None else expected[0] <= gain <= expected[2]
        scored.append(
            {**change, "told": told, "chosen": chosen, "expected": expected}
            | {"base_s": base, "new_s": new, "gain": gain, "hit": hit}
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


def entry(row: dict[str, Any]) -> dict[str, Any]:
    """Give one change as the ledger keeps it.

    A kernel's least time follows from its forecast: high = before * (1 - (least / before) ** 0.75).
    What launch gaps are was defined anew after the forecast of the graphs (see notes.md), so that the share
    which it realised tells nothing of later forecasts: it is left out.
    """
    chosen, told = row["chosen"], row["told"]["capture"]
    of_kernels = chosen[0]["scope"] == "kernel"
    before = sum(each["time_frac"] for each in chosen)
    least, share = 0.0, None
    if of_kernels:
        left = [(1 - each["expected_gain"]["high_frac"] / each["time_frac"]) for each in chosen]
        least = sum(
            each["time_frac"] * rest ** (1 / HIGH_SHARE) for each, rest in zip(chosen, left, strict=True)
        )
        share = math.log(1 - row["gain"] / before) / math.log(least / before)
    low, mid, high = row["expected"]
    return {
        "base": told["id"],
        "new": f"{row['name']} of examples/h200_changes",
        "target": " + ".join(each["id"] for each in chosen),
        "problem": "; ".join(each["problem"] for each in chosen),
        "scope": chosen[0]["scope"],
        "family": chosen[0]["family"],
        "kernel": chosen[0]["kernel"],
        "limiter": chosen[0]["problem"].rpartition(" limited by ")[2] if of_kernels else None,
        "regains": "kernel" if of_kernels else "gaps",
        "shares_of": "latency" if of_kernels else "gaps",
        "gpu": "H200",
        "before_frac": before,
        "least_frac": least,
        "low_frac": low,
        "mid_frac": mid,
        "high_frac": high,
        "actual_frac": row["gain"],
        "total_frac": row["gain"],
        "hit": row["hit"],
        "tried_by": "said",
        "realised_share_frac": share,
        "basis": f"1 - new / base without a profiler; base: {row['base']}; new: {row['new']}",
        "provenance": "recorded",
        "recorded_at": told["started_at"],
        "rocscope_version": row["told"]["made_by"].removeprefix("rocscope "),
    }


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
if "--ledger" in sys.argv:
    kept = {
        "kind": "rocscope-forecasts",
        "schema_version": "1",
        "forecasts": [entry(row) for row in rows() if row["hit"] is not None],
    }
    Path(sys.argv[sys.argv.index("--ledger") + 1]).write_text(
        json.dumps(kept, indent=1) + "\n", encoding="utf-8"
    )
