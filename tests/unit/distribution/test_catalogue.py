"""Symbols, days, and the account, from what the files say of themselves."""

import asyncio
import contextlib
import sqlite3

from libs.common.bus import Backlog
from libs.common.domain.moment import NS_PER_DAY, day_of, parse_moment
from libs.common.domain.record import Quarantined
from libs.common.store import Batch, DayFile

MIDNIGHT = parse_moment("2026-11-20")
STATS = "/api/pipeline/stats"


def test_symbols_tell_providers_first_last_and_number(vault, tick):
    vault.write(tick(ts=MIDNIGHT - NS_PER_DAY), tick(symbol="XAU/USD", ts=MIDNIGHT - 1), closed=True)
    vault.write(tick(ts=MIDNIGHT, provider="LP2"), tick(ts=MIDNIGHT + 5, provider="LP2", seq=1))
    vault.write(tick(ts=MIDNIGHT - 7, provider="LP1", seq=1), late=True)
    assert vault.get("/api/history/symbols?ts_format=ns").json() == [
        {
            "symbol": "EUR/USD",
            "providers": ["LP1", "LP2"],
            "first": str(MIDNIGHT - NS_PER_DAY),
            "last": str(MIDNIGHT + 5),
            "ticks": 4,
        },
        {
            "symbol": "XAU/USD",
            "providers": ["LP1"],
            "first": str(MIDNIGHT - 1),
            "last": str(MIDNIGHT - 1),
            "ticks": 1,
        },
    ]


def test_an_empty_store_has_no_symbols_and_no_days(vault):
    assert vault.get("/api/history/symbols").json() == []
    assert vault.get("/api/history/available").json() == []
    assert vault.get(STATS).json()["account"]["received"] == 0


def test_available_tells_each_day_with_its_state_and_gaps(vault, tick, gap):
    there = [gap("2026-11-19T10:00", "2026-11-19T11:00"), gap("2026-11-19T23:00", "2026-11-20T01:00", first_seq=20)]
    vault.write(tick(ts=MIDNIGHT - 2), gaps=there, closed=True)
    vault.write(tick(ts=MIDNIGHT - 3, seq=1), late=True)
    vault.write(tick(ts=MIDNIGHT))
    lines = vault.get("/api/history/available?symbol=eurusd&ts_format=ns").json()
    assert lines == [
        {
            "symbol": "EUR/USD",
            "date": "2026-11-19",
            "ticks": 2,
            "first": str(MIDNIGHT - 3),
            "last": str(MIDNIGHT - 2),
            "gaps": 2,
            "state": "closed",
            "generation": 0,
        },
        {
            "symbol": "EUR/USD",
            "date": "2026-11-20",
            "ticks": 1,
            "first": str(MIDNIGHT),
            "last": str(MIDNIGHT),
            "gaps": 1,
            "state": "open",
            "generation": 0,
        },
    ]


def test_available_is_bounded_by_the_days_a_range_touches(vault, tick):
    for day in range(4):
        vault.write(tick(ts=MIDNIGHT + day * NS_PER_DAY))

    def dates(query):
        return [line["date"] for line in vault.get(f"/api/history/available?{query}").json()]

    assert dates("start=2026-11-21T12:00&end=2026-11-23") == ["2026-11-21", "2026-11-22"]
    assert dates("start=2026-11-22") == ["2026-11-22", "2026-11-23"]
    assert vault.get("/api/history/available?start=2026-11-22&end=2026-11-21").status_code == 400
    assert vault.get("/api/history/available?symbol=NOPE").status_code == 404


def test_the_account_adds_up_over_day_and_late_files(vault, tick):
    ticks = [tick(ts=MIDNIGHT + seq, seq=seq) for seq in (0, 1, 3)]  # 2 was numbered and never came
    vault.write(*ticks)
    vault.write(ticks[0])  # again: a duplicate
    bad = Quarantined(MIDNIGHT, "LP2", "LP2", "", "undecodable", b"8=FIX", 0)
    file = DayFile(vault.day_path("2026-11-20"))
    file.write(Batch(quarantined=[bad]))
    file.close_day(vault.now)
    vault.write(tick(ts=MIDNIGHT + 9, seq=4), late=True)
    stats = vault.get(STATS).json()
    assert stats["account"] == {"received": 7, "stored": 4, "duplicates": 1, "quarantined": 1, "lost": 1}
    assert stats["per_provider"]["LP2"] == {"received": 1, "stored": 0, "duplicates": 0, "quarantined": 1, "lost": 0}
    assert [day["date"] for day in stats["days"]] == ["2026-11-20"]


def test_the_account_of_one_day(vault, tick, gap):
    vault.write(tick(ts=MIDNIGHT - 1), gaps=[gap("2026-11-19T10:00", "2026-11-19T11:00")])
    vault.write(tick(ts=MIDNIGHT), tick(ts=MIDNIGHT, symbol="GBP/USD"))
    one = vault.get(f"{STATS}?date=2026-11-20").json()
    assert (one["account"]["stored"], one["symbols"], one["gaps"]) == (2, 2, 0)
    assert vault.get(STATS).json()["gaps"] == 1
    assert vault.get(f"{STATS}?date=20/11").status_code == 400


def test_the_last_seven_days_are_shown_one_by_one(vault, tick):
    for day in range(9):
        vault.write(tick(ts=MIDNIGHT - day * NS_PER_DAY))
    stats = vault.get(STATS).json()
    assert len(stats["days"]) == 7
    assert stats["days"][0]["date"] == "2026-11-20"
    assert stats["account"]["stored"] == 9


def test_lag_is_the_sum_and_the_oldest_of_all_partitions(vault, stream):
    stream.waiting = Backlog(3, 1.5)

    async def scenario():
        async with vault.serving(stream) as client:
            return (await client.get(STATS)).json()["lag"]

    assert asyncio.run(scenario()) == {
        "entries": 3,
        "oldest_age_s": 1.5,
        "partitions": [{"partition": 0, "entries": 3, "oldest_age_s": 1.5}],
    }


def test_without_redis_the_account_is_still_told(vault, tick, stream):
    vault.write(tick(ts=MIDNIGHT))
    stream.fail()

    async def scenario():
        async with vault.serving(stream) as client:
            return (await client.get(STATS)).json()

    stats = asyncio.run(scenario())
    assert (stats["account"]["stored"], stats["lag"]) == (1, None)
    assert "Redis" in stats["warnings"][0]


def test_a_damaged_day_is_named_beside_the_lists(vault, tick):
    vault.write(tick(ts=MIDNIGHT))
    with contextlib.closing(sqlite3.connect(vault.day_path("2026-11-20"))) as connection:
        connection.execute("DROP TABLE account")
    for path in ("/api/history/symbols", "/api/history/available", STATS):
        assert "2026-11-20" in ((answer := vault.get(path)).headers.get("tickvault-warning", "") or answer.json()["warnings"][0])
    assert day_of(MIDNIGHT) == 20_777
