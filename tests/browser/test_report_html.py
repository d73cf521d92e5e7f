"""The page in a real Chromium: nothing fetched, nothing blocked, found and sorted by hand and keyboard."""

import json
from pathlib import Path

import pytest
from chromium_page import ROWS, Page

pytestmark = pytest.mark.browser
WIDTHS = [(1440, False), (1440, True), (390, False), (390, True)]


PAGES = (
    *("full", "sample", "hostile", "empty"),
    *("compare", "compare-several", "compare-unlike", "compare-hostile"),
)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "dark"), WIDTHS)
def test_nothing_is_fetched_blocked_or_wider_than_the_screen(
    page: Page, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    page.open(pages[name], width=width, dark=dark)
    for details in page.driver.find_elements("css selector", "details"):
        page.run("arguments[0].open = true", details)
    assert page.run("return document.documentElement.scrollWidth") <= width
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
    page.wait(f"[...document.querySelectorAll('{ROWS}')].every(b => !b.hidden)")
    page.find("#search").send_keys("no such kernel")
    assert page.shown() == []


def test_a_long_table_begins_short_and_shows_all_when_asked(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["long"])
    assert len(page.shown()) == 50 and page.find("#shown").text == "50 of 120 kernels shown"
    page.find("#search").send_keys("kernel-119")  # what is not shown is found
    assert page.shown() == ["kernel-119"] and not page.find("button.all").is_displayed()
    page.find("#filters button").click()
    page.wait("document.getElementById('shown').textContent.startsWith('50 of')")
    page.find("[data-sort=time]").click()  # shortest first: the fifty of that order
    assert page.shown()[0] == "kernel-119" and len(page.shown()) == 50
    page.find("button.all").click()
    assert len(page.shown()) == 120 and not page.find("button.all").is_displayed()
    assert page.run("return document.activeElement.closest('tbody').id") == "kernel-69"
    assert page.problems() == []


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
    assert not page.driver.find_elements("css selector", "[data-filter=gpu]"), "one GPU is no choice"
    page.open(pages["full"])
    Select(page.find("[data-filter=gpu]")).select_by_value("rank 2")
    Select(page.find("[data-filter=family]")).select_by_value("gptq_gemm")
    places = page.run("return arguments[0].map(id => document.getElementById(id).dataset.gpu)", page.shown())
    assert places == ["rank 2", "rank 2"]


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


HOVER = """
const done = arguments[arguments.length - 1], charts = [...document.querySelectorAll('.chart')], told = [];
const spots = charts.flatMap(chart => chart.data.flatMap((trace, curve) => {
  const points = trace.hoverinfo === 'skip' ? 0 : trace.meta === 'words' ? trace.x.length : 1;
  return Array.from({ length: points }, (_, point) => [chart, curve, point, 'x' + (trace.yaxis || 'y')]);
}));
(async () => {
  for (const [chart, curve, point, subplot] of spots) {
    Plotly.Fx.hover(chart, [{ curveNumber: curve, pointNumber: point }], subplot);
    await new Promise(resolve => setTimeout(resolve, 60));  // Plotly lets one through in 50 ms
    told.push(...[...chart.querySelectorAll('.hovertext')].map(label => label.textContent));
  }
  done(told);
})();
"""


def test_the_timeline_tells_pauses_and_families_under_the_pointer(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["full"])
    told = page.driver.execute_async_script(HOVER)
    assert any("pause of 150" in text and "Scheduler.schedule" in text for text in told), told
    assert any("rank 0, gemm" in text and "78.0%" in text for text in told)
    assert any("W" in text and "GPU 3 power" in text for text in told)


def test_the_timeline_is_zoomed_by_keyboard_and_says_where_it_is(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(pages["full"])
    shown = "return document.getElementById('timeline-chart').layout.xaxis.range"
    whole = page.run(shown)
    for zoom, low, high in (("in", 0.3, 0.9), ("in", 0.45, 0.75), ("right", 0.6, 0.9), ("left", 0.45, 0.75)):
        page.run("document.querySelector(`[data-zoom=${arguments[0]}]`).focus()", zoom)
        page.press(Keys.ENTER)
        assert page.run(shown) == pytest.approx([low, high])
        assert page.find("[data-for] [role=status]").text == f"{low:.3g} to {high:.3g} s"
    page.run("document.querySelector('[data-zoom=all]').focus()")
    page.press(Keys.SPACE)
    assert page.run(shown) == whole
    for _ in range(3):
        page.find("[data-zoom=out]").click()
    assert page.run(shown) == whole, "never beyond the window"


def test_hostile_names_are_text(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["hostile"])
    page.wait("document.querySelector('#roofline-chart .main-svg')")
    for button in page.driver.find_elements("css selector", "button.kernel"):
        button.click()
    for details in page.driver.find_elements("css selector", "details"):
        page.run("arguments[0].open = true", details)
    told = page.driver.execute_async_script(HOVER)
    assert any("<script>window.pwned=1</script>" in text for text in told), "text, in charts too"
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
