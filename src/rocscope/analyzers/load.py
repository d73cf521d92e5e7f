"""What the load measured, and what profiling cost it."""

from __future__ import annotations

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
        study.serving |= result.told(study.capture.manifest.load)


ANALYZER = LoadMeasured()
