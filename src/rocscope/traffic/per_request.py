"""What a result file says of each request of a load: latencies that a distribution can be made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rocscope.traffic.level import number

METRICS: Final = ("ttft_s", "tpot_s", "e2e_s")
MOST: Final = 200_000  # requests of a level: more tell nothing that these do not


def of_level(raw: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the latencies of the requests of one level, ``{}`` where only sums are told.

    Those that failed are left out. Reads ``per_request`` of our generator (``{"ttft_s": [..], ..}``) and the
    lists that ``vllm bench serve --save-detailed`` writes; older ones lack ``latencies``, which then follow
    from the gaps.
    """
    own = raw.get("per_request")
    if isinstance(own, Mapping):
        return {name: values for name in METRICS if (values := _numbers(own.get(name)))}
    first, gaps = raw.get("ttfts"), raw.get("itls")
    if not isinstance(first, list) or not isinstance(gaps, list) or len(first) != len(gaps):
        return {}
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    whole, errors, lengths = (
        _list(raw.get(name), len(first)) for name in ("latencies", "errors", "output_lens")
    )
    for begun, between, took, error, length in zip(first, gaps, whole, errors, lengths, strict=True):
        if len(found["ttft_s"]) == MOST:
            break
        ttft, rest = number(begun), _numbers(between)
        if error or ttft is None:
            continue
        end = number(took)
        end = ttft + sum(rest) if end is None else end
        made = number(length) or len(rest) + 1
        found["ttft_s"].append(float(ttft))
        found["e2e_s"].append(float(end))
        if made > 1:
            found["tpot_s"].append(float(end - ttft) / (made - 1))
    return {name: values for name, values in found.items() if values}


def _list(value: object, size: int) -> Sequence[Any]:
    return value if isinstance(value, list) and len(value) == size else [None] * size


def _numbers(value: object) -> list[float]:
    if not isinstance(value, list):
        return []
    return [float(each) for each in map(number, value[:MOST]) if each is not None]
