"""``rocscope compare`` on the command line: formats, repeats, more recordings, and the gate of CI."""

import json
import shutil

import pytest

from rocscope import cli
from synthetic_steps import decode_steps


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Captures by name: the step takes 1 ms in ``base``, 5 % more in ``slow``."""
    folder = tmp_path_factory.mktemp("compared")
    for name, factor, seed in (("base", 1.0, 1), ("same", 1.0, 2), ("slow", 1.05, 3)):
        decode_steps(count=24, factor=factor, seed=seed).save(folder / name)
    return folder


def run(capsys, *words):
    code = cli.run(["compare", "--no-ledger", *(str(word) for word in words)])
    return code, capsys.readouterr()


def test_the_verdict_comes_first_in_eighty_columns(saved, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, said = run(capsys, saved / "base", saved / "slow")
    lines = said.out.splitlines()
    assert code == 0 and max(map(len, lines)) <= 80
    assert lines[0].startswith("New is worse: a step takes 5.") and lines[0].endswith("% longer.")
    row = lines[lines.index("step: period") + 1].split()
    assert row[0] == "worse" and any(each.startswith("+5.") for each in row)
    assert "would not" in said.out and "95.0 % chance" in said.out
    assert said.out.index("What changed in a step") < said.out.index("Kernels") < said.out.index("Notes")
    assert not any(line.endswith(" ") for line in lines)


def test_quiet_shows_no_table_but_what_was_asked_for_by_name(saved, capsys, tmp_path):
    code, said = run(capsys, saved / "base", saved / "slow", "-q", "--fail-on-regression", "3%")
    assert code == 12 and said.out == "" and "worse by 3 % or more" in said.err
    code, said = run(capsys, saved / "base", saved / "slow", "-q", "--out", tmp_path / "out")
    assert code == 0 and [line.split()[0] for line in said.out.splitlines()] == [
        "html", "json", "markdown", "terminal",
    ]  # fmt: skip
    code, said = run(capsys, saved / "base", saved / "slow", "-q", "--format", "markdown")
    assert code == 0 and said.out.startswith("## New is worse")


@pytest.mark.parametrize(
    ("new", "limit", "code"),
    [("slow", "3%", 12), ("slow", "0.03", 12), ("slow", "8 %", 0), ("same", "3%", 0)],
)
def test_a_regression_fails_by_as_much_as_is_asked_for(saved, capsys, new, limit, code):
    got, said = run(capsys, saved / "base", saved / new, "--fail-on-regression", limit)
    assert got == code
    assert ("worse by" in said.err and "step period_s +5" in said.err) == (code == 12)
    assert "step" in said.out  # the comparison is shown whatever comes of it


@pytest.mark.slow
def test_a_gate_that_cannot_see_is_not_passed(saved, capsys, tmp_path):
    code, said = run(capsys, saved / "base", saved / "same", "--fail-on-regression", "0.1%")
    assert code == 19 and "would not have been shown" in said.err and "record more steps" in said.err
    decode_steps(count=3, seed=4).save(tmp_path / "few")
    code, said = run(capsys, saved / "base", tmp_path / "few", "--fail-on-regression", "3%")
    assert code == 19 and "nothing could be judged" in said.err
    decode_steps(count=24, seed=5, gpu="gfx908").save(tmp_path / "other")
    code, said = run(capsys, saved / "base", tmp_path / "other", "--fail-on-regression", "3%")
    assert code == 19 and "cannot be compared: GPU" in said.err and "--across" in said.err
    code, said = run(
        capsys, saved / "base", tmp_path / "other", "--fail-on-regression", "3%", "--across", "gpu"
    )
    assert code == 0 and "changed on purpose" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fail-on-regression", "3"], "or 3% for per cent"),
        (["--fail-on-regression", "some"], "write for example 3%"),
        (["--level", "20%"], "not a level"),
        (["--across", "weather"], "name some of mode, gpu"),
        (["--json", "--format", "terminal"], "two things"),
        (["-o", "somewhere.json"], "in which format"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(saved, capsys, words, told):
    code, said = run(capsys, saved / "base", saved / "same", *words)
    assert code == 2 and told in said.err and "Traceback" not in said.err


def test_an_unknown_format_is_refused_with_those_there_are(saved, capsys):
    code, said = run(capsys, saved / "base", saved / "same", "--format", "pdf")
    assert code == 2 and "json" in said.err and "terminal" in said.err


@pytest.mark.slow
def test_json_holds_the_first_pair_and_more_beside_it(saved, capsys):
    code, said = run(capsys, saved / "base", saved / "same", saved / "slow", "--json")
    found = json.loads(said.out)
    assert code == 0 and found["tiers"][0]["verdict"] == "no difference shown"
    (other,) = found["more"]
    assert other["tiers"][0]["verdict"] == "worse" and other["more"] == []
    alone = json.loads(run(capsys, saved / "base", saved / "slow", "--json")[1].out)
    wide, narrow = (each["tiers"][0]["high_frac"] - each["tiers"][0]["low_frac"] for each in (other, alone))
    assert wide >= narrow  # chances are shared out over both comparisons
    assert other["statistics"]["comparisons"] == 2 * alone["statistics"]["comparisons"]
    code, said = run(capsys, saved / "base", saved / "same", saved / "slow", "--fail-on-regression", "3%")
    assert code == 12 and "new 2, step" in said.err and "New 1 of 2" in said.out


@pytest.mark.slow
def test_every_format_is_written_and_replaced_only_when_asked(saved, capsys, tmp_path):
    code, said = run(capsys, saved / "base", saved / "slow", "--out", tmp_path / "out", "-q")
    written = {each.name for each in (tmp_path / "out").iterdir()}
    assert code == 0 and {"compare.json", "compare.txt"} <= written
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["comparable"] is True
    path = tmp_path / "one.json"
    assert run(capsys, saved / "base", saved / "slow", "--format", "json", "-o", path)[0] == 0
    code, said = run(capsys, saved / "base", saved / "slow", "--format", "json", "-o", path)
    assert code == 2 and "--force" in said.err
    assert run(capsys, saved / "base", saved / "slow", "--format", "json", "-o", path, "--force")[0] == 0
    code, said = run(capsys, saved / "base", saved / "slow", "--json", "-o", tmp_path)
    assert code == 2 and "is a folder" in said.err


@pytest.mark.slow
def test_a_folder_of_repeats_is_one_side(saved, capsys, tmp_path):
    for side, factor in (("before", 1.0), ("after", 1.06)):
        for number in range(3):
            made = decode_steps(count=12, factor=factor, seed=10 * number + (side == "after"))
            made.save(tmp_path / side / f"run{number + 1}" / "capture")
    code, said = run(capsys, tmp_path / "before", tmp_path / "after", "--json")
    found = json.loads(said.out)
    assert code == 0 and found["statistics"]["unit"] == "repeat" and found["statistics"]["units"] == [3, 3]
    assert found["base"]["repeats"] == 3 and found["tiers"][0]["verdict"] == "worse"
    assert not any("from run to run" in note for note in found["notes"])
    shutil.rmtree(tmp_path / "after" / "run2")
    shutil.rmtree(tmp_path / "after" / "run3")
    found = json.loads(run(capsys, tmp_path / "before", tmp_path / "after", "--json")[1].out)
    assert found["statistics"]["units"] == [3, 1]  # base's repeats tell how far runs lie apart


def test_help_has_examples_and_completion_knows_the_words(capsys):
    from click.testing import CliRunner

    from rocscope.commands import compare

    told = CliRunner().invoke(compare.COMMAND, ["--help"]).output
    assert "Examples:" in told and "--across mode" in told
    context, parameter = None, None
    words = [each.value for each in compare._across(context, parameter, "mode,t")]
    assert words == ["mode,tp"]
    assert "json" in [each.value for each in compare._formats(context, parameter, "")]
