"""Were all launches seen, in the shape they were launched in, in every pass?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rocscope.validation.seen import Seen
from rocscope.validation.truth import KnownKernel
from rocscope.validation.verdict import Verdict, absent, judge

if TYPE_CHECKING:
    import pandas as pd

_AXES = ("x", "y", "z")


def launches(seen: Seen) -> Iterator[Verdict]:
    """Hold counts, grids and workgroups of every pass against what was launched."""
    for kernel in seen.truth.kernels:
        rows = seen.of(kernel.case)
        yield _count(seen, kernel, rows)
        yield from _shape(seen, kernel, rows)


def _count(seen: Seen, kernel: KnownKernel, rows: pd.DataFrame) -> Verdict:
    passes = [each.index for each in seen.capture.manifest.passes] or [0]
    counts = [int(rows.loc[rows["pass"] == index, "count"].sum()) for index in passes]
    exact = kernel.launches_exact
    passed = all(count == kernel.launches if exact else count >= kernel.launches for count in counts)
    least, most = min(counts), max(counts)
    many = f" in each of {len(counts)} passes" if len(counts) > 1 else ""
    return judge(
        passed,
        "launches",
        seen.trial,
        kernel=kernel.case,
        expected=f"{'' if exact else 'at least '}{kernel.launches}{many}",
        seen=f"{least}" if least == most else f"{least} to {most}",
    )


def _shape(seen: Seen, kernel: KnownKernel, rows: pd.DataFrame) -> Iterator[Verdict]:
    wanted = {"grid": kernel.grid, "workgroup": kernel.workgroup}
    for name, sides in wanted.items():
        if sides is None:
            continue
        if not len(rows):
            yield absent(name, seen.trial, "no dispatch of it was recorded", kernel=kernel.case)
            continue
        columns = [f"{name}_{axis}" for axis in _AXES]
        distinct = rows[columns].drop_duplicates().to_numpy(float)
        wrong = [row for row in distinct if not _same(row, sides)]
        if all(np.isnan(row).all() for row in distinct):
            yield absent(name, seen.trial, "this profiler records none", kernel=kernel.case)
            continue
        yield judge(
            not wrong,
            name,
            seen.trial,
            kernel=kernel.case,
            expected=f"{_text(sides)} work-items",
            seen=_text((wrong or list(distinct))[0]),
        )


def _same(row: np.ndarray, sides: tuple[int, int, int]) -> bool:
    """Tell whether a recorded shape is ``sides``; where only x was recorded it is their product."""
    if math.isnan(row[0]):
        return False
    if math.isnan(row[1]) and math.isnan(row[2]):
        return bool(row[0] == math.prod(sides))
    return tuple(row) == tuple(float(side) for side in sides)


def _text(sides: object) -> str:
    known = [f"{side:.0f}" for side in sides if not math.isnan(side)]  # type: ignore[attr-defined]  # rows too
    return " x ".join(known) or "nothing"


def passes_agree(seen: Seen) -> Iterator[Verdict]:
    """Hold the passes of one trial against each other: launch shapes, and counters read in several."""
    passes = seen.capture.manifest.passes
    if len(passes) < 2:
        yield absent("passes-agree", seen.trial, "there is one pass")
        return
    apart: list[str] = []
    for kernel in seen.truth.kernels:
        rows = seen.of(kernel.case)
        columns = [f"{name}_{axis}" for name in ("grid", "workgroup") for axis in _AXES]
        products = rows[["pass", *columns]].drop_duplicates()
        items = products[columns].prod(axis=1)
        shapes = {frozenset(items[products["pass"] == index]) for index in products["pass"].unique()}
        if len(shapes) > 1:
            apart.append(f"{kernel.case} has other launch shapes")
        here = seen.counters[seen.counters["case"] == kernel.case]
        means = here.groupby(["counter", "pass"])["value"].mean().groupby("counter").agg(["min", "max"])
        spread = means[(means["max"] - means["min"]) > 0.05 * means["max"].abs()]
        apart += [f"{kernel.case}: {name} differs by more than 5 %" for name in spread.index]
    yield judge(
        not apart,
        "passes-agree",
        seen.trial,
        expected=f"{len(passes)} passes of the same work",
        seen="; ".join(apart[:3]) or "the same work",
    )
