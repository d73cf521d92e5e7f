"""The dashboards that the package carries: committed as generated, and every expression one that parses."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from metrics_emitted import NAME, emitted

from rocscope.daemon import dashboards, monitoring
from rocscope.daemon.dashboard_panels import DASHBOARDS

IN_WINDOWS = re.compile(r"rocscope_kernel_\w+_total")


def shipped():
    return {name: json.loads(text) for name, text in monitoring.texts("dashboards").items()}


def panels():
    return [
        (name, panel)
        for name, model in shipped().items()
        for panel in model["panels"] if panel["type"] != "row"
    ]  # fmt: skip


def expressions():
    return [(panel["title"], each["expr"]) for _, panel in panels() for each in panel["targets"]]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_is_committed_is_what_is_generated(name, golden):
    golden(f"../../src/rocscope/data/dashboards/{name}", dashboards.text(DASHBOARDS[name]))


def test_each_dashboard_can_be_imported_anywhere():
    models = shipped()
    assert models.keys() == DASHBOARDS.keys()
    for name, model in models.items():
        assert "id" not in model and model["uid"] == name.removesuffix(".json")
        assert model["schemaVersion"] >= 36
        source, *variables = model["templating"]["list"]
        assert (source["name"], source["type"], source["query"]) == (
            "DS_PROMETHEUS", "datasource", "prometheus",
        )  # fmt: skip
        assert [each["name"] for each in variables] == ["instance", "gpu", "family"]
        sources = re.findall(r'"datasource": (\{[^}]*\}[^}]*\})', json.dumps(model))
        assert sources and all('"${DS_PROMETHEUS}"' in each for each in sources)
        numbers = [panel["id"] for panel in model["panels"]]
        assert len(set(numbers)) == len(numbers)


def test_no_panel_lies_on_another():
    for model in shipped().values():
        taken = set()
        for place in (panel["gridPos"] for panel in model["panels"]):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24 and not cells & taken
            taken |= cells


def test_every_panel_says_what_it_shows_and_on_which_basis():
    for name, panel in panels():
        where = f"{name}: {panel['title']}"
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"], where
        assert "Basis:" in panel["description"], where
        assert panel["targets"] and all(each["expr"] for each in panel["targets"]), where


def test_what_windows_saw_is_shown_as_ratios_alone():
    seen = 0
    for title, expression in expressions():
        if names := IN_WINDOWS.findall(expression):
            above, below = expression.split(" / ")
            assert len(names) == 2 and IN_WINDOWS.search(above) and IN_WINDOWS.search(below), title
            seen += 1
    assert seen > 5


def test_every_metric_is_one_that_the_daemon_emits(tmp_path):
    known = emitted(tmp_path)
    queries = [
        (variable["name"], variable["definition"])
        for model in shipped().values()
        for variable in model["templating"]["list"] if "definition" in variable
    ]  # fmt: skip
    for title, expression in (*expressions(), *queries):
        for name in NAME.findall(expression):
            assert name in known, f"{title} asks for {name}"
        for name, matchers in re.findall(r"(rocscope_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r'(\w+)=~?"', matchers)) - {"instance"}
            assert known[name] is None or labels <= known[name], f"{title}: {name} has no {labels}"


def test_every_expression_parses(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: expressions of panels are not parsed; apt-get install prometheus")
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
    rules[0]["expr"] += ")"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert subprocess.run(["promtool", "check", "rules", file], capture_output=True).returncode == 1
