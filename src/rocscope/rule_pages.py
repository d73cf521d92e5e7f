"""``docs/rules.md``: a page for each rule, made of its data. ``python -m rocscope.rule_pages`` prints it."""

from __future__ import annotations

import sys
from typing import Any, Final

from rocscope.rule_facts import fact_named
from rocscope.rules import Condition, Rule, rules

_HEAD: Final = """# Rules

Known problems that rocscope looks for, each a file in `src/rocscope/data/rules` with its source and cases.
This page is made from those files (`make rules`); do not edit it.
A rule compares facts of kernels, of the recording, of settings and of the server's log. Where a fact that it
needs is not known, it is *not evaluated*, and the report says what to collect.
"""
_OF: Final = {
    "time": "the exposed time of these kernels",
    "clock": "the part of the clock that is missing, while the GPU works",
}
_WORDS: Final = {
    "equals": "is",
    "one_of": "is one of",
    "matches": "matches",
    "above": "is above",
    "at_least": "is at least",
    "below": "is below",
    "at_most": "is at most",
}


def page() -> str:
    """Return the whole document."""
    listed = "".join(f"* [{rule.title}](#{rule.id})\n" for rule in rules())
    return _HEAD + "\n" + listed + "".join(_section(rule) for rule in rules())


def _section(rule: Rule) -> str:
    least = f"* together at least {rule.least_time_frac:.0%} of kernel time\n" if rule.least_time_frac else ""
    conditions = "".join(f"* {_told(each)}\n" for each in rule.when)
    cases = "".join(f"* {each.expect.replace('_', ' ')}: {each.name}\n" for each in rule.case)
    gain = (
        f"{rule.gain.low:.0%} to {rule.gain.high:.0%}, {rule.gain.mid:.0%} in the middle, of "
        f"{_OF[rule.gain.of]}. "
        f"Basis: {rule.gain.source}."
        if rule.gain
        else "none of its own"
        + (": what may be won is in the target of the kernel." if rule.scope == "kernel" else ".")
    )
    return f"""
## {rule.id}

**{rule.title}**

### What it finds
{rule.page.finds}

### Why it matters
{rule.page.matters}

### What to try
{rule.page.do}

### How to confirm
{rule.page.confirm[0].upper()}{rule.page.confirm[1:]}

### When it fires
{conditions}{least}
Expected gain: {gain}

Cases that the tests hold it to:

{cases}
Source: {rule.source}.
"""


def _told(condition: Condition) -> str:
    told = []
    for each in condition.comparisons:
        name = each.given()[0]
        told.append(f"`{each.fact}` {_WORDS[name]} {_value(getattr(each, name))}")
    facts = dict.fromkeys(fact_named(each.fact).help for each in condition.comparisons)
    return f"{' or '.join(told)} ({'; '.join(facts)})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
