"""Whether people who hear the page, use no mouse, need contrast or paper get all of it."""

import base64
import re
from itertools import pairwise
from pathlib import Path

import pytest
from chromium_page import Page

pytestmark = pytest.mark.browser

# Text that can be seen, its colours, and its contrast as WCAG 2 defines it; large text may have 3 to 1.
CONTRAST = """
const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = text => { const m = text.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
const behind = element => {
  const stack = [];
  for (let e = element; e; e = e.parentElement) { stack.push(parse(getComputedStyle(e).backgroundColor)); }
  return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode, element = text.parentElement;
  if (!text.data.trim() || element.closest('script, style, template, svg, .unseen, option')) { continue; }
  if (!element.checkVisibility({ visibilityProperty: true })) { continue; }
  const style = getComputedStyle(element);
  const under = behind(element), ink = over(parse(style.color), under);
  const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < (large ? 3 : 4.5)) { poor.push([ratio.toFixed(2), text.data.trim().slice(0, 40)]); }
}
return poor;
"""


@pytest.mark.parametrize("name", ["full", "empty", "compare-several"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everything_has_a_name_for_a_screen_reader(
    page: Page, pages: dict[str, Path], name: str, width: int
) -> None:
    page.open(pages[name], width=width)
    page.command("Accessibility.enable")
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    roles = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
    named = {"button", "link", "searchbox", "combobox", "table", "image", "heading", "region"}
    nameless = [role for role, told in roles if role in named and not told.strip()]
    assert nameless == []
    found = {role for role, _ in roles}
    assert {"main", "banner", "navigation", "contentinfo", "heading"} <= found
    if name == "full":
        assert {"searchbox", "combobox", "button", "image", "search", "status"} <= found


@pytest.mark.parametrize("name", ["full", "sample", "empty", "compare-several", "compare-unlike"])
def test_headings_go_down_one_level_at_a_time(page: Page, pages: dict[str, Path], name: str) -> None:
    page.open(pages[name])
    levels = page.run(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("name", ["full", "compare-several"])
def test_every_table_says_what_it_is_and_what_its_cells_are_of(
    page: Page, pages: dict[str, Path], name: str
) -> None:
    page.open(pages[name])
    bad = page.run(
        "return [...document.querySelectorAll('table')].filter("
        "t => !t.caption || !t.caption.textContent.trim()"
        " || [...t.querySelectorAll('thead th')].some(h => h.scope !== 'col')"
        " || [...t.querySelectorAll('tbody th')].some(h => !h.scope.startsWith('row'))).map(t => t.className)"
    )
    assert bad == []
    assert page.run("return document.querySelectorAll('table').length") > 8


def test_every_chart_has_its_figures_in_words_or_a_table(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["full"])
    told = page.run(
        "return [...document.querySelectorAll('.chart, .stack')].map(c => [c.getAttribute('role'),"
        " c.getAttribute('aria-label'), c.closest('section').querySelectorAll('table, a[href]').length])"
    )
    assert len(told) >= 9
    assert all(role == "img" and label and others for role, label, others in told)


@pytest.mark.parametrize("name", ["full", "compare-several"])
def test_menu_and_links_lead_somewhere(page: Page, pages: dict[str, Path], name: str) -> None:
    page.open(pages[name])
    lost = page.run(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(a => "
        "!document.getElementById(a.hash.slice(1))).map(a => a.hash)"
    )
    assert lost == []


@pytest.mark.parametrize("name", ["full", "compare-several"])
@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_against_what_is_behind_it(
    page: Page, pages: dict[str, Path], dark: bool, name: str
) -> None:
    page.open(pages[name], dark=dark)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.run(CONTRAST) == []


def test_the_table_is_sorted_by_keyboard_and_the_count_is_announced(
    page: Page, pages: dict[str, Path]
) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(pages["sample"])
    page.run("document.querySelector('[data-sort=count]').focus()")
    page.press(Keys.ENTER)
    assert page.shown()[0] == "kernel-4"
    assert page.run("return document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    page.press(Keys.SPACE)
    assert page.shown()[0] == "kernel-5"
    assert page.find("#shown").get_attribute("aria-live") == "polite"
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"


def test_the_skip_link_leads_past_the_menu(page: Page, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(pages["sample"])
    page.find("body").send_keys(Keys.TAB)
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "main"
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.closest('#answer') !== null")


def test_nothing_moves_for_those_who_asked_for_that(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["sample"])
    assert page.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_on_paper_everything_is_open_light_and_afterwards_as_before(
    page: Page, pages: dict[str, Path], output: Path
) -> None:
    page.open(pages["full"], dark=True)
    closed = "return document.querySelectorAll('details:not([open])').length"
    before, paper = page.run(closed), page.run("return getComputedStyle(document.body).backgroundColor")
    assert before > 0
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(closed) == 0
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    assert page.run("return document.getElementById('timeline-chart').layout.paper_bgcolor") == "#ffffff"
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(closed) == before
    assert page.run("return getComputedStyle(document.body).backgroundColor") == paper
    content = base64.b64decode(page.command("Page.printToPDF", printBackground=True)["data"])
    (output / "report.pdf").write_bytes(content)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 24
    assert page.problems() == []
