"""Rules: known problems as data, each with its own cases. ``data/rules/*.toml``, one file a rule.

A rule is a list of comparisons, out of a closed list, that must all hold of one row of kernels (or of the
whole recording). A comparison whose fact is not known is neither true nor false: the rule is then not
evaluated, and the fact says how to collect it. More logic than that is an analyzer in Python.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rocscope.errors import InputError
from rocscope.rule_facts import fact_named
from rocscope.thresholds import Shares

if TYPE_CHECKING:
    import pandas as pd

Value = str | float | bool
Bools = NDArray[np.bool_]
Outcome = Literal["fires", "quiet", "not_evaluated"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Compared(_Data):
    fact: str = ""
    equals: Value | None = None
    one_of: tuple[str, ...] | None = None
    matches: str | None = None  # a regular expression, searched for
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def given(self) -> list[str]:
        """Return the names of the comparisons that are given."""
        return [name for name in _COMPARE if getattr(self, name) is not None]

    def check(self) -> None:
        """Raise ``ValueError`` unless it is one comparison of a fact that is known."""
        fact_named(self.fact)
        if len(self.given()) != 1:
            raise ValueError(f"{self.fact}: give exactly one comparison")
        if self.matches is not None:
            re.compile(self.matches)

    @cached_property
    def comparison(self) -> tuple[Callable[[Any, Any], bool], Any]:
        """The comparison, and what is compared with."""
        name = self.given()[0]
        return _COMPARE[name], getattr(self, name)

    def holds(self, value: Any) -> bool | None:
        """Compare; ``None`` where the value is not known or of another kind."""
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return None
        compare, wanted = self.comparison
        try:
            return compare(value, wanted)
        except (TypeError, ValueError):
            return None


class Comparison(_Compared):
    """One fact against one value; exactly one of the comparisons is given."""

    @model_validator(mode="after")
    def _one(self) -> Comparison:
        self.check()
        return self


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": lambda value, wanted: bool(value == wanted),
    "one_of": lambda value, wanted: str(value) in wanted,
    "matches": lambda value, wanted: bool(re.search(wanted, str(value))),
    "above": lambda value, wanted: float(value) > wanted,
    "at_least": lambda value, wanted: float(value) >= wanted,
    "below": lambda value, wanted: float(value) < wanted,
    "at_most": lambda value, wanted: float(value) <= wanted,
}


class Condition(_Compared):
    """A comparison, or several of which one must hold."""

    any_of: tuple[Comparison, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Condition:
        if not self.any_of:
            self.check()
        elif self.fact or self.given():
            raise ValueError("any_of stands alone")
        return self

    @property
    def comparisons(self) -> tuple[_Compared, ...]:
        """Itself, or the alternatives."""
        return self.any_of or (self,)


class RuleGain(Shares):
    """Which part of what is lost a mended target wins back; see ``ranking.share_of``."""

    of: Literal["time", "clock"]  # exposed time of the rows that fired, or the clock that is missing


class Page(_Data):
    """The rule's page in docs/rules.md; ``do`` and ``confirm`` are also the target's."""

    finds: str = Field(min_length=20)
    matters: str = Field(min_length=20)
    do: str = Field(min_length=20)
    confirm: str = Field(min_length=20)


class Case(_Data):
    """What the rule must say of made-up rows and facts; a fact that is not named is not known."""

    name: str
    expect: Outcome
    rows: tuple[dict[str, Value], ...] = ({},)
    facts: dict[str, Value] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()  # facts that a case "not_evaluated" must name


class Rule(_Data):
    """One known problem."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")  # names the problem, not the remedy
    title: str = Field(min_length=8)
    says: Literal["target", "note"] = "target"
    scope: Literal["kernel", "family", "timeline", "configuration"]
    message: str = Field(min_length=20)  # {kernel}, {share}, {dispatches} and facts in braces
    source: str = Field(min_length=8)
    confidence: Literal["high", "medium", "low"] = "medium"
    least_time_frac: float = Field(default=0.0, ge=0, lt=1)  # of kernel time, all rows that fire together
    when: tuple[Condition, ...] = Field(min_length=1)
    gain: RuleGain | None = None  # None: there is none of its own, or it is in the kernel's target already
    page: Page
    case: tuple[Case, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _has_cases(self) -> Rule:
        if {each.expect for each in self.case} != {"fires", "quiet", "not_evaluated"}:
            raise ValueError(f"{self.id}: cases must fire, be quiet and be not evaluated")
        return self


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a rule says of a recording."""

    outcome: Outcome
    rows: Bools  # which rows fire; all False where it does not
    missing: tuple[str, ...] = field(default=())  # facts that were needed and not known


@cache
def rules() -> tuple[Rule, ...]:
    """Return all rules, by id. Raises :class:`InputError` that names the file and field at fault."""
    found = [
        read(entry.name, entry.read_text("utf-8"))
        for entry in resources.files("rocscope.data.rules").iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(found, key=lambda rule: rule.id))


def read(name: str, text: str) -> Rule:
    """Check the text of one rule's file, which bears the rule's id."""
    try:
        rule = Rule.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError, re.error) as error:
        raise InputError(f"data/rules/{name}: {error}", "correct the field it names") from error
    if f"{rule.id}.toml" != name:
        raise InputError(f"data/rules/{name}: holds the rule {rule.id}", "name the file after its rule")
    return rule


def evaluate(rule: Rule, rows: pd.DataFrame, facts: Mapping[str, Any]) -> Verdict:
    """Return whether ``rule`` fires on any of ``rows``.

    ``rows`` has row facts as columns (``time_frac``: of all kernel time), ``facts`` is of the recording.
    Rows of which a comparison is false are out; a rule none of whose rows hold, though some might, is not
    evaluated. Where rows that are out or unknown take too little time, it is quiet.
    """
    size = len(rows)
    possible, certain = np.ones(size, bool), np.ones(size, bool)
    missing: dict[str, Bools] = {}
    for condition in rule.when:
        true, unknown = np.zeros(size, bool), np.zeros(size, bool)
        for comparison in condition.comparisons:
            values = _values(comparison, rows, facts, possible)
            true |= values == 1
            lacking = values < 0
            unknown |= lacking
            missing[comparison.fact] = missing.get(comparison.fact, np.zeros(size, bool)) | lacking
        possible &= true | unknown
        certain &= true
    share = rows["time_frac"].to_numpy(float) if "time_frac" in rows else np.full(size, np.nan)
    if certain.any() and _enough(certain, share, rule.least_time_frac):
        return Verdict("fires", certain)
    open_rows = possible & ~certain
    if open_rows.any() and _enough(possible, share, rule.least_time_frac):
        names = tuple(sorted(name for name, where in missing.items() if (where & open_rows).any()))
        return Verdict("not_evaluated", np.zeros(size, bool), names)
    return Verdict("quiet", np.zeros(size, bool))


def _enough(rows: Bools, share: NDArray[np.float64], least: float) -> bool:
    return least == 0 or float(np.nansum(share[rows])) >= least


def _values(
    comparison: _Compared, rows: pd.DataFrame, facts: Mapping[str, Any], asked: Bools
) -> NDArray[np.int8]:
    """1 where it holds, 0 where not or not asked, -1 where the fact is not known."""
    told = {True: 1, False: 0, None: -1}
    if not fact_named(comparison.fact).of_row:
        return np.full(len(rows), told[comparison.holds(facts.get(comparison.fact))], np.int8)
    if comparison.fact not in rows:
        return np.full(len(rows), -1, np.int8)
    found = np.zeros(len(rows), np.int8)
    values = rows[comparison.fact].to_numpy()[asked].tolist()
    texts = {value: told[comparison.holds(value)] for value in {each for each in values if type(each) is str}}
    found[asked] = [
        texts[value] if type(value) is str else told[comparison.holds(value)] for value in values
    ]  # a text is looked at once, however many rows have it
    return found
