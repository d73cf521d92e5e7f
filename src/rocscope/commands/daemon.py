"""``rocscope daemon``: always on, on an inference node."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Settings


@click.command("daemon", short_help="Watch this node all the time: samples, windows, metrics, a live page.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings, as TOML. Without it the defaults hold.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where it keeps what it knows: by default /var/lib/rocscope, without root a folder of yours.",
)
@click.option(
    "--listen", metavar="HOST:PORT", help="Where metrics, API and page are served. [default: 127.0.0.1:9814]"
)
@click.option("--print-config", is_flag=True, help="Print the settings that hold, as TOML, and end.")
@click.option(
    "--check-config",
    is_flag=True,
    help="Check settings, folders, permissions, TLS, port and free space, change nothing, and end.",
)
@click.option(
    "--print-file",
    type=click.Choice(("service", "attach", "listen", "sysusers", "container")),
    help="Print a file for systemd (the unit, its drop-ins, its user) or for a container, and end.",
)
@click.option("--json", "as_json", is_flag=True, help="With --check-config: print the result as JSON.")
def COMMAND(
    *,
    config: Path | None,
    state: Path | None,
    listen: str | None,
    print_config: bool,
    check_config: bool,
    print_file: str | None,
    as_json: bool,
) -> int:
    """Run in the foreground until SIGTERM or Ctrl-C: sample GPUs, host and vLLM servers once a second,
    profile for seconds now and then, keep the results, serve them. It runs on any machine, with a GPU or
    without. SIGHUP reads the settings again. A unit for systemd and what it may do: docs/daemon.md.

    --check-config ends with 0 where the daemon would run, 2 where the settings are wrong, 3 where this
    machine lacks something.

    \b
    Examples:
      rocscope daemon
      rocscope daemon --state /tmp/rocscope --listen 127.0.0.1:9900
      rocscope daemon --print-config > rocscope.toml
      rocscope daemon --config rocscope.toml --check-config
      rocscope daemon --config rocscope.toml
      rocscope daemon --print-file service > /etc/systemd/system/rocscope.service
    """
    from rocscope.daemon import settings
    from rocscope.errors import UsageError

    if as_json and not check_config:
        raise UsageError("--json is for --check-config", "add --check-config, or leave --json out")
    if print_config + check_config + (print_file is not None) > 1:
        raise UsageError("--print-config, --check-config and --print-file exclude each other", "give one")
    if print_file is not None:
        from rocscope.daemon import shipped

        click.echo(shipped.text(print_file), nl=False)
        return 0
    read = functools.partial(settings.load, config and config.absolute(), state=state, listen=listen)
    if check_config:
        return _check(read, as_json)
    given = read()
    if print_config:
        from rocscope.daemon import settings_text

        click.echo(settings_text.as_toml(given), nl=False)
        return 0
    from rocscope.daemon import service

    service.main(given, read, _say)
    return 0


def _say(context: Context) -> None:
    """Say where it is to be found, once it is up."""
    http = context.part("http")
    where = f"; metrics, API and page at {http.url}" if http is not None else ""
    click.echo(
        f"rocscope daemon runs: state in {context.folder.path}, commands at "
        f"{context.settings.control_socket}{where}"
    )


def _check(read: functools.partial[Settings], as_json: bool) -> int:
    import json

    from rocscope.daemon import preflight

    found = preflight.examine(read)
    code = preflight.exit_code(found)
    if as_json:
        rows = [each._asdict() for each in found]
        click.echo(json.dumps({"schema_version": "1", "exit_code": code, "checks": rows}, indent=1))
        return code
    for each in found:
        mark, colour = ("ok  ", "green") if each.ok else ("FAIL", "red")
        click.echo(f"{click.style(mark, fg=colour)}  {each.what}: {each.text}")
        if each.remedy:
            click.echo(f"      next: {each.remedy}")
    return code
