"""How often a comparison of a recording with itself claims a difference, and how often it finds a real one.

python benchmarks/bench_compare_aa.py [CAPTURE]       500 draws; fails above 5 % claims or below 90 % found
python benchmarks/bench_compare_aa.py --smoke         4 draws, no bounds

Each draw deals the decode steps of one recording (default: examples/h200_compare/fp16_c1_1.tar.gz) at random
to two sides, lays them end to end and compares the captures, as rocscope.compare does. Any verdict but "no
difference shown" on a tier, phase, family, kernel or gap is a claim. Then every dispatch of one family of the
second side is made 3 % longer, family by family: found is a family that comes out worse.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "data_makers"))

MOST_CLAIMS_FRAC = 0.05
LEAST_FOUND_FRAC = 0.90
LEAST_SHARE_FRAC = 0.02  # of a step, of a family that has to be found


def claims(found) -> list[str]:
    """Return what a comparison of equals claims."""
    rows = [*found.phases, *found.families, *found.kernels, *found.gaps]
    named = [(each.tier, each.verdict) for each in found.tiers] + [(each.name, each.verdict) for each in rows]
    return [name for name, verdict in named if verdict in ("better", "worse")]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "capture", nargs="?", type=Path, default=ROOT / "examples/h200_compare/fp16_c1_1.tar.gz"
    )
    parser.add_argument("--smoke", action="store_true", help="4 draws, no bounds")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--slower", type=float, default=0.03, help="share by which a family is made slower")
    parser.add_argument(
        "--least", type=float, default=0.0, help="share of a step of the least family to slow"
    )
    parser.add_argument("--steps", type=int, help="steps of either side; default: half of the recording")
    options = parser.parse_args()
    from drawn_steps import DrawnSteps, slowed

    from rocscope import comparison, pipeline

    whole = pipeline.side(pipeline.load(options.capture))
    pool = DrawnSteps(whole.capture)
    count = options.steps or len(pool) // 2
    draws = 4 if options.smoke else options.draws
    print(f"{options.capture.name}: {len(pool)} decode steps, {count} and {count} a draw, {draws} draws")
    random = np.random.default_rng(20261129)
    claimed, said, began = 0, {}, time.process_time()
    found: dict[str, int] = {}
    shares: dict[str, float] = {}
    for number in range(draws):
        if number and number % 50 == 0:
            print(f"    after {number} draws: claims in {claimed}", flush=True)
        order = random.permutation(len(pool))
        drawn = pool.capture(order[:count]), pool.capture(order[count : 2 * count])
        # what is judged is read from the capture; the rest of an analysis need not be made for each draw
        base, new = (comparison.Side(capture=each, analysis=whole.analysis) for each in drawn)
        same = comparison.compare(base, new)
        what = claims(same)
        claimed += bool(what)
        for each in what:
            said[each] = said.get(each, 0) + 1
        for row in same.families:
            share = (row.base_s or 0.0) / same.tiers[0].base
            if share < options.least:
                continue
            shares[row.family] = max(shares.get(row.family, 0.0), share)
            slow = new.model_copy(update={"capture": slowed(new.capture, row.family, options.slower)})
            other = comparison.compare(base, slow)
            verdict = next(each.verdict for each in other.families if each.family == row.family)
            found[row.family] = found.get(row.family, 0) + (verdict == "worse")
    print(f"claims in {claimed} of {draws} comparisons of equals ({claimed / draws:.1%})")
    for name, times in sorted(said.items(), key=lambda each: -each[1])[:10]:
        print(f"    {times:4d}  {name}")
    print(f"{options.slower:.0%} slower, found:")
    for family in sorted(shares, key=lambda each: -shares[each]):
        print(f"    {family:14} {shares[family]:6.2%} of a step   {found[family] / draws:6.1%}")
    print(f"{time.process_time() - began:.0f} s CPU")
    if options.smoke:
        return 0
    missed = [
        each for each in shares if shares[each] >= LEAST_SHARE_FRAC and found[each] / draws < LEAST_FOUND_FRAC
    ]
    return 1 if missed or claimed / draws > MOST_CLAIMS_FRAC else 0


if __name__ == "__main__":
    sys.exit(main())
