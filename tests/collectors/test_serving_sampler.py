"""The sampler of /metrics at its real boundary: an HTTP server that is slow, odd, or starts anew."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import serving_recorded
from rocscope.collectors import serving_sampler
from rocscope.collectors.serving_sampler import ServingSampler
from rocscope.launch.readiness import Address


@contextmanager
def server(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[Address]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Address("127.0.0.1", running.server_address[1])
        finally:
            running.shutdown()
            thread.join()


def send(handler, body, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body.encode())


def metrics(tokens, started=5.0):
    return f"process_start_time_seconds {started}\nvllm:generation_tokens_total {tokens}\n"


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def values(sampler, metric):
    columns = sampler.readings.columns()
    index, names = columns.metric
    return [v for v, at in zip(columns.values, index, strict=True) if names[at] == metric]


def test_recorded_texts_are_sampled_and_those_of_the_window_kept(tmp_path):
    texts = [text for _, text in serving_recorded.texts()]
    with server(lambda handler: send(handler, texts.pop(0) if len(texts) > 1 else texts[0])) as address:
        sampler = ServingSampler(address, tmp_path / "serving", hz=50)
        assert sampler.mark("before")
        until(lambda: len(texts) == 1)
        assert sampler.mark("after")
        assert sampler.stop() and sampler.stop() and sampler.notices == []
    tokens = values(sampler, "generation_tokens")
    assert tokens == sorted(tokens) and tokens[-1] == 4608
    times = sampler.readings.columns().times
    assert list(times) == sorted(times) and times[-1] > times[0]
    kept = (tmp_path / "serving/after.metrics.txt").read_text()
    assert kept.startswith("# scraped by rocscope at 2") and kept.endswith(texts[0])
    assert (tmp_path / "serving/before.metrics.txt").exists()


def test_a_server_that_starts_anew_is_noticed_once(tmp_path):
    answers = [metrics(5), metrics(3), metrics(9), metrics(10, started=70.0)]
    with server(lambda handler: send(handler, answers.pop(0) if len(answers) > 1 else answers[0])) as address:
        sampler = ServingSampler(address, tmp_path, hz=50)
        until(lambda: len(answers) == 1 and len(values(sampler, "generation_tokens")) > 5)
        sampler.stop()
    assert [code for code, _ in sampler.notices] == ["server-restarted"]


def test_older_versions_answer_at_the_path_with_a_slash(tmp_path):
    def answer(handler):
        if handler.path == "/metrics/":
            send(handler, metrics(7))
        else:
            send(handler, "", 307, Location="http://192.0.2.1/elsewhere", **{"Content-Length": "0"})

    with server(answer) as address:
        sampler = ServingSampler(address, tmp_path)
        assert sampler.mark("before")
        assert sampler.stop() and sampler.notices == []
    assert 7 in values(sampler, "generation_tokens")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda handler: send(handler, "nothing here", 404), "HTTP 404"),
        (lambda handler: send(handler, "up 1\n"), "no metric of vLLM"),
        (lambda handler: send(handler, "", 307), "HTTP 307"),
        (lambda handler: handler.connection.close(), "disconnected|closed|reset"),
    ],
)
def test_what_fails_is_said_and_costs_the_run_nothing(tmp_path, answer, why):
    with server(answer) as address:
        sampler = ServingSampler(address, tmp_path / "serving")
        began = time.monotonic()
        assert not sampler.mark("before")
        assert time.monotonic() - began < 5
        assert sampler.stop()
    ((code, message),) = sampler.notices
    assert code == "serving-scrapes-failed" and "of /metrics" not in message
    import re

    assert re.search(why, message, re.IGNORECASE), message
    assert not (tmp_path / "serving").exists() and values(sampler, "generation_tokens") == []


def test_a_server_that_hangs_holds_up_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(serving_sampler, "TIMEOUT_S", 0.3)
    release = threading.Event()
    with server(lambda handler: release.wait(5)) as address:
        sampler = ServingSampler(address, tmp_path)
        began = time.monotonic()
        assert not sampler.mark("before", wait_s=0.1)
        assert time.monotonic() - began < 1
        assert sampler.stop()
        release.set()
    assert [code for code, _ in sampler.notices] == ["serving-scrapes-failed"]


@pytest.mark.parametrize(
    ("limit", "value", "why"), [("ANSWER_S", 0.0, "takes more"), ("MAX_BYTES", 8, "more")]
)
def test_an_answer_without_end_is_cut(tmp_path, monkeypatch, limit, value, why):
    monkeypatch.setattr(serving_sampler, limit, value)
    with server(lambda handler: send(handler, metrics(1) * 100)) as address:
        sampler = ServingSampler(address, tmp_path)
        assert not sampler.mark("before")
        sampler.stop()
    assert why in sampler.notices[0][1]


def test_bad_lines_and_a_folder_that_cannot_be_written_are_said(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with server(lambda handler: send(handler, metrics(1) + "vllm:prompt_tokens_total x\n")) as address:
        sampler = ServingSampler(address, tmp_path / "taken")
        assert not sampler.mark("before")
        sampler.stop()
    assert {code for code, _ in sampler.notices} == {"metrics-not-kept", "metrics-lines-dropped"}
    assert not sampler.mark("late", wait_s=0.01)  # it has ended
