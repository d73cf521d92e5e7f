"""``rocscope pause``: no windows for a while."""

from __future__ import annotations

from pathlib import Path

import click

from rocscope.commands import _daemon


@click.command("pause", short_help="Have the daemon open no window for a while.")
@click.argument("for_", metavar="[TIME]", required=False)
@_daemon.daemon_options
def COMMAND(for_: str | None, config: Path | None, state: Path | None, as_json: bool) -> None:
    """Have the daemon open no window for TIME (90s, 15m, 2h), or until `rocscope resume`.

    A window that is open goes on; sampling goes on.

    \b
    Examples:
      rocscope pause          # until resumed
      rocscope pause 2h       # while somebody else profiles
    """
    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskPause

    for_s = None if for_ is None else _daemon.seconds(for_)
    result = _daemon.ask(config, state, AskPause(for_s=for_s))
    told = "until `rocscope resume`" if for_s is None else f"for {for_s:g} s"
    click.echo(write({"paused_for_s": for_s, **result}) if as_json else f"no window is opened {told}")
