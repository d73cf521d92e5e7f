"""What the commands that ask a running daemon have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rocscope.daemon.control_protocol import Question

Decorated = Callable[..., Any]


def daemon_options(command: Decorated) -> Decorated:
    """Add ``--config`` and ``--state``, which tell where the daemon listens, and ``--json``."""
    options = [
        click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", help="The daemon's settings."
        ),
        click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The daemon's folder."),
        click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


SYSTEM = Path("/run/rocscope")
"""Where a daemon that systemd runs has its socket (data/systemd/rocscope.service)."""


def socket_path(config: Path | None, state: Path | None) -> Path:
    """Return where the daemon of these settings listens; without any, also where systemd's does."""
    from rocscope.daemon import settings

    own = settings.load(config, state=state).control_socket
    return SYSTEM / own.name if config is state is None and not own.exists() and SYSTEM.is_dir() else own


def ask(config: Path | None, state: Path | None, question: Question) -> dict[str, Any]:
    """Ask the daemon. Raises :class:`rocscope.errors.RocscopeError`."""
    from rocscope.daemon import control_client

    return control_client.ask(socket_path(config, state), question)


def seconds(text: str) -> float:
    """Read a time such as ``90``, ``90s``, ``15m``, ``2h``. Raises :class:`rocscope.errors.UsageError`."""
    from rocscope.errors import UsageError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{text!r} is no time", "write for example 90s, 15m or 2h")
    return value
