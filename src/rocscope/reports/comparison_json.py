"""``compare.json``: a comparison as other programs read it."""

from __future__ import annotations

from rocscope.comparison.result import Comparison


class _ComparisonJson:
    name = "json"
    help = "what `compare --json` prints, for other programs"
    filename = "compare.json"

    def render(self, comparison: Comparison) -> str:
        """Return the comparison as JSON."""
        return comparison.model_dump_json(indent=1) + "\n"


REPORT = _ComparisonJson()
