"""The comparison's page in a real Chromium: found, sorted and opened as in a report, each table by itself."""

from pathlib import Path

import pytest
from chromium_page import Page

pytestmark = pytest.mark.browser
SHOWN = (
    "return [...document.querySelectorAll('#kernels%s tbody')].filter(b => !b.hidden)"
    ".map(b => b.querySelector('code').textContent)"
)


def test_kernels_are_found_by_either_name_and_by_what_they_do(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import Select

    page.open(pages["compare"])
    assert len(page.run(SHOWN % "")) == 5
    for words in ("llgemm1", "gptq_8bit", "product after", "splitk"):
        page.find("#search").clear()
        page.find("#search").send_keys(words)
        assert page.run(SHOWN % "") == ["gemm_half_q_half_gptq_8bit_kernel"], words
    assert page.find("#shown").text == "1 of 5 kernels shown"
    page.find("#filters button").click()
    page.wait("document.getElementById('search').value === ''")
    Select(page.find("[data-filter=match]")).select_by_value("new only")
    assert page.run(SHOWN % "") == ["FillFunctor"]


def test_kernels_are_sorted_by_change_with_the_unknown_last(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["compare"])
    page.find("[data-sort=change]").click()
    down = page.run(SHOWN % "")
    page.find("[data-sort=change]").click()
    up = page.run(SHOWN % "")
    assert down[0] == "gemm_half_q_half_gptq_8bit_kernel" and up[0] == "cross_device_reduce"
    assert set(down[3:]) == set(up[3:]) == {"FillFunctor", "softmax"}


def test_each_recording_has_its_own_table(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["compare-several"])
    page.find("#search-1").send_keys("fill")
    assert page.run(SHOWN % "-1") == ["FillFunctor"]
    assert len(page.run(SHOWN % "")) == 5
    assert page.find("#shown-1").text == "1 of 5 kernels shown"


def test_a_kernel_opens_to_both_sides(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["compare"])
    page.find("#kernel-1 button").click()
    text = page.find("#kernel-1-more").text
    assert "splitKreduce_kernel" in text and "M=1 N=3584" in text
    assert "64.5" in text and "a step" in text
    assert "K=None" not in text


def test_verdicts_are_drawn_on_the_side_that_they_say(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["compare"])
    drawn = page.run(
        "return [...document.querySelectorAll('#verdicts tbody tr:not(.group)')].map(row => {"
        "  const at = name => row.querySelector(name).getBoundingClientRect();"
        "  const mid = at('.mid'), zero = at('.zero'), reach = at('.reach');"
        "  const change = row.querySelector('[data-label=change]').textContent;"
        "  const kind = row.querySelector('.mid').classList[1];"
        "  return [change, mid.x + mid.width / 2 > zero.x, reach.x < zero.x && reach.right > zero.x, kind];"
        "})"
    )
    for change, right, across, kind in drawn:
        assert right == change.startswith("+"), change
        assert across == (kind == "none"), change


def test_hostile_names_are_text(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["compare-hostile"])
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for button in page.driver.find_elements("css selector", "button.kernel"):
        button.click()
    assert page.run("return window.pwned") is None
    assert page.run("return document.scripts.length") == 1
    assert page.run("return document.querySelectorAll('img, iframe').length") == 0
    assert "<script>window.pwned=1</script>" in page.run("return document.body.innerText")
    assert page.problems() == []
