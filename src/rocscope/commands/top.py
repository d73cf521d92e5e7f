"""``rocscope top``: the live page, in a terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rocscope.commands import _daemon

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_EVERY_S: Final = 2.0
_NAME_WIDTH: Final = 34
_GPU_WIDTH: Final = 20


@click.command("top", short_help="Show what this node does, in the terminal.")
@click.option("--once", is_flag=True, help="Print one picture and end; so does output that is no terminal.")
@click.option(
    "--every", type=click.FloatRange(min=0.5, max=60), default=_EVERY_S, show_default=True, metavar="S",
    help="Seconds between pictures.",
)  # fmt: skip
@_daemon.daemon_options
def COMMAND(*, once: bool, every: float, config: Path | None, state: Path | None, as_json: bool) -> None:
    """Show servers, GPUs, windows and findings of this node as the daemon sees them; Ctrl-C ends it.

    \b
    Examples:
      rocscope top
      rocscope top --once
    """
    from rich.console import Console

    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskStatus

    def found() -> dict[str, Any]:
        return _daemon.ask(config, state, AskStatus())

    if as_json:
        click.echo(write(found()))
        return
    console = Console(highlight=False)
    if once or not sys.stdout.isatty():
        console.print(picture(found()))
        return
    from rich.live import Live

    with Live(picture(found()), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(picture(found()), refresh=True)


def picture(found: dict[str, Any]) -> RenderableType:
    """Return one look: what runs, GPUs, windows, what was found."""
    from rich.console import Group
    from rich.text import Text

    from rocscope.reports import figures
    from rocscope.untrusted import visible

    up = [each for each in found["engines"] if each["up"]]
    rates = [each["tokens_per_s"] for each in up if each["tokens_per_s"] is not None]
    speed = f"{figures.significant(sum(rates))} tokens/s" if rates else "no tokens"
    lines: list[RenderableType] = [
        Text(
            f"rocscope {found['version']} on {visible(found['node'])}: {len(up)} servers up, {speed}",
            style="bold",
        )
    ]
    faults = [each for each in found["parts"] if each["state"] != "ok"]
    lines += [
        Text(f"{each['name']} {each['state']}: {visible(each['reason'])}", style="yellow") for each in faults
    ]
    if found["engines"]:
        lines.append(_servers(found["engines"]))
    if found["gpus"]:
        lines.append(_gpus(found["gpus"]))
        if any(each["throttled"] for each in found["gpus"]):
            lines.append(Text("! throttled", style="red"))
    lines += [Text(text) for text in _windows(found["windows"])]
    count = found["open_findings"]
    lines.append(Text(f"findings: {'not known' if count is None else count or 'none'} open"))
    return Group(*lines)


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(headings[0], no_wrap=True, overflow="ellipsis")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _servers(engines: list[dict[str, Any]]) -> RenderableType:
    from rich.text import Text

    from rocscope.reports import figures
    from rocscope.untrusted import visible

    def number(value: float | None) -> str:
        return figures.UNKNOWN if value is None else figures.significant(value)

    table = _table("server", "tokens/s", "running", "waiting", "cache")
    for each in engines:
        name = visible(each["name"] or each["url"])[:_NAME_WIDTH]
        cache = figures.ordinary_spaces(figures.percent(each["kv_cache_used_frac"]))
        cells = [number(each[key]) for key in ("tokens_per_s", "requests_running", "requests_waiting")]
        table.add_row(Text(name, style="" if each["up"] else "red"), *cells, cache)
    return table


def _gpus(gpus: list[dict[str, Any]]) -> RenderableType:
    from rich.text import Text

    from rocscope.reports import figures
    from rocscope.untrusted import visible

    table = _table("gpu", "power", "clock", "busy", "mem busy", "temp", "memory")
    for each in gpus:
        told = [
            figures.watts(each["power_w"]),
            figures.hertz(each["clock_hz"]),
            figures.percent(each["busy_frac"]),
            figures.percent(each["memory_busy_frac"]),
            figures.celsius(each["temperature_c"]),
            figures.size_bytes(each["memory_used_bytes"]),
        ]
        name = f"{each['gpu']} {visible(each['model'] or each['bdf'])}"[:_GPU_WIDTH]
        hot = each["throttled"]
        table.add_row(
            Text(name + (" !" if hot else ""), style="red" if hot else ""),
            *map(figures.ordinary_spaces, told),
        )
    return table


def _windows(windows: dict[str, Any] | None) -> list[str]:
    from rocscope.commands.status import window_lines

    return window_lines(windows)[:6]
