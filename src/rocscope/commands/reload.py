"""``rocscope reload``: the daemon reads its settings again."""

from __future__ import annotations

from pathlib import Path

import click

from rocscope.commands import _daemon


@click.command("reload", short_help="Have the daemon read its settings again.")
@_daemon.daemon_options
def COMMAND(config: Path | None, state: Path | None, as_json: bool) -> None:
    """Have the daemon read its settings again; what cannot be used is refused, and the old ones hold.

    \b
    Example:
      rocscope reload --config /etc/rocscope/rocscope.toml
    """
    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskReload

    result = _daemon.ask(config, state, AskReload())
    if as_json:
        click.echo(write(result))
        return
    changed, later = result.get("changed", []), result.get("needs_restart", [])
    click.echo(f"changed: {', '.join(changed) or 'nothing'}")
    if later:
        click.echo(f"after a restart: {', '.join(later)}")
