"""Verdicts for a terminal: a line a check, and how many of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rocscope.untrusted import visible
from rocscope.validation.trials import Trials
from rocscope.validation.verdict import Verdict, count

if TYPE_CHECKING:
    from rich.console import Console

STYLES: Final = {"pass": "green", "fail": "bold red", "not applicable": "dim", "not run": "yellow"}


def show(verdicts: Sequence[Verdict], console: Console | None = None) -> None:
    """Print one line a check, by trial and in the order they were made, and how many of each."""
    from rich.console import Console as Terminal
    from rich.text import Text

    where = console or Terminal(highlight=False, soft_wrap=True)  # a check stays one line, also in a pipe
    for each in verdicts:
        status, _, rest = visible(each.line()).partition(each.status)
        line = Text(status).append(each.status, style=STYLES[each.status]).append(rest)
        where.print(line, markup=False, highlight=False)
    where.print(Text("\n" + summary(verdicts), style="bold"))


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return how many of each there are."""
    return ", ".join(f"{many} {status}" for status, many in count(verdicts).items())


def dry(trials: Trials) -> str:
    """Return what would be run, as text."""
    told = trials.dry()
    lines = [f"command      {told['command']}"]
    lines += [f"gpu          {told['arch'] or 'not known before it is asked'}"]
    for each in told["runs"]:
        counted = f", {len(each['counters'])} counters" if each["counters"] else ""
        launches = "1 launch" if each["launches"] == 1 else f"{each['launches']} launches"
        lines.append(f"run          {each['trial']}: {launches}{counted}")
    lines += [f"{each.status:<12} {each.trial}: {each.why}" for each in trials.verdicts]
    lines.append(f"time         {estimate(trials.estimated_s)}")
    return "\n".join(visible(line) for line in lines)


def estimate(seconds: float) -> str:
    """Say how long that is."""
    return f"about {max(1, round(seconds / 60))} min"
