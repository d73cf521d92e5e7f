"""The alert rules that the package carries: they fire and keep quiet where promtool says they must."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from metrics_emitted import NAME, emitted

from rocscope.daemon import monitoring

CASES = Path(__file__).parent / "alerts"
SHIPPED = monitoring.texts("rules")["rocscope.rules.yml"]
RAISED = {  # a line that nothing in the cases crosses
    "KernelFamilyRegressed": ("> 1.15", "> 9.9"),
    "BandwidthUtilisationDropped": ("< 0.8", "< 0.08"),
    "GpuThrottled": ("> 0.05", "> 0.5"),
    "UncorrectableEcc": ("> 0", "> 99"),
    "PcieLinkDegraded": ("> 0.05", "> 0.99"),
    "SamplerStale": ("> 180", "> 18000"),
    "WindowsFailing": ("> 0.5", "> 5", "== 1", "== 9"),
    "OverheadBudgetExceeded": ("> rocscope", "> 99 * rocscope"),
    "StoreNearLimit": ("> 0.95", "> 1.95"),
    "StoreUnhealthy": ("== 0", "== 9"),
}
RUNS = "group without (version, python, telemetry) (rocscope_build_info)"
LOOSENED = {  # without its guards
    "KernelFamilyRegressed": ("> 1000", "> 1", "> 1.15", "> 1.05", "> 0.1", "> 100", "<= 0.1", "<= 100"),
    "BandwidthUtilisationDropped": ("> 1000", "> 1", "> 0.1", "> 100", "< 0.1", "< 100", "> 0.3", "> 0"),
    "GpuThrottled": ("> 0.05", "> 0.02"),
    "UncorrectableEcc": ('type="uncorrectable"', 'type!=""'),
    "PcieLinkDegraded": ("> 0.05", ">= 0"),
    "SamplerStale": ("telemetry|host|daemon", ".+", f"ignoring (source) {RUNS}", "on () vector(1)"),
    "WindowsFailing": ("> 0.5", "> 0.1", "> 2", "> 0"),
    "OverheadBudgetExceeded": ("> rocscope", "> 0.5 * rocscope"),
    "StoreNearLimit": ("> 0.95", "> 0.85"),
}
QUIET = {  # twins that fire then
    "KernelFamilyRegressed": {"traffic", "contexts", "few", "steady"},
    "BandwidthUtilisationDropped": {"traffic", "batches", "few", "computing"},
    "GpuThrottled": {"hot"},
    "UncorrectableEcc": {"mended"},
    "PcieLinkDegraded": {"asleep"},
    "SamplerStale": {"unserved", "removed"},
    "WindowsFailing": {"mostly_well", "once"},
    "OverheadBudgetExceeded": {"cheap"},
    "StoreNearLimit": {"roomy"},
}


def rules():
    return [rule for group in yaml.safe_load(SHIPPED)["groups"] for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def cases():
    return [
        case for path in sorted(CASES.glob("*.yml")) for case in yaml.safe_load(path.read_text())["tests"]
    ]


@pytest.fixture
def promtool(tmp_path):
    """Run promtool's cases over changed rules; their words, which it would compare as well, are left out."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: the alert rules are not tested; apt-get install prometheus")

    def run(changes):
        whole = yaml.safe_load(SHIPPED)
        for group in whole["groups"]:
            group.pop("interval", None)  # that of the cases
            for rule in group["rules"]:
                rule.pop("annotations", None)
                pairs = changes.get(rule.get("alert"), ())
                for old, new in zip(pairs[::2], pairs[1::2], strict=True):
                    assert old in rule["expr"], f"{rule['alert']} has no {old!r}: mend this test"
                    rule["expr"] = re.sub(rf"{re.escape(old)}(?![\d.])", new, rule["expr"])
        (tmp_path / "rocscope.rules.yml").write_text(yaml.safe_dump(whole))
        files = [shutil.copy(path, tmp_path) for path in sorted(CASES.glob("*.yml"))]
        done = subprocess.run(
            ["promtool", "test", "rules", *files], capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    return run


def failures(output):
    """What promtool was surprised by: expected and got, by alert."""
    found = {}
    for text in re.split(r"alertname: ", output)[1:]:
        name, expected, got = re.match(r"(\w+),.*?exp:(.*?)got:(.*)", text, re.DOTALL).groups()
        known = found.setdefault(name, (set(), set()))
        for side, part in zip(known, (expected, got), strict=True):
            side.update(re.findall(r'instance="(\w+)"', part))
    return found


def test_each_alert_fires_where_it_must_and_its_twin_does_not(promtool):
    code, output = promtool({})
    assert code == 0, output


def test_a_raised_line_is_noticed_for_every_alert(promtool):
    assert RAISED.keys() == {each["alert"] for each in alerts()}
    code, output = promtool(RAISED)
    assert code == 1
    missed = {name for name, (expected, got) in failures(output).items() if expected - got}
    assert missed == RAISED.keys()


def test_without_its_guards_each_alert_would_cry_wolf(promtool):
    code, output = promtool(LOOSENED)
    assert code == 1
    found = failures(output)
    for name, twins in QUIET.items():
        assert twins <= found[name][1], name


def test_every_alert_has_cases():
    named = {each["alertname"] for case in cases() for each in case["alert_rule_test"]}
    assert named == {each["alert"] for each in alerts()}


def test_rules_are_well_formed(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: the alert rules are not checked; apt-get install prometheus")
    monitoring.write("rules", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", tmp_path / "rocscope.rules.yml"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_one_that_the_daemon_emits(tmp_path):
    known = emitted(tmp_path)
    for rule in rules():
        of_rules = re.sub(r"\b\w+:rocscope_\w+:\w+", "", rule["expr"])
        for name in NAME.findall(of_rules):
            assert name in known, f"{rule.get('alert') or rule['record']} asks for {name}"
    # and the cases feed no label that the daemon does not give
    for series in (each["series"] for case in cases() for each in case["input_series"]):
        name, labels = series.split("{")
        assert set(re.findall(r'(\w+)="', labels)) - {"instance"} == known[name], series


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_rests_on_and_what_to_do(rule):
    assert rule["annotations"].keys() == {"summary", "description", "next_step"}
    assert all(len(text) > 20 for text in rule["annotations"].values())
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    fired = [
        each["exp_labels"]
        for case in cases()
        for test in case["alert_rule_test"] if test["alertname"] == rule["alert"]
        for each in test["exp_alerts"]
    ]  # fmt: skip
    named = set(re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values())))
    assert fired and all(named <= labels.keys() for labels in fired)


def test_the_documentation_names_every_alert():
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    for each in alerts():
        assert f"`{each['alert']}`" in text
