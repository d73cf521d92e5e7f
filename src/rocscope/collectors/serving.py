"""vLLM's ``/metrics``: its names of all versions from 0.9 on, put into ours.

The text is untrusted: its size and lines are limited, what is no sample is counted. Only known names are
parsed, so that a server with thousands of other series costs no more. Several engines are summed, as are
the models and ranks that labels tell apart.

Names (vLLM's loggers, 0.9.2 to 0.32): ``time_per_output_token_seconds`` is the gap between tokens up to
0.10.1 and became ``inter_token_latency_seconds``; ``gpu_cache_usage_perc`` became ``kv_cache_usage_perc`` (a
share, not a percentage), ``gpu_prefix_cache_*`` ``prefix_cache_*``; ``iteration_tokens_total`` is a
histogram.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rocscope import serving_names as ours
from rocscope.errors import InputError

MAX_BYTES: Final = 16 << 20
MAX_LINES: Final = 200_000
MAX_LINE: Final = 8192  # characters
_PREFIX: Final = "vllm:"
_PROCESS_START: Final = "process_start_time_seconds"
_CACHE_INFO: Final = "cache_config_info"
_REASON: Final = re.compile(r"[a-z_]{1,32}")
# ours to vLLM's, in the order in which they are asked
_GAUGES: Final = {
    "requests_running": ("num_requests_running",),
    "requests_waiting": ("num_requests_waiting",),
    "kv_cache_used_frac": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
}
_COUNTERS: Final = {
    "prompt_tokens": ("prompt_tokens",),
    "generation_tokens": ("generation_tokens",),
    "preemptions": ("num_preemptions",),
    "prefix_cache_queried_tokens": ("prefix_cache_queries", "gpu_prefix_cache_queries"),
    "prefix_cache_hit_tokens": ("prefix_cache_hits", "gpu_prefix_cache_hits"),
    "estimated_flops": ("estimated_flops_per_gpu",),
    "estimated_read_bytes": ("estimated_read_bytes_per_gpu",),
    "estimated_write_bytes": ("estimated_write_bytes_per_gpu",),
}
_HISTOGRAMS: Final = {
    "ttft_s": ("time_to_first_token_seconds",),
    "itl_s": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    "tpot_s": ("request_time_per_output_token_seconds",),
    "e2e_s": ("e2e_request_latency_seconds",),
    "queue_s": ("request_queue_time_seconds",),
    "prefill_s": ("request_prefill_time_seconds",),
    "decode_s": ("request_decode_time_seconds",),
    "request_prompt_tokens": ("request_prompt_tokens",),
    "request_generation_tokens": ("request_generation_tokens",),
}
_STEPS: Final = {"engine_steps": "iteration_tokens_total_count", "step_tokens": "iteration_tokens_total_sum"}
_FINISHED: Final = "request_success"
_MEANS: Final = ("kv_cache_used_frac",)  # over engines, where the others are sums
_PARTS: Final = ("_bucket", "_sum", "_count")

Labels = tuple[tuple[str, str], ...]
Series = dict[str, dict[Labels, float]]  # of a name without its prefix, by its labels


def _wanted() -> frozenset[str]:
    names = {name for group in _GAUGES.values() for name in group}
    names |= {f"{name}{end}" for group in _COUNTERS.values() for name in group for end in ("", "_total")}
    names |= {f"{name}{end}" for group in _HISTOGRAMS.values() for name in group for end in _PARTS}
    names |= {*_STEPS.values(), _FINISHED, f"{_FINISHED}_total", _CACHE_INFO}
    return frozenset({*(f"{_PREFIX}{name}" for name in names), _PROCESS_START})


_WANTED: Final = _wanted()
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True)
class Snapshot:
    """One text of ``/metrics``: values by our names, and how many lines of known names were no sample."""

    values: dict[str, float] = field(default_factory=dict)
    bad_lines: int = 0

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read a text. Raises :class:`InputError` where it is too large or none of it is vLLM's."""
        if len(text) > MAX_BYTES:
            raise InputError(
                f"the metrics text has more than {MAX_BYTES >> 20} MiB", "is this a server's /metrics?"
            )
        lines, bad = _lines(text)
        series, rejected = _series(lines)
        values = values_of(series)
        if not is_vllms(values):
            raise InputError(
                "no metric of vLLM in the text", "the server may run with --disable-log-stats; leave it out"
            )
        return cls(values, bad + rejected)


def is_vllms(values: Mapping[str, float]) -> bool:
    """Whether there is anything of vLLM's among values of a text."""
    return any(name in values for name in (*ours.GAUGES, *ours.TOTALS))


def wanted(line: str) -> bool:
    """Whether a line is of one of the names that we know."""
    name = _NAME.match(line)
    return name is not None and name[0] in _WANTED


def looks_like(head: str) -> bool:
    """Whether the beginning of a text is vLLM's metrics."""
    return bool(re.search(r"^(# (TYPE|HELP) )?vllm:[a-z_0-9]+[ {]", head, re.MULTILINE)) and "{" in head


def _lines(text: str) -> tuple[list[str], int]:
    """Return the sample lines of known names, and how many of them are too long or too many."""
    found: list[str] = []
    bad = 0
    for line in text.splitlines():
        if not wanted(line):
            continue
        if len(line) > MAX_LINE or len(found) >= MAX_LINES:
            bad += 1
        else:
            found.append(line)
    return found, bad


def _series(lines: list[str]) -> tuple[Series, int]:
    """Return each series' value, and how many lines gave none: malformed, repeated, not a number."""
    found: Series = {}
    bad = 0
    for sample in samples(lines):
        if sample is None or not math.isfinite(sample.value) or sample.value < 0:
            bad += 1
            continue
        name, key = meaning_of(sample)
        series = found.setdefault(name, {})
        if key in series:
            bad += 1
        series.setdefault(key, sample.value)
    return found, bad


def meaning_of(sample: Any) -> tuple[str, Labels]:
    """Return a sample's name, without vLLM's prefix, and its labels."""
    return sample.name.removeprefix(_PREFIX), tuple(sorted(sample.labels.items()))


def samples(lines: list[str]) -> Iterator[Any]:
    """Give the samples, ``None`` for a line that is none; all lines at once, or each if one is bad."""
    from prometheus_client.parser import text_string_to_metric_families

    def parsed(text: str) -> list[Any]:
        return [each for family in text_string_to_metric_families(text) for each in family.samples]

    try:
        yield from parsed("\n".join(lines) + "\n")
    except (ValueError, LookupError, TypeError, AttributeError):  # the parser has no error of its own
        for line in lines:
            try:
                yield from parsed(line + "\n") or [None]
            except (ValueError, LookupError, TypeError, AttributeError):
                yield None


def values_of(series: Series) -> dict[str, float]:
    """Return the values of a text by our names."""
    found: dict[str, float] = {}
    for name, theirs in _GAUGES.items():
        if values := next((series[each] for each in theirs if each in series), None):
            total = math.fsum(values.values())
            found[name] = total / len(values) if name in _MEANS else total
    for name, theirs in _COUNTERS.items():
        asked = [f"{each}{end}" for each in theirs for end in ("_total", "")]
        if values := next((series[each] for each in asked if each in series), None):
            found[name] = math.fsum(values.values())
    for name, one in _STEPS.items():
        if one in series:
            found[name] = math.fsum(series[one].values())
    for name, theirs in _HISTOGRAMS.items():
        if told := next((each for each in theirs if f"{each}_count" in series), None):
            found |= _histogram(name, told, series)
    for key, value in series.get(f"{_FINISHED}_total", series.get(_FINISHED, {})).items():
        reason = dict(key).get("finished_reason", "")
        reason = reason if _REASON.fullmatch(reason) else "other"
        found[f"{ours.FINISHED}{reason}"] = found.get(f"{ours.FINISHED}{reason}", 0.0) + value
    engines = {dict(key).get("engine", "") for key in series.get("num_requests_running", {})}
    if engines:
        found[ours.ENGINES] = float(len(engines))
    if started := series.get(_PROCESS_START):
        found[ours.STARTED] = max(started.values())
    if capacity := _capacity(series.get(_CACHE_INFO, {})):
        found[ours.CAPACITY] = capacity
    return found


def _histogram(name: str, theirs: str, series: Series) -> dict[str, float]:
    found = {f"{name}{part}": math.fsum(series[f"{theirs}{part}"].values())
             for part in ("_sum", "_count") if f"{theirs}{part}" in series}  # fmt: skip
    for key, value in series.get(f"{theirs}_bucket", {}).items():
        try:
            bound = float(dict(key).get("le", "nan"))
        except ValueError:
            continue
        if not math.isnan(bound):
            bucket = f"{name}{ours.BUCKET}{bound:g}"
            found[bucket] = found.get(bucket, 0.0) + value
    return found


def _capacity(info: dict[tuple[tuple[str, str], ...], float]) -> float | None:
    """Return the tokens that the caches of all engines hold, from blocks and their size."""
    total = 0.0
    for key in info:
        labels = dict(key)
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if not (blocks.isascii() and blocks.isdigit() and size.isascii() and size.isdigit()):
            return None
        total += float(blocks[:12]) * float(size[:12])
    return total or None
