"""The HTTP server: uvicorn with limits on connections, time and size, TLS where the settings have it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rocscope.daemon import http_token
from rocscope.daemon.http_app import make_app
from rocscope.daemon.http_guard import Guard
from rocscope.daemon.metrics import DaemonCollector
from rocscope.daemon.part import Health, Part
from rocscope.errors import InputError, PortTaken, RocscopeError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Http

HEAD_BYTES: Final = 16 << 10  # of a request's line and headers
KEEP_ALIVE_S: Final = 5
BACKLOG: Final = 32
SPARE: Final = 2  # times the connections that are served: what is beyond those that serve is told so
STOP_S: Final = 3.0
TICK_S: Final = 1.0
CHECK: Final = "see `rocscope daemon --check-config`"
REFRESH_S: Final = 60.0  # between looks of the metrics where nobody scrapes


class _Timed(H11Protocol):
    """Closes a connection on which no whole request comes within the limit, however slowly it drips."""

    limit_s: float = 10.0
    most: int = (
        32  # connections at a time; beyond ``limit_concurrency`` they are told 503, beyond this nothing
    )
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > self.most:  # before they take up all that this process may open
            transport.abort()
            return
        self._arm()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(self.limit_s, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """Close it unless a request is whole and being answered, to a client that reads.

        One that is closing already is closed for good: it may wait for a client that never takes its answer.
        """
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering and not self.flow.write_paused:
            self._arm()
            return
        self.transport.abort()


class _Server(uvicorn.Server):
    """Leaves signals to the service, and wakes once a second where uvicorn's own wakes ten times."""

    def __init__(self, config: uvicorn.Config, protocol: type[_Timed]) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._ending = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, and wait no longer for a handshake of TLS than for a request."""
        config, loop = self.config, asyncio.get_running_loop()

        def connected() -> asyncio.Protocol:
            return self._protocol(config, self.server_state, {})

        limit_s = self._protocol.limit_s if config.ssl else None
        self.servers = [
            await loop.create_server(
                connected, sock=each, ssl=config.ssl, backlog=BACKLOG, ssl_handshake_timeout=limit_s
            )
            for each in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def main_loop(self) -> None:
        """Keep the Date of answers until :meth:`end`."""
        tenths = 0
        while not await self.on_tick(tenths):
            tenths = (tenths + 10) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ending.wait()

    def end(self) -> None:
        """Stop listening, and let answers under way finish."""
        self.should_exit = True
        self._ending.set()


class HttpServer(Part):
    """Serves metrics, API and page."""

    name = "http"
    sections = ("http",)
    fatal = (RocscopeError,)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.collector = DaemonCollector(context)
        self.guard: Guard | None = None
        self.address: tuple[str, int] | None = None  # where it listens, once it does
        self._server: _Server | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is found, as a browser takes it."""
        host, port = self.address or self.context.settings.http.address
        scheme = "http" if self.context.settings.http.tls_certificate is None else "https"
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"

    def health(self) -> Health:
        """Where it listens."""
        return Health("ok", self.url) if self.address else Health("degraded", "not listening yet")

    def ready(self) -> bool:
        """Whether it listens."""
        return self.address is not None

    async def run(self) -> None:
        """Serve until stopped. Raises :class:`RocscopeError` for a port, token or certificate of no use."""
        given = self.context.settings.http
        token = http_token.read(given.token_file) if given.token_file is not None else None
        listening = _listen(given)
        try:
            self.address = listening.getsockname()[:2]
            app = make_app(self.context, self.collector)
            self.guard = Guard(app, _with_port(given, self.address[1]), self.context.clock, token)
            try:
                protocol = _protocol(given)
                config = _config(self.guard, given, protocol)
            except OSError as error:
                raise InputError(f"TLS of {given.listen}: {error}", CHECK) from error
            self._server = _Server(config, protocol)
            refreshing = asyncio.create_task(self._refresh())
            try:
                await self._server.serve(sockets=[listening])
            finally:
                refreshing.cancel()
        finally:
            listening.close()
            self.address = None
        if not self._stopping.is_set():
            raise RuntimeError("the HTTP server ended by itself")

    async def stop(self) -> None:
        """Stop listening, and let answers under way finish."""
        self._stopping.set()
        if self._server is not None:
            self._server.end()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self.collector.refresh()


def _protocol(given: Http) -> type[_Timed]:
    class Limited(_Timed):
        limit_s = given.read_timeout_s
        most = SPARE * given.max_connections

    return Limited


def _config(app: Any, given: Http, protocol: type[_Timed]) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=given.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(STOP_S),
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    config.load()
    config.ssl = tls(given)
    return config


def tls(given: Http) -> ssl.SSLContext | None:
    """Return the TLS context of the settings; ``None`` without. Raises ``OSError`` for unusable files."""
    if given.tls_certificate is None or given.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(given.tls_certificate, given.tls_key)
    if given.client_ca is not None:
        context.load_verify_locations(given.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _with_port(given: Http, port: int) -> Http:
    host = given.listen.rpartition(":")[0]
    return given.model_copy(update={"listen": f"{host}:{port}"})


def _listen(given: Http) -> socket.socket:
    host, port = given.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"{given.listen} is taken", "stop what listens there, or name another --listen"
            ) from error
        raise InputError(f"{given.listen}: {error.strerror or error}", CHECK) from error
    return made


PART = HttpServer
