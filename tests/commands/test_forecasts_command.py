import io
import json
import shutil
from pathlib import Path

import pytest

from rocscope import forecast_ledger
from rocscope.cli import run
from rocscope.forecast_ledger import Entry

SEED = Path(__file__).resolve().parents[2] / "examples" / "h200_changes" / "ledger.json"
DECODER = SEED.parents[1] / "h200_decoder"


@pytest.fixture
def said(capsys):
    def words(*arguments, code=0):
        assert run(["forecasts", *map(str, arguments)]) == code
        found = capsys.readouterr()
        return found.out if code == 0 else found.err

    return words


@pytest.fixture
def seeded(said):
    assert said("import", SEED) == "entered 5 forecasts\n"
    return said


def test_an_empty_ledger_says_how_it_is_filled(said, own_ledger):
    assert "`rocscope compare BASE NEW`" in said() and "`rocscope compare BASE NEW`" in said("coverage")
    assert json.loads(said("--json"))["forecasts"] == [] and json.loads(said("coverage", "--json")) == []
    assert said("clear", "--yes") == "removed 0 forecasts\n"
    assert not own_ledger.exists()


def test_the_list_is_newest_first_within_eighty_columns(seeded):
    shown = seeded()
    lines = shown.splitlines()
    assert max(len(line) for line in lines) <= 80
    rows = [line for line in lines if "2026-11-21" in line]
    assert len(rows) == 5 and "44.6 %" in rows[0] and "miss" in rows[-1] and "…" not in rows[0][30:]
    assert "4/5" in shown and "37.6 to 96.4 %" in shown and "meant to hold 80 %" in shown


def test_json_has_every_figure_and_can_be_imported(seeded, tmp_path, monkeypatch):
    told = json.loads(seeded("--json"))
    assert [each["scored"] for each in told["coverage"]] == [3, 1, 1, 5]
    assert told["forecasts"][0]["actual_frac"] == pytest.approx(0.4466, abs=0.001)
    path = tmp_path / "list.json"
    path.write_text(json.dumps(told))
    assert seeded("import", path) == "entered 0 forecasts; 5 known already\n"
    monkeypatch.setenv("ROCSCOPE_FORECASTS", str(tmp_path / "other.sqlite"))
    assert seeded("import", path, SEED) == "entered 5 forecasts; 5 known already\n"
    assert json.loads(seeded("--json"))["forecasts"] == told["forecasts"]


def test_a_forecast_is_removed_by_its_id_and_all_only_when_meant(seeded, monkeypatch):
    ids = [each["id"] for each in json.loads(seeded("--json"))["forecasts"]]
    assert seeded("remove", ids[0], ids[1][:8], ids[1]) == "removed 2 forecasts\n"
    assert "no forecast has this id" in seeded("remove", ids[0], code=2)
    assert "no forecast has this id" in seeded("remove", "", code=2)
    assert len(json.loads(seeded("--json"))["forecasts"]) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "say --yes" in seeded("clear", code=2)  # nobody is there to ask
    assert len(json.loads(seeded("--json"))["forecasts"]) == 3
    assert seeded("clear", "--yes") == "removed 3 forecasts\n"


def test_ids_that_begin_alike_are_told_apart(said, own_ledger, monkeypatch):
    said("import", SEED)
    monkeypatch.setattr(Entry, "id", property(lambda self: "same" + self.target[-2:]))
    assert "5 forecasts have ids like that" in said("remove", "same", code=2)


def test_export_writes_a_file_only_where_there_is_none(seeded, tmp_path):
    path = tmp_path / "ours.json"
    assert seeded("export", "-o", path) == f"{path}\n"
    assert path.read_text() == seeded("export")
    seeded("export", "-o", path, code=2)
    seeded("export", "-o", path, "--force")
    assert len(forecast_ledger.read(path)) == 5


def test_another_ledger_can_be_named(seeded, own_ledger, tmp_path):
    other = tmp_path / "other.sqlite"
    shutil.copy(own_ledger, other)
    seeded("clear", "--yes")
    assert len(json.loads(seeded("--ledger", other, "--json"))["forecasts"]) == 5
    assert seeded("--ledger", other, "clear", "--yes") == "removed 5 forecasts\n"


def test_what_is_no_ledger_is_an_error_with_what_to_do(said, own_ledger, tmp_path):
    own_ledger.parent.mkdir()
    own_ledger.write_bytes(b"SQLite format 3\x00" + b"?" * 5000)
    for words in ([], ["coverage"], ["export"], ["remove", "x"], ["clear", "--yes"], ["import", SEED]):
        assert "move it away" in said(*words, code=15)
    assert "no such ledger" in said("import", tmp_path / "none.json", code=13)


def test_names_from_recordings_are_shown_and_not_obeyed(said, tmp_path):
    told = json.loads(SEED.read_text())
    told["forecasts"] = told["forecasts"][1:2]
    told["forecasts"][0] |= {
        "kernel": "evil\x1b[31m\u202e[bold]",
        "limiter": None,
        "shares_of": "rule:\x1b[2J",
    }
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(told))
    said("import", path)
    shown = said()
    assert "\x1b" not in shown and "\u202e" not in shown and "\\x1b[31m" in shown and "rule:\\x1b" in shown


def test_what_counts_nowhere_is_listed_apart(said, tmp_path):
    told = json.loads(SEED.read_text())
    told["forecasts"][0]["provenance"] = "synthetic"
    told["forecasts"][1]["other_work"] = "it has 4 times the bytes to move"
    path = tmp_path / "made.json"
    path.write_text(json.dumps(told))
    said("import", path)
    shown = said()
    assert "Of synthetic recordings: they count nowhere" in shown and "3/3" in shown
    assert "Where other work is done now" in shown and max(len(line) for line in shown.splitlines()) <= 80


def test_ids_are_completed(seeded, monkeypatch, capsys):
    known = json.loads(seeded("--json"))["forecasts"][0]["id"]
    monkeypatch.setenv("_ROCSCOPE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"rocscope forecasts remove {known[:5]}")
    monkeypatch.setenv("COMP_CWORD", "3")
    from rocscope.cli import cli

    with pytest.raises(SystemExit):
        cli.main(args=[], prog_name="rocscope", complete_var="_ROCSCOPE_COMPLETE", standalone_mode=False)
    assert known in capsys.readouterr().out


def test_compare_keeps_what_it_scored_unless_told_not_to(said, own_ledger, capsys):
    words = ["compare", *(str(DECODER / f"kineto_{name}_graph.json.gz") for name in ("strided", "fp16"))]
    words += ["--model", str(DECODER / "w4_config.json")]
    assert run([*words, "--no-ledger"]) == 0 and not own_ledger.exists()
    assert "kept in the ledger" not in capsys.readouterr().out
    assert run(words) == 0 and "kept in the ledger (`rocscope forecasts`)" in capsys.readouterr().out
    assert "gptq_w4a16_gemv_" in said() and "Where other work is done now" in said()
    assert said("coverage").startswith("1 forecast scored, none that counts")


def test_analyze_and_report_take_the_ledger_that_is_named(said, capsys, tmp_path):
    eager = str(DECODER / "kineto_strided_eager.json.gz")
    words = ["analyze", eager, "--model", str(DECODER / "w4_config.json"), "--json"]
    assert run([*words, "--forecasts", str(SEED)]) == 0
    learnt = capsys.readouterr().out
    assert run([*words, "--forecasts", "none"]) == 0
    plain = capsys.readouterr().out
    assert "from 4 scored changes of the ledger" in learnt and "of the ledger" not in plain
    assert run([*words, "--forecasts", str(tmp_path / "none")]) == 13
    assert run(["report", eager, "--format", "json", "--forecasts", str(tmp_path / "none")]) == 13
    stored = tmp_path / "analysis.json"
    stored.write_text(plain)
    assert run(["report", str(stored), "--format", "json"]) == 0
    assert run(["report", str(stored), "--format", "json", "--forecasts", "none"]) == 2
    refused = ["profile", "--profiler", "none", "--forecasts", str(tmp_path / "none"), "--", "true"]
    assert run([*refused[:1], "--out", str(tmp_path / "out"), *refused[1:]]) == 13
