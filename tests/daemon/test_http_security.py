"""The HTTP side asked badly: other hosts, no token, slow and hostile clients, TLS."""

import asyncio
import contextlib
import json
import os
import socket
import ssl

import httpx
import pytest
from http_serving import TOKEN, Windows, raw, serving, token_file
from hypothesis import given
from hypothesis import strategies as st
from making import make_context

from rocscope.daemon import http_token
from rocscope.daemon.http_guard import _Rates, _split
from rocscope.daemon.http_server import HttpServer
from rocscope.daemon.settings import Settings
from rocscope.errors import InputError, PermissionMissing, PortTaken


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:1", "[::1", "", "a b"])
def test_another_host_is_refused(tmp_path, host):
    async def scenario():
        async with serving(tmp_path) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            return await raw(port, f"GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert asyncio.run(scenario()).split(b" ")[1] in (b"421", b"400")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST.", "node.example"])
def test_our_own_names_pass(tmp_path, name):
    async def scenario():
        async with serving(tmp_path, allowed_hosts=["node.example"]) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            return await raw(port, f"GET /healthz HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 200")


def test_what_has_an_effect_needs_a_token_and_no_page_may_send_it(tmp_path):
    body = {"status": "firing", "alerts": [{"status": "firing", "labels": {"alertname": "Slow"}}]}

    async def scenario():
        async with serving(tmp_path, parts={"windows": Windows}) as (_, url), httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/api/v1/webhook", json=body)).status_code == 403
            assert (await client.get(f"{url}/api/v1/windows")).status_code == 200
        with_token = {"token_file": token_file(tmp_path), "max_body_bytes": 4000}
        async with (
            serving(tmp_path, parts={"windows": Windows}, **with_token) as (context, url),
            httpx.AsyncClient() as client,
        ):
            hook, windows = f"{url}/api/v1/webhook", context.part("windows")
            good = {"authorization": f"Bearer {TOKEN}"}
            assert (await client.get(f"{url}/healthz")).status_code == 200
            for path in ("/metrics", "/api/v1/status", "/", "/openapi.json"):
                assert (await client.get(url + path)).status_code == 401
                assert (await client.get(url + path, headers=good)).status_code != 401
            for bad in ("Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff", ""):
                answer = await client.post(hook, json=body, headers={"authorization": bad.encode("latin-1")})
                assert answer.status_code == 401 and TOKEN not in answer.text
            assert not windows.asked
            crossed = {**good, "origin": "http://evil.example"}
            assert (await client.post(hook, json=body, headers=crossed)).status_code == 403
            assert (await client.post(hook, json=body, headers=good)).json()["id"] == "w1"
            (request,) = windows.asked
            assert request.trigger == "webhook" and request.reason == "alert Slow" and not request.force
            assert request.profile == "kernel-trace" and request.engine is None
            resolved = {"status": "resolved", "alerts": []}
            assert (await client.post(hook, json=resolved, headers=good)).json()[
                "refusal"
            ] == "no alert fires"
            assert (await client.post(hook, content=b"{", headers=good)).status_code == 422
            assert (await client.post(hook, content=b"x" * 5000, headers=good)).status_code == 413

            async def drip():
                for _ in range(50):
                    yield b"x" * 100

            assert (await client.post(hook, content=drip(), headers=good)).status_code == 413
            for method in ("PUT", "DELETE", "PATCH"):
                assert (await client.request(method, hook, headers=good)).status_code == 405
            assert len(windows.asked) == 1

    asyncio.run(scenario())


def test_too_many_requests_are_refused_and_others_are_not(tmp_path):
    async def scenario():
        async with serving(tmp_path, requests_per_minute=5) as (_, url), httpx.AsyncClient() as client:
            codes = [(await client.get(f"{url}/healthz")).status_code for _ in range(7)]
            assert codes[:5] == [200] * 5 and codes[5:] == [429] * 2

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60))
def test_no_address_gets_more_than_its_rate(events):
    class Clock:
        now = 0.0

        def monotonic_s(self):
            return self.now

    clock = Clock()
    rates, passed = _Rates(clock, 10), {"a": [], "b": [], "c": []}
    for address, pause in events:
        clock.now += pause
        if rates.may(address):
            passed[address].append(clock.now)
    for times in passed.values():
        for start in times:
            assert sum(start <= each < start + 60 for each in times) <= 10 + 10 + 1


def test_slow_clients_are_let_go_and_keep_nobody_out(tmp_path):
    async def scenario():
        async with serving(tmp_path, read_timeout_s=0.5) as (_, url):
            port = int(url.rsplit(":", 1)[1])

            async def dripping():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.suppress(ConnectionError):
                    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100:
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(0.05)
                writer.close()
                return await reader.read(100)

            async with asyncio.timeout(10):
                slow = [asyncio.create_task(dripping()) for _ in range(5)]
                await asyncio.sleep(0.2)
                good = await raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert good.startswith(b"HTTP/1.1 200")
                for each in await asyncio.gather(*slow, return_exceptions=True):
                    assert isinstance(each, ConnectionError) or each == b""

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_told_to_come_again(tmp_path):
    async def scenario():
        async with serving(tmp_path, max_connections=3) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            await asyncio.sleep(0.1)
            answer = await raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.split(b" ")[1] == b"503"
            for _, writer in held:
                writer.close()
            await asyncio.sleep(0.1)
            answer = await raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.split(b" ")[1] == b"200"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /api/v1/windows/%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /page.css/../../settings.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/points?subject=%00&metric=x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/points?subject=a'%20OR%201=1--&metric=x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)  # fmt: skip
def test_hostile_requests_get_an_error_and_the_server_goes_on(tmp_path, data):
    async def scenario():
        async with serving(tmp_path) as (_, url):
            port = int(url.rsplit(":", 1)[1])
            answer = await raw(port, data, wait_s=2.0, end=True)
            assert b"Traceback" not in answer and b"root:" not in answer and b"import" not in answer
            if answer:
                assert answer.split(b" ")[1] in (b"400", b"404", b"413", b"421", b"422", b"200", b"403")
            good = await raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert good.startswith(b"HTTP/1.1 200")

    asyncio.run(scenario())


def test_tls_is_spoken_where_it_is_set_and_nothing_else(tmp_path, certificate):
    given = {"tls_certificate": certificate / "cert.pem", "tls_key": certificate / "key.pem"}

    async def scenario():
        async with serving(tmp_path, **given) as (_, url):
            assert url.startswith("https://")
            context = ssl.create_default_context(cafile=certificate / "cert.pem")
            async with httpx.AsyncClient(verify=context) as client:
                assert (await client.get(f"{url}/healthz")).text == "ok\n"
            port = int(url.rsplit(":", 1)[1])
            plain = await raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", wait_s=2.0)
            assert b"200" not in plain
            old = ssl.create_default_context(cafile=certificate / "cert.pem")
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            old.minimum_version = ssl.TLSVersion.TLSv1_2
            async with httpx.AsyncClient(verify=old) as client:
                assert (await client.get(f"{url}/healthz")).status_code == 200

    asyncio.run(scenario())


def test_a_client_without_a_certificate_is_turned_away_where_one_is_asked_for(tmp_path, certificate):
    pem = {"tls_certificate": certificate / "cert.pem", "tls_key": certificate / "key.pem"}

    async def scenario():
        async with serving(tmp_path, client_ca=certificate / "cert.pem", **pem) as (_, url):
            without = ssl.create_default_context(cafile=certificate / "cert.pem")
            async with httpx.AsyncClient(verify=without) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.get(f"{url}/healthz")
            without.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            async with httpx.AsyncClient(verify=without) as client:
                assert (await client.get(f"{url}/healthz")).status_code == 200

    asyncio.run(scenario())


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings.model_validate({"http": {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}})
        with pytest.raises(PortTaken, match="is taken"):
            asyncio.run(HttpServer(make_context(settings)).run())


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o777, 0o604])
def test_a_token_that_others_can_read_is_refused(tmp_path, mode):
    with pytest.raises(InputError, match="lets others"):
        http_token.read(token_file(tmp_path, mode))


@pytest.mark.parametrize(
    "text", ["", "short", "a" * 21, "0" * 31, "has a space in the middle of it", "x" * 5000]
)
def test_a_weak_token_is_refused_and_its_text_told_nowhere(tmp_path, text):
    with pytest.raises(InputError, match="128 bits") as caught:
        http_token.read(token_file(tmp_path, text=text))
    assert not text or text not in str(caught.value)


def test_a_token_is_read_from_no_link_and_shown_nowhere(tmp_path):
    real = token_file(tmp_path)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(PermissionMissing):
        http_token.read(tmp_path / "link")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(InputError, match="regular"):
        http_token.read(tmp_path / "fifo")
    token = http_token.read(real)
    assert TOKEN not in repr(token) and token.matches(f"bearer {TOKEN}") and not token.matches(TOKEN)


@given(st.text(max_size=40))
def test_any_host_header_is_split_or_refused(text):
    host, port = _split(text)
    assert host is None or ":" not in port
    assert port == "" or port.isdigit()


@pytest.mark.slow
def test_the_api_holds_to_its_own_document(tmp_path):
    """Try what the OpenAPI document allows, and what it does not, against the running server."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, settings

    async def scenario():
        async with serving(tmp_path, requests_per_minute=1_000_000) as (_, url):
            return await asyncio.to_thread(attack, url)

    def attack(url):
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        tried = []
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
            def one(case):
                answer = case.call()
                assert answer.status_code < 500 or answer.status_code == 503, (case.path, answer.text)
                if answer.status_code == 200:
                    case.validate_response(answer)

            one()
            tried.append(operation.path)
        return tried

    tried = asyncio.run(scenario())
    assert len(tried) >= 11 and "/api/v1/webhook" in tried
    assert json.dumps(tried)
