"""``rocscope status``: what the daemon does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rocscope.commands import _daemon


@click.command("status", short_help="Say what the daemon of this node does.")
@_daemon.daemon_options
def COMMAND(config: Path | None, state: Path | None, as_json: bool) -> int:
    """Say what the daemon does: its parts, its store, the servers it watches, windows and what they cost.

    Exit code 1 where a part fails, 21 where no daemon runs.

    \b
    Examples:
      rocscope status
      rocscope status --json | jq .windows
    """
    from rocscope.daemon.control_client import as_json as write
    from rocscope.daemon.control_protocol import AskStatus

    found = _daemon.ask(config, state, AskStatus())
    click.echo(write(found) if as_json else "\n".join(_lines(found)))
    return 1 if any(each["state"] == "failing" for each in found["parts"]) else 0


def _lines(found: dict[str, Any]) -> list[str]:
    from rocscope.reports import figures
    from rocscope.untrusted import visible

    plain = figures.ordinary_spaces
    lines = [
        f"rocscope {found['version']} on {visible(found['node'])}, process {found['pid']}, "
        f"up {plain(figures.seconds(found['uptime_s']))}"
    ]
    for part in found["parts"]:
        why = f": {visible(part['reason'])}" if part["reason"] else ""
        lines.append(f"  {part['name']:<10} {part['state']}{why}")
    kept = found["store"]
    used = plain(figures.size_bytes(kept["bytes"]))
    lines.append(
        f"  {'store':<10} {kept['state']}, {used} of {plain(figures.size_bytes(kept['limit_bytes']))}"
    )
    lines.append("servers:" if found["engines"] else "servers: none")
    for engine in found["engines"]:
        rate = engine["tokens_per_s"]
        speed = "" if rate is None else f", {figures.significant(rate)} tokens/s"
        state = "up" if engine["up"] else f"down ({visible(engine['reason'])})"
        lines.append(f"  {visible(engine['url'])}  {state}{speed}")
    return lines + window_lines(found["windows"])


def window_lines(windows: dict[str, Any] | None) -> list[str]:
    """Return what there is to say of windows, a line each."""
    from rocscope.reports import figures
    from rocscope.untrusted import visible

    plain = figures.ordinary_spaces
    if windows is None:
        return ["windows: do not run"]
    off = [word for word, on in (("off", not windows["enabled"]), ("paused", windows["paused"]),
                                 ("breaker open", windows["breaker_open"])) if on]  # fmt: skip
    next_s = windows["next_in_s"]
    due = f"next in {plain(figures.seconds(next_s))}" if next_s is not None else "none is due"
    duty = plain(figures.percent(windows["duty_hour_frac"]))
    allowed = plain(figures.percent(windows["max_duty_frac"]))
    lines = [f"windows: {', '.join(off) or due}; {duty} of the last hour, {allowed} allowed"]
    if windows["open"]:
        lines.append(
            f"  {windows['open']['id']}  {windows['open']['moment']} on {visible(windows['open']['engine'])}"
        )
    for each in windows["recent"]:
        why = each["abort"] or each["refusal"]
        lines.append(f"  {each['id']}  {each['state']}" + (f": {visible(why)}" if why else ""))
    return lines
