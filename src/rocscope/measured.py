"""Measures of kernels from the counters of a capture: which dispatches are whose, and the mean a dispatch.

Counter passes are runs of their own, and most tools record only the product of a grid there. A pass joins the
timed kernels on (GPU, name, launch shape), its dispatches on their ordinal; what could be two kernels is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, metrics
from rocscope.capture import Capture
from rocscope.hardware import GpuSpec
from rocscope.launch_groups import Groups, launch_waves
from rocscope.measures import OTHER_MEASURES, Formula, formulas
from rocscope.study import MEASURE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WINDOW: Final = "GRBM_GUI_ACTIVE"
_FORMATS: Final = {  # how the formats of a tool's files begin
    "omniperf": ("omniperf",),
    "rocprof": ("rocprof-v1",),
    "rocprofv2": ("rocprofv2",),
    "rocprofv3": ("rocprofv3", "rocpd"),
}
ONE_DIE: Final = frozenset({"gfx908", "gfx90a"})  # where its cycles are of one die
MIXED: Final = "may mix runs"  # in the note of a pass whose runs cannot be told apart
_LEVELS: Final = 1 << 20  # runs that add up a level come last: they are more disturbed than others
MOST: Final = 1.05  # a share above it is no share


@dataclass
class Measured:
    """What the counters of a capture say of its kernels."""

    values: pd.DataFrame  # a row a kernel as given, a column a measure, NaN where not known
    sources: list[dict[str, str]]  # a kernel: of each measure that is known, formula, tool and caveat
    unordered: dict[str, str] = field(default_factory=dict)  # kernels of several problems in one launch shape
    unmatched: int = 0  # dispatches under counters that belong to no timed kernel for certain
    above: list[str] = field(default_factory=list)  # shares beyond 105 %, withheld: "name: 1.31"


def measure(
    capture: Capture, kernels: pd.DataFrame, specs: dict[int, GpuSpec | None], placed: Any = None
) -> Measured:
    """Return the measures of ``kernels`` (rows of ``metrics.group``, given ``placed``), means a dispatch."""
    import pandas as pd

    names = [*MEASURE_COLUMNS, *OTHER_MEASURES]
    result = Measured(
        pd.DataFrame(np.nan, index=kernels.index, columns=names), [{} for _ in range(len(kernels))]
    )
    if not capture.counters.num_rows or kernels.empty:
        return result
    manifest = capture.manifest
    archs = {each.gpu: each.arch for each in manifest.gpus}
    profiler, version = _tool(capture)
    books = {gpu: formulas(profiler, version, _arch(gpu, specs, archs)) for gpu in archs}
    members = metrics.members(capture, kernels, placed)
    wide = _wide(capture, kernels, {*names, WINDOW, *_needed(books)}, result, members)
    if wide.empty:
        return result
    tool = f"{manifest.profiler} {manifest.profiler_version}".strip()
    for name in (name for name in MEASURE_COLUMNS if name in wide):
        known = wide[name].where(np.isfinite(wide[name]) & (wide[name] >= 0))
        _put(result, name, known.groupby(wide["group"]).mean(), f"given by {tool}")
    table = _Table(wide, kernels, specs, {each.index: each.note for each in manifest.passes})
    for gpu in sorted(kernels["gpu"].unique()):
        here = table.of(gpu)
        if here.wide.empty:
            continue
        for formula in books.get(gpu, ()):
            found, runs = here.evaluate(formula)
            if found is not None:
                note = f" ({formula.note})" if formula.note else ""
                _put(result, formula.measure, found, f"{formula.text()}, {tool}, {runs}{note}")
    _withhold(result, kernels)
    return result


def _arch(gpu: int, specs: dict[int, GpuSpec | None], archs: dict[int, str]) -> str:
    spec = specs.get(gpu)
    return spec.arch if spec else archs.get(gpu, "")


def _tool(capture: Capture) -> tuple[str, str]:
    """Return which tool took the counters, and its version; nothing where files of several were read.

    Tools name other things alike: what one has derived is not to be read by the formula of another.
    """
    manifest = capture.manifest
    starts = {name: tool for tool, begins in _FORMATS.items() for name in begins}
    found = {starts[start] for each in manifest.sources for start in starts if each.format.startswith(start)}
    if found <= {manifest.profiler} or found == {"omniperf"}:
        return manifest.profiler, manifest.profiler_version
    return (found.pop(), "") if len(found) == 1 else ("", "")


def _needed(books: dict[int, tuple[Formula, ...]]) -> set[str]:
    found = {name for book in books.values() for formula in book for name in formula.names}
    return found | {name.removesuffix("_sum") for name in found}


def _wide(
    capture: Capture, kernels: pd.DataFrame, needed: set[str], result: Measured, members: Ints
) -> pd.DataFrame:
    """Return a row a dispatch that has counters: group, pass, ordinal, time_ns, and a column a counter."""
    import pandas as pd

    counters = capture.counters
    codes, values = columns.text(counters["counter"])
    wanted = np.array([value in needed for value in values], bool)
    counters = counters.filter(pa.array(wanted[codes] & (codes >= 0)))
    codes, values = columns.text(counters["counter"])
    if not counters.num_rows:
        return pd.DataFrame()
    table = capture.dispatches
    kind_codes, kinds = columns.text(table["kind"])
    work = pa.array(kinds[kind_codes] != "barrier")
    table = table.filter(pc.and_(work, pc.is_in(table["pass"], pc.unique(counters["pass"]))))
    key = ("pass", "process", "gpu", "dispatch_id")
    both = [np.concatenate([columns.ints(table[n]), columns.ints(counters[n])]) for n in key]
    ids, size = columns.identify(both)
    rows = np.full(size, -1, np.int64)
    rows[ids[: table.num_rows]] = np.arange(table.num_rows)
    row = rows[ids[table.num_rows :]]
    numbers = counters["value"].to_numpy()
    good = (row >= 0) & ~np.isnan(numbers)
    used, place = np.unique(row[good], return_inverse=True)
    matrix = np.full((len(used), len(values)), np.nan)
    matrix[place[::-1], codes[good][::-1]] = numbers[good][::-1]  # of a value recorded twice the first counts
    wide = pd.DataFrame(matrix, index=used, columns=[str(name) for name in values])
    wide = wide.rename(columns=_aliases(wide.columns, needed))
    groups = Groups(kernels, (metrics.timing(capture).rows, members))
    group = groups.of(table)[wide.index.to_numpy()]
    result.unordered = groups.unordered
    result.unmatched = int((group < 0).sum())
    wide["group"], wide["pass"] = group, columns.ints(table["pass"])[wide.index.to_numpy()]
    order = ["pass", "process", "dispatch_id"]
    for name in order[1:]:
        wide[name] = columns.ints(table[name])[wide.index.to_numpy()]
    wide = wide[wide["group"] >= 0].sort_values(order, kind="stable")
    wide["ordinal"] = wide.groupby(["group", "pass"]).cumcount()
    return _timed(wide.drop(columns=order[1:]), capture, kernels, members)


def _aliases(recorded: Any, needed: set[str]) -> dict[str, str]:
    """Say which plain counters stand for a sum: readers add up instances, so that the two are the same."""
    here = set(recorded)
    return {n: f"{n}_sum" for n in recorded if f"{n}_sum" in needed and f"{n}_sum" not in here}


def _timed(wide: pd.DataFrame, capture: Capture, kernels: pd.DataFrame, members: Ints) -> pd.DataFrame:
    """Add each dispatch's time: that of its ordinal, or the mean where runs had not the same dispatches."""
    import pandas as pd

    rows = metrics.timing(capture).rows
    times = pd.DataFrame(
        {
            "group": members,
            "time_ns": columns.ints(rows["duration_ns"]).astype(float),
            "single": columns.ints(rows["count"]) == 1,
            "process": columns.ints(rows["process"]),
            "start": columns.ints(rows["start_ns"]),
        }
    )
    times = times[times["group"].isin(wide["group"]) & times["single"] & (times["time_ns"] > 0)]
    times = times.sort_values(["process", "start"], kind="stable")
    times["ordinal"] = times.groupby("group").cumcount()
    counts = times.groupby("group").size()
    own = wide.groupby(["group", "pass"])["ordinal"].transform("size")
    wide = wide.merge(times[["group", "ordinal", "time_ns"]], on=["group", "ordinal"], how="left")
    mean = wide["group"].map(kernels["mean_ns"].reset_index(drop=True))
    same = wide["group"].map(counts).to_numpy(float) == own.to_numpy(float)
    wide["time_ns"] = wide["time_ns"].where(same, mean.where(mean > 0))
    return wide


class _Table:
    """The wide table of one GPU, and what constants a formula may name."""

    def __init__(
        self,
        wide: pd.DataFrame,
        kernels: pd.DataFrame,
        specs: dict[int, GpuSpec | None],
        notes: dict[int, str],
    ) -> None:
        self.wide, self._kernels, self._specs, self._notes = wide, kernels, specs, notes
        self._constants: dict[str, float] = {}
        self._arch = ""
        self._clock = np.nan

    def of(self, gpu: int) -> _Table:
        """Return the part of one GPU."""
        rows = np.flatnonzero(self._kernels["gpu"].to_numpy() == gpu)
        part = _Table(self.wide[self.wide["group"].isin(rows)], self._kernels, self._specs, self._notes)
        spec = self._specs.get(gpu)
        if spec is not None:
            part._constants = {
                "compute_units": spec.compute_units,
                "simds_per_cu": spec.simds_per_cu,
                "waves_per_cu": spec.waves_per_cu,
                "shader_engines": spec.shader_engines or np.nan,
            }
            part._clock, part._arch = spec.clock_hz.value, spec.arch
        return part

    def evaluate(self, formula: Formula) -> tuple[pd.Series | None, str]:
        """Return the mean a dispatch of each group, and of how many runs it is made."""
        if not set(formula.names) <= set(self.wide.columns):
            return None, ""
        rows = self.wide
        if len(formula.names) > 1 and formula.runs == "one":
            rows = rows[~rows["pass"].isin([index for index, note in self._notes.items() if MIXED in note])]
        if formula.level:
            rows = rows[rows["pass"].isin([i for i in self._notes if self._level(i) == formula.level])]
        value = self._value(formula, rows)
        by_pass = value.groupby([rows["group"], rows["pass"]]).mean().dropna()
        found = by_pass.groupby(level=0).first()
        if formula.runs == "one" or set(rows["group"]) <= set(found.index):
            return found, "one run"
        across = self._across(formula)
        return found.combine_first(across), "one run or several" if len(found) else "several runs"

    def _level(self, index: int) -> str:
        found = self._notes[index].partition("level ")[2]
        return found.partition(",")[0].strip()

    def _across(self, formula: Formula) -> pd.Series:
        """Evaluate over runs: each counter from the first run that has it, joined on the ordinal."""
        import pandas as pd

        parts: dict[str, pd.Series] = {}
        for name in (*formula.names, *([WINDOW] if WINDOW in self.wide else []), "time_ns"):
            known = self.wide[self.wide[name].notna()]
            levels = known["pass"].isin([index for index in self._notes if self._level(index)])
            rank = known["pass"] + _LEVELS * levels
            first = known[rank == rank.groupby(known["group"]).transform("min")]
            parts[name] = first.set_index(["group", "ordinal"])[name]
        joined = pd.DataFrame(parts).reset_index()
        found = self._value(formula, joined).groupby(joined["group"]).mean().dropna()
        means = joined.groupby("group").mean().reset_index()  # runs that share no ordinal
        pooled = self._value(formula, means).set_axis(means["group"]).dropna()
        return found.combine_first(pooled)

    def _value(self, formula: Formula, rows: pd.DataFrame) -> pd.Series:
        top = sum((rows[name] * weight for name, weight in formula.counters.items()), start=0.0)
        bottom: Any = 1.0
        if formula.over:
            bottom = sum((rows[name] * weight for name, weight in formula.over.items()), start=0.0)
        for above in formula.times:
            top = top * self._constant(above, rows)
        for below in formula.per:
            bottom = bottom * self._constant(below, rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            value: pd.Series = formula.scale * top / bottom
        return value.where(np.isfinite(value) & (value >= 0)).astype(float)

    def _constant(self, name: str, rows: pd.DataFrame) -> Any:
        if name == "duration_s":
            return rows["time_ns"] * 1e-9
        if name == "elapsed_cycles":
            return self._elapsed(rows)
        if name == "waves":
            return rows["group"].map(launch_waves(self._kernels, self._specs).reset_index(drop=True))
        return self._constants.get(name, np.nan)

    def _elapsed(self, rows: pd.DataFrame) -> pd.Series:
        """Return the cycles a kernel took, at most: shares over them are at least what they say.

        Both its time at the peak clock and the window in which the GPU was on are upper bounds. The window
        of a short kernel is half as long again as the kernel.
        """
        cycles: pd.Series = rows["time_ns"] * 1e-9 * self._clock
        if WINDOW in rows and self._arch in ONE_DIE:
            window = rows[WINDOW].where(rows[WINDOW] > 0)
            cycles = cycles.where(~(window < cycles), window).fillna(window)
        return cycles


def _put(result: Measured, name: str, found: pd.Series, source: str) -> None:
    """Fill what is not known yet."""
    column = result.values[name].to_numpy(copy=True)
    groups, values = found.index.to_numpy(np.int64), found.to_numpy(float)
    new = np.isnan(column[groups]) & ~np.isnan(values)
    column[groups[new]] = values[new]
    result.values[name] = column
    for group in groups[new]:
        result.sources[group][name] = source


def _withhold(result: Measured, kernels: pd.DataFrame) -> None:
    """Take out shares that no share can be; one a little above 1 becomes 1, and says so."""
    for name in [str(name) for name in result.values if str(name).endswith("_frac")]:
        column = result.values[name].to_numpy(copy=True)
        for row in np.flatnonzero(column > 1):
            value = column[row]
            if value > MOST:
                result.above.append(f"{name} of {kernels['kernel'].iloc[row]}: {value:.3g}")
                column[row] = np.nan
                del result.sources[row][name]
            else:
                column[row] = 1.0
                result.sources[row][name] += f"; recorded as {value:.3f}"
        result.values[name] = column
