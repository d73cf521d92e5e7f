"""Every section of the page as Chromium draws it, against a reference picture of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import screens
from chromium_page import Page
from PIL import Image

pytestmark = pytest.mark.browser

REFERENCES = Path(__file__).parents[1] / "golden" / "screens"
SECTIONS = (
    "answer", "time", "budget", "roofline", "targets", "kernels", "timeline", "ranks", "occupancy", "serving",
    "power", "integrity", "measured", "glossary",
)  # fmt: skip
# What a newer Chromium or FreeType may change: letters a little wider or narrower, thicker, a line lower.
DRIFTS = (
    "body { letter-spacing: 0.004em !important; }",
    "body { letter-spacing: -0.004em !important; }",
    "body { -webkit-text-stroke: 0.25px; }",
    "body { line-height: 1.515 !important; }",
    "main { transform: translateY(0.5px); }",
)
# What no change of ours may do unseen: section, and the rule that breaks it.
BROKEN = (
    ("answer", ".three { display: block !important; }"),
    ("answer", "h1 { font-size: 1rem !important; }"),
    ("time", ".families .bar { display: none !important; }"),
    ("time", ".stack { visibility: hidden; }"),
    ("time", ".part { background: #888888 !important; }"),
    ("roofline", "#roofline-chart .scatterlayer { visibility: hidden; }"),
    ("budget", ".bars .stack { margin-left: 30%; }"),
    ("targets", ".interval { visibility: hidden; }"),
    ("targets", ".target { display: block !important; }"),
    ("kernels", ".filters { display: block !important; }"),
    ("timeline", "#timeline-chart .fills { visibility: hidden; }"),
    ("ranks", ".bars .stack { width: 50% !important; }"),
    ("occupancy", ".gauge > span { visibility: hidden; }"),
)


@pytest.fixture
def picture(request: pytest.FixtureRequest, output: Path) -> Callable[[Page, str, str], None]:
    """Hold a section against its reference, or rewrite that under ``--update-golden``."""

    def check(page: Page, section: str, kind: str) -> None:
        taken = page.section(section)
        name = f"{section}-{kind}"
        screens.save(taken, output / "screens" / f"{name}.png")
        path = REFERENCES / f"{name}.png"
        if request.config.getoption("--update-golden"):
            screens.save(screens.small(taken), path)
            return
        assert path.is_file(), f"{path} is missing; run pytest --update-golden and look at it"
        reference = Image.open(path)
        apart = screens.compare(taken, reference)
        if not apart.same:
            screens.save(screens.side_by_side(taken, reference), output / "screens" / f"{name}-differs.png")
        assert apart.same, f"{name} looks different ({apart}): see test-out/screens/{name}-differs.png"

    return check


@pytest.mark.parametrize("width", [1440, 390])
def test_every_section_looks_as_it_did(
    page: Page, pages: dict[str, Path], picture: Callable[[Page, str, str], None], width: int
) -> None:
    page.open(pages["full"], width=width)
    assert tuple(page.sections()) == SECTIONS
    for section in SECTIONS:
        picture(page, section, str(width))


@pytest.mark.parametrize("width", [1440, 390])
def test_every_section_of_a_comparison_looks_as_it_did(
    page: Page, pages: dict[str, Path], picture: Callable[[Page, str, str], None], width: int
) -> None:
    page.open(pages["compare"], width=width)
    sections = page.sections()
    assert sections == [
        "answer", "verdicts", "why", "families", "kernels", "phases", "forecasts", "method", "glossary",
    ]  # fmt: skip
    for section in sections:
        picture(page, section, f"compare-{width}")


def test_dark_looks_as_it_did(
    page: Page, pages: dict[str, Path], picture: Callable[[Page, str, str], None]
) -> None:
    page.open(pages["full"], dark=True)
    for section in ("answer", "roofline", "timeline"):
        picture(page, section, "dark")


@pytest.mark.parametrize("drift", DRIFTS)
def test_the_drift_of_another_chromium_passes(page: Page, pages: dict[str, Path], drift: str) -> None:
    page.open(pages["full"])
    page.rule(drift)
    page.run("window.redrawCharts(true)")
    for section in SECTIONS:
        apart = screens.compare(page.section(section), Image.open(REFERENCES / f"{section}-1440.png"))
        assert apart.same, (section, apart)


@pytest.mark.parametrize(("section", "rule"), BROKEN)
def test_a_broken_layout_fails(page: Page, pages: dict[str, Path], section: str, rule: str) -> None:
    page.open(pages["full"])
    page.rule(rule)
    apart = screens.compare(page.section(section), Image.open(REFERENCES / f"{section}-1440.png"))
    assert not apart.same, apart
