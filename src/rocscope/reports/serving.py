"""What the server did, in words and cells, the same for every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rocscope.findings import Analysis
from rocscope.reports import figures

TITLE: Final = "Serving"
HEADER: Final = ("latency", "mean", "median", "90 %", "99 %")
_LATENCIES: Final = {
    "ttft_s": "first token",
    "itl_s": "between tokens",
    "tpot_s": "by request",
    "e2e_s": "whole request",
    "queue_s": "queue",
    "prefill_s": "prefill",
    "decode_s": "decode",
}
_QUANTILES: Final = ("p50", "p90", "p99")
_Part = Mapping[str, Any]


def present(analysis: Analysis) -> bool:
    """Return whether there is anything to show."""
    return bool(facts(analysis) or latencies(analysis) or sentences(analysis))


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what is known, a name and its figures each."""
    serving = analysis.serving
    told = [
        ("tokens made", _tokens(serving)),
        ("prompt tokens", _whole(serving.get("prompt_tokens"))),
        ("requests finished", _requests(serving)),
        ("running at once", _gauge(serving.get("requests_running"))),
        ("waiting", _gauge(serving.get("requests_waiting"))),
        ("KV cache in use", _gauge(serving.get("kv_cache_used_frac"), share=True)),
        ("preemptions", _whole(serving.get("preemptions"))),
        ("prefix cache hits", _share(serving.get("prefix_cache_hit_frac"))),
        ("execution", "eager: no graphs, one launch a kernel" if serving.get("execution") == "eager" else ""),
    ]
    return [(name, text) for name, text in told if text]


def latencies(analysis: Analysis) -> list[list[str]]:
    """Return a row for each latency under :data:`HEADER`: means exact, quantiles as far as buckets tell."""
    found = analysis.serving.get("latencies") or {}
    return [
        [
            label,
            figures.seconds(found[name].get("mean_s")),
            *(_quantile(found[name], point) for point in _QUANTILES),
        ]
        for name, label in _LATENCIES.items()
        if name in found
    ]


def sentences(analysis: Analysis) -> list[str]:
    """Return what follows from the figures: the load's own, a token rebuilt, ceilings, the overhead."""
    serving = analysis.serving
    told = [_source(serving), _load(serving.get("against_load"))]
    tpot = serving.get("tpot") or {}
    told.append(str(tpot.get("statement") or ""))
    told += [_ceiling(each) for each in serving.get("decode_ceiling") or []]
    told.append(_overhead(serving.get("profiling_overhead")))
    return [f"{text[:1].upper()}{text[1:]}." for text in told if text]


def _whole(value: float | None) -> str:
    return "" if value is None else figures.count(value)


def _number(value: float) -> str:
    return figures.count(value) if value == round(value) else figures.significant(value)


def _share(value: float | None) -> str:
    return "" if value is None else figures.percent(value)


def _rate(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{figures.significant(value, 4)}{figures.NBSP}tokens/s"


def _tokens(serving: _Part) -> str:
    made, span, active = (serving.get(name) for name in ("generation_tokens", "span_s", "active"))
    if made is None:
        return ""
    text = figures.count(made)
    if span:
        text += f" in {figures.seconds(span)}, {_rate(serving.get('generation_tokens_per_s'))}"
    if active and span and (active["span_s"] is None or active["span_s"] < 0.98 * span):
        text += f"; {_while_active(active)} while it worked"
    return text


def _while_active(active: _Part) -> str:
    rate, low, high = (active.get(f"generation_tokens_per_s{side}") for side in ("", "_low", "_high"))
    if rate is None or low is None or high is None:
        return f"at least {_rate(low)}"
    return f"{_rate(rate)} ({figures.significant(low)} to {figures.significant(high)})"


def _requests(serving: _Part) -> str:
    count = serving.get("requests_finished")
    if count is None:
        return ""
    reasons = serving.get("requests_finished_by_reason") or {}
    told = ", ".join(f"{figures.count(each)} {reason}" for reason, each in reasons.items())
    return figures.count(count) + (f" ({told})" if told else "")


def _gauge(value: _Part | None, *, share: bool = False) -> str:
    if not value:
        return ""
    show = figures.percent if share else _number
    return f"{show(value['mean'])} on average, {show(value['most'])} at most"


def _quantile(found: _Part, point: str) -> str:
    """Write a quantile, or the bounds of a bucket too wide to say where in it."""
    value, low, high = (found.get(f"{point}{end}_s") for end in ("", "_low", "_high"))
    if value is not None and low is not None and high is not None:
        scale = 1e3 if value < 1 else 1.0
        bounds = "–".join(f"{each * scale:g}" for each in (low, high))
        return f"{figures.significant(value * scale)}{figures.NBSP}{'ms' if value < 1 else 's'} ({bounds})"
    if high is None:
        return figures.UNKNOWN if low is None else f">{figures.NBSP}{figures.seconds(low)}"
    return f"≤{figures.NBSP}{figures.seconds(high)}"


def _source(serving: _Part) -> str:
    if "scrapes" not in serving:
        return ""
    text = f"figures are from {serving.get('source')}, {figures.count(serving['scrapes'])} scrapes"
    if not serving.get("span_s"):
        return f"{text}; when they were taken is not known, so there are no rates"
    return f"{text}; means are exact, quantiles as far as the histogram's buckets tell"


def _load(load: _Part | None) -> str:
    if not load:
        return ""
    text = (
        f"the load's clients counted {figures.count(load['client_output_tokens'])} tokens in "
        f"{figures.seconds(load['duration_s'])}, {_rate(load['client_output_tokens_per_s'])}; "
    )
    if load.get("server_generation_tokens_per_s") is None:
        other = f"the server made {figures.count(load['server_generation_tokens'])} in the window"
        return f"{text}{other}, others' or warm-up tokens among them"
    apart = figures.percent(abs(load["difference_frac"]))
    rate = _rate(load["server_generation_tokens_per_s"])
    return f"{text}the server's tokens in that time are {rate}, {apart} apart"


def _ceiling(found: _Part) -> str:
    step = figures.size_bytes(found["weight_bytes"] + (found["cache_bytes"] or 0.0))
    what = "weights and cache" if found["cache_bytes"] is not None else "weights alone"
    text = (
        f"{found['of']}: {what} are {step} a step of {_number(found['sequences'])} sequences, at "
        f"{figures.rate_bytes(found['bandwidth_bytes_per_s'])} ({found['bandwidth_basis']}) at most "
        f"{_rate(found['ceiling_tokens_per_s'])}"
    )
    if found.get("reached_frac") is None:
        return text
    measured = f"{_rate(found['measured_tokens_per_s'])} by {found['measured_basis']}"
    return f"{text}; {measured}, {figures.percent(found['reached_frac'])} of it"


def _overhead(found: _Part | None) -> str:
    if not found:
        return ""
    if found.get("overhead_frac") is None:
        return f"what profiling cost is {found.get('why_not') or 'not measured'}"
    cost = found["overhead_frac"]
    on, off = (_rate(found.get(f"{name}profiled_tokens_per_s")) for name in ("", "un"))
    apart = f"{figures.percent(abs(cost))} {'less' if cost > 0 else 'more'}"
    return f"with the profiler on the load got {on}, without it {off}: {apart}"
