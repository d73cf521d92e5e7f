"""What is to be collected can be: every command that is named exists, with the options that are named."""

import re
from pathlib import Path

import pytest

from rocscope import rule_facts
from rocscope.cli import run
from rocscope.rules import rules

STAND_IN = Path(__file__).parent / "fake_tools" / "rocprofv3"  # takes the flags of the real one and no others
NAMES = sorted({each.fact for rule in rules() for when in rule.when for each in when.comparisons})
QUOTED = re.compile(r"`([^`]+)`")


def told(name):
    return QUOTED.findall(rule_facts.fact_named(name).collect_with)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_named_for_every_fact_that_a_rule_may_lack(name):
    assert told(name)


@pytest.mark.parametrize("command", sorted({command for name in NAMES for command in told(name)}))
def test_every_command_that_is_named_exists(command, capsys):
    program, *words = command.split(" -- ")[0].split(" ")
    options = [word for word in words if word.startswith("-")]
    if program == "rocprofv3":
        known = re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][\w-]*", STAND_IN.read_text())
    else:
        assert program == "rocscope"
        assert run([words[0], "--help"]) == 0
        known = re.findall(r"(?<![\w-])--?[a-z][\w-]*", capsys.readouterr().out)
    assert set(options) <= set(known)
