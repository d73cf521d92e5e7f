"""One question to a server's ``/metrics``, with limits on time and size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Final, NamedTuple

from rocscope.collectors.serving_steady import SteadyParser
from rocscope.errors import InputError

if TYPE_CHECKING:
    import httpx

    from rocscope.daemon.engines import Engine

PATH: Final = "/metrics"
REDIRECTS: Final = (301, 302, 307, 308)  # to the same with a slash: older versions mount it so
MAX_BYTES: Final = 2 << 20  # of an answer; a real one has some 50 kB
DEAR_S: Final = 0.002
LOOP_BYTES: Final = 128 << 10  # what is longer is parsed in a thread: the loop has others to serve


class Scraped(NamedTuple):
    """What one answer told."""

    values: dict[str, float]
    bad_lines: int
    parse_cpu_s: float  # 0 where it took no time to speak of


class Scraper:
    """Asks one server, over a connection that is kept."""

    def __init__(self, engine: Engine) -> None:
        import httpx

        self._parser, self._dear = SteadyParser(), True
        self._base = "http://localhost" if engine.socket_path else engine.url
        # the transport without a client around it: that has nothing to do here, and costs as much again
        self._transport = httpx.AsyncHTTPTransport(
            uds=engine.socket_path or None,
            verify=False,  # a server of this node, and a question that tells it nothing
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )
        self._request = self._for(PATH)

    def _for(self, path: str) -> httpx.Request:
        """Make the question, which is the same each time.

        It asks for plain text: it is the server that would pay for packing, and an answer cannot unpack
        beyond its limit.
        """
        import httpx

        headers = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "rocscope"}
        return httpx.Request("GET", self._base + path, headers=headers)

    async def ask(self, timeout_s: float) -> Scraped:
        """Ask once. Raises ``TimeoutError``, ``httpx.HTTPError``, :class:`InputError`."""
        async with asyncio.timeout(timeout_s):
            body = await self._body()
        if len(body) > LOOP_BYTES:
            return await asyncio.to_thread(self._parsed, body)
        return self._parsed(body)

    async def _body(self) -> bytes:
        answer = await self._transport.handle_async_request(self._request)
        path = self._request.url.path
        try:
            if answer.status_code == 200:
                return await _read(answer, path)
        finally:
            await answer.aclose()
        if answer.status_code in REDIRECTS and not path.endswith("/"):
            self._request = self._for(path + "/")
            return await self._body()
        raise InputError(f"HTTP {answer.status_code} for {path}")

    def _parsed(self, body: bytes) -> Scraped:
        """Parse an answer; its CPU time is looked at where the one before took long, as looking costs too."""
        cpu_s = time.thread_time() if self._dear else None
        began = time.perf_counter()
        snapshot = self._parser.parse(body.decode("utf-8", "replace"))
        self._dear = time.perf_counter() - began > DEAR_S
        return Scraped(
            snapshot.values, snapshot.bad_lines, 0.0 if cpu_s is None else time.thread_time() - cpu_s
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.aclose()


async def _read(answer: httpx.Response, path: str) -> bytes:
    body = bytearray()
    assert isinstance(answer.stream, AsyncIterable)  # noqa: S101  # of an asynchronous transport
    async for piece in answer.stream:
        body += piece
        if len(body) > MAX_BYTES:
            raise InputError(f"{path} answers more than {MAX_BYTES >> 20} MiB")
    return bytes(body)
