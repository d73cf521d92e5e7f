"""The process that makes a daily report out of the store: tables in HTML and Markdown, and nothing else.

Run as ``python -P -m rocscope.daemon.daily_child PARENT`` with its orders as one JSON line on standard input.
"""

from __future__ import annotations

import html
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from rocscope.daemon import store_connection, store_findings, store_samples, store_windows
from rocscope.daemon.confinement import Limits, confine
from rocscope.daemon.state_dir import StateDir
from rocscope.untrusted import visible

READ_S: Final = 60.0
GAP_S: Final = 120.0  # two buckets of a minute: shorter pauses are not told
LONGEST: Final = 200
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem;width:100%}td,th{text-align:left;"
    "padding:.25rem .6rem;border-bottom:1px solid #ccc}td+td,th+th{text-align:right}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


class Orders(BaseModel):
    """What the daemon wants."""

    model_config = ConfigDict(extra="forbid")

    limits: Limits
    state: str
    folder: str  # where the files go, under a temporary name first
    name: str  # of the files, without suffix
    node: str
    since_s: float
    until_s: float
    since: str  # the same, as the report says it
    until: str


class Table(NamedTuple):
    """One section of the report."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    none: str  # said where there are no rows


def main(arguments: list[str]) -> int:
    """Make one report; return 0 where it is there, or there is nothing to report."""
    orders = Orders.model_validate_json(sys.stdin.buffer.readline())
    if not confine(orders.limits, int(arguments[0])):
        return 1
    folder = StateDir(Path(orders.state))
    with closing(store_connection.connect_reader(folder, READ_S)) as connection:
        found = tables(connection, orders.since_s, orders.until_s)
    if not any(table.rows for table in found):
        sys.stdout.write(json.dumps({"empty": True}))
        return 0
    title = f"rocscope on {visible(orders.node)}: {orders.since} to {orders.until}"
    for suffix, write in ((".md", markdown), (".html", page)):
        _put(Path(orders.folder) / f"{orders.name}{suffix}", write(title, found))
    sys.stdout.write(json.dumps({"done": True}))
    return 0


def tables(connection: sqlite3.Connection, since_s: float, until_s: float) -> list[Table]:
    """Return the sections of a report over a time, each figure measured by samples or windows."""
    return [
        _findings(connection, since_s, until_s),
        _served(connection, since_s, until_s),
        _energy(connection, since_s, until_s),
        _families(connection, since_s, until_s),
        _windows(connection, since_s, until_s),
        _integrity(connection, since_s, until_s),
    ]


def _findings(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    rows = [
        (str((each.evidence or {}).get("text", each.kind)), each.confidence or "unknown", each.state)
        for each in store_findings.latest(connection, 100, since_s=since_s, before_s=until_s)
    ]
    return Table(
        "Findings", ("finding", "confidence", "state"), rows, "Nothing changed that several windows show."
    )


def _each(
    connection: sqlite3.Connection, metric: str, since_s: float, until_s: float
) -> list[tuple[str, store_samples.Drawn]]:
    found = {each.subject for each in store_samples.series(connection) if each.metric == metric}
    drawn = [
        (name, store_samples.draw(connection, name, metric, since_s, until_s, most=1500)) for name in found
    ]
    return sorted((each for each in drawn if each[1].points), key=lambda each: each[0])


def _mean(drawn: store_samples.Drawn) -> float:
    return sum(point.mean * point.n for point in drawn.points) / sum(point.n for point in drawn.points)


def _served(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    rows = [
        (name.removeprefix("engine:"), f"{_mean(drawn):.1f}", f"{max(p.high for p in drawn.points):.1f}")
        for name, drawn in _each(connection, "generation_tokens_per_s", since_s, until_s)
    ]
    return Table(
        "Served (while sampled)", ("server", "tokens/s, mean", "most"), rows, "No server was watched."
    )


def _energy(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    rows = []
    for name, drawn in _each(connection, "power_w", since_s, until_s):
        hours = len(drawn.points) * drawn.step_s / 3600
        rows.append(
            (name, f"{_mean(drawn):.0f} W", f"{_mean(drawn) * hours / 1e3:.2f} kWh", f"{hours:.1f} h")
        )
    return Table(
        "Energy, as sampled", ("GPU", "power, mean", "energy", "sampled"), rows, "No GPU's power was read."
    )


def _families(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    totals: dict[str, float] = {}
    count = set()
    for window, _, family, busy_s in store_windows.families_over_time(connection, since_s, until_s):
        totals[family] = totals.get(family, 0.0) + busy_s
        count.add(window)
    whole = sum(totals.values())
    rows = [
        (family, f"{busy_s / whole:.1%}")
        for family, busy_s in sorted(totals.items(), key=lambda each: -each[1])
        if whole > 0
    ]
    return Table(
        f"Kernel families, {len(count)} windows",
        ("family", "share of kernel time"),
        rows,
        "No window was done.",
    )


def _windows(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    groups: dict[tuple[str, str], list[float]] = {}
    costs = []
    for row in store_windows.listing(connection, 10_000, since_s=since_s, before_s=until_s):
        groups.setdefault((row.trigger, row.state), []).append(row.window_s or 0.0)
        cost = (row.overhead or {}).get("overhead_frac")
        if cost is not None:
            costs.append(float(cost))
    rows = [
        (f"{trigger}, {state}", str(len(spent)), f"{sum(spent):.1f} s")
        for (trigger, state), spent in sorted(groups.items())
    ]
    if costs:
        rows.append(
            (
                "rate of tokens lost in a window, mean",
                f"{sum(costs) / len(costs):.1%}",
                f"of {len(costs)} measured",
            )
        )
    return Table("Windows and their cost", ("windows", "number", "time"), rows, "None was asked for.")


def _integrity(connection: sqlite3.Connection, since_s: float, until_s: float) -> Table:
    rows = []
    for metric, what in (("power_w", "sensors of"), ("scrape_s", "metrics of"), ("cpu_frac", "")):
        for name, drawn in _each(connection, metric, since_s, until_s):
            gaps, last = 0.0, since_s
            for ts in [*(point.ts for point in drawn.points), until_s]:
                gaps += ts - last if ts - last > GAP_S else 0.0
                last = ts + drawn.step_s
            rows.append((f"{what} {name}".strip(), f"{gaps / 3600:.2f} h"))
    return Table("Gaps in what was sampled", ("of", "missing"), rows, "Nothing was sampled.")


def _shown(text: str) -> str:
    return visible(text)[:LONGEST]


def markdown(title: str, found: Sequence[Table]) -> str:
    """Write the report as Markdown; what others wrote cannot be read as markup."""

    def cell(text: str) -> str:
        return (
            html.escape(_shown(text), quote=False).replace("|", "\\|").replace("`", "'").replace("[", "\\[")
        )

    lines = [f"# {cell(title)}", ""]
    for table in found:
        lines += [f"## {table.title}", ""]
        if not table.rows:
            lines += [table.none, ""]
            continue
        lines += [f"| {' | '.join(table.head)} |", f"|{'---|' * len(table.head)}"]
        lines += [f"| {' | '.join(map(cell, row))} |" for row in table.rows] + [""]
    return "\n".join(lines)


def page(title: str, found: Sequence[Table]) -> str:
    """Write the report as one page without scripts, which fetches nothing."""

    def row(kind: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{kind}>{html.escape(_shown(each))}</{kind}>' for each in cells)}</tr>"

    parts = []
    for table in found:
        body = "".join(row("td", each) for each in table.rows)
        inner = (
            f"<table>{row('th', table.head)}{body}</table>"
            if table.rows
            else f"<p>{html.escape(table.none)}</p>"
        )
        parts.append(f"<h2>{html.escape(table.title)}</h2>{inner}")
    head = html.escape(_shown(title))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><title>{head}</title><style>{_STYLE}</style><h1>{head}</h1>{"".join(parts)}</html>\n'
    )


def _put(path: Path, text: str, sync: Callable[[int], None] = os.fsync) -> None:
    """Write a file that is whole or absent."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        sync(stream.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
