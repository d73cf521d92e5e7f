"""One browser for all tests of a module, pages made once, and where pictures of them go."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium_page
import pytest
import sample_analysis as sample
import sample_comparison as compared
import sample_full

from rocscope.reports import comparison_html, html


@pytest.fixture(scope="session")
def output() -> Path:
    """Where screenshots go, for a person to look at."""
    folder = Path(os.environ.get("ROCSCOPE_TEST_OUTPUT") or Path(__file__).parents[2] / "test-out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium for the whole run."""
    if lacking := chromium_page.missing():
        pytest.skip(lacking)
    with chromium_page.chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(autouse=True)
def no_process_left() -> None:
    """The browser lives longer than one test; its fixture ends it."""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of synthetic analyses and comparisons, by name."""
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "sample": sample.sample_analysis(),
        "hostile": sample_full.hostile_full(),
        "empty": sample.empty_analysis(),
        "full": sample_full.full_analysis(),
        "long": sample.long_analysis(120),
    }
    texts = {name: html.REPORT.render(analysis) for name, analysis in made.items()}
    texts |= {
        "compare": comparison_html.REPORT.render(compared.sample_comparison()),
        "compare-several": comparison_html.REPORT.render(compared.several_comparison()),
        "compare-unlike": comparison_html.REPORT.render(compared.unlike_comparison()),
        "compare-hostile": comparison_html.REPORT.render(compared.hostile_comparison()),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture
def page(browser: Any) -> chromium_page.Page:
    """A page with nothing in it, and an empty console."""
    browser.get("about:blank")
    browser.get_log("browser")
    return chromium_page.Page(browser)
