"""Known problems: rules of ``data/rules`` against kernels, settings and the server's log."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from rocscope import ranking
from rocscope.analyzers import rule_rows
from rocscope.findings import Gain, LaunchShape, NotEvaluated, Target
from rocscope.gain_history import GainHistory
from rocscope.rule_facts import fact_named
from rocscope.rules import Rule, Verdict, evaluate, rules
from rocscope.study import Study
from rocscope.wording import digits, percent

if TYPE_CHECKING:
    import pandas as pd

_SHOWN: Final = 3  # rows whose figures are repeated as evidence
_SHARES: Final = ("_frac", "_share")


class Rules:
    """Adds targets where a rule fires, and what a rule lacked to be evaluated; no columns."""

    name = "rules"
    help = "known problems: rules with their sources, each with its page in docs/rules.md"
    needs = ("family", "limiter", "bandwidth_frac", "problem_shape", "wall_ns", "critical", "measures_source")
    adds = ()

    def run(self, study: Study) -> None:
        """Evaluate every rule once over all rows."""
        if study.kernels.empty:
            return
        found, known = rule_rows.rows(study), rules()
        facts = rule_rows.recording(study, known)
        for rule in known:
            verdict = evaluate(rule, found, facts)
            if verdict.outcome == "not_evaluated":
                study.not_evaluated.append(_missing(rule, verdict))
            elif verdict.outcome == "fires":
                for rows in _parts(rule, found[verdict.rows]):
                    _fire(rule, study, rows, facts)


def _missing(rule: Rule, verdict: Verdict) -> NotEvaluated:
    named = [fact_named(name) for name in verdict.missing]
    return NotEvaluated(
        rule=rule.id,
        missing="; ".join(f"{fact.name} ({fact.help})" for fact in named),
        collect_with="; ".join(dict.fromkeys(fact.collect_with for fact in named)),
    )


def _parts(rule: Rule, rows: pd.DataFrame) -> list[pd.DataFrame]:
    """A target for each kernel where the rule is about kernels, the longest few; else one for all."""
    if rule.scope != "kernel":
        return [rows]
    parts = [part for _, part in rows.groupby("kernel", sort=True)]
    parts = [part for part in parts if float(part["time_frac"].sum()) >= rule.least_time_frac]
    return sorted(parts, key=lambda part: -float(part["time_frac"].sum()))[:_SHOWN]


def _fire(rule: Rule, study: Study, rows: pd.DataFrame, facts: dict[str, Any]) -> None:
    rows = rows.sort_values("time_frac", ascending=False, kind="stable")
    first = rows.iloc[0].to_dict()
    message = _fill(rule.message, first, rows, facts)
    if rule.says == "note":
        study.warn(f"rule-{rule.id}", message)
        return
    of_rows = any(fact_named(each.fact).of_row for when in rule.when for each in when.comparisons)
    kernels = study.kernels.loc[rows.index]
    exposed = kernels["exposed_ns"].fillna(kernels["time_ns"]).where(kernels["critical"].astype(bool), 0.0)
    window = ranking.window_ns(study.kernels)
    most = float(exposed.groupby(kernels["gpu"]).sum().max())
    lost = min(1.0, most / window) if of_rows and window > 0 else None
    about_kernels = of_rows and rule.scope in {"kernel", "family"}
    study.targets.append(
        Target(
            rank=0,
            id=ranking.identifier("rule", rule.id, first["kernel"] if rule.scope == "kernel" else ""),
            problem=message,
            scope=rule.scope,
            family=first["family"] if about_kernels else None,
            kernel=first["kernel"] if about_kernels else None,
            launch_shapes=_shapes(kernels) if about_kernels else [],
            time_frac=lost if about_kernels else None,
            headroom_s=None,
            expected_gain=_gain(rule, lost, facts, study.gains),
            confidence=rule.confidence,
            evidence=_evidence(rule, rows, facts),
            advice=rule.page.do,
            confirm_by=rule.page.confirm,
        )
    )


def _gain(rule: Rule, lost: float | None, facts: dict[str, Any], history: GainHistory) -> Gain | None:
    if rule.gain is None:
        return None
    name = f"rule:{rule.id}"
    shares = history.shares(name, rule.gain)
    if rule.gain.of == "clock":
        missing = max(0.0, 1.0 - float(facts["telemetry.clock_frac"]))
        busy = float(facts["telemetry.busy_frac"])
        basis = (
            f"the clock is {percent(missing)} below its peak, and the GPU works {percent(busy)} of the time"
        )
        return ranking.share_of(missing * busy, shares, basis, regains="clock", shares_of=name)
    if lost is None:
        return None
    return ranking.share_of(
        lost,
        shares,
        f"a part of the {percent(lost)} of the window spent in these kernels",
        regains="kernel",
        shares_of=name,
    )


def _shapes(kernels: pd.DataFrame) -> list[LaunchShape]:
    return [
        ranking.launch_shape(row) for row in kernels[list(ranking.SIDES)].drop_duplicates().to_dict("records")
    ]


def _evidence(rule: Rule, rows: pd.DataFrame, facts: dict[str, Any]) -> list[str]:
    """The figures that were compared, of the longest rows, and whose word the rule is."""
    names = dict.fromkeys(each.fact for when in rule.when for each in when.comparisons)
    told = []
    for row in rows.head(_SHOWN).to_dict("records"):
        known: dict[Any, Any] = {**facts, **row}
        figures = [f"{name} {_figure(name, known[name])}" for name in names if _is_known(known.get(name))]
        told.append(f"{row['kernel']}: {', '.join(figures)} [rule-{rule.id}]")
        if not any(fact_named(name).of_row for name in names):
            told[-1] = f"{', '.join(figures)} [rule-{rule.id}]"
            break
    if len(rows) > _SHOWN:
        told.append(f"and {len(rows) - _SHOWN} more launch shapes")
    return [*dict.fromkeys(told), f"source: {rule.source}"]


def _fill(message: str, first: dict[Any, Any], rows: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Put figures in the place of ``{names}``; what is not known stays out of the sentence as "?"."""
    known = {**facts, **first, "share": percent(float(rows["time_frac"].sum()))}
    same = rows[rows["raw_name"] == first["raw_name"]]
    known["dispatches"] = int(same.groupby("gpu")["dispatches"].sum().max())  # ranks do the same side by side

    def figure(match: re.Match[str]) -> str:
        value = known.get(match[1])
        return _figure(match[1], value) if _is_known(value) else "?"

    return re.sub(r"\{([\w.-]+)\}", figure, message)


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _figure(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return percent(value) if name.endswith(_SHARES) else digits(value)


ANALYZER = Rules()
