"""Which chart library goes into a page: the small one if it is in the package, else that of PyPI's plotly."""

from pathlib import Path

import pytest
from sample_analysis import sample_analysis

from rocscope.errors import RocscopeError
from rocscope.reports import chart_library, html


@pytest.fixture(autouse=True)
def fresh():
    chart_library.library.cache_clear()
    yield
    chart_library.library.cache_clear()


def test_the_packaged_one_is_taken_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = tmp_path / "plotly-basic.min.js"
    small.write_text("/**\n* plotly.js (basic - minified) v4.1.1\r\n*/ '</script>'; window.Plotly = {}\n")
    monkeypatch.setattr(chart_library, "_packaged", lambda: small)
    found = chart_library.library()
    assert (found.version, found.small) == ("4.1.1", True)
    assert "</script" not in found.script and "\r" not in found.script
    assert "lines and bars only" in found.words()
    page = html.REPORT.render(sample_analysis())
    assert "(basic - minified) v4.1.1" in page
    assert len(page) < 200_000


def test_without_it_the_page_carries_plotlys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chart_library, "_packaged", lambda: tmp_path / "absent.js")
    found = chart_library.library()
    assert not found.small and found.version
    assert "whole, since the small one was not fetched" in found.words()
    assert len(found.script) > 2_000_000
    page = html.REPORT.render(sample_analysis())
    assert found.script[:2000] in page


def test_with_neither_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chart_library, "_packaged", lambda: tmp_path / "absent.js")
    monkeypatch.setattr(chart_library.resources, "files", lambda _: tmp_path)
    with pytest.raises(RocscopeError, match="no chart library") as caught:
        chart_library.library()
    assert "pip install" in caught.value.hint
