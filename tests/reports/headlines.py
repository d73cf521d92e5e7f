"""The figures a reader takes away from a report, read out of what each format shows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

SCALES = {"%": 0.01, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
FIGURE = r"<?(?P<number>[\d,]+(?:\.\d+)?) (?P<unit>%|[mµn]?s)"
SHARE = r"[\d,.<]+ %"
TIME = r"[\d,.]+ [mµn]?s"
MOST_FAMILIES = 4  # the largest, which every format shows
MOST_TARGETS = 3


@dataclass
class Headlines:
    """What a format shows; figures as text where it is text, as numbers where it is data."""

    families: dict[str, tuple[Any, Any]]  # time and share
    gains: list[tuple[Any, Any, Any]] | None  # middle, low and high of the first targets; None: not in it
    labelled: Any
    busy: list[Any] | None  # of each GPU that is told, None: not in it
    warnings: int | None = field(default=None)


def from_json(text: str) -> Headlines:
    """The contract, by which the others are judged."""
    data = json.loads(text)
    gains = [each["expected_gain"] for each in data["targets"] if each["expected_gain"]]
    return Headlines(
        families={
            each["family"]: (each["time_s"], each["time_frac"]) for each in data["families"][:MOST_FAMILIES]
        },
        gains=[(each["mid_frac"], each["low_frac"], each["high_frac"]) for each in gains[:MOST_TARGETS]],
        labelled=data["integrity"]["labelled_time_frac"],
        busy=[each["busy_frac"] for each in data["gpus"] if each["busy_frac"] is not None],
        warnings=len(data["integrity"]["warnings"]),
    )


def from_terminal(text: str) -> Headlines:
    """Tables of columns under their titles, sentences that may be broken anywhere."""
    flat = _flat(text)
    block = text.split("Where the time went\n", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(rf"^(\S+) +({TIME}) +({SHARE})", _plain(block), re.M)
    return Headlines(_families(rows), _gains(flat, "gain "), _labelled(flat), _busy(flat), _warnings(flat))


def from_markdown(text: str) -> Headlines:
    """Tables of pipes."""
    flat = _flat(text)
    block = text.split("### Where the time went", 1)[1].split("\n\n### ", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
    rows = [(each[0].replace("\\", ""), each[3], each[4]) for each in cells[2:]]
    return Headlines(
        _families(rows), _gains(flat, "Expected gain "), _labelled(flat), _busy(flat), _warnings(flat)
    )


def from_html(text: str) -> Headlines:
    """Rows of tables by their cells, and the text that a reader sees."""
    page = _Page()
    page.feed(text)
    flat = _flat("".join(page.text))
    heads = next(row for row in page.rows if row[:2] == ["Family", "Share"])
    below = page.rows[page.rows.index(heads) + 1 :]
    rows = [(row[0], row[heads.index("Time")], row[1]) for row in below if len(row) == len(heads)]
    gains = re.findall(rf"({SHARE}) (?:high|medium|low) confidence ({SHARE}) to ({SHARE}) end to end", flat)
    labelled = re.search(rf"({SHARE}) of kernel time has a label", flat)
    busy = re.search(rf"GPUs? busy ({SHARE})(?: to ({SHARE}))?", flat)
    warnings = re.search(r"(\d+|No) (?:integrity )?warnings?\b", flat)
    assert labelled and warnings, flat[:2000]
    return Headlines(
        _families(rows),
        gains[:MOST_TARGETS],
        labelled[1],
        [each for each in busy.groups() if each] if busy else [],  # of several GPUs the least and the most
        0 if warnings[1] == "No" else int(warnings[1]),
    )


def from_csv(text: str) -> Headlines:
    """Sums over the rows."""
    spent: dict[str, float] = {}
    labelled = 0.0
    for row in csv.DictReader(io.StringIO(text)):
        time = float(row["time_s"] or 0.0)
        spent[row["family"]] = spent.get(row["family"], 0.0) + time
        labelled += time if row["bound"] != "unknown" else 0.0
    return _sums(spent, labelled)


def from_perfetto(text: str) -> Headlines:
    """Sums over the slices of kernels."""
    spent: dict[str, float] = {}
    labelled = 0.0
    for event in json.loads(text)["traceEvents"]:
        args = event.get("args", {})
        if event["ph"] == "X" and "kernel" in args:
            time = event["dur"] * 1e-6
            spent[args["family"]] = spent.get(args["family"], 0.0) + time
            labelled += time if args["bound"] != "unknown" else 0.0
    return _sums(spent, labelled)


READERS: dict[str, Callable[[str], Headlines]] = {
    "terminal": from_terminal,
    "markdown": from_markdown,
    "html": from_html,
    "csv": from_csv,
    "perfetto": from_perfetto,
}


def disagreements(name: str, shown: Headlines, truth: Headlines) -> list[str]:
    """Return where ``shown`` is not what ``truth`` has, at the precision that it is written in."""
    pairs: list[tuple[str, Any, Any]] = [("labelled", shown.labelled, truth.labelled)]
    for family, exact in truth.families.items():
        said = shown.families.get(family, ("missing", "missing"))
        pairs += [
            (f"{what} of {family}", *each) for what, *each in zip(("time", "share"), said, exact, strict=True)
        ]
    if shown.gains is not None and truth.gains is not None:
        pairs.append(("gain count", len(shown.gains), len(truth.gains)))
        for said, exact in zip(shown.gains, truth.gains, strict=False):
            pairs += [("gain", *each) for each in zip(said, exact, strict=True)]
    if shown.busy is not None and truth.busy is not None:
        told = [min(truth.busy), max(truth.busy)] if name == "html" and len(truth.busy) > 1 else truth.busy
        pairs.append(("busy count", len(shown.busy), len(told)))
        pairs += [("busy", *each) for each in zip(shown.busy, told, strict=False)]
    if shown.warnings is not None:
        pairs.append(("warnings", shown.warnings, truth.warnings))
    return [f"{name}: {what} is {said}, not {exact}" for what, said, exact in pairs if not _same(said, exact)]


def _same(said: Any, exact: float | None) -> bool:
    """Tell whether a figure rounds to what is written, or, of two numbers, whether they are equal."""
    if exact is None or said in ("–", None):
        return exact is None and said in ("–", None)
    if not isinstance(said, str):
        return abs(said - exact) <= 1e-6 * abs(exact) + 1e-12
    match = re.fullmatch(FIGURE, said)
    if match is None:
        return False
    if said.startswith("<"):
        return exact < 1e-4
    decimals = len(match["number"].partition(".")[2])
    scale = SCALES[match["unit"]]
    step = 10.0**-decimals if decimals else 10.0 ** max(0, len(match["number"].replace(",", "")) - 3)
    value = float(match["number"].replace(",", ""))
    return abs(value * scale - exact) <= 0.5 * step * scale * (1 + 1e-9)


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _flat(text: str) -> str:
    return " ".join(_plain(text).split())


def _families(rows: Iterable[tuple[str, str, str]]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name, time, share in rows:
        found.setdefault(name, (time, share))
    return found


def _gains(flat: str, lead: str) -> list[tuple[str, str, str]]:
    return re.findall(rf"{lead}({SHARE}) \(({SHARE}) to ({SHARE})\), ", flat)[:MOST_TARGETS]


def _labelled(flat: str) -> str:
    found = re.search(rf"Labels cover ({SHARE}) of kernel time", flat)
    assert found, flat[:500]
    return found[1]


def _busy(flat: str) -> list[str]:
    told = re.search(rf"- Busy: ((?:.+? {SHARE} of {TIME}(?:, |\.))+)", flat)
    return re.findall(rf"({SHARE}) of", told[1]) if told else []


def _warnings(flat: str) -> int:
    found = re.search(r"(\d+) integrity warnings?\.|; no warnings\.", flat)
    assert found, flat[:500]
    return int(found[1] or 0)


def _sums(spent: dict[str, float], labelled: float) -> Headlines:
    total = sum(spent.values())
    return Headlines(
        families={family: (time, time / total) for family, time in spent.items()},
        gains=None,
        labelled=labelled / total,
        busy=None,
    )


class _Page(HTMLParser):
    """What a reader sees of a page: its text, and the cells of its tables' rows."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self._hidden = 0
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._in_cell = True
        self.text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self.text.append(data)
        if self._in_cell:
            self.rows[-1][-1] = _flat(f"{self.rows[-1][-1]} {data}")
