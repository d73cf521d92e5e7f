"""The page in a real Chromium: nothing fetched, nothing blocked, found and sorted by hand and keyboard."""

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sample_analysis as sample

from rocscope.reports import html

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DRIVER = shutil.which("chromedriver") or "/usr/bin/chromedriver"
TABLE = "#kernel-table tbody"


@pytest.fixture(scope="module")
def output() -> Path:
    """Where screenshots go, for a person to look at."""
    folder = Path(os.environ.get("ROCSCOPE_TEST_OUTPUT") or Path(__file__).parents[2] / "test-out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Page:
    """One loaded report and what the browser said about it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1440, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # or a click lands where things were
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.logs()
        self.driver.get(path.as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def wait(self, condition: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda d: d.execute_script(f"return Boolean({condition})"))

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def shown(self) -> list[str]:
        """Return the ids of the kernels in the table as a person sees them, top to bottom."""
        return self.run(
            f"return [...document.querySelectorAll('{TABLE}')].filter(b => !b.hidden).map(b => b.id)"
        )

    def problems(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def logs(self) -> list[dict[str, Any]]:
        return [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]

    def requests(self) -> list[str]:
        sent = [m for m in self.logs() if m["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def picture(self, path: Path) -> bytes:
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": False})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path.read_bytes()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def no_process_left() -> None:
    """The browser lives as long as the module, longer than one test; its fixture ends it."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name in ("sample", "hostile", "empty"):
        made[name] = folder / f"{name}.html"
        made[name].write_text(html.REPORT.render(getattr(sample, f"{name}_analysis")()), encoding="utf-8")
    return made


@pytest.fixture
def page(browser: Any) -> Page:
    browser.get("about:blank")
    browser.get_log("browser")
    return Page(browser)


@pytest.mark.parametrize("name", ["sample", "hostile", "empty"])
@pytest.mark.parametrize("look", [(1440, False), (1440, True), (390, False), (390, True)])
def test_nothing_is_fetched_blocked_or_wider_than_the_screen(
    page: Page, pages: dict[str, Path], output: Path, name: str, look: tuple[int, bool]
) -> None:
    width, dark = look
    page.open(pages[name], width=width, dark=dark)
    if name == "sample":
        page.wait("document.querySelector('#roofline-chart .main-svg')")
    assert page.run("return document.documentElement.scrollWidth") <= width
    sections = page.run("return [...document.querySelectorAll('section')].map(s => s.id)")
    for section in sections:
        page.run(
            "window.scrollTo(0, 0); if (arguments[0]) document.getElementById(arguments[0]).scrollIntoView()",
            section,
        )
        kind = f"{width}-{'dark' if dark else 'light'}"
        assert page.picture(output / f"report-{name}-{kind}-{section or 'answer'}.png").startswith(b"\x89PNG")
    assert [url for url in page.requests() if url != pages[name].as_uri()] == []
    assert page.problems() == []


def test_the_first_line_says_what_was_not_recorded(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["sample"])
    assert page.run("return document.body.innerText").startswith("Synthetic: no GPU was measured.")
    assert "59.9" in page.find("h1").text


def test_search_narrows_the_table_and_says_how_many(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["sample"])
    assert len(page.shown()) == 6
    page.find("#search").send_keys("gptq 8704")
    assert page.shown() == ["kernel-0"]
    assert page.find("#shown").text == "1 of 6 kernels shown"
    page.find("#filters button").click()
    page.wait(f"[...document.querySelectorAll('{TABLE}')].every(b => !b.hidden)")
    page.find("#search").send_keys("no such kernel")
    assert page.shown() == []


def test_filters_combine(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import Select

    page.open(pages["sample"])
    Select(page.find("[data-filter=family]")).select_by_value("gptq_gemm")
    assert page.shown() == ["kernel-0", "kernel-1"]
    Select(page.find("[data-filter=limiter]")).select_by_value("latency")
    assert page.shown() == ["kernel-1"]
    Select(page.find("[data-filter=family]")).select_by_value("")
    Select(page.find("[data-filter=limiter]")).select_by_value("")
    Select(page.find("[data-filter=bound]")).select_by_value("unknown")
    assert page.shown() == ["kernel-3", "kernel-5"]


def test_sorting_goes_both_ways_with_the_unknown_last(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["sample"])
    button = page.find("[data-sort=bandwidth]")
    heading = button.find_element("xpath", "..")
    button.click()
    down = page.shown()
    assert down[:2] == ["kernel-2", "kernel-0"]
    assert heading.get_attribute("aria-sort") == "descending"
    button.click()
    up = page.shown()
    assert up[:2] == ["kernel-4", "kernel-1"]
    assert heading.get_attribute("aria-sort") == "ascending"
    assert set(down[-2:]) == set(up[-2:]) == {"kernel-3", "kernel-5"}
    assert page.run("return document.querySelectorAll('[aria-sort=none]').length") == 4


def test_the_keyboard_reaches_evidence(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(pages["sample"])
    body = page.find("body")
    body.send_keys(Keys.TAB)
    assert page.run("return document.activeElement.className") == "skip"
    seen = []
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(page.run("return document.activeElement.id || document.activeElement.className"))
        if seen[-1] == "kernel":
            break
    assert "search" in seen
    assert seen[-1] == "kernel", "no way by keyboard to a kernel's evidence"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    assert "62.1" in page.find("#kernel-0-more").text
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert not page.find("#kernel-0-more").is_displayed()


def test_everything_has_a_name_for_a_screen_reader(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["sample"])
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
    for role, name in roles:
        if role in ("button", "link", "searchbox", "combobox", "table", "image", "heading", "region"):
            assert name, f"a {role} without a name"
    assert next(name for role, name in roles if role == "heading").startswith("gptq_gemm takes")


def test_hover_tells_the_evidence_and_labels_survive_a_resize(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open(pages["sample"])
    page.wait("document.querySelectorAll('#roofline-chart .point').length === 3")
    page.find("#roofline-chart").location_once_scrolled_into_view  # noqa: B018  # a property that scrolls
    point = page.driver.find_elements("css selector", "#roofline-chart .point")[0]
    page.run("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(page.driver).move_to_element(point).perform()
    page.wait("document.querySelector('#roofline-chart .hovertext')")
    text = page.run("return document.querySelector('#roofline-chart .hovertext').textContent")
    assert "bound memory, limiter memory-bandwidth" in text
    labels = (
        "[...document.querySelectorAll('#roofline-chart .textpoint text')]"
        ".map(t => t.textContent).filter(Boolean).sort().join()"
    )
    before = page.run(f"return {labels}")
    assert "gemm_half_q_half" in before
    narrow = page.run(
        "const chart = JSON.parse(document.querySelector('[data-chart=roofline-chart]').textContent);"
        "return chart.data.flatMap(t => t.meta.text || []).filter(Boolean).sort().join()"
    )
    assert "gptq_gemm" in narrow, "on a phone the family is named instead"
    for width, wanted in ((390, narrow), (1440, before)):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.wait(f"{labels} === {json.dumps(wanted)}")


def test_hostile_names_are_text(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["hostile"])
    page.wait("document.querySelector('#roofline-chart .main-svg')")
    for button in page.driver.find_elements("css selector", "button.kernel"):
        button.click()
    assert page.run("return window.pwned") is None
    assert page.run("return document.querySelectorAll('img, iframe, a[href^=javascript]').length") == 0
    assert page.run("return document.scripts.length") == 4
    assert "<script>window.pwned=1</script>" in page.run("return document.body.innerText")
    assert "{{7*7}}" in page.run("return document.body.innerText")
    assert page.problems() == []


def test_without_kernels_there_is_no_chart_and_no_table(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["empty"])
    assert page.find("h1").text == "There are no GPU kernels in this recording."
    assert page.run("return document.querySelectorAll('#kernels, #roofline, #targets, #time').length") == 0
    assert pages["empty"].stat().st_size < 40_000


def test_printing_shows_every_section(page: Page, pages: dict[str, Path], output: Path) -> None:
    page.open(pages["sample"])
    page.wait("document.querySelector('#roofline-chart .main-svg')")
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    content = base64.b64decode(printed["data"])
    (output / "report-sample.pdf").write_bytes(content)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 10
    assert page.problems() == []
