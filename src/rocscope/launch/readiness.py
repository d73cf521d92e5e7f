"""Waiting until a server answers its health check."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rocscope.errors import PortTaken, TargetDied, TargetNotReady

if TYPE_CHECKING:
    import httpx

    from rocscope.launch.process import Target

POLL_S: Final = 0.5
REQUEST_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    socket_path: str = ""  # of a Unix socket, instead of host and port
    tls: bool = False

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        if self.socket_path:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def __str__(self) -> str:
        return self.socket_path or self.url

    def client(self, timeout_s: float) -> httpx.Client:
        """Open an HTTP client for this server: no proxy, no check of a certificate that is our own."""
        import httpx

        options: dict[str, Any] = {"timeout": timeout_s, "trust_env": False, "base_url": self.url}
        if self.socket_path:
            return httpx.Client(transport=httpx.HTTPTransport(uds=self.socket_path), **options)
        return httpx.Client(verify=not self.tls, **options)

    def listening(self) -> bool:
        """Whether somebody accepts connections there."""
        try:
            if not self.socket_path:
                with socket.create_connection((self.host, self.port), timeout=1.0):
                    return True
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(self.socket_path)
                return True
        except OSError:
            return False


def check_free(address: Address) -> None:
    """Raise :class:`PortTaken` if another process already listens where the server is to."""
    if address.listening():
        where = address.socket_path or f"port {address.port} on {address.host}"
        raise PortTaken(
            f"{where} is taken by another process",
            "stop that server, or give this one another --port",
        )


def wait_until_ready(
    target: Target,
    address: Address,
    *,
    timeout_s: float,
    stopped: Callable[[], bool],
    progress: Callable[[str], None],
) -> bool:
    """Poll ``/health`` until it answers 200; return ``False`` if ``stopped`` says to give up before.

    Raises :class:`TargetDied` with the last lines of output if the command ends first and
    :class:`TargetNotReady` at the deadline.
    """
    started = time.monotonic()
    answer = "no connection"
    with address.client(REQUEST_TIMEOUT_S) as client:
        while True:
            waited = time.monotonic() - started
            if not target.running:
                raise died(target, waited)
            if stopped():
                return False
            if waited > timeout_s:
                raise TargetNotReady(
                    f"{address}/health did not answer within {timeout_s:g} s (last: {answer}); "
                    f"{_told(target)}",
                    "raise --ready-timeout, or see what the server waits for in logs/",
                )
            progress(f"waiting for {address}/health, {waited:.0f} s")
            status, answer = _ask(client) if address.listening() else (None, "no connection")
            if status == 200:
                return True
            target.changed.clear()
            if target.running and not stopped():
                target.wait(POLL_S)


def _ask(client: httpx.Client) -> tuple[int | None, str]:
    import httpx

    try:
        status = client.get("/health").status_code
    except httpx.HTTPError as error:
        return None, str(error) or type(error).__name__
    return status, f"HTTP {status}"


def died(target: Target, after_s: float) -> TargetDied:
    """Describe a command that ended before it was ready."""
    return TargetDied(
        f"{target.command[0]} ended with code {target.exit_code} after {after_s:.1f} s, before it was ready; "
        f"{_told(target)}",
        "run the command by itself until it serves, then profile it",
    )


def _told(target: Target) -> str:
    last = target.tail()
    return f"last output:\n{last}" if last.strip() else "it printed nothing"
