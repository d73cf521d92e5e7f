"""Two or more recordings set against each other: what changed, with intervals, and whether they compare."""

from rocscope.comparison.compare import compare
from rocscope.comparison.result import Comparison, Difference, Forecast, Reason, Tier
from rocscope.comparison.side import Side

__all__ = ["Comparison", "Difference", "Forecast", "Reason", "Side", "Tier", "compare"]
