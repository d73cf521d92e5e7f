"""One question to a server's ``/metrics``, with limits on time and size."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from rocscope.collectors.serving_steady import SteadyParser
from rocscope.errors import InputError

if TYPE_CHECKING:
    import httpx

    from rocscope.daemon.engines import Engine

PATH: Final = "/metrics"
REDIRECTS: Final = (301, 302, 307, 308)  # to the same with a slash: older versions mount it so
MAX_BYTES: Final = 2 << 20  # of an answer; a real one has some 50 kB
LOOP_BYTES: Final = 128 << 10  # what is longer is parsed in a thread: the loop has others to serve


class Scraped(NamedTuple):
    """What one answer told."""

    values: dict[str, float]
    bad_lines: int
    parse_cpu_s: float


class Scraper:
    """Asks one server, over a connection that is kept."""

    def __init__(self, engine: Engine) -> None:
        import httpx

        self._parser = SteadyParser()
        self._path = PATH
        transport = httpx.AsyncHTTPTransport(
            uds=engine.socket_path or None,
            verify=False,  # a server of this node, and a question that tells it nothing
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            base_url="http://localhost" if engine.socket_path else engine.url,
            # plain: it is the server that would pay for packing, and an answer cannot unpack beyond its limit
            headers={"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "rocscope"},
            timeout=None,  # noqa: S113  # the caller's deadline holds for the whole
            trust_env=False,
            follow_redirects=False,
        )

    async def ask(self, timeout_s: float) -> Scraped:
        """Ask once. Raises ``TimeoutError``, ``httpx.HTTPError``, :class:`InputError`."""
        async with asyncio.timeout(timeout_s):
            body = await self._body()
        if len(body) > LOOP_BYTES:
            return await asyncio.to_thread(self._parsed, body)
        return self._parsed(body)

    async def _body(self) -> bytes:
        async with self._client.stream("GET", self._path) as answer:
            if answer.status_code in REDIRECTS and not self._path.endswith("/"):
                self._path += "/"
            elif answer.status_code != 200:
                raise InputError(f"HTTP {answer.status_code} for {self._path}")
            else:
                return await _read(answer, self._path)
        return await self._body()

    def _parsed(self, body: bytes) -> Scraped:
        began = time.thread_time()
        snapshot = self._parser.parse(body.decode("utf-8", "replace"))
        return Scraped(snapshot.values, snapshot.bad_lines, time.thread_time() - began)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


async def _read(answer: httpx.Response, path: str) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_BYTES:
            raise InputError(f"{path} answers more than {MAX_BYTES >> 20} MiB")
    return bytes(body)
