"""The tables of what the daemon is held to stay true: the tests that they name exist, each line has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "daemon-security.md"
DAEMON = ROOT / "src" / "rocscope" / "daemon"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FORBIDDEN = {"pickle", "marshal", "shelve", "yaml", "duckdb", "dill", "cloudpickle"}
CALLS = {"eval", "exec", "compile", "system", "popen", "create_subprocess_shell", "getoutput"}


def lines() -> list[str]:
    """Return the rows of all tables, without heads."""
    found = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [line for line in found if not re.match(r"\| (what is held|fault) \|", line)]


def test_every_test_that_is_named_exists_and_every_line_names_one() -> None:
    rows = lines()
    assert len(rows) > 50
    bare = [row for row in rows if not NAMED.search(row) and "not applicable, because" not in row]
    assert not bare, bare
    named = {each for row in rows for each in NAMED.findall(row)}
    missing = [f"{file}::{test}" for file, test in sorted(named) if test not in named_in(file)]
    assert not missing, missing


def named_in(file: str) -> set[str]:
    """Return the tests that a file has."""
    if not (ROOT / file).is_file():
        return set()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}


def test_every_module_that_is_named_exists() -> None:
    cells = [row.split("|")[2] for row in lines() if row.count("|") == 4]
    for name in {each for cell in cells for each in re.findall(r"`([\w/.]+)`", cell)}:
        places = (DAEMON / f"{name}.py", DAEMON / name, DAEMON.parent / f"{name}.py", DAEMON.parent / name)
        assert any(place.exists() for place in places), name


@pytest.mark.parametrize("path", sorted(DAEMON.glob("*.py")), ids=lambda path: path.stem)
def test_no_shell_no_pickle_no_yaml_no_eval_in_the_daemon(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {each.name.partition(".")[0] for each in node.names} & FORBIDDEN, path.name
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN, path.name
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            regular = isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "re"
            assert name not in CALLS or regular, f"{path.name}:{node.lineno}: {name}"
            assert not any(
                each.arg == "shell" and getattr(each.value, "value", True) for each in node.keywords
            ), f"{path.name}:{node.lineno}"
