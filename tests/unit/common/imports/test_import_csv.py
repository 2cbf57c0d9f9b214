"""CSV: what the first lines tell, what they leave open, and which lines are rejected."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from import_files import opened, plain, read, write

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_moment
from libs.common.domain.record import Flag
from libs.common.imports import Ambiguous, parse_columns
from libs.common.imports.csv_file import split, split_all

T0 = "2019-02-04T08:00:00.071Z"
T = parse_moment(T0)
QUOTE = (T, "1.14425", "1.14427")


def eurusd(tmp_path, text, name="ticks.csv", **options):
    return read(write(tmp_path, name, text), symbol="EURUSD", **options)


# ---- layouts


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f"time,bid,ask\n{T0},1.14425,1.14427\n", {}),
        (f"Ask;Bid;Time\n1.14427;1.14425;{T0}\n", {}),
        (f"Timestamp\tBidPrice\tAskPrice\n{T0}\t1.14425\t1.14427\n", {}),
        (f"ts|bid|offer|venue\n{T0}|1.14425|1.14427|x\n", {}),
        (f"Time;Bid;Ask\n{T0};1,14425;1,14427\n", {}),
        (f'"time","bid","ask"\n"{T0}","1,14425","1,14427"\n'.replace('","', '";"'), {}),
        ("Date,Time,Bid,Ask\n2019-02-04,08:00:00.071,1.14425,1.14427\n", {"timezone": "UTC"}),
        ("<DATE>\t<TIME>\t<BID>\t<ASK>\n2019.02.04\t10:00:00.071\t1.14425\t1.14427\n", {"timezone": "UTC+2"}),
        ("time,bid,ask\n2019.02.04 09:00:00.071,1.14425,1.14427\n", {"timezone": "Europe/Berlin"}),
        ("time,bid,ask\n2019/02/04 03:00:00.071,1.14425,1.14427\n", {"timezone": "America/New_York"}),
        ("time,bid,ask\n20190204 030000071,1.14425,1.14427\n", {"timezone": "UTC-5"}),
        ("Time (UTC+02:00),bid,ask\n2019-02-04 10:00:00.071,1.14425,1.14427\n", {}),
        ("time_utc,bid,ask\n2019-02-04 08:00:00.071,1.14425,1.14427\n", {}),
        ("Local time,Ask,Bid,AskVolume,BidVolume\n04.02.2019 09:00:00.071 GMT+0100,1.14427,1.14425,0,0\n", {}),
        ("time,bid,ask\n1549267200.071,1.14425,1.14427\n", {}),
        ("time,bid,ask\n1549267200071,1.14425,1.14427\n", {}),
        ("time,bid,ask\n1549267200071000,1.14425,1.14427\n", {}),
        ("time,bid,ask\n1549267200071000000,1.14425,1.14427\n", {}),
        ("time,bid,ask\n13/02/2019 08:00:00.071,1.14425,1.14427\n", {"timezone": "UTC"}),
        ("time,bid,ask\n02/13/2019 08:00:00.071,1.14425,1.14427\n", {"timezone": "UTC"}),
        ("time,bid,ask\n4/2/2019 8:00:00.071,1.14425,1.14427\n", {"timezone": "UTC", "dates": "day-first"}),
        (f"{T0},1.14427,0.5,1.14425\n", {"columns": parse_columns("time,ask,ask_size,bid")}),
        (f"when,one,two\n{T0},1.14425,1.14427\n", {"columns": parse_columns("time,bid,ask")}),
    ],
)
def test_a_layout_is_recognised(tmp_path, text, options):
    rows, rejected = eurusd(tmp_path, text, **options)
    assert rejected == []
    (row,) = plain(rows)
    day = parse_moment("2019-02-13T08:00:00.071Z") if "13" in text.split("\n")[1][:5] else T
    assert row == (day, "1.14425", "1.14427")


@pytest.mark.parametrize("encode", [
    lambda text: codecs.BOM_UTF8 + text.encode(),
    lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.rstrip("\n").encode(),
    lambda text: text.replace("\n", "\n\n").encode(),
])  # fmt: skip
def test_byte_order_marks_and_ends_of_lines_do_not_matter(tmp_path, encode):
    rows, rejected = eurusd(tmp_path, encode(f"Zeit,bid,ask,time\nx,1.14425,1.14427,{T0}\n"))
    assert (plain(rows), rejected) == ([QUOTE], [])


def test_columns_without_a_header_are_known_by_what_stands_in_them(tmp_path):
    lines = [f"EURUSD,1.1442{n % 7 + 2},1.14421,{1549267200071 + n}" for n in range(20)]
    file = opened(write(tmp_path, "x.csv", "\n".join(lines)))
    assert "no header, columns symbol,ask,bid,time" in file.detection.text
    assert not file.detection.certain
    assert plain(file.preview(1).rows) == [(T, "1.14421", "1.14422")]


def test_what_was_found_is_said_in_one_line(tmp_path):
    text = "Time;Bid;Ask;AskVolume\n2019.02.04 10:00:00.071;1,14425;1,14427;2\n"
    file = opened(write(tmp_path, "x.csv", text), symbol="EURUSD", timezone="EET")
    assert file.detection.text == (
        "csv, `;`, header `Time;Bid;Ask;AskVolume`, times MT4/MT5 (2019.02.04 08:00:00.123) without zone, in EET (--timezone), "
        "symbol EURUSD (--symbol), decimal comma, sizes in units (as they stand)"
    )


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("DAT_ASCII_GBPUSD_T_202001.csv", "GBPUSD"),
        ("EURUSD.r_202001020000_202001032359.csv", "EURUSD.R"),
        ("XAUUSD_Ticks_2019.02.04.csv", "XAUUSD"),
    ],
)
def test_the_names_that_programs_give_their_files_tell_the_symbol(tmp_path, name, symbol):
    rows, _ = read(write(tmp_path, name, f"time,bid,ask\n{T0},1,2\n"))
    assert rows[0][0] == symbol


def test_a_symbol_column_is_renamed_only_where_it_holds_one(tmp_path):
    text = f"time,symbol,bid,ask\n{T0},EURUSDm,1,2\n"
    assert eurusd(tmp_path, text)[0][0][0] == "EURUSD"
    with pytest.raises(Rejected, match="the file has EURUSDM, GBPUSDM"):
        eurusd(tmp_path, text + f"{T0},GBPUSDm,1,2\n")
    rows, rejected = eurusd(tmp_path, text * 1 + f"{T0},EURUSDm,1,2\n" * 3_000 + f"{T0},GBPUSDm,1,2\n")
    assert len(rows) == 3_001
    assert [line.reason for line in rejected] == ["another symbol than the file's first, and --symbol names one: leave it out"]


def test_sizes_are_units_and_named_where_they_are_not(tmp_path):
    text = "Gmt time,Ask,Bid,AskVolume,BidVolume\n04.02.2019 08:00:00.071,1.14427,1.14425,0.0002,\n"
    rows, _ = eurusd(tmp_path, text)
    assert rows[0][4:6] == (None, 200.0)
    assert eurusd(tmp_path, text, size_unit="thousands")[0][0][5] == 0.2


def test_a_blank_side_is_absent_but_unchanged_in_mt5(tmp_path):
    rows, rejected = eurusd(tmp_path, f"time,bid,ask\n{T0},1.14425,\n{T0},,1.14427\n{T0},,\n")
    assert plain(rows) == [(T, "1.14425", None), (T, None, "1.14427")]
    assert all(row[6] & Flag.ONE_SIDED for row in rows)
    assert [(line.line, line.reason) for line in rejected] == [(4, "no price on either side")]
    mt5 = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n"
    mt5 += "".join(f"2019.02.04\t08:00:00.071\t{sides}\t\t\t2\n" for sides in ("1.1\t", "1.2\t1.3", "\t1.4", "\t", "1.5\t"))
    rows, rejected = eurusd(tmp_path, mt5, timezone="UTC")
    assert plain(rows) == [(T, "1.1", None), (T, "1.2", "1.3"), (T, "1.2", "1.4"), (T, "1.5", "1.4")]
    assert [line.line for line in rejected] == [5]


def test_a_file_that_is_mostly_crossed_is_warned_of(tmp_path):
    file = opened(write(tmp_path, "x.csv", f"time,bid,ask\n{T0},2,1\n"), symbol="X")
    assert file.detection.warnings == (
        "the bid is above the ask in 1 of the first 1 quotes: are the columns the wrong way round?",
    )


# ---- what is left open


@pytest.mark.parametrize(
    ("text", "options", "option"),
    [
        ("time,bid,ask\n2019-02-04 08:00:00,1,2\n", {"symbol": "X"}, "--timezone"),
        ("time,bid,ask\n2019-02-04T08:00:00Z,1,2\n", {}, "--symbol"),
        ("time,bid,ask\n04.02.2019 08:00:00,1,2\n", {"symbol": "X", "timezone": "UTC"}, "--dates day-first or month-first"),
        ("Gmt time,bid,ask\n02/13/2019 08:00:00,1,2\n", {"symbol": "X"}, "--dates day-first or month-first"),
        ("time,bid,bid_price,ask\n2019-02-04T08:00:00Z,1,1,2\n", {"symbol": "X"}, "--columns"),
        ("time,price,size\n2019-02-04T08:00:00Z,1,2\n", {"symbol": "X"}, "--columns"),
        ("2019-02-04T08:00:00Z,1,2\n", {"symbol": "X"}, "--columns"),
        ("2019-02-04T08:00:00Z,1,2,3\n" * 20, {"symbol": "X"}, "--columns"),
        ("2019-02-04T08:00:00Z,1,2\n2019-02-04T08:00:00Z,2,1\n" * 20, {"symbol": "X"}, "--columns"),
        ("2019-02-04T08:00:00Z,2019-02-04T08:00:00Z,1,2\n" * 20, {"symbol": "X"}, "--columns"),
        ("28800071,1.1,1.2\n" * 20, {"symbol": "X"}, "--columns"),
    ],
)
def test_what_a_file_leaves_open_is_asked_for_and_not_guessed(tmp_path, text, options, option):
    with pytest.raises(Ambiguous) as open_question:
        read(write(tmp_path, "x.csv", text), **options)
    assert open_question.value.option.startswith(option)
    assert f"say which with {option}" in str(open_question.value)
    assert str(open_question.value).startswith(f"{tmp_path.as_posix()}/x.csv: ")


def test_a_local_hour_that_comes_twice_is_settled_by_fold_and_one_that_never_comes_by_nothing(tmp_path):
    text = "time,bid,ask\n2019-10-27 02:30:00.5,1,2\n2019-03-31 02:30:00,1,2\n2019-10-27 03:00:00,1,2\n"
    rows, rejected = eurusd(tmp_path, text, timezone="Europe/Berlin")
    assert [row[1] for row in rows] == [parse_moment("2019-10-27T02:00:00Z")]
    assert [line.reason for line in rejected] == [
        "2019-10-27 02:30 comes twice in Europe/Berlin: say which with --fold earlier or --fold later",
        "2019-03-31 02:30 does not exist in Europe/Berlin: the clocks went forward",
    ]
    for fold, utc in (("earlier", "2019-10-27T00:30:00.5Z"), ("later", "2019-10-27T01:30:00.5Z")):
        rows, rejected = eurusd(tmp_path, text, timezone="Europe/Berlin", fold=fold)
        assert rows[0][1] == parse_moment(utc)
        assert len(rejected) == 1


def test_a_server_that_closes_with_new_york_changes_its_clocks_with_new_york(tmp_path):
    text = "time,bid,ask\n2019-03-12 00:00:00,1,2\n2019-03-05 00:00:00,1,2\n"
    rows, _ = eurusd(tmp_path, text, timezone="America/New_York+7")
    assert [row[1] for row in rows] == [parse_moment("2019-03-11T21:00:00Z"), parse_moment("2019-03-04T22:00:00Z")]


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        ("time,open,high,low,close\n2019-02-04T08:00:00Z,1,2,1,2\n", {"symbol": "X"}, "these are bars"),
        ("time,bid,ask\n", {"symbol": "X"}, "a header, and no line behind it"),
        ("", {"symbol": "X"}, "empty"),
        ("\n \n\n", {"symbol": "X"}, "empty"),
        ("no table at all\nnone\n", {"symbol": "X"}, "no table"),
        ("time,bid,ask\nyesterday,1,2\n", {"symbol": "X"}, "'yesterday' is no time"),
        ("time,bid,ask\n2019-02-04 08:00:00,1,2\n", {"symbol": "X", "timezone": "Mars/Olympus"}, "is not a time zone"),
        ("time,bid,ask\n2019-02-04T08:00:00Z,1,2\n", {"symbol": "no symbol"}, "is not a symbol"),
        (
            "time,bid,ask\n2019-02-04T08:00:00Z,1,2\n",
            {"symbol": "X", "columns": ("time", "bid")},
            "--columns names 2 columns, and there are 3",
        ),
        ("time,bid,ask\n2019-02-04T08:00:00Z,1,2\n", {"symbol": "X", "format": "json"}, r"JSON begins with \[ or {"),
        ("time,bid,ask\n2019-02-04T08:00:00Z,1,2\n", {"symbol": "X", "format": "lean"}, "Lean keeps symbol and day in the name"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, text, options, why):
    with pytest.raises(Rejected, match=why):
        read(write(tmp_path, "x.csv", text), **options)


@pytest.mark.parametrize("text", ["time,bid,price", "time,bid,bid", ""])
def test_columns_are_known_roles_each_once(text):
    with pytest.raises(Rejected, match="unknown or named twice"):
        parse_columns(text)


# ---- lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{T0},nan,1", "a price is not a decimal number"),
        (f"{T0},inf,1", "a price is not a decimal number"),
        (f"{T0},1,-1", "a price is not above 0"),
        (f"{T0},0,1", "a price is not above 0"),
        (f"{T0},1000000000,1", "a price is not below 1e9"),
        (f"{T0},{'9' * 60},1", "a price is not below 1e9"),
        (f"{T0},{'9' * 65},1", "a value is too long to be a number"),
        (f"{T0},1.0000000001,2", "a price has more than 9 decimals"),
        (f"{T0},1e99,2", "a price is not below 1e9"),
        (f"{T0},1_0,2", "a price is not a decimal number"),
        (f"{T0},٣,2", "a price is not a decimal number"),
        (f"{T0},1\0,2", "a price is not a decimal number"),
        (f"{T0},1", "2 columns where the others have 3"),
        (f"{T0},1,2,3", "4 columns where the others have 3"),
        (",1,2", "the time is not written as ISO 8601"),
        ("2019-02-30T08:00:00Z,1,2", "the time does not exist: day is out of range for month"),
        ("2019-02-04T24:00:00Z,1,2", "the time does not exist: hour must be in 0..23"),
        ("2019-02-04T08:00:60Z,1,2", "the time is not written as ISO 8601"),
        ("2019-02-04T08:00:00,1,2", "the time names no zone, and the others do"),
        ("1969-12-31T23:59:59Z,1,2", "the time is not of the years 1970 to 2261"),
        ("2019-02-04T08:00:00+99:00,1,2", "the time's zone does not exist"),
        ("1549267200071,1,2", "the time is not written as ISO 8601"),
    ],
)
def test_a_line_that_cannot_be_a_tick_is_rejected_with_its_number_and_its_bytes(tmp_path, line, reason):
    good = f"{T0},1.14425,1.14427"
    rows, rejected = eurusd(tmp_path, f"time,bid,ask\n{good}\n{good}\n{line}\n{good}\n")
    assert plain(rows) == [QUOTE] * 3
    assert [(item.line, item.reason, item.raw) for item in rejected] == [(4, reason, line.encode())]


def test_lines_before_the_header_are_rejected_and_not_lost(tmp_path):
    rows, rejected = eurusd(tmp_path, f"sep=,\nmade by a program\ntime,bid,ask\n{T0},1.14425,1.14427\n")
    assert plain(rows) == [QUOTE]
    assert [line.line for line in rejected] == [1, 2]


def test_an_epoch_of_another_unit_in_the_middle_is_rejected(tmp_path):
    rows, rejected = eurusd(tmp_path, "time,bid,ask\n" + "1549267200071,1,2\n" * 3 + "1549267200,1,2\n1549267200071000,1,2\n")
    assert len(rows) == 3
    assert {line.reason for line in rejected} == {"the time is not in epoch ms as the others are"}


def test_ticks_of_the_future_are_rejected_where_the_time_is_known(tmp_path):
    text = f"time,bid,ask\n{T0},1,2\n"
    assert len(eurusd(tmp_path, text, now_ns=T - 3_600 * 10**9)[0]) == 1
    rows, rejected = eurusd(tmp_path, text, now_ns=T - 3_600 * 10**9 - 1)
    assert (rows, [line.reason for line in rejected]) == ([], ["time is more than an hour in the future"])


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("203.14900000000003", "203.149"),
        ("107.089996", "107.089996"),
        ("1.1453199999999999", "1.14532"),
        ("1.5e-5", "0.000015"),
        ("1.10000000000", "1.1"),
    ],
)
def test_prices_are_exact_and_what_doubles_left_behind_is_taken_off(tmp_path, text, price):
    assert plain(eurusd(tmp_path, f"time,bid,ask\n{T0},{text},300\n")[0]) == [(T, price, "300")]


@given(st.lists(st.text(alphabet='a"1; ', max_size=8), max_size=6))
def test_a_block_is_split_as_its_lines_are(raws):
    filled = [raw for raw in raws if raw.strip()]
    assert split_all(filled, ";") == [split(raw, ";") for raw in filled]


FIELD = st.sampled_from(["", "1", "1.5", "-1", "x", "1,5", T0, "2019-02-04T08:00:01Z", '"1"', '"', "EURUSD", "ß"])


@given(st.lists(st.tuples(FIELD, FIELD, FIELD, FIELD), max_size=12))
def test_a_block_at_once_gives_what_its_lines_give_one_by_one(tmp_path_factory, lines):
    text = "symbol,time,bid,ask\n" + f"EURUSD,{T0},1,2\n" * 20 + "".join(",".join(fields) + "\n" for fields in lines)
    path = write(tmp_path_factory.mktemp("x"), "x.csv", text.encode("latin-1"))
    rows, rejected = read(path)
    alone_rows, alone_rejected = [], []
    file = opened(path)
    for number, raw in enumerate(text.split("\n")[1:-1], 2):
        block = file._detect().table.one_by_one([(number, raw, split(raw, ","))])
        alone_rows += block.quotes
        alone_rejected += block.rejected
    assert [row[:6] for row in rows] == alone_rows
    assert rejected == alone_rejected
    assert len(rows) + len(rejected) == 20 + len(lines)
