"""Recorded ticks out of files."""

import os
import zipfile
from pathlib import Path

import pytest
from simulator_desk import make_quote

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, parse_moment
from services.simulator.market import replay
from services.simulator.market.quote import Quote

REAL = Path(os.environ.get("TICKVAULT_TEST_DATA", "../shared/data")) / "lean/fxcm/tick/eurusd/20140501_quote.zip"


def lean(folder, day, lines, symbol="eurusd"):
    path = folder / symbol / f"{day}_quote.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{day}_{symbol}_tick_quote.csv", lines)
    return path


def read(paths, zone="UTC"):
    return list(replay.quotes(replay.files(paths), replay.parse_zone(zone)))


def test_a_lean_day_keeps_its_texts_and_has_no_sizes(tmp_path):
    path = lean(tmp_path, "20140501", "292,1.38676,1.38686\n920,1.38680,1.38687\n")
    midnight = parse_moment("2014-05-01")
    assert replay.symbols([path]) == (b"EURUSD",)
    assert read([path]) == [
        Quote(b"EURUSD", midnight + 292 * NS_PER_MS, b"1.38676", b"1.38686", b"", b""),
        Quote(b"EURUSD", midnight + 920 * NS_PER_MS, b"1.38680", b"1.38687", b"", b""),
    ]


@pytest.mark.parametrize(
    ("zone", "utc"),
    [
        ("UTC-5", "2014-05-01T05:00:00Z"),
        ("UTC+05:30", "2014-04-30T18:30:00Z"),
        ("America/New_York", "2014-05-01T04:00:00Z"),
    ],
)
def test_local_times_become_utc(tmp_path, zone, utc):
    (quote,) = read([lean(tmp_path, "20140501", "0,1.3,1.4\n")], zone)
    assert quote.ts == parse_moment(utc)


def test_a_day_on_which_the_clocks_change_has_both_offsets(tmp_path):
    path = lean(tmp_path, "20140309", f"{3_600_000},1.3,1.4\n{10_800_000},1.3,1.4\n")
    assert [quote.ts for quote in read([path], "America/New_York")] == [
        parse_moment("2014-03-09T06:00:00Z"), parse_moment("2014-03-09T07:00:00Z"),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC-25", "Mars/Olympus", "../etc/passwd", ""])
def test_what_is_no_time_zone_is_refused(zone):
    with pytest.raises(Rejected, match="time zone"):
        replay.parse_zone(zone)


def test_all_files_are_merged_by_time(tmp_path):
    lean(tmp_path, "20140502", "0,5,6\n")
    lean(tmp_path, "20140501", "1000,1,2\n3000,3,4\n")
    gold = lean(tmp_path, "20140501", "2000,2,3\n", symbol="xauusd")
    merged = read([tmp_path / "eurusd", gold])
    assert [(quote.symbol, quote.bid) for quote in merged] == [
        (b"EURUSD", b"1"), (b"XAUUSD", b"2"), (b"EURUSD", b"3"), (b"EURUSD", b"5"),
    ]  # fmt: skip


def test_a_csv_may_name_sizes_symbols_and_zones(tmp_path):
    path = tmp_path / "ticks.csv"
    path.write_text(
        "symbol,time,bid,ask,bid_size,ask_size\n"
        "EUR/USD,2019-02-04T08:00:00.071Z,1.14425,1.14427,1.5,\n"
        "xau/usd,2019-02-04 03:00:00.070500,1310.10,1310.50,,\n"
        "EUR/USD,1549267200072000001,1.14426,1.14428,,2\n"
    )
    assert replay.symbols([path]) == (b"EUR/USD", b"XAU/USD")
    assert read([path], "UTC-5") == [
        Quote(b"XAU/USD", parse_moment("2019-02-04T08:00:00.0705Z"), b"1310.10", b"1310.50", b"", b""),
        Quote(b"EUR/USD", parse_moment("2019-02-04T08:00:00.071Z"), b"1.14425", b"1.14427", b"1.5", b""),
        Quote(b"EUR/USD", 1549267200072000001, b"1.14426", b"1.14428", b"", b"2"),
    ]


def test_a_csv_without_symbols_is_named_after_its_symbol(tmp_path):
    path = tmp_path / "eurusd.csv"
    path.write_text("ts,bid,ask\n1549267200071000000,1.1,1.2\n")
    assert replay.symbols([path]) == (b"EURUSD",)
    assert read([path])[0].symbol == b"EURUSD"


def test_a_ledger_can_be_replayed(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.publish(make_quote())
    assert read([desk.tmp_path / "ledger.csv"]) == [make_quote()]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "date,open\n", "header"),
        ("a.csv", "ts,bid,ask\n1,1.1\n", "line 2"),
        ("a.csv", "ts,bid,ask\nyesterday,1.1,1.2\n", "line 2"),
        ("a.csv", "ts,bid,ask\n1,NaN,1.2\n", "line 2"),
        ("a b.csv", "ts,bid,ask\n1,1.1,1.2\n", "not a symbol"),
    ],
)
def test_a_csv_that_is_no_tick_file_says_what_is_wrong(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(Rejected, match=says):
        read([tmp_path / name])


def test_a_lean_file_of_bars_is_refused(tmp_path):
    with pytest.raises(Rejected, match="line 1"):
        read([lean(tmp_path, "20140501", "0,1,2,3,4,0,1,2,3,4,0\n")])


def test_paths_without_tick_files_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv", tmp_path / "20140501_trade.zip"):
        with pytest.raises(Rejected, match="no tick file"):
            replay.files([path])


@pytest.mark.skipif(not REAL.exists(), reason="the shared real data is absent")
def test_a_real_day_is_read_whole_with_its_odd_quotes():
    quotes = read([REAL], "UTC-5")
    assert quotes[0] == Quote(b"EURUSD", parse_moment("2014-05-01T05:00:01.787Z"), b"1.38727", b"1.38729", b"", b"")
    with zipfile.ZipFile(REAL) as archive:
        assert len(quotes) == archive.read(archive.namelist()[0]).count(b"\n") + 1
    assert any(float(quote.bid) >= float(quote.ask) for quote in quotes)
