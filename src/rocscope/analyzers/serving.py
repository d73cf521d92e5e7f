"""What the server counted while it was profiled: tokens, latencies, queue, cache."""

from __future__ import annotations

from rocscope import serving_metrics
from rocscope.study import Study


class Serving:
    """Adds ``study.serving``; no columns."""

    name = "serving"
    help = "tokens a second, latencies, queue and cache use, from the server's own metrics"
    needs = ()
    adds = ()

    def run(self, study: Study) -> None:
        """Take the figures of the profiled window; warn where they are not of all of it."""
        study.serving |= serving_metrics.of_capture(study.capture)
        if study.serving.get("restarts"):
            study.warn(
                "server-restarted",
                "the server started anew in the profiled window: what it counted is shown from then on",
            )


ANALYZER = Serving()
