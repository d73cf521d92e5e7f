"""What the load measured, and what profiling cost it."""

from __future__ import annotations

from typing import Any

from rocscope.study import Study
from rocscope.traffic import result


class LoadMeasured:
    """Puts the load's own figures, with and without the profiler, into ``serving``; no columns."""

    name = "load"
    help = "tokens a second and latencies as the load saw them, and what profiling cost"
    needs: tuple[str, ...] = ()
    adds = ()

    def run(self, study: Study) -> None:
        """Do nothing where the run had no load."""
        if study.capture.manifest.load is None:
            return
        measured = result.numbers(study.capture.manifest.load)  # a capture may come from anywhere
        study.serving["load"] = {**measured, "basis": "measured", "source": "the clients' clock"}
        study.serving["profiling_overhead"] = overhead(measured)


def overhead(measured: dict[str, Any]) -> dict[str, Any]:
    """Compare the same load with and without the profiler; say why where that was not measured.

    ``overhead_frac`` is the share of the tokens a second that the profiler took, negative where it was
    faster with it, which is noise.
    """
    rates = {
        name: result.tokens_per_s(measured[name]) if measured[name] else None
        for name in ("profiled", "unprofiled")
    }
    given: dict[str, Any] = {f"{name}_tokens_per_s": rate for name, rate in rates.items()}
    profiled, unprofiled = rates["profiled"], rates["unprofiled"]
    if profiled is None or not unprofiled:
        if measured["kind"] == "command":
            why = "the load was a command, which does not say how fast it was (--load builtin does)"
        elif measured["unprofiled"] is None:
            why = "the profiler was on from launch on, or --no-overhead was given"
        else:
            why = "one of the two runs of the load left no token count"
        return {**given, "overhead_frac": None, "basis": None, "why_not": f"not measured: {why}"}
    return {**given, "overhead_frac": 1 - profiled / unprofiled, "basis": "measured", "why_not": None}


ANALYZER = LoadMeasured()
