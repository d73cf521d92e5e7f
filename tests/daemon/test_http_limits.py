"""Limits of the HTTP side that hold by default, and clients that only take: connections, answers, methods."""

import asyncio
import contextlib
import os
import socket
import threading

import httpx
import pytest
from http_serving import TOKEN, Windows, serving, token_file

from rocscope.daemon import http_server, http_token
from rocscope.daemon.settings import Settings
from rocscope.errors import InputError

EFFECTS = {"/api/v1/webhook": {"post"}}


def test_the_defaults_are_those_that_are_promised():
    http = Settings().http
    assert http.loopback and http.token_file is None and http.allowed_hosts == ()
    assert (http.max_connections, http.max_body_bytes, http.read_timeout_s) == (16, 64 << 10, 10.0)
    assert http.requests_per_minute == 600


def test_nothing_but_the_webhook_has_an_effect_and_no_other_site_is_let_in(tmp_path):
    async def scenario():
        async with (
            serving(tmp_path, parts={"windows": Windows}) as (context, url),
            httpx.AsyncClient() as client,
        ):
            paths = (await client.get(f"{url}/openapi.json")).json()["paths"]
            assert {
                path: set(methods) for path, methods in paths.items() if set(methods) != {"get"}
            } == EFFECTS
            asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
            for path in [*paths, "/", "/page.js"]:
                answer = await client.get(url + path.replace("{window_id}", "w1"), headers=asked)
                preflight = await client.options(url + path, headers=asked)
                assert preflight.status_code in (403, 405)
                for each in (answer, preflight):
                    assert not [name for name in each.headers if name.startswith("access-control")]
                    assert each.headers["content-security-policy"].startswith("default-src 'none'")
                    assert each.headers["x-content-type-options"] == "nosniff"
            assert not context.part("windows").asked

    asyncio.run(scenario())


def test_a_body_above_64_kilobytes_is_refused(tmp_path):
    given = {"token_file": token_file(tmp_path)}
    good = {"authorization": f"Bearer {TOKEN}"}

    async def scenario():
        async with (
            serving(tmp_path, parts={"windows": Windows}, **given) as (_, url),
            httpx.AsyncClient(headers=good) as client,
        ):
            most = b" " * (64 << 10)
            assert (await client.post(f"{url}/api/v1/webhook", content=most)).status_code == 422
            assert (await client.post(f"{url}/api/v1/webhook", content=most + b" ")).status_code == 413
            loose = b'{"status": "firing", "alerts": [{"status": "firing", "labels": {"alertname": 3}}]}'
            assert (await client.post(f"{url}/api/v1/webhook", content=loose)).status_code == 422

    asyncio.run(scenario())


async def takes_nothing(port):
    """Ask for the page's script until the server is stuck with the answers, and read none."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.connect(("127.0.0.1", port))
    for _ in range(20):
        made.send(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.005)
    return made


async def answered(url, code):
    """Wait for an answer of this code."""
    async with asyncio.timeout(15), httpx.AsyncClient() as client:
        while (await client.get(f"{url}/healthz")).status_code != code:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("keep_alive_s", [1, 60])
def test_who_never_takes_an_answer_is_let_go_and_keeps_nobody_out(tmp_path, monkeypatch, keep_alive_s):
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", keep_alive_s)
    real = http_server._listen

    def listen(http):
        made = real(http)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that few answers do
        return made

    monkeypatch.setattr(http_server, "_listen", listen)

    async def scenario():
        given = {"max_connections": 4, "read_timeout_s": 2.0, "requests_per_minute": 1_000_000}
        async with serving(tmp_path, **given) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            held = await asyncio.gather(*(takes_nothing(port) for _ in range(3)))
            await answered(url, 503)
            await answered(url, 200)
            for each in held:
                each.close()

    asyncio.run(scenario())


def test_connections_without_number_are_closed_at_once(tmp_path):
    async def scenario():
        async with serving(tmp_path, max_connections=3, read_timeout_s=60) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            ended = await asyncio.gather(*(asyncio.wait_for(each.read(1), 1.5) for each, _ in held),
                                         return_exceptions=True)  # fmt: skip
            assert sum(isinstance(each, TimeoutError) for each in ended) == 6  # twice what are served
            for _, writer in held:
                writer.close()

    asyncio.run(scenario())


def test_a_store_that_takes_its_time_holds_nobody_else_up(tmp_path, monkeypatch):
    async def scenario():
        async with serving(tmp_path) as (context, url), httpx.AsyncClient() as client:
            asked, go_on, real = threading.Event(), threading.Event(), context.store.read

            @contextlib.contextmanager
            def slow():
                asked.set()
                assert go_on.wait(20)
                with real() as connection:
                    yield connection

            monkeypatch.setattr(context.store, "read", slow)
            waiting = asyncio.create_task(client.get(f"{url}/api/v1/findings"))
            assert await asyncio.to_thread(asked.wait, 20)
            assert (await client.get(f"{url}/healthz")).status_code == 200
            assert not waiting.done()
            go_on.set()
            assert (await waiting).json() == []

    asyncio.run(scenario())


def test_a_handshake_that_never_comes_is_waited_for_as_long_as_a_request(tmp_path, certificate):
    given = {"tls_certificate": certificate / "cert.pem", "tls_key": certificate / "key.pem"}

    async def scenario():
        async with serving(tmp_path, read_timeout_s=0.5, **given) as (_, url):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
            assert await asyncio.wait_for(reader.read(1), 10) == b""
            writer.close()

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_token_of_another_user_is_refused(tmp_path):
    path = token_file(tmp_path)
    os.chown(path, 4242, 4242)
    with pytest.raises(InputError, match="belongs to user 4242"):
        http_token.read(path)
