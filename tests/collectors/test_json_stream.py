"""The walker agrees with json.loads on any document, at any chunk size, and survives damaged ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope.collectors.json_stream import JsonStream
from rocscope.errors import InputError

ANY = msgspec.json.Decoder(Any)
LIST = msgspec.json.Decoder(list[Any])

nasty = st.text(alphabet='ab{}[],:"\\ \n\té', max_size=12)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(-1e300, 1e300), nasty)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(nasty, inner, max_size=4)),
    max_leaves=12,
)
elements = st.lists(st.one_of(st.dictionaries(nasty, values, max_size=4), values), max_size=12)
layouts = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": 0}])


class Item(msgspec.Struct):
    a: int
    b: float | None = None


ITEMS = msgspec.json.Decoder(list[Item])


def read_array(text: bytes, chunk: int = 16) -> tuple[list[Any], JsonStream]:
    stream = JsonStream(text, "a.json", chunk_bytes=chunk)
    return [each for batch in stream.batches(LIST) for each in batch], stream


@settings(max_examples=80, deadline=None)
@given(elements, layouts, st.integers(1, 80))
def test_an_array_in_pieces_is_the_array(rows: list[Any], layout: dict[str, Any], chunk: int) -> None:
    text = json.dumps(rows, ensure_ascii=False, **layout).encode()
    found, stream = read_array(text, chunk)
    assert found == rows
    assert stream.damage is None
    assert stream.unreadable == 0
    assert stream.position == len(text)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(nasty, values, max_size=5), elements, layouts, st.integers(1, 80), st.data())
def test_members_are_read_or_skipped_alike(
    head: dict[str, Any], rows: list[Any], layout: dict[str, Any], chunk: int, data: st.DataObject
) -> None:
    whole = {**head, "rows!": rows, "tail!": 7}
    text = json.dumps(whole, ensure_ascii=False, **layout).encode()
    stream = JsonStream(text, "a.json", chunk_bytes=chunk)
    seen: dict[str, Any] = {}
    for key in stream.members():
        if key == "rows!":
            seen[key] = [each for batch in stream.batches(LIST) for each in batch]
        elif data.draw(st.booleans()):
            seen[key] = stream.decode(ANY)
        else:
            seen[key] = whole[key]
    assert seen == whole
    assert list(seen) == list(whole)
    assert stream.damage is None


@settings(max_examples=80, deadline=None)
@given(elements, layouts, st.integers(1, 80), st.data())
def test_a_cut_array_gives_its_whole_elements(
    rows: list[Any], layout: dict[str, Any], chunk: int, data: st.DataObject
) -> None:
    text = json.dumps(rows, ensure_ascii=False, **layout).encode()
    cut = data.draw(st.integers(1, len(text) - 1))
    found, stream = read_array(text[:cut], chunk)
    assert found == rows[: len(found)]
    assert stream.damage is not None
    # nothing is lost but the element that the cut went through
    assert len(found) >= next(
        n for n in range(len(rows), -1, -1) if n == 0 or is_within(rows[:n], layout, text[:cut])
    )


def is_within(rows: list[Any], layout: dict[str, Any], text: bytes) -> bool:
    # one more byte, as a number at the very end may go on
    whole = json.dumps(rows, ensure_ascii=False, **layout).encode().removesuffix(b"]").rstrip(b"\n")
    return text.startswith(whole) and len(text) > len(whole)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 40))
def test_any_bytes_end_in_rows_or_an_input_error(noise: bytes, chunk: int) -> None:
    for text in (noise, b'{"traceEvents":[' + noise, b'{"a":1,' + noise, b"[" + noise):
        stream = JsonStream(text, "a.json", chunk_bytes=chunk)
        try:
            for _ in stream.members() if text[:1] == b"{" else stream.batches(LIST):
                pass
        except InputError as error:
            assert "a.json" in error.message


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["1.5", "NaN", "-nan", "inf", "-Infinity", "nan(ind)"]), max_size=9))
def test_numbers_that_json_does_not_know_are_null(numbers: list[str]) -> None:
    rows = ",\n".join(
        f'{{"a": {n}, "b": {number}, "c": "x: nan, [inf]"}}' for n, number in enumerate(numbers)
    )
    for chunk in (8, 1 << 20):
        stream = JsonStream(f"[{rows}]".encode(), "a.json", chunk_bytes=chunk)
        found = [each for batch in stream.batches(ITEMS) for each in batch]
        assert [each.a for each in found] == list(range(len(numbers)))
        assert [each.b for each in found] == [1.5 if n == "1.5" else None for n in numbers]
        assert stream.unreadable == 0


def test_a_text_that_looks_like_a_bad_number_stays() -> None:
    stream = JsonStream(b'[{"t": "is: nan, or: inf]", "v": nan}]', "a.json")
    assert [each for batch in stream.batches(LIST) for each in batch] == [
        {"t": "is: nan, or: inf]", "v": None}
    ]


def test_elements_of_the_wrong_type_are_counted_and_left_out() -> None:
    text = b'[{"a":1},{"a":"one"},{"b":2},{"a":4},{"a":"\xff"},7,{"a":5,"b":"\xff"},{"a":6}]'
    for chunk in (4, 1 << 20):
        stream = JsonStream(text, "a.json", chunk_bytes=chunk)
        assert [each.a for batch in stream.batches(ITEMS) for each in batch] == [1, 4, 6]
        assert stream.unreadable == 5


def test_an_element_nested_too_deep_is_left_out() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    for chunk in (64, 1 << 22):
        stream = JsonStream(b'[{"a":1},' + deep + b',{"a":2}]', "a.json", chunk_bytes=chunk)
        assert [each.a for batch in stream.batches(ITEMS) for each in batch] == [1, 2]
        assert (stream.unreadable, stream.damage) == (1, None)
    stream = JsonStream(b'{"x":' + deep + b',"y":2}', "a.json")
    assert [(key, stream.decode(ANY)) for key in stream.members()] == [("x", None), ("y", 2)]


def test_a_nested_array_of_objects_does_not_mislead_the_cut() -> None:
    rows = [{"a": n, "kids": [{"a": k, "t": '},{"a":'} for k in range(5)]} for n in range(40)]
    found, stream = read_array(json.dumps(rows).encode(), 100)
    assert found == rows
    assert stream.damage is None


def test_a_repeated_key_is_given_twice() -> None:
    stream = JsonStream(b'{"a": 1, "a": 2}', "a.json")
    assert [(key, stream.decode(ANY)) for key in stream.members()] == [("a", 1), ("a", 2)]


def test_empty_elements_and_stray_commas_are_tolerated() -> None:
    found, stream = read_array(b'[{}\n,{"a":1}\n,,{"a":2},\n]')
    assert found == [{}, {"a": 1}, {"a": 2}]
    assert stream.damage is None


def test_elements_without_their_opening_bracket() -> None:
    stream = JsonStream(b',{"a":1}\n,{"a":2}\n', "a.json")
    assert [each.a for batch in stream.elements(ITEMS) for each in batch] == [1, 2]
    assert stream.damage == "cut off at byte 18, line 3, within its end"


def test_items_and_members_go_into_nested_documents() -> None:
    stream = JsonStream(b'\xef\xbb\xbf [ {"p": {"x": [1, 2], "y": 3}}, [4], {"p": {"x": [5]}} ] ', "a.json")
    found: list[Any] = []
    for _ in stream.items():
        if stream.peek() == b"{":
            for _ in stream.members():
                for key in stream.members():
                    if key == "x":
                        found.append(stream.decode(ANY))
    assert found == [[1, 2], [5]]
    assert stream.damage is None


@pytest.mark.parametrize("text", [b"hello", b"", b"  7", b'"{"', b"\x00\x00"])
def test_a_wrong_start_is_an_input_error_with_its_place(text: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.json: byte \d+, line 1: expected an object"):
        list(JsonStream(text, "a.json").members())


def test_damage_names_byte_and_line() -> None:
    stream = JsonStream(b'{"a": 1,\n "b": 2,\n oops: "3"}', "a.json")
    assert list(stream.members()) == ["a", "b"]
    assert stream.damage == "not JSON at byte 19, line 3"
    stream = JsonStream(b'{"a": [{"k": 1}, {"k', "a.json")
    assert list(stream.members()) == ["a"]
    assert stream.damage == "cut off at byte 17, line 1, within an element"
    stream = JsonStream(b'[{"a":1}, \x00\x00\x00', "a.json")
    assert [each.a for batch in stream.batches(ITEMS) for each in batch] == [1]
    assert stream.damage == "not JSON at byte 10, line 1"


def test_a_value_of_another_type_is_counted_and_passed() -> None:
    stream = JsonStream(b'{"a": {"x": 1}, "b": 2, "\\q": 3}', "a.json")
    wanted = msgspec.json.Decoder(int)
    assert [(key, stream.decode(wanted)) for key in stream.members()] == [("a", None), ("b", 2), ('"\\q"', 3)]
    assert stream.unreadable == 1


def test_a_file_is_mapped_and_an_empty_one_refused(tmp_path) -> None:
    path = tmp_path / "a.json"
    rows = [{"a": n} for n in range(3000)]
    path.write_text(json.dumps({"rows": rows, "more": rows}))
    with JsonStream.open(path, "a.json", chunk_bytes=9000) as stream:
        for _ in stream.members():
            assert [each.a for batch in stream.batches(ITEMS) for each in batch] == list(range(3000))
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"), JsonStream.open(path, "a.json"):
        pass
