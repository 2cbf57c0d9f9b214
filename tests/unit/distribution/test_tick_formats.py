"""Texts of ticks."""

import csv
import io
import json
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.domain.moment import format_moment, parse_moment
from services.distribution.formats import page_body, tick_lines, tick_objects, ts_text

NS = st.integers(-(2**63), 2**63 - 1)
PRICES = st.none() | st.integers(1, 10**18 - 1)
SIZES = st.none() | st.floats(allow_nan=False, allow_infinity=False, min_value=0)
ROWS = st.tuples(NS, st.text(max_size=5), st.integers(0, 2**40), PRICES, PRICES, SIZES, SIZES, st.integers(0, 255))


@given(st.lists(ROWS, max_size=5))
def test_json_gives_back_every_field_exactly(rows):
    found = json.loads(page_body(rows, "json", "ns", {"symbol": "X"}), parse_float=Decimal, parse_int=Decimal)["data"]
    back = [
        (
            int(row["ts"]),
            row["provider"],
            int(row["seq"]),
            *(None if row[side] is None else int(row[side] * 10**9) for side in ("bid", "ask")),
            *(None if row[size] is None else float(row[size]) for size in ("bid_size", "ask_size")),
            int(row["flags"]),
        )
        for row in found
    ]
    assert back == rows


@given(st.lists(ROWS.filter(lambda row: not set(row[1]) & set("\r\n\x00")), max_size=5))
def test_csv_gives_back_every_field_exactly(rows):
    table = list(csv.reader(io.StringIO(page_body(rows, "csv", "ns", {}).decode(), newline="")))
    assert [(int(line[0]), line[1], int(line[2])) for line in table[1:]] == [row[:3] for row in rows]
    assert [[Decimal(text) * 10**9 if text else None for text in line[3:5]] for line in table[1:]] == [
        list(row[3:5]) for row in rows
    ]


@given(NS)
@example(0)
@example(-1)
@example(1_500_000)
def test_times_are_written_as_the_domain_writes_them(ts):
    row = (ts, "LP1", 0, None, None, None, None, 64)
    (line,) = tick_lines([row], "iso")
    assert line.split(",")[0] == format_moment(ts) == ts_text(ts, "iso")
    assert parse_moment(json.loads(tick_objects([row], "iso")[0])["ts"]) == ts


@given(NS)
def test_milliseconds_are_exact_and_integers_where_they_can_be(ts):
    text = ts_text(ts, "ms")
    assert Decimal(text) * 10**6 == ts
    assert ("." in text) == (ts % 10**6 != 0)


def test_a_size_that_is_no_number_is_shown_as_absent():
    row = (0, "LP1", 0, None, None, float("inf"), 1e300, 64)
    assert json.loads(tick_objects([row], "ns")[0])["bid_size"] is None
    assert tick_lines([row], "ns") == ["0,LP1,0,,,,1e+300,64"]
