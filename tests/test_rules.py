"""Rules as data: each is held to its own cases, and docs/rules.md to the data."""

import re
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from rocscope import log_lines, rule_facts, rule_pages, rules
from rocscope.errors import InputError

DOCS = Path(__file__).resolve().parent.parent / "docs" / "rules.md"
CASES = [
    pytest.param(rule, case, id=f"{rule.id}: {case.name}") for rule in rules.rules() for case in rule.case
]


def says(rule, case):
    return rules.evaluate(rule, pd.DataFrame(list(case.rows), index=range(len(case.rows))), case.facts)


def told(rule, case):
    verdict = says(rule, case)
    return verdict.outcome, verdict.rows.tolist(), verdict.missing


@pytest.mark.parametrize(("rule", "case"), CASES)
def test_every_rule_holds_to_its_cases(rule, case):
    verdict = says(rule, case)
    assert verdict.outcome == case.expect
    assert verdict.rows.any() == (case.expect == "fires")
    assert set(verdict.missing) == set(case.missing)
    assert bool(case.missing) == (case.expect == "not_evaluated")
    used = {each.fact for when in rule.when for each in when.comparisons}
    for fact in case.facts:
        assert fact in used, f"{fact} is no fact of this rule"


@pytest.mark.parametrize("rule", rules.rules(), ids=lambda rule: rule.id)
def test_every_condition_of_a_rule_is_needed_for_one_of_its_cases(rule):
    for index in range(len(rule.when)):
        shorter = rule.model_copy(update={"when": (*rule.when[:index], *rule.when[index + 1 :])})
        if not shorter.when:
            continue
        facts = [each.fact for each in rule.when[index].comparisons]
        assert any(told(shorter, case) != told(rule, case) for case in rule.case), f"no case needs {facts}"


@pytest.mark.parametrize("rule", rules.rules(), ids=lambda rule: rule.id)
def test_placeholders_of_a_message_are_facts(rule):
    for name in re.findall(r"\{([\w.-]+)\}", rule.message):
        assert name in {"share", "dispatches"} or rule_facts.fact_named(name)


def test_docs_are_what_the_rules_say(request):
    if request.config.getoption("--update-golden"):
        DOCS.write_text(rule_pages.page(), encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == rule_pages.page(), "run `make rules`"


def test_facts_of_logs_are_lines_that_are_counted():
    for rule in rules.rules():
        for when in rule.when:
            for each in when.comparisons:
                if each.fact.startswith("log."):
                    assert each.fact.removeprefix("log.") in log_lines.KINDS


GOOD = resources.files("rocscope.data.rules").joinpath("lds-bank-conflicts.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            'fact = "lds_conflict_frac"\nat_least',
            'fact = "no_such_fact"\nat_least',
            "no fact is called no_such_fact",
        ),
        ("at_least = 0.1\n", "", "exactly one comparison"),
        ("at_least = 0.1\n", "at_least = 0.1\nbelow = 3\n", "exactly one comparison"),
        ("at_least = 0.1\n", 'at_least = 0.1\neval = "1"\n', "Extra inputs"),
        ("at_least = 0.1\n", 'at_least = 0.1\nany_of = [{ fact = "m", below = 1 }]\n', "stands alone"),
        ("at_least = 0.1\n", 'matches = "("\n', "lds-bank-conflicts"),
        ('expect = "quiet"', 'expect = "fires"', "cases must fire, be quiet and be not evaluated"),
        ('says = "x"', "", ""),
        ('id = "lds-bank-conflicts"', 'id = "lds-bank"', "holds the rule lds-bank"),
        ('id = "lds-bank-conflicts"', 'id = "LDS"', "id"),
        (
            "[page]",
            '[gain]\nof = "time"\nlow = 0.5\nmid = 0.1\nhigh = 1\nsource = "long enough"\n[page]',
            "must not fall",
        ),
        ("[page]", "[page", "lds-bank-conflicts"),
    ],
)
def test_a_rule_that_is_no_rule_names_file_and_field(old, new, named):
    if not named:
        assert rules.read("lds-bank-conflicts.toml", GOOD).id == "lds-bank-conflicts"
        return
    assert old in GOOD
    with pytest.raises(InputError, match=r"data/rules/lds-bank-conflicts\.toml") as caught:
        rules.read("lds-bank-conflicts.toml", GOOD.replace(old, new, 1))
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("comparison", "true", "false"),
    [
        ({"equals": "a"}, "a", "b"),
        ({"equals": True}, True, False),
        ({"one_of": ["1", "true"]}, "true", "0"),
        ({"matches": "^gfx9"}, "gfx908", "sm_90"),
        ({"above": 1}, 1.1, 1.0),
        ({"at_least": 1}, 1.0, 0.9),
        ({"below": 1}, 0.9, 1.0),
        ({"at_most": 1}, 1.0, 1.1),
    ],
)
def test_comparisons(comparison, true, false):
    each = rules.Comparison.model_validate({"fact": "kernel", **comparison})
    assert each.holds(true) is True and each.holds(false) is False
    assert each.holds(None) is None and each.holds(float("nan")) is None
    if next(iter(comparison)) in {"above", "at_least", "below", "at_most"}:
        assert each.holds("no number") is None
