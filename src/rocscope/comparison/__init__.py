"""Two or more recordings set against each other: what changed, with intervals, and whether they compare."""

from rocscope.comparison.compare import LEVEL, compare, compare_all
from rocscope.comparison.gate import Gate
from rocscope.comparison.result import Comparison, Difference, Forecast, Reason, Tier
from rocscope.comparison.side import Side

__all__ = [
    "LEVEL",
    "Comparison",
    "Difference",
    "Forecast",
    "Gate",
    "Reason",
    "Side",
    "Tier",
    "compare",
    "compare_all",
]
