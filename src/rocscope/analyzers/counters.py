"""What hardware counters say of each kernel: bytes, hit rates, busy pipes, occupancy."""

from __future__ import annotations

from typing import Final

from rocscope import measured
from rocscope.measures import OTHER_MEASURES
from rocscope.study import MEASURE_COLUMNS, Study

_SHOWN: Final = 5
_OF_THE_LAUNCH: Final = (
    "workgroups",
    "waves",
    "waves_per_cu",
    "theoretical_occupancy_frac",
)  # occupancy adds


class Counters:
    """Adds the measures that counters give, a dispatch, and from which counters each comes."""

    name = "counters"
    help = "measures from hardware counters: bytes moved, hit rates, busy units, achieved occupancy"
    needs = ("gpu", "raw_name", "kernel", "mean_ns", "wave_size")
    adds = (
        *(name for name in MEASURE_COLUMNS if name not in _OF_THE_LAUNCH),
        *OTHER_MEASURES,
        "measures_source",
    )

    def run(self, study: Study) -> None:
        """Fill what counters say; what they do not is NaN."""
        import pandas as pd

        frame = study.kernels
        found = measured.measure(study.capture, frame, study.specs, study.placed)
        for name in found.values:
            frame[name] = found.values[name]
        frame["measures_source"] = pd.Series(found.sources, index=frame.index, dtype=object)
        for kernel, why in found.unordered.items():
            study.warn(
                "counters-of-several-problems",
                f"counters of {kernel} are not used where one of its launch shapes serves several problems: "
                f"the order of dispatches does not tell which is which, as {why}",
            )
        if found.unmatched:
            study.warn(
                "counters-unmatched",
                f"counters of {found.unmatched} dispatches are not used: which timed kernel and launch shape "
                "they are of cannot be told",
            )
        if found.above:
            more = f" and {len(found.above) - _SHOWN} more" if len(found.above) > _SHOWN else ""
            study.warn(
                "measure-above-one",
                "shares above 105 % are withheld: " + "; ".join(found.above[:_SHOWN]) + more,
            )


ANALYZER = Counters()
