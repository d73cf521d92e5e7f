"""``rocscope window``: a short profile of a running server, now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from rocscope.commands import _daemon

_POLL_S: Final = 1.0
_WAIT_S: Final = 1200.0
_FINAL: Final = ("done", "skipped", "failed", "aborted")


@click.command("window", short_help="Have the daemon profile a server for some seconds, now.")
@click.option("--profile", default="kernel-trace", show_default=True, help="One of the settings' profiles.")
@click.option("--engine", metavar="URL|NAME", help="The server; else the next in turn.")
@click.option("--seconds", metavar="TIME", help="How long, within the settings' limit.")
@click.option("--force", is_flag=True, help="Past duty, gap and pause; for root alone.")
@click.option("--wait", is_flag=True, help="Until it is analysed; exit code 1 unless it comes out well.")
@_daemon.daemon_options
def COMMAND(
    *,
    profile: str,
    engine: str | None,
    seconds: str | None,
    force: bool,
    wait: bool,
    config: Path | None,
    state: Path | None,
    as_json: bool,
) -> int:
    """Have the daemon open a window now: a short profile through the server's own profiler, or by attaching.

    It is held to the same budget as all windows: what is refused is said, and when to ask again.

    \b
    Examples:
      rocscope window
      rocscope window --engine http://127.0.0.1:8000 --seconds 5 --wait
    """
    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskWindow

    window_s = None if seconds is None else _daemon.seconds(seconds)
    question = AskWindow(profile=profile, engine=engine, window_s=window_s, force=force)
    result = _daemon.ask(config, state, question)
    if not wait:
        click.echo(write(result) if as_json else f"window {result['id']} is open")
        return 0
    ended = _ended(config, state, str(result["id"]))
    click.echo(write(ended) if as_json else _told(ended))
    return 0 if ended["state"] == "done" else 1


def _ended(config: Path | None, state: Path | None, window_id: str) -> dict[str, Any]:
    """Wait until the window is over. Raises :class:`rocscope.errors.RocscopeError`."""
    from rocscope.daemon.control_protocol import AskStatus
    from rocscope.errors import TargetNotReady

    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        windows = _daemon.ask(config, state, AskStatus()).get("windows") or {}
        for each in windows.get("recent", []):
            if each["id"] == window_id and each["state"] in _FINAL:
                found: dict[str, Any] = each
                return found
        time.sleep(_POLL_S)
    raise TargetNotReady(f"window {window_id} is not over after {_WAIT_S:.0f} s", "see `rocscope status`")


def _told(window: dict[str, Any]) -> str:
    why = window["abort"] or window["refusal"]
    return f"window {window['id']}: {window['state']}" + (f", {why}" if why else f" by {window['way']}")
