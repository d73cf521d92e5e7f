"""Names of what a server counted, ours, whatever vLLM called them; see :mod:`serving_metrics`."""

from __future__ import annotations

from typing import Final

SOURCE: Final = "serving"
LIVE: Final = "server"  # subject of scrapes whose times are those of the recording's clock
SAVED: Final = "saved:"  # and a name, of texts that were read from files: in order, their times not known
BUCKET: Final = "_bucket:"
GAUGES: Final = ("requests_running", "requests_waiting", "kv_cache_used_frac")
TOTALS: Final = (
    "prompt_tokens",
    "generation_tokens",
    "preemptions",
    "prefix_cache_queried_tokens",
    "prefix_cache_hit_tokens",
    "engine_steps",
    "step_tokens",
    "estimated_flops",
    "estimated_read_bytes",
    "estimated_write_bytes",
)
FINISHED: Final = "requests_finished:"  # totals by reason: requests_finished:length
LATENCIES: Final = ("ttft_s", "itl_s", "tpot_s", "e2e_s", "queue_s", "prefill_s", "decode_s")
LENGTHS: Final = ("request_prompt_tokens", "request_generation_tokens")
STARTED: Final = "server_started_s"  # Unix time
ENGINES: Final = "engines"
CAPACITY: Final = "kv_cache_capacity_tokens"
