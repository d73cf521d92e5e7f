"""``rocscope export``: files that the package carries for Grafana and Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rocscope.daemon.monitoring import Kind


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON, nothing else."),
        click.option("--force", is_flag=True, help="Replace files of these names that differ."),
        click.argument("folder", type=click.Path(path_type=Path), metavar="DIR"),
    ):
        command = option(command)
    return command


@click.group("export", short_help="Write Grafana dashboards and Prometheus alert rules into a folder.")
def COMMAND() -> None:
    """Write what the package carries for those who watch daemons: dashboards and alert rules.

    A recording is exported by `rocscope capture export`.
    """


@COMMAND.command("dashboards", short_help="Write Grafana dashboards.")
@_options
def dashboards(folder: Path, force: bool, as_json: bool) -> None:
    """Write Grafana dashboards, as JSON, into DIR: the fleet at a glance, and one node's GPUs and kernels.

    Import them in Grafana (Dashboards, New, Import), or let DIR be a folder of its provisioning; above the
    panels the Prometheus is chosen that scrapes the daemons. A file that is there and differs is not touched.

    \b
    Examples:
      rocscope export dashboards .
      rocscope export dashboards /var/lib/grafana/dashboards --force
    """
    _write("dashboards", folder, force, as_json)


@COMMAND.command("rules", short_help="Write Prometheus alert rules.")
@_options
def rules(folder: Path, force: bool, as_json: bool) -> None:
    """Write Prometheus alert rules, as YAML, into DIR. What each rests on: docs/alerts.md.

    A file that is there and differs, as one whose lines you have moved, is not touched.

    \b
    Examples:
      rocscope export rules .
      rocscope export rules /etc/prometheus/rules --json
    """
    _write("rules", folder, force, as_json)


def _write(kind: Kind, folder: Path, force: bool, as_json: bool) -> None:
    from rocscope.daemon import monitoring

    written = monitoring.write(kind, folder, force=force)
    if as_json:
        import json

        rows = [{"path": str(each.path), "outcome": each.outcome} for each in written]
        click.echo(json.dumps({"schema_version": "1", "files": rows}, indent=1))
        return
    for each in written:
        click.echo(f"{each.path}" + ("" if each.outcome == "written" else f" ({each.outcome})"))
