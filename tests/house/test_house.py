"""The house keeps its own rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from rocscope.cli import cli
from rocscope.errors import RocscopeError

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 400


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_file_grows_beyond_one_noun() -> None:
    long = {
        p.relative_to(ROOT): n for p in tracked("*.py") if (n := len(p.read_text().splitlines())) > LONGEST
    }
    assert not long, f"split these, one noun per file: {long}"


def test_no_suppression_without_a_reason() -> None:
    bare = re.compile(
        r"# type: ignore(?!\[)|# type: ignore\[[^\]]*\]\s*$|# noqa\s*$|# noqa: [A-Z0-9, ]+$|TODO|FIXME"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked("src/*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert not found, "\n".join(found)


def commands() -> list[str]:
    names = []
    context = cli.make_context("rocscope", [], resilient_parsing=True)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        names += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output, f"rocscope {command} --help has no example"


@pytest.mark.parametrize("command", commands())
def test_the_readme_names_every_command(command: str) -> None:
    assert f"rocscope {command}" in (ROOT / "README.md").read_text(), (
        f"README.md does not mention rocscope {command}"
    )


def test_exit_codes_are_distinct_or_inherited() -> None:
    def below(kind: type[RocscopeError]) -> list[type[RocscopeError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    own = [kind for kind in below(RocscopeError) if "exit_code" in vars(kind)]
    codes = [kind.exit_code for kind in own]
    assert len(set(codes)) == len(codes), {kind.__name__: kind.exit_code for kind in own}
    help_text = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for code in codes[1:]:
        assert re.search(rf"\b{code}\b", help_text), f"--help does not explain exit code {code}"


def test_recipes_name_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for named in re.findall(r"`((?:src|tests|docs)/[\w./]+)`", text):
        path = ROOT / named
        assert path.exists() or "NAME" in named, f"CONTRIBUTING.md names {named}"
