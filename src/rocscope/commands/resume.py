"""``rocscope resume``: windows again."""

from __future__ import annotations

from pathlib import Path

import click

from rocscope.commands import _daemon


@click.command("resume", short_help="Have the daemon open windows again.")
@_daemon.daemon_options
def COMMAND(config: Path | None, state: Path | None, as_json: bool) -> None:
    """End a pause, and close the breaker that opens when windows fail in a row.

    \b
    Example:
      rocscope resume
    """
    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskResume

    result = _daemon.ask(config, state, AskResume())
    click.echo(write(result) if as_json else "windows are opened again, within their budget")
