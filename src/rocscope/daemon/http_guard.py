"""What every request passes before anything answers it: host, origin, token, size, rate.

Loopback is no protection by itself: a page in an operator's browser may send requests there, under a name
that resolves to 127.0.0.1. So the Host header must be one of ours, and what has an effect needs a token.
"""

from __future__ import annotations

import ipaddress
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from rocscope.daemon.context import Clock
    from rocscope.daemon.http_token import Token
    from rocscope.daemon.settings import Http

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN: Final = frozenset({"/healthz"})  # without a token: it tells one word
SAFE: Final = frozenset({"GET", "HEAD"})
MOST_ADDRESSES: Final = 1024  # whose rate is remembered
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """ASGI middleware; without a ``token`` nothing that has an effect is reached."""

    def __init__(self, app: App, settings: Http, clock: Clock, token: Token | None) -> None:
        self._app, self._settings, self._token = app, settings, token
        self._rates = _Rates(clock, settings.requests_per_minute)
        self.refused: dict[int, int] = {}  # by status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._refuse(send, *refusal)
            return
        body = _Body(receive, self._settings.max_body_bytes)
        out = _Headers(send)
        try:
            await self._app(scope, body, out)
        except HTTPException as error:  # of a body that nobody read to its end
            if not out.started:
                await self._refuse(send, error.status_code, error.detail)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason, ``None`` where the request may pass."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        client = scope.get("client")
        if not self._rates.may(str(client[0]) if client else ""):
            return 429, "too many requests: at most so many a minute"
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0].decode("latin-1")):
            return 421, "the Host header names another host; see http.allowed_hosts"
        if (refusal := _length(headers, self._settings.max_body_bytes)) is not None:
            return refusal
        return self._unauthorised(scope, headers)

    def _unauthorised(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
        safe = scope["method"] in SAFE
        if not safe and b"origin" in headers:
            return 403, "no page of any site may send this"
        if scope["path"] in OPEN and safe:
            return None
        if self._token is None:
            by_certificate = self._settings.client_ca is not None
            return None if safe or by_certificate else (403, "this has an effect: set http.token_file")
        given = headers.get(b"authorization", [])
        if len(given) == 1 and self._token.matches(given[0].decode("latin-1")):
            return None
        return 401, "a token is needed: Authorization: Bearer"

    def _is_ours(self, text: str) -> bool:
        """Tell whether a Host header is one by which this server is meant to be called."""
        host, port = _split(text)
        if host is None or (port and port != str(self._settings.address[1]) and self._settings.address[1]):
            return False
        allowed = {each.lower() for each in self._settings.allowed_hosts}
        own = self._settings.address[0].lower()
        if host in allowed:
            return True
        if self._settings.loopback:
            return host in _LOOPBACK_NAMES or host == own
        return host == own and not _is_any(own)

    async def _refuse(self, send: Send, status: int, text: str) -> None:
        self.refused[status] = self.refused.get(status, 0) + 1
        body = json.dumps({"detail": text}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *HEADERS,
        ]
        headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        headers += [(b"retry-after", b"60")] if status == 429 else []
        headers += [(b"connection", b"close")] if status == 413 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Body:
    """Counts what comes in; what reads it passes this error on as the answer."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._left = receive, most, most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, f"a body has at most {self._most} bytes")
        return message


class _Headers:
    """Adds the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send, self.started = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = {name.lower() for name, _ in message["headers"]}
            more = [each for each in HEADERS if each[0] not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)


class _Rates:
    """A bucket of tokens for each address, of the latest that asked."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock, self._per_s, self._most = clock, per_minute / 60, float(max(1, per_minute))
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def may(self, address: str) -> bool:
        """Take one token, if there is one."""
        now = self._clock.monotonic_s()
        left, at = self._left.pop(address, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_s)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now)
        while len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return allowed


def _length(headers: dict[bytes, list[bytes]], most: int) -> tuple[int, str] | None:
    for text in headers.get(b"content-length", []):
        if not text.isdigit() or len(text) > 18 or int(text) > most:
            return 413, f"a body has at most {most} bytes"
    return None


def _split(text: str) -> tuple[str | None, str]:
    """Return host and port of a Host header; ``None`` for what is no host."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            return None, ""
    else:
        host, _, port = text.partition(":")
    if port and not port.isdigit():
        return None, ""
    return host.lower().rstrip("."), port


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
