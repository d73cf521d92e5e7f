"""What the server counted while it was profiled: tokens, latencies, queue, cache."""

from __future__ import annotations

from rocscope import serving_metrics
from rocscope.study import Study


class Serving:
    """Adds ``study.serving``; no columns."""

    name = "serving"
    help = "tokens a second, latencies, queue and cache use, from the server's own metrics and log"
    needs = ()
    adds = ()

    def run(self, study: Study) -> None:
        """Take the figures of the profiled window; warn where they are not of all of it."""
        study.serving |= serving_metrics.of_capture(study.capture)
        lines = study.capture.manifest.log_lines or {}
        if lines.get("eager-mode"):
            study.serving["execution"] = "eager"
        if lines.get("collective-timeout"):
            study.warn(
                "collective-timeout",
                "the log says that a collective operation timed out: ranks waited in vain, as they do "
                "where a profiler holds one of them up, and what was recorded may be cut",
            )
        if study.serving.get("restarts"):
            study.warn(
                "server-restarted",
                "the server started anew in the profiled window: what it counted is shown from then on",
            )


ANALYZER = Serving()
