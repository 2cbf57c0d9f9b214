"""JSON: its forms, exact numbers, and items that are none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from import_files import opened, plain, read, write

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_moment
from libs.common.imports import Ambiguous
from libs.common.imports.json_file import array_chunks, line_chunks

T = parse_moment("2019-02-04T08:00:00.071Z")
QUOTE = (T, "1.14425", "1.14427")
OBJECT = '{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": 1.14425, "ask": 1.14427}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[{OBJECT}]", "json, array of objects, keys `symbol,timestamp,bid,ask`, times epoch ms, symbol EURUSD (its column)"),
        (f"{OBJECT}\n", "json, an object a line"),
        (f'{{"symbol": "EURUSD", "gaps": [], "next_cursor": null, "data": [{OBJECT}]}}', "json, one document"),
        ('{"s": "EURUSD", "t": "2019-02-04T08:00:00.071Z", "b": "1.14425", "a": 1.14427}', "json, an object a line"),
        ('{"symbol": "EURUSD", "time": [1549267200071], "bid": [1.14425], "ask": [1.14427]}', "symbol EURUSD (beside the ticks)"),
        (
            '{"symbol": "EURUSD", "count": 1, "data": [{"ts": "2019-02-04T08:00:00.071Z", "bid": 1.14425, "ask": 1.14427}]}',
            "json, one document",
        ),
        ("[\n  " + OBJECT.replace(",", ",\n    ") + "\n]\n", "json, array of objects"),
        (f"\ufeff[{OBJECT}]", "json, array of objects"),
        (f"[{OBJECT}]".replace("1549267200071", '"1549267200071000000"'), "times epoch ns"),
    ],
)
def test_each_form_is_recognised(tmp_path, text, said):
    path = write(tmp_path, "x.json", text)
    rows, rejected = read(path)
    assert (plain(rows), rejected) == ([QUOTE], [])
    assert said in opened(path).detection.text


def test_numbers_are_exact_as_they_are_written(tmp_path):
    text = OBJECT.replace("1.14425", "1.000000001").replace("1.14427", "999999999.999999999")
    assert plain(read(write(tmp_path, "x.json", f"[{text}]"))[0]) == [(T, "1.000000001", "999999999.999999999")]


def test_null_and_a_missing_key_are_absent(tmp_path):
    text = '[{"symbol": "X", "time": 1549267200071, "bid": 1, "ask": null, "bid_size": null, "ask_size": 2},'
    text += '{"symbol": "X", "time": 1549267200071, "ask": 2}]'
    rows, _ = read(write(tmp_path, "x.json", text))
    assert [row[2:6] for row in rows] == [(10**9, None, None, 2.0), (None, 2 * 10**9, None, None)]


BROKEN = {
    '{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": NaN, "ask": 2}': "a price is not a decimal number",
    '{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": true, "ask": 2}': "a value is neither text nor a number",
    '{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": [1], "ask": 2}': "a value is neither text nor a number",
    '{"symbol": "EURUSD", "timestamp": null, "bid": 1, "ask": 2}': "the time is neither text nor a number",
    '{"symbol": "EURUSD", "timestamp": {"a": 1}, "bid": 1, "ask": 2}': "the time is neither text nor a number",
    '{"symbol": 5, "timestamp": 1549267200071, "bid": 1, "ask": 2}': None,
    '{"symbol": null, "timestamp": 1549267200071, "bid": 1, "ask": 2}': "the symbol is missing or not one",
    '{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": 1 "ask": 2}': "not a JSON object",
    '{"symbol": "EURUSD", "timestamp" }': "not a JSON object",
    "{}": "the symbol is missing or not one",
    "5": "not a JSON object",
    '"text"': "not a JSON object",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_an_item_that_is_no_tick_is_rejected_and_the_others_are_read(tmp_path, broken, form):
    items = [OBJECT] * 3 + [broken] + [OBJECT] * 2
    text = "[" + ", ".join(items) + "]" if form == "array" else "\n".join(items)
    rows, rejected = read(write(tmp_path, "x.json", text))
    if BROKEN[broken] is None:  # 5 may be a symbol
        assert len(rows) == 6
    else:
        assert plain(rows) == [QUOTE] * 5
        assert [(line.line, line.reason, line.raw) for line in rejected] == [(4, BROKEN[broken], broken.encode())]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"[{OBJECT}, {OBJECT}", "cut off: the JSON array does not end, behind item 2"),
        (f"[{OBJECT}, {OBJECT[:-20]}", "cut off"),
        (f"[{OBJECT}] [{OBJECT}]", "there is more behind the end of the JSON array"),
        ("[1, 2, 3]", "not of objects"),
        ("[]", "not of objects"),
        ('{"time": [1, 2], "bid": [1], "ask": [2]}', "without arrays of one length"),
        ('{"a": {"b": 1}}', "without one array of objects"),
        ('{"a": {"b": 1', "not a JSON document"),
        ('[{"timestamp": 1, "open": 1, "high": 2, "low": 1, "close": 2}]', "these are bars"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, text, why):
    with pytest.raises(Rejected, match=why):
        read(write(tmp_path, "x.json", text), symbol="EURUSD")


def test_keys_that_say_too_little_are_asked_for(tmp_path):
    path = write(tmp_path, "x.json", '[{"when": 1549267200071, "x": 1.14425, "y": 1.14427}]')
    with pytest.raises(Ambiguous, match="say which with --columns"):
        read(path, symbol="X")
    assert plain(read(path, symbol="X", columns=("time", "bid", "ask"))[0]) == [QUOTE]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab{}[]",\\\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a{}"', max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=8), st.integers(1, 40), st.sampled_from([None, 2]))
def test_an_array_is_the_same_however_it_is_cut_into_pieces(values, size, indent):
    text = json.dumps(values, indent=indent) + "\n"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    expected = [json.loads(json.dumps(value), parse_int=str) for value in values]
    items = [item for _, rest in array_chunks(pieces) for item in rest()]
    assert [item[2] for item in items] == expected
    assert [item[0] for item in items] == list(range(1, len(values) + 1))
    at_once = [decoded for decoded, _ in array_chunks([text]) if decoded is not None]
    decoded = [value for values in at_once for value in values]
    assert decoded == expected[: len(decoded)]


@given(st.lists(VALUES, max_size=8), st.integers(1, 40))
def test_lines_are_the_same_however_they_are_cut_into_pieces(values, size):
    text = "".join(json.dumps(value) + "\n" for value in values)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    items = [item for _, rest in line_chunks(pieces) for item in rest()]
    assert [(number, json.loads(raw)) for number, raw, _ in items] == list(enumerate(values, 1))
