"""Every file of the shared data: what it holds, or why it is not read."""

import csv
import zipfile
from collections import Counter

import pytest
from import_files import DATA, needs_data, opened, plain, read, rows_of, write

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, format_moment, parse_moment
from libs.common.domain.record import Flag
from libs.common.imports import Ambiguous, Options, find_sources, open_all
from libs.common.imports.number import exact_price

pytestmark = needs_data
HOUR = DATA / "formats" / "one-hour-every-format"
EXCERPTS = DATA / "formats" / "excerpts"


def canonical(*, sizes):
    with (HOUR / "expected_canonical.csv").open() as file:
        for row in csv.DictReader(file):
            quote = int(row["ts_ms"]) * NS_PER_MS, exact_price(row["bid"]), exact_price(row["ask"])
            units = [float(row[side]) * 1e6 for side in ("bid_size_mio", "ask_size_mio")] if sizes else [None, None]
            yield (*quote, *units)


HOURS = {  # what has to be said, and whether the file has sizes
    "expected_canonical.csv": ({"symbol": "EURUSD"}, True),
    "generic_iso.csv": ({}, False),
    "mt5_EURUSD_ticks_server_EET.csv": ({"symbol": "EURUSD", "timezone": "EET"}, False),
    "mt5_EURUSD_ticks_partial_sides.csv": ({"symbol": "EURUSD", "timezone": "UTC+2"}, False),
    "jforex_eet.csv": ({"symbol": "EURUSD"}, True),
    "dukascopy_web_gmt.csv": ({"symbol": "EURUSD"}, True),
    "dukascopy_node.csv": ({"symbol": "EURUSD"}, True),
    "truefx_EURUSD-2019-02.csv": ({"symbol": "EURUSD"}, False),
    "DAT_ASCII_EURUSD_T_201902.csv": ({}, False),
    "Exness_EURUSD_2019_02.zip": ({}, False),
    "20190204_quote_lean.zip": ({"timezone": "UTC"}, False),
    "legacy.json": ({}, False),
    "legacy.ndjson": ({}, False),
}


@pytest.mark.parametrize("name", HOURS)
def test_each_format_yields_the_canonical_hour(name):
    options, sizes = HOURS[name]
    file = opened(HOUR / name, **options)
    rows = rows_of(file)
    assert {row[0] for row in rows} == {"EURUSD"}
    got = [row[1:6] for row in rows]
    assert (
        got == [pytest.approx(row, rel=1e-15) for row in canonical(sizes=sizes)] if sizes else got == list(canonical(sizes=False))
    )
    assert file.summary.rejected == 0
    (((symbol, _), day),) = file.summary.days.items()
    assert (symbol, day.count, day.crossed) == ("EURUSD", 10_546, 0)
    assert format_moment(day.first) == "2019-02-04T08:00:00.071Z"
    assert (file.detection.certain, file.detection.warnings) == (True, ())


def test_no_format_of_the_hour_is_forgotten():
    read_elsewhere = {"README.txt", "generic.parquet"}
    assert {path.name for path in HOUR.iterdir()} == HOURS.keys() | read_elsewhere


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("formats/one-hour-every-format/generic.parquet", "Parquet is not read"),
        ("formats/dbn/test_data.mbp-1.dbn", "Databento's DBN is not read"),
        ("formats/dbn/test_data.tbbo.v3.dbn.zst", "Databento's DBN is not read"),
        ("formats/one-hour-every-format/README.txt", "a header, and no line behind it"),
        ("formats/excerpts/README.txt", "no table"),
        ("dukascopy/misc/HistoryStart.bi5", "its path tells"),
        ("dukascopy/misc/00h_ticks.bi5", "its path tells"),
        ("dukascopy/misc/BID_candles_min_1.bi5", "these are bars"),
        ("dukascopy/json-v1/candles-day-BTC-USD-BID-2018.json", "bars"),
        ("dukascopy/json-v1/candles-minute-EUR-USD-BID-2026-7-11-empty.json", "bars"),
        ("dukascopy/json-v1/instrument-EUR-USD.json", "without one array of objects"),
        ("lean/fxcm/minute/eurusd/20140502_quote.zip", "Lean's minute quotes; tick quotes are imported"),
        ("lean/oanda/second/eurusd/20140502_quote.zip", "Lean's second quotes; tick quotes are imported"),
    ],
)
def test_what_is_not_read_is_named(path, why):
    with pytest.raises(Rejected, match=why) as refused:
        opened(DATA / path, symbol="EURUSD", timezone="UTC")
    assert str(refused.value).startswith((DATA / path).as_posix())


@pytest.mark.parametrize(
    ("name", "options", "first", "count"),
    [
        (
            "mt5_export_7rows.tsv",
            {"symbol": "EURGBP", "timezone": "America/New_York+7"},
            ("2022-11-10T13:00:00.017Z", "0.86682", "0.86712"),
            7,
        ),
        ("truefx_rows.csv", {}, ("2021-11-01T19:07:40.498Z", "1.16034", "1.16037"), 6),
        ("exness_rows.csv", {}, ("2024-01-15T00:00:00.032Z", "1.0945", "1.09456"), 2),
        ("dukascopy_web_rows.csv", {"symbol": "GBPJPY"}, ("2019-07-01T13:30:03.304Z", "203.107", "203.149"), 2),
    ],
)
def test_the_excerpts_are_read(name, options, first, count):
    rows, rejected = read(EXCERPTS / name, **options)
    assert plain(rows)[0] == (parse_moment(first[0]), *first[1:])
    assert (len(rows), rejected) == (count, [])


def test_histdata_is_five_hours_behind_utc_and_opens_with_the_market():
    rows, rejected = read(DATA / "formats/histdata/eurusd_20200101_DAT_ASCII_9500.csv", symbol="EURUSD")
    assert (len(rows), rejected) == (9_500, [])
    assert plain(rows)[0] == (parse_moment("2020-01-01T22:00:00.065Z"), "1.1212", "1.12172")


def test_truefx_with_a_header_and_a_zone_in_its_times():
    rows, rejected = read(DATA / "formats/truefx/usdjpy-ticks.csv", symbol="USD/JPY")
    assert (len(rows), rejected) == (1_000, [])
    assert plain(rows)[0] == (parse_moment("2013-01-01T22:00:00.295Z"), "86.655", "86.728")


@pytest.mark.parametrize(("market", "days", "ticks", "hours"), [("oanda", 13, 532_903, 0), ("fxcm", 3, 155_484, 5)])
def test_lean_days_are_read_in_their_markets_zone(market, days, ticks, hours):
    sources = find_sources([DATA / "lean" / market / "tick"]).sources
    assert len(sources) == 13
    sources = sources[:days]
    files, refused = open_all(sources, Options())
    assert refused == []
    assert [file.source.path.name for file in files] == sorted(file.source.path.name for file in files)
    count = 0
    for file in files:
        rows = rows_of(file)
        day = int(parse_moment(f"{file.source.path.name[:4]}-{file.source.path.name[4:6]}-{file.source.path.name[6:8]}"))
        with zipfile.ZipFile(file.source.path) as archive:
            first = archive.read(archive.namelist()[0]).split(b",", 1)[0]
        assert rows[0][1] == day + (int(first) + hours * 3_600_000) * NS_PER_MS
        assert file.summary.rows == len(rows)
        count += len(rows)
    assert count == ticks


@pytest.mark.parametrize("market", ["oanda", "fxcm"])
def test_minute_bars_of_the_imported_ticks_are_the_vendors(market):
    rows = rows_of(opened(DATA / "lean" / market / "tick/eurusd/20140502_quote.zip", timezone="UTC"))
    midnight = parse_moment("2014-05-02")
    bars = {}
    for _, ts, bid, ask, *_ in rows:
        bars.setdefault((ts - midnight) // (60_000 * NS_PER_MS) * 60_000, []).append((bid, ask))
    with zipfile.ZipFile(DATA / "lean" / market / "minute/eurusd/20140502_quote.zip") as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    vendors = {
        int(line.split(",")[0]): [exact_price(text) for text in line.split(",")[1:5] + line.split(",")[6:10]] for line in lines
    }
    made = {}
    for minute, quotes in bars.items():
        bids, asks = zip(*quotes, strict=True)
        made[minute] = [price for side in (bids, asks) for price in (side[0], max(side), min(side), side[-1])]
    assert made == vendors


def test_crossed_and_locked_quotes_of_fxcm_are_kept_and_marked():
    file = opened(DATA / "lean/fxcm/tick/eurusd/20140502_quote.zip")
    flags = Counter(row[6] for row in rows_of(file))
    crossed = sum(count for flag, count in flags.items() if flag & Flag.CROSSED)
    assert 0 < crossed == sum(day.crossed for day in file.summary.days.values())
    assert sum(count for flag, count in flags.items() if flag & Flag.LOCKED) > 0
    assert all(flag & Flag.IMPORTED and not flag & Flag.LATE for flag in flags)


def test_bi5_hours_are_read_with_the_month_counted_from_zero():
    rows, rejected = read(DATA / "dukascopy/EURUSD/2019/01/04/08h_ticks.bi5")
    assert rejected == []
    assert [row[1:6] for row in rows] == [pytest.approx(row, rel=1e-15) for row in canonical(sizes=True)]


def test_all_hours_of_two_days_of_bi5_and_their_candles_aside():
    found = find_sources([DATA / "dukascopy/EURUSD/2019/01/04", DATA / "dukascopy/EURUSD/2019/01/05"])
    files, refused = open_all(found.sources, Options())
    assert sum(len(rows_of(file)) for file in files) == 266_219
    assert all("these are bars" in str(error) for _, error in refused)
    assert len(refused) == 2


def test_a_bi5_says_nothing_of_its_decimals_and_so_the_option_must():
    path = DATA / "dukascopy/BTCUSD/2023/01/20/12h_ticks.bi5"
    with pytest.raises(Ambiguous) as open_question:
        opened(path)
    assert open_question.value.option == "--decimals"
    assert plain(read(path, decimals=1)[0])[0] == (parse_moment("2023-02-20T12:00:00.084Z"), "24849.4", "24921.5")


def test_dukascopys_json_is_its_bi5_tick_for_tick():
    old, _ = read(DATA / "dukascopy/BTCUSD/2023/01/20/12h_ticks.bi5", decimals=1)
    new, rejected = read(DATA / "dukascopy/json-v1/ticks-BTC-USD-2023-2-20-12.json", symbol="BTCUSD")
    assert rejected == []
    assert plain(new) == plain(old)
    rows, _ = read(DATA / "dukascopy/json-v1/ticks-EUR-USD-2026-7-13-12.json", symbol="EURUSD")
    assert (len(rows), rows[1][4]) == (3_551, 14_490_000.0)


def test_an_empty_bi5_is_an_hour_without_ticks(tmp_path):
    path = write(tmp_path, "EURUSD/2019/01/04/22h_ticks.bi5", (DATA / "dukascopy/misc/empty.bi5").read_bytes())
    assert read(path) == ([], [])


@pytest.mark.parametrize(
    ("name", "cut", "why"),
    [
        ("HistoryStart.bi5", None, "not the LZMA"),
        ("USDHKD.bi5", None, "outside its hour"),  # candles
        ("00h_ticks.bi5", -100, "cut off"),
    ],
)
def test_a_bi5_of_something_else_and_one_cut_off_are_refused(tmp_path, name, cut, why):
    path = write(tmp_path, "EURUSD/2019/01/04/22h_ticks.bi5", (DATA / "dukascopy/misc" / name).read_bytes()[:cut])
    with pytest.raises(Rejected, match=why):
        read(path)


def test_the_same_hour_in_two_zones_is_not_the_same_import():
    path = HOUR / "mt5_EURUSD_ticks_server_EET.csv"
    first, again = (opened(path, symbol="EURUSD", timezone="EET") for _ in range(2))
    other = opened(path, symbol="EURUSD", timezone="UTC")
    rows_of(first)
    assert first.digest == first.content_digest() == again.content_digest() != other.content_digest()


def test_one_name_for_files_of_several_symbols_is_refused():
    sources = find_sources([HOUR / "generic_iso.csv", HOUR / "truefx_EURUSD-2019-02.csv"]).sources
    with pytest.raises(Rejected, match="--symbol names one, and the files have EUR/USD, EURUSD"):
        open_all(sources, Options(symbol="EURUSD"))
