"""One engine step by family, ranks side by side, and whether it fits in the time of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from rocscope import columns, intervals, step_kernels
from rocscope.analyzers import ranks, step_idle
from rocscope.analyzers.measured_token import MeasuredToken, measured, other_load
from rocscope.findings import StepFamily, StepKernel, StepRank, StepTable
from rocscope.study import Study
from rocscope.wording import duration, percent

if TYPE_CHECKING:
    import pandas as pd

_KERNELS: Final = 12  # of one rank, longest first


class StepByFamily:
    """Adds the step table, or why there is none; no columns."""

    name = "step_table"
    help = "one step by kernel family, ranks side by side"
    # the last: integrity has run
    needs = ("gpu", "process", "raw_name", "kernel", "family", "subfamily", "perturbed")
    adds = ()

    def run(self, study: Study) -> None:
        """Sum the kernels of whole steps of one kind by GPU and family; means of a step."""
        if study.kernels.empty:
            return
        found = step_kernels.find(study.capture, study.kernels, study.options)
        if isinstance(found, str):
            study.step_table_missing = found
            return
        study.step_table = _table(study, found)


def _table(study: Study, found: step_kernels.StepKernels) -> StepTable:
    sums = _sums(study, found)
    sides = _ranks(study, found, sums)
    order = [each.gpu for each in sides]
    by_family = sums.groupby(["family", "gpu"])[["time_s", "calls"]].sum()
    time, calls = (by_family[name].unstack(fill_value=0)[order] for name in ("time_s", "calls"))
    mean = float(np.mean([each.kernel_s for each in sides]))
    families = [
        StepFamily(
            family=str(family),
            time_s=[float(value) for value in time.loc[family]],
            calls=[float(value) for value in calls.loc[family]],
            mean_s=float(time.loc[family].mean()),
            time_frac=float(time.loc[family].mean()) / mean if mean > 0 else None,
            spread_frac=_spread([float(value) for value in time.loc[family]]),
        )
        for family in sorted(time.index, key=lambda name: (-time.loc[name].mean(), name))
    ]
    token = measured(study)
    reconciles, sentence = _reconcile(token, sides, found)
    return StepTable(
        phase=found.phase,
        sequences=found.sequences,
        found_by=found.found_by,
        ranks=sides,
        families=families,
        mean_s=mean,
        spread_frac=_spread([each.kernel_s for each in sides]),
        kernels_of=sides[0].label,
        kernels=_kernels(sums[sums["gpu"] == sides[0].gpu]),
        tpot_s=token.value_s if token else None,
        tpot_basis=token.basis if token else None,
        reconciles=reconciles,
        reconciliation=sentence,
        notes=found.notes + _missing(study, sides),
    )


def _sums(study: Study, found: step_kernels.StepKernels) -> pd.DataFrame:
    """Return time and calls of one step by (gpu, kernel)."""
    import pandas as pd

    rows = found.rows.filter(found.inside)
    length = pc.coalesce(rows["duration_ns"], pc.subtract(rows["end_ns"], rows["start_ns"]))
    frame = pd.DataFrame(
        {
            "gpu": columns.ints(rows["gpu"]),
            "raw_name": rows["kernel"].to_pandas(),
            "time_s": columns.ints(length) * 1e-9,
            "calls": columns.ints(rows["count"]).astype(float),
        }
    )
    sums = frame.groupby(["gpu", "raw_name"], observed=True)[["time_s", "calls"]].sum().reset_index()
    sums["raw_name"] = sums["raw_name"].astype(object)
    for name in ("time_s", "calls"):
        sums[name] /= sums["gpu"].map(found.steps)
    names = study.kernels.drop_duplicates("raw_name").set_index("raw_name")
    sums["kernel"] = sums["raw_name"].map(names["kernel"])
    sums["family"] = sums["raw_name"].map(names["family"])
    return sums


def _ranks(study: Study, found: step_kernels.StepKernels, sums: pd.DataFrame) -> list[StepRank]:
    """Return the GPUs that have steps, by rank where that is known of all."""
    named = ranks.labels(study)
    numbers = {each.process: each.rank for each in study.capture.manifest.processes}
    owners = study.kernels.groupby("gpu")["process"].first()
    idle = step_idle.of_steps(study, found)
    rows = found.rows.filter(found.inside)
    gpu, start, end = (columns.ints(rows[name]) for name in ("gpu", "start_ns", "end_ns"))
    sides = []
    for at in sorted(found.steps):
        mine = sums[sums["gpu"] == at]
        here = gpu == at
        placed = bool(np.all(end[here] >= start[here]))
        busy = intervals.union_ns(*_sorted(start[here], end[here])) * 1e-9 if placed else None
        sides.append(
            StepRank(
                label=named[at],
                gpu=at,
                rank=numbers.get(owners[at]) if named[at].startswith("rank") else None,
                steps=found.steps[at],
                kernel_s=float(mine["time_s"].sum()),
                busy_s=None if busy is None else busy / found.steps[at],
                period_s=found.period_s[at],
                gaps_s=idle[at].gaps_s if at in idle else None,
                stalls_s=idle[at].stalls_s if at in idle else None,
                calls=float(mine["calls"].sum()),
            )
        )
    return sorted(sides, key=lambda side: (side.gpu if side.rank is None else side.rank, side.gpu))


def _sorted(start: columns.Ints, end: columns.Ints) -> tuple[columns.Ints, columns.Ints]:
    order = np.argsort(start, kind="stable")
    return start[order], end[order]


def _spread(values: list[float]) -> float | None:
    """By how much the lowest value lies below the highest; ``None`` for fewer than two."""
    highest = max(values)
    return (highest - min(values)) / highest if len(values) > 1 and highest > 0 else None


def _kernels(sums: pd.DataFrame) -> list[StepKernel]:
    longest = sums.sort_values(["time_s", "raw_name"], ascending=[False, True], kind="stable").head(_KERNELS)
    return [
        StepKernel(
            kernel=row["kernel"],
            raw_name=row["raw_name"],
            family=row["family"],
            calls=float(row["calls"]),
            mean_s=float(row["time_s"] / row["calls"]),
        )
        for row in longest.to_dict("records")
    ]


def _missing(study: Study, sides: list[StepRank]) -> list[str]:
    shown = {each.gpu for each in sides}
    left = [name for gpu, name in ranks.labels(study).items() if gpu not in shown]
    return [f"no such steps were found on {', '.join(left)}: not in the table"] if left else []


def _reconcile(
    measured_token: MeasuredToken | None, sides: list[StepRank], found: step_kernels.StepKernels
) -> tuple[bool | None, str]:
    """Say whether the kernel time of a step fits in the time of a token, and in words.

    No GPU can be busy for longer than its step lasts: where the union of a step's kernels is longer than the
    time of a token, the two were not taken under the same conditions.
    """
    most = max(sides, key=lambda side: (side.kernel_s, -side.gpu))
    spent = f"kernel time a step, {_ms(most.kernel_s)}" + (f" on {most.label}," if len(sides) > 1 else ",")
    if measured_token is None:
        told = f"{spent} was taken with the profiler on"
        if most.period_s is not None and most.busy_s is not None:
            told += (
                f", as was the step's length of {_ms(most.period_s)}, of which kernels fill "
                f"{percent(min(1.0, most.busy_s / most.period_s))}"
            )
        return (
            None,
            f"{told}; no time of a token without the profiler is known to hold against it (--tpot-ms)",
        )
    tpot_s = measured_token.value_s
    token = f"the {_ms(tpot_s)} {measured_token.words}"
    if found.speculates:
        return None, f"{spent} is not held against {token}: a step may make several tokens of a sequence"
    if why := other_load(measured_token, found.sequences):
        return None, f"{spent} is not held against {token}: {why}"
    if most.kernel_s <= tpot_s:
        rest = tpot_s - most.kernel_s
        return True, (
            f"{spent} fits in {token}: the two reconcile, and {_ms(rest)} of a token "
            f"({percent(rest / tpot_s)}) are no kernel's"
        )
    busiest = max((side.busy_s for side in sides if side.busy_s is not None), default=None)
    if busiest is not None and busiest <= tpot_s:
        return True, (
            f"{spent} is more than {token}, but kernels overlap and fill only {_ms(busiest)} of it: the two "
            "reconcile"
        )
    since = ", since one was taken with the profiler on" if not measured_token.profiled else ""
    return False, (
        f"{spent} is more than {token}: the two do not reconcile{since}; "
        "the times above are not those of a served token"
    )


def _ms(value_s: float) -> str:
    """Write a time that is held against another: 18.82 ms and 18.85 ms are not the same."""
    return f"{value_s * 1e3:.2f} ms" if value_s >= 1e-4 else duration(value_s * 1e9)


ANALYZER = StepByFamily()
