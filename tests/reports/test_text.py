import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import untrusted
from rocscope.reports import text


def test_controls_and_direction_marks_are_shown_not_obeyed() -> None:
    assert untrusted.visible("\x1b[31mred\x9b\u202eabc\u200b\u2028\U000e0001") == (
        "\\x1b[31mred\\x9b\\u202eabc\\u200b\\u2028\\U000e0001"
    )
    assert untrusted.visible("two\nlines\tand tab") == "two lines and tab"


@given(st.text())
def test_visible_text_is_printable(found: str) -> None:
    assert untrusted.visible(found).replace(" ", "").isprintable() or not untrusted.visible(found).isascii()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", untrusted.visible(found))


@given(st.text(), st.integers(min_value=4, max_value=80))
def test_shortened_text_fits(found: str, width: int) -> None:
    short = text.shorten(found, width)
    assert len(short) <= width
    assert short == found or "…" in short


def test_markdown_has_no_markup_left() -> None:
    assert text.markdown("<b>@team</b> *a* _b_ a_b [x](y) `c` |d| #12 ~e~") == (
        "&lt;b&gt;@\u2060team&lt;/b&gt; \\*a\\* \\_b\\_ a_b \\[x\\](y) \\`c\\` \\|d\\| #\u206012 \\~e\\~"
    )
    starts = {"# title": "\\# title", "1. item": "1\\. item", "- item": "\\- item", "+ item": "\\+ item"}
    starts |= {"> quote": "&gt; quote", "35.9 % of it": "35.9 % of it", "-3 ms": "-3 ms", "=": "\\="}
    assert {each: text.markdown(each) for each in starts} == starts


def test_a_sentence_is_cut_at_a_word() -> None:
    assert text.clip("one two three", 8) == "one two …"
    assert text.clip("short", 8) == "short"
    assert text.clip("x" * 20, 8) == "xxxxxxx …"


@pytest.mark.parametrize(
    ("name", "span"),
    [("a", "`a`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("", "`(unnamed)`"), ("a|b", "`a|b`")],
)
def test_code_spans_hold(name: str, span: str) -> None:
    assert text.code(name) == span


def test_pipes_in_a_table_cell_do_not_end_it() -> None:
    assert text.code("a|b", in_table=True) == "`a\\|b`"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1"])
def test_formulas_are_neutralised(name: str) -> None:
    assert untrusted.spreadsheet(name) == f"'{name}"


@given(st.text())
def test_no_cell_starts_a_formula(found: str) -> None:
    row = io.StringIO()
    csv.writer(row).writerow([untrusted.spreadsheet(found), "end"])
    assert untrusted.spreadsheet(found)[:1] not in set("=+-@\t\r\n")
    assert untrusted.spreadsheet("void kernel<int>(float*)") == "void kernel<int>(float*)"
