"""Results of loads: our generator's, vLLM's benchmark's as recorded, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.errors import InputError
from rocscope.traffic import result
from rocscope.traffic.result import overhead


def test_vllms_benchmark_as_recorded(captures: Path) -> None:
    path = next(iter(sorted((captures / "vllm").glob("*bench*.json"))))
    raw = json.loads(path.read_text())
    found = result.read(path)
    assert found["kind"] == "bench-serve"
    level = found["levels"][0]
    assert level["output_tokens_per_s"] == raw["output_throughput"]
    assert level["ttft_s"]["mean"] == pytest.approx(raw["mean_ttft_ms"] / 1e3)
    assert level["requests"] == raw["completed"]
    assert result.tokens_per_s(found) == pytest.approx(raw["output_throughput"], rel=1e-6)


def test_what_is_no_result_is_said(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(InputError, match="no result of a load"):
        result.read(path)
    for text in ("{", "[]", '{"kind": "other"}', '{"kind": "builtin", "levels": 5}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"result\.json"):
            result.read(path)


def test_levels_hold_numbers_alone(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    level = {"concurrency": "<b>", "requests": True, "ttft_s": {"mean": "x", "p50": 1.5}, "itl_s": [5]}
    path.write_text(json.dumps({"kind": "builtin", "levels": [level, "no level"]}))
    (found,) = result.read(path)["levels"]
    assert found["concurrency"] is None
    assert found["requests"] is None
    assert found["ttft_s"] == {"mean": None, "p50": 1.5, "p90": None, "p99": None}
    assert found["itl_s"] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
)
KEYS = st.sampled_from(
    ["kind", "profiled", "unprofiled", "levels", "requests", "ttft_s", "mean", "duration_s"]
)
NESTED = st.recursive(
    JSON, lambda inner: st.dictionaries(KEYS, inner | st.lists(inner, max_size=2), max_size=4)
)


@given(st.dictionaries(KEYS, NESTED, max_size=3))
def test_whatever_a_manifest_says_becomes_numbers(told: dict[str, object]) -> None:
    kept = result.numbers(told)
    assert set(kept) == {"kind", "profiled", "unprofiled", "beside"}
    overhead(kept)  # needs no more than that
    texts = set(_texts(kept))
    assert texts <= set(result.KINDS)


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _measured(tokens: int | None, seconds: float | None) -> dict[str, object]:
    level = {"output_tokens": tokens, "duration_s": seconds}
    return {"kind": "builtin", "levels": [level]}


def test_the_cost_of_profiling_is_a_share_of_the_tokens() -> None:
    told = overhead({"kind": "builtin", "profiled": _measured(80, 1.0), "unprofiled": _measured(100, 1.0)})
    assert told["overhead_frac"] == pytest.approx(0.2)
    assert told["why_not"] is None
    for measured, why in (
        ({"kind": "command", "profiled": None, "unprofiled": None}, "does not say how fast"),
        ({"kind": "builtin", "profiled": _measured(1, 1.0), "unprofiled": None}, "on from launch on"),
        (
            {"kind": "builtin", "profiled": _measured(None, 1.0), "unprofiled": _measured(1, 1.0)},
            "token count",
        ),
        ({"kind": "builtin", "profiled": None, "unprofiled": _measured(1, 1.0)}, "no profiler was on"),
        ({"kind": "builtin", "profiled": _measured(1, 1.0), "unprofiled": _measured(1, 0.0)}, "token count"),
    ):
        told = overhead(measured)
        assert told["overhead_frac"] is None
        assert why in told["why_not"]
