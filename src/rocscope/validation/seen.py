"""What one trial read of each known kernel, as columns: its dispatches, pass by pass, and their counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from rocscope import measured, metrics, taxonomy
from rocscope.capture import Capture
from rocscope.hardware import GpuSpec
from rocscope.kernel_names import clean
from rocscope.validation.truth import KnownKernel, Truth

if TYPE_CHECKING:
    import pandas as pd

_KEY: Final = ["pass", "process", "gpu", "dispatch_id"]
_COLUMNS: Final = [
    *_KEY,
    *("kernel", "start_ns", "duration_ns", "count"),
    *("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z"),
]


@dataclass
class Seen:
    """One trial, as it was recorded.

    ``dispatches`` has a row a dispatch of a known kernel, with its ``case``; ``counters`` a row a dispatch
    and counter of them; ``measures`` a row a kernel and launch shape, with its ``case``, a column a measure.
    """

    trial: str
    truth: Truth
    capture: Capture
    spec: GpuSpec | None
    dispatches: pd.DataFrame
    counters: pd.DataFrame
    measures: pd.DataFrame
    beyond: list[str]  # shares above 105 %

    @property
    def clean_pass(self) -> int | None:
        """The pass whose times count, ``None`` where counters perturbed all."""
        timing = metrics.timing(self.capture)
        return None if timing.perturbed or not timing.passes else timing.passes[0]

    def of(self, case: str) -> pd.DataFrame:
        """Return the dispatches of a known kernel."""
        return self.dispatches[self.dispatches["case"] == case]

    def counted(self, case: str, counter: str) -> pd.Series:
        """Return the values known of a counter of a known kernel, plain or as a sum over instances."""
        here = self.counters[self.counters["case"] == case]
        return here[here["counter"].isin((counter, f"{counter}_sum"))]["value"].dropna()

    def mean_ns(self, kernel: KnownKernel) -> float | None:
        """Return the mean time of the launches that events timed too, ``None`` without clean times."""
        chosen = self.clean_pass
        if chosen is None:
            return None
        rows = self.of(kernel.case)
        rows = rows[(rows["pass"] == chosen) & rows["duration_ns"].notna()].sort_values("start_ns")
        if len(rows) < kernel.timed_launches:
            return None
        return float(rows["duration_ns"].to_numpy(float)[-kernel.timed_launches :].mean())

    def measure(self, case: str, name: str) -> float | None:
        """Return a measure of a known kernel, a mean a dispatch; ``None`` where counters do not tell."""
        if name not in self.measures:
            return None
        values = self.measures[self.measures["case"] == case][name].to_numpy(float)
        known = [float(value) for value in values[np.isfinite(values)]]
        return known[0] if len(known) == 1 else None


def read(trial: str, truth: Truth, capture: Capture) -> Seen:
    """Find the known kernels in a capture."""
    import pandas as pd

    spec = truth.device.spec()
    table = capture.dispatches.select(_COLUMNS)
    frame = _frame(table)
    frame["case"] = cases(frame["kernel"], truth)
    frame = frame[frame["case"] != ""].reset_index(drop=True)
    counters = _frame(capture.counters)
    if len(counters) and len(frame):
        counters = counters.merge(frame[[*_KEY, "case"]].drop_duplicates(_KEY), on=_KEY, how="inner")
    else:
        counters = pd.DataFrame({name: [] for name in [*_KEY, "counter", "value", "case"]})
    kernels = metrics.group(capture, taxonomy.classify(metrics.kernel_names(capture)))
    specs = {gpu.gpu: spec for gpu in capture.manifest.gpus}
    found = measured.measure(capture, kernels, specs)
    measures = found.values.copy()
    measures["case"] = cases(kernels["raw_name"], truth) if len(kernels) else []
    return Seen(trial, truth, capture, spec, frame, counters, measures, found.above)


def cases(names: pd.Series, truth: Truth) -> pd.Series:
    """Return which known kernel each of ``names`` is, ``""`` for none; names are untrusted text."""
    import pandas as pd
    import pyarrow.compute as pc

    text = names.astype(object).where(names.notna(), "").map(str)
    distinct = pd.Series(text.unique(), dtype=object)
    plain = pa.array([clean(name) for name in distinct], pa.string())
    found = np.full(len(distinct), "", object)
    for kernel in truth.kernels:  # re2, in time linear in the name
        matches = pc.match_substring_regex(plain, pattern=f"^(?:{kernel.pattern})$")
        found[matches.to_numpy(zero_copy_only=False) & (found == "")] = kernel.case
    return text.map(dict(zip(distinct, found, strict=True)))


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a table with its text as text and its integers as floats where some are missing."""
    import pandas as pd

    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            columns[name] = pd.Series(column.cast(pa.string()).to_pylist(), dtype=object)
        else:
            columns[name] = column.to_pandas()
    return pd.DataFrame(columns)
