"""The built-in load against a stand-in for a server with the OpenAI API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rocscope.errors import TargetError
from rocscope.traffic.generator import generate, summary
from rocscope.traffic.requests import Timing
from rocscope.traffic.spec import Shape

STANDIN = Path(__file__).parent.parent / "fake_tools" / "standin_openai.py"
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start the stand-in with some words; give its URL."""
    started = []

    def start(*words: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started.append(subprocess.Popen([sys.executable, str(STANDIN), str(port), *words]))
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
                break
            except httpx.HTTPError:
                time.sleep(0.02)
        return f"http://127.0.0.1:{port}"

    yield start
    for each in started:
        each.kill()
        each.wait()


def asked(url: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/asked", trust_env=False).json())


def test_levels_are_measured_one_after_another(serve: Serve) -> None:
    url = serve("pace", "0.005")
    told: list[str] = []
    shape = Shape(concurrency=(1, 4), requests=8, prompt=20, output=10, warmup=2)
    result = generate(url, shape, progress=told.append)
    assert result["model"] == "standin-model"
    assert told == ["load: 1 at a time, level 1 of 2", "load: 4 at a time, level 2 of 2"]
    one, four = result["levels"]
    for level in (one, four):
        assert (level["requests"], level["failed"]) == (8, 0)
        assert (level["prompt_tokens"], level["output_tokens"]) == (160, 80)
        assert 0.005 <= level["tpot_s"]["p50"] < 0.05
        assert level["ttft_s"]["p50"] >= 0.005
        assert level["e2e_s"]["p50"] >= 10 * 0.005
        single = level["per_request"]
        assert {name: len(values) for name, values in single.items()} == dict.fromkeys(
            ("ttft_s", "tpot_s", "e2e_s"), 8
        )
        assert sum(single["e2e_s"]) / 8 == pytest.approx(level["e2e_s"]["mean"], abs=1e-6)
    assert four["output_tokens_per_s"] > 2 * one["output_tokens_per_s"]
    requests = asked(url)
    assert len(requests) == 1 + 2 * (8 + 2)  # the probe, and two levels with two to warm up
    assert all(len(each["prompt"]) == 20 and each["ignore_eos"] for each in requests[1:])


def test_the_same_seed_sends_the_same_requests(serve: Serve) -> None:
    sent = []
    for seed, levels in ((3, (2,)), (3, (1, 2)), (4, (2,))):
        url = serve("pace", "0")
        generate(url, Shape(concurrency=levels, requests=4, prompt=5, output=2, warmup=1, seed=seed))
        sent.append(sorted(map(str, (each["prompt"] for each in asked(url)[-5:]))))
    assert sent[0] == sent[1]  # also where another level came before
    assert sent[0] != sent[2]


def test_an_open_loop_keeps_its_rate(serve: Serve) -> None:
    url = serve("pace", "0.02")
    result = generate(
        url, Shape(concurrency=(50,), requests=40, prompt=4, output=5, warmup=0, rate=100, seed=1)
    )
    level = result["levels"][0]
    assert level["requests"] == 40
    assert 0.15 < level["duration_s"] < 3  # 40 arrivals at 100 a second, each of 0.1 s
    assert level["rate_per_s"] == 100


@pytest.mark.parametrize("words", [("refuse-ids",), ("refuse-extras",), ("refuse-ids", "refuse-extras")])
def test_what_the_server_refuses_is_left_out(serve: Serve, words: tuple[str, ...]) -> None:
    url = serve(*words)
    level = generate(url, Shape(concurrency=(1,), requests=2, prompt=6, output=3, warmup=0))["levels"][0]
    assert level["requests"] == 2
    if "refuse-extras" in words:  # then the server does not count, and neither do we
        assert level["output_tokens"] is None
        assert level["output_tokens_per_s"] is None
        assert level["tpot_s"] is None
    assert level["ttft_s"] is not None


def test_failures_are_counted_and_not_timed(serve: Serve) -> None:
    url = serve("fail-every", "3")
    level = generate(url, Shape(concurrency=(1,), requests=9, prompt=2, output=2, warmup=0))["levels"][0]
    assert level["requests"] + level["failed"] == 9
    assert level["failed"] == 3
    assert level["failures"][0]["count"] == 3
    assert "out of memory" in level["failures"][0]["message"]
    assert level["output_tokens"] == 2 * level["requests"]


def test_a_server_that_answers_nothing_is_an_error(serve: Serve) -> None:
    with pytest.raises(TargetError, match="which model"):
        generate("http://127.0.0.1:9", Shape())
    with pytest.raises(TargetError, match="longer than the context"):
        generate(serve("window", "50"), Shape(concurrency=(1,), requests=1, prompt=60, output=2, warmup=0))
    with pytest.raises(TargetError, match=r"refuses completions.*out of memory"):
        generate(serve("fail-every", "1"), Shape())


def test_ctrl_c_keeps_what_was_measured(serve: Serve, tmp_path: Path) -> None:
    url, target = serve("pace", "0.02"), tmp_path / "deep" / "result.json"
    words = [sys.executable, "-m", "rocscope", "load", url, "--concurrency", "2", "--requests", "400"]
    words += ["--output", "5", "--prompt", "3", "--json-to", str(target)]
    load = subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"})
    while len(asked(url)) < 12:
        time.sleep(0.05)
    load.send_signal(signal.SIGINT)
    text = load.communicate(timeout=20)[0].decode()
    assert load.returncode == 0
    result = json.loads(target.read_text())
    assert result["stopped"]
    assert 0 < result["levels"][0]["requests"] < 400
    assert result["levels"][0]["failed"] == 0
    assert "2 at a time" in text


def test_the_command_prints_json_alone(serve: Serve) -> None:
    words = [
        sys.executable,
        "-m",
        "rocscope",
        "load",
        serve(),
        "--concurrency",
        "1",
        "--requests",
        "2",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["levels"][0]["requests"] == 2
    wrong = subprocess.run([*words, "--prompt", "none"], capture_output=True, check=False)
    assert wrong.returncode == 2
    assert b"prompt" in wrong.stderr


def test_nothing_answered_is_no_zero() -> None:
    level = summary([Timing(0.0, error="x")], 3, None, 0.0)
    assert (level["requests"], level["failed"]) == (0, 1)
    names = ("duration_s", "output_tokens", "output_tokens_per_s", "requests_per_s", "ttft_s", "tpot_s")
    assert [level[name] for name in names] == [None] * 6
