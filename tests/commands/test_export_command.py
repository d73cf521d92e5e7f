"""``rocscope export``: files arrive whole, and nobody's changes are lost."""

import json
import os

import pytest

from rocscope.cli import run

RULES = "rocscope.rules.yml"


@pytest.mark.parametrize(("kind", "name"), [("rules", RULES), ("dashboards", "rocscope-fleet.json")])
def test_files_are_written_into_a_folder_that_is_made(kind, name, tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    assert run(["export", kind, str(folder)]) == 0
    assert str(folder / name) in capsys.readouterr().out
    assert (folder / name).stat().st_size > 1000
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


def test_the_same_again_is_no_error_and_changes_nothing(tmp_path, capsys):
    run(["export", "rules", str(tmp_path)])
    os.utime(tmp_path / RULES, (1, 1))
    capsys.readouterr()
    assert run(["export", "rules", str(tmp_path)]) == 0
    assert "(unchanged)" in capsys.readouterr().out
    assert (tmp_path / RULES).stat().st_mtime == 1


def test_a_file_that_differs_is_kept_unless_forced(tmp_path, capsys):
    (tmp_path / RULES).write_text("mine")
    assert run(["export", "rules", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert str(tmp_path / RULES) in told and "--force" in told
    assert (tmp_path / RULES).read_text() == "mine"
    assert run(["export", "rules", str(tmp_path), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [
        {"path": str(tmp_path / RULES), "outcome": "replaced"}
    ]


def test_one_that_differs_keeps_all_from_being_written(tmp_path, capsys):
    (tmp_path / "rocscope-node.json").write_text("mine")
    assert run(["export", "dashboards", str(tmp_path)]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["rocscope-node.json"]


@pytest.mark.parametrize("place", ["file", "file/below", "taken"])
def test_a_place_of_no_use_is_told(place, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken" / RULES).mkdir(parents=True)
    assert run(["export", "rules", str(tmp_path / place), "--force"]) in (2, 3)
    told = capsys.readouterr().err
    assert str(tmp_path / place) in told and "next:" in told and " -o" not in told


def test_a_link_that_leads_nowhere_is_not_followed_silently(tmp_path, capsys):
    (tmp_path / RULES).symlink_to(tmp_path / "elsewhere")
    assert run(["export", "rules", str(tmp_path)]) in (2, 3)
    assert "next:" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()
