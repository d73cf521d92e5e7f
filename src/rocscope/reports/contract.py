"""``analysis.json``: the analysis as other programs read it."""

from __future__ import annotations

from rocscope.findings import Analysis


class _Contract:
    name = "json"
    help = "the contract other programs read, every figure unrounded"
    filename = "analysis.json"

    def render(self, analysis: Analysis) -> str:
        """Return the analysis as JSON; NaN and infinity are null."""
        return analysis.model_dump_json(indent=1) + "\n"


REPORT = _Contract()
