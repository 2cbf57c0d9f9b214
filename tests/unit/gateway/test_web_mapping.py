"""JSON to quotes: numbers keep their digits, paths lead where they say, times are exact."""

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_S, parse_moment
from libs.common.domain.price import parse_price
from services.gateway.feeds import QuoteFields
from services.gateway.fix.wire import Clock
from services.gateway.web.mapping import Paths, Quote, decode, find, fix_time, moment, path_of, raw_items

BINANCE = QuoteFields(symbol="s", bid="b", ask="a", bid_size="B", ask_size="A")
BOOK_TICKER = b'{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}'


def quote_of(data, fields=BINANCE, items=""):
    return Paths("", fields).quote(find(decode(data), path_of(items)))


def test_binance_book_ticker_gives_a_quote_of_its_own_texts():
    expected = Quote(b"BNBUSDT", b"25.35190000", b"25.36520000", b"31.21000000", b"40.66000000", None)
    assert quote_of(BOOK_TICKER) == expected
    assert quote_of(b'{"stream":"bnbusdt@bookTicker","data":%s}' % BOOK_TICKER, items="data") == expected


@pytest.mark.parametrize(
    ("number", "price"),
    [
        ("0.100000001", 100_000_001),  # 0.1 and one unit
        ("25.35190000", 25_351_900_000),
        ("1.000000000000", 1_000_000_000),
        ("1e-9", 1),
        ("1.2E-05", 12_000),
        ("2.5e2", 250_000_000_000),
        ("999999999.999999999", 999_999_999_999_999_999),
        ("9007199254740993", 9_007_199_254_740_993 * 10**9),  # 2^53 + 1
        ("18446744073709551617", 18_446_744_073_709_551_617 * 10**9),  # 2^64 + 1
    ],
)
def test_a_number_keeps_its_digits_and_a_text_is_taken_as_it_is(number, price):
    quote = quote_of(b'{"s":"X","b":%s,"a":"%s"}' % (number.encode(), number.encode()))
    assert parse_price(quote.bid) == price
    assert quote.ask == number.encode()


@given(st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False, places=9))
def test_every_decimal_that_json_can_write_comes_back_exactly(value):
    for text in (format(value, "f"), f"{value:e}"):
        found = decode(text.encode())
        assert Decimal(str(found)) == value
        if "e" not in str(found):
            assert parse_price(str(found).encode()) == int(value * 10**9)


@pytest.mark.parametrize("number", ["1e400", "1e-400", "1e99999999999", "1e31"])
def test_an_exponent_beyond_all_prices_is_not_written_out(number):
    assert str(decode(number.encode())) == number


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"{", b'{"b":NaN}', b'{"b":Infinity}', b"\xff\xfe", b'"\xff"', b'{"s":"\\ud800"}', b"\x1f\x8b\x08garbage",
        b"[" * 100_000, b"1" * 5_000, b'{"s":"X"}{"s":"Y"}', b"{'s':1}",
    ],
)  # fmt: skip
def test_what_is_no_json_is_rejected_with_its_reason(data):
    with pytest.raises(Rejected, match="not JSON: "):
        decode(data)


@pytest.mark.parametrize("value", [b"true", b"{}", b"[]", b"[1]", b'{"x":1}', b"false"])
@pytest.mark.parametrize("name", ["s", "b", "A"])
def test_a_part_that_is_no_text_and_no_number_is_rejected(name, value):
    parts = {"s": b'"X"', "b": b"1", "a": b"2", "A": b"3"} | {name: value}
    data = b",".join(b'"%s":%s' % (part.encode(), given) for part, given in parts.items())
    with pytest.raises(Rejected, match="is neither a number nor a text"):
        quote_of(b"{%s}" % data)


def test_missing_and_null_are_absent_and_an_item_without_symbol_and_prices_is_no_quote():
    assert quote_of(b'{"s":"X","b":null,"a":1}') == Quote(b"X", None, b"1", None, None, None)
    assert quote_of(b'{"b":1}') == Quote(None, b"1", None, None, None, None)
    for other in (b'{"result":null,"id":1}', b'{"B":1,"A":2}', b"[]", b"17", b"null", b'"pong"', b"true"):
        assert quote_of(other) is None


def test_paths_lead_through_objects_and_lists():
    message = {"data": [{"bids": [["1.1", "5"]], "x": {"y.z": 1}}]}
    assert find(message, path_of("data.0.bids.0.1")) == "5"
    for nowhere in ("data.1", "data.x", "data.-1", "data.0.bids.0.0.0", "none", "data.0.x.y.z", "data.²"):
        assert find(message, path_of(nowhere)) is None
    nested = QuoteFields(symbol="i.id", bid="p.bids.0.0", ask="p.asks.0.0", bid_size="p.bids.0.1")
    assert quote_of(b'{"i":{"id":"X"},"p":{"bids":[["1.1","5"]],"asks":[["1.2"]]}}', nested) == Quote(
        b"X", b"1.1", b"1.2", b"5", None, None
    )


def test_the_items_of_a_list_have_bytes_of_their_own():
    data = b' { "a" : [ 1, {"q": [ {"s":1.50} , {"s":"\xc3\xa9" } ]} ] }'
    assert [item.strip() for item in raw_items(data, path_of("a.1.q"))] == [b'{"s":1.50}', b'{"s":"\xc3\xa9" }']
    assert raw_items(b"[1,2.50]", ()) == [b"1", b"2.50"]


# ---- times


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "s", 1_700_000_000 * NS_PER_S),
        ("1700000000.123456789", "s", 1_700_000_000_123_456_789),
        ("1700000000.1234567899", "s", 1_700_000_000_123_456_789),
        ("1700000000123", "ms", 1_700_000_000_123_000_000),
        ("1700000000123.5", "ms", 1_700_000_000_123_500_000),
        ("1700000000123456", "us", 1_700_000_000_123_456_000),
        ("1700000000123456789", "ns", 1_700_000_000_123_456_789),
        ("1700000000123456789.9", "ns", 1_700_000_000_123_456_789),
        ("2026-11-20T10:00:00.123456789Z", "rfc3339", parse_moment("2026-11-20T10:00:00.123456789Z")),
        ("2026-11-20T11:00:00+01:00", "rfc3339", parse_moment("2026-11-20T10:00:00Z")),
        ("1700000000123456789", "rfc3339", 1_700_000_000_123_456_789),
        ("0", "ms", 0),
    ],
)
def test_a_time_is_exact(text, unit, expected):
    assert moment(text.encode(), unit) == expected


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", "ms"), ("-1", "ms"), ("1e3", "ms"), ("now", "s"), (".5", "s"), ("1.2.3", "s"), ("9" * 19, "us"), ("1" * 41, "ns"),
        ("2026-11-20T10:00:00Z", "ms"), ("2026-13-20T10:00:00Z", "rfc3339"), ("-5", "rfc3339"),
        ("1969-12-31T00:00:00Z", "rfc3339"), ("９", "ms"), ("9223372036854775808", "ns"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_rejected(text, unit):
    with pytest.raises(Rejected):
        moment(text.encode(), unit)


@given(st.integers(0, parse_moment("2262-04-11T23:47:15Z")))
def test_a_time_goes_to_the_market_and_back(ts):
    assert Clock().moment(fix_time(ts)) == ts


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("sbaBA"), inner)))  # fmt: skip
def test_no_json_is_a_surprise(value):
    with suppress(Rejected):
        Paths("", BINANCE).quote(decode(json.dumps(value).encode()))
