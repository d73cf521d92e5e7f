"""Reading a server's metrics again and again gives what parsing each text gives."""

from hypothesis import given
from hypothesis import strategies as st

import serving_recorded
from rocscope.collectors import serving_steady
from rocscope.collectors.serving import Snapshot
from rocscope.collectors.serving_steady import SteadyParser
from rocscope.errors import InputError


def parsed(parser, text):
    try:
        return parser.parse(text)
    except InputError as error:
        return error.message


def whole(text):
    try:
        return Snapshot.parse(text)
    except InputError as error:
        return error.message


def test_every_text_of_a_recorded_server_reads_the_same():
    parser = SteadyParser()
    texts = [text for _, text in serving_recorded.texts()]
    for text in texts:
        assert parsed(parser, text) == whole(text)
    assert len(texts) == 8 and parser.whole < 4, "it is not faster if it parses the whole text each time"


LINES = serving_recorded.texts()[-1][1].splitlines()
LINE = 'vllm:num_requests_running{engine="0",model_name="tiny"} 3.0'
VALUES = st.one_of(
    st.floats(0, 1e12).map(repr),
    st.sampled_from(["NaN", "+Inf", "-1", "1_0", "", "0x10", "1 1700000000", "abc", "1e5", "1.5 ", "９"]),
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["value", "drop", "twice", "cut", "add"]), VALUES),
    max_size=4,
)
ADDED = (
    'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"}',
    'vllm:num_requests_running{engine="1",model_name="t  y"}',
    "vllm:num_requests_running",
    'foo{a="b c"}',
    'vllm:num_requests_running{engine="1"',
    " vllm:num_requests_running",
    "#",
    "",
)


@given(st.lists(CHANGES, max_size=5))
def test_whatever_changes_between_texts_both_ways_agree(scrapes):
    parser = SteadyParser()
    parsed(parser, "\n".join(LINES))
    for changes in scrapes:
        mine = list(LINES)
        for index, kind, value in changes:
            at = index % len(mine)
            if kind == "value":
                mine[at] = f"{mine[at].rpartition(' ')[0]} {value}"
            elif kind == "drop":
                mine[at] = ""
            elif kind == "twice":
                mine.append(mine[at])
            elif kind == "cut":
                mine[at] = mine[at][: index % 40]
            else:
                mine.append(
                    f"{ADDED[index % len(ADDED)]} {value}".rstrip(" ") if index % 2 else ADDED[at % 8]
                )
        text = "\n".join(mine)
        assert parsed(parser, text) == whole(text)


def test_what_it_remembers_is_bounded(monkeypatch):
    monkeypatch.setattr(serving_steady, "MAX_KNOWN", 100)
    parser = SteadyParser()
    for number in range(50):
        text = LINE + "\n" + "\n".join(f'other{{n="{number}-{i}"}} 1' for i in range(30))
        assert parser.parse(text).values["requests_running"] == 3.0
    assert len(parser._known) <= 131 and parser.whole == 50
