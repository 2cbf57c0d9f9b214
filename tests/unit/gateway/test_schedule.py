"""When a session runs and a market is open: wall clock times of a zone, through its changes of the clocks."""

import pytest
from gateway_lp import Lp, both_sides, established, make_feed
from pydantic import ValidationError

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, format_moment, parse_moment
from services.gateway.schedule import MarketHours, Schedule

NEW_YORK = {"time_zone": "America/New_York"}
DAILY = Schedule(**NEW_YORK, start="17:05", end="17:00", days=("sun", "mon", "tue", "wed", "thu"))
WEEKLY = Schedule(**NEW_YORK, start="sun 17:05", end="fri 17:00")
AROUND_THE_CLOCK = Schedule(**NEW_YORK, start="17:00", end="17:00")


def began(schedule, at):
    ns = schedule.began(parse_moment(at))
    return None if ns is None else format_moment(ns)[:16]


@pytest.mark.parametrize(
    ("schedule", "at", "expected"),
    [
        (DAILY, "2026-01-14T21:59:59Z", "2026-01-13T22:05"),  # Wednesday in winter: 17:00 is 22:00 UTC
        (DAILY, "2026-01-14T22:00:00Z", None),
        (DAILY, "2026-01-14T22:04:59.999999999Z", None),
        (DAILY, "2026-01-14T22:05:00Z", "2026-01-14T22:05"),
        (DAILY, "2026-07-15T20:59:59Z", "2026-07-14T21:05"),  # in summer it is 21:00 UTC
        (DAILY, "2026-07-15T21:00:00Z", None),
        (DAILY, "2026-01-16T22:30:00Z", None),  # Friday evening to Sunday evening
        (DAILY, "2026-01-18T22:04:00Z", None),
        (DAILY, "2026-01-18T22:06:00Z", "2026-01-18T22:05"),
        (WEEKLY, "2026-03-06T21:59:00Z", "2026-03-01T22:05"),
        (WEEKLY, "2026-03-06T22:00:00Z", None),
        (WEEKLY, "2026-03-08T21:04:00Z", None),  # the clocks went forward that morning
        (WEEKLY, "2026-03-08T21:05:00Z", "2026-03-08T21:05"),
        (WEEKLY, "2026-11-01T22:05:00Z", "2026-11-01T22:05"),  # and back
        (WEEKLY, "2026-11-01T21:30:00Z", None),
        (AROUND_THE_CLOCK, "2026-03-08T20:59:59Z", "2026-03-07T22:00"),  # a day of 23 hours
        (AROUND_THE_CLOCK, "2026-03-08T21:00:00Z", "2026-03-08T21:00"),
        (AROUND_THE_CLOCK, "2026-11-01T21:59:59Z", "2026-10-31T21:00"),  # and one of 25
        (Schedule(start="08:00", end="16:30"), "2026-01-14T16:29:59Z", "2026-01-14T08:00"),
        (Schedule(start="08:00", end="16:30"), "2026-01-14T16:30:00Z", None),
        (Schedule(start="mon 00:00", end="mon 00:00"), "2026-01-18T23:59:59Z", "2026-01-12T00:00"),
    ],
)
def test_the_stretch_that_covers_a_moment(schedule, at, expected):
    assert began(schedule, at) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": "24:00", "end": "17:00"}, "is not HH:MM"),
        ({"start": "5 pm", "end": "17:00"}, "is not HH:MM"),
        ({"start": "sun 17:00", "end": "17:00"}, "both name a weekday"),
        ({"start": "sun 17:00", "end": "fri 17:00", "days": ("mon",)}, "days belong to a daily schedule"),
        ({"start": "08:00", "end": "17:00", "days": ()}, "no day to begin on"),
        ({"start": "08:00", "end": "17:00", "time_zone": "New York"}, "is no time zone"),
        ({"start": "08:00", "end": "17:00", "time_zone": "../etc/passwd"}, "is no time zone"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_what_is_wrong(fields, message):
    with pytest.raises(ValidationError, match=message):
        Schedule(**fields)


HOURS = (
    MarketHours(name="fx", symbols=("*/USD",), open=(WEEKLY,)),
    MarketHours(name="crypto", symbols=("BTC*", "ETH*"), open=(Schedule(start="00:00", end="00:00"),)),
)


def test_symbols_belong_to_the_first_market_hours_that_fit_and_else_to_all():
    feed = make_feed(market_hours=HOURS)
    assert [feed.group_of(symbol) for symbol in ("EUR/USD", "BTC/USD", "BTCEUR", "US500")] == ["fx", "fx", "crypto", "all"]
    saturday = parse_moment("2026-01-17T12:00:00Z")
    assert [feed.is_open(group, saturday) for group in ("fx", "crypto", "all")] == [False, True, True]


# ---- (14) the session by its schedule


def at(lp: Lp, moment: str) -> Lp:
    lp.now = parse_moment(moment)
    return lp


def scheduled(**settings) -> Lp:
    lp = at(Lp(reset_on_logon=False, schedule=DAILY, **settings), "2026-01-14T12:00:00Z").connect().logon(reset=False)
    lp.got.clear()
    return lp


def test_14_numbers_go_on_within_a_stretch_and_begin_at_1_with_the_next():
    lp = scheduled().send("W", both_sides("EUR/USD", "1.1", "1.2")).drop()
    before = lp.state.next_in, lp.state.next_out
    at(lp, "2026-01-14T13:00:00Z").connect()
    assert (lp.state.next_in, lp.last("A").get(34)) == (before[0], b"%d" % before[1])
    lp.drop()
    at(lp, "2026-01-14T22:05:01Z").connect()
    assert (lp.state.next_in, lp.last("A").get(34), lp.last("A").get(141)) == (1, b"1", None)
    lp.logon(seq=1, reset=False)
    assert (lp.state.status, lp.state.next_in) == ("established", 2)


def test_14_what_was_held_at_the_end_of_a_stretch_is_kept_and_what_was_missing_is_a_gap():
    lp = scheduled().lose().send("W", both_sides("EUR/USD", "1.1", "1.2"))
    assert lp.ticks == []
    lp.drop()
    at(lp, "2026-01-14T22:05:01Z").connect()
    assert (lp.bids(), {(gap.first_seq, gap.last_seq) for gap in lp.gaps if gap.last_seq}) == ([1.1], {(2, 2)})


def test_14_closed_is_not_missing():
    lp = scheduled().send("W", both_sides("EUR/USD", "1.1", "1.2"))
    at(lp, "2026-01-14T22:00:01Z").send("5").drop()
    at(lp, "2026-01-14T22:05:01Z").connect().logon(seq=1, reset=False)
    assert lp.gaps == []
    lp = established(market_hours=HOURS, reset_on_logon=False)
    at(lp, "2026-01-16T21:59:00Z").send("W", both_sides("EUR/USD", "1.1", "1.2"))
    at(lp, "2026-01-17T12:00:00Z").drop()
    assert lp.gaps == [], "the market of its only symbol is closed on a Saturday"
    lp = established(market_hours=HOURS).send("W", both_sides("EUR/USD", "1.1", "1.2")).drop()
    assert [gap.cause for gap in lp.gaps] == ["disconnect"], "open on a Friday morning"


def test_14_a_market_that_opened_without_us_is_missed_from_its_opening():
    lp = established(market_hours=HOURS)
    at(lp, "2026-11-20T21:59:00Z").send("W", both_sides("EUR/USD", "1.1", "1.2"))
    at(lp, "2026-11-20T22:00:01Z").drop()
    assert lp.gaps == []
    at(lp, "2026-11-22T23:00:00Z").connect().logon().send("W", both_sides("EUR/USD", "1.1", "1.2"))
    assert [(gap.cause, gap.from_ts, gap.resolved_by) for gap in lp.gaps] == [
        ("disconnect", parse_moment("2026-11-22T22:05:00Z"), by) for by in (None, "snapshot")
    ]
    lp = scheduled().send("W", both_sides("EUR/USD", "1.1", "1.2"))
    at(lp, "2026-01-14T22:00:01Z").drop()
    at(lp, "2026-01-14T22:30:00Z").connect().logon(seq=1, reset=False)
    assert [gap.from_ts for gap in lp.gaps] == [parse_moment("2026-01-14T22:05:00Z")]


# ---- stale


def test_a_stale_group_is_a_gap_from_its_last_quote_to_its_next():
    lp = established(symbols="all", market_hours=HOURS).send("W", both_sides("EUR/USD", "1.1", "1.2")).wait(11).idle("fx")
    assert [(gap.cause, gap.to_ts) for gap in lp.gaps] == [("stale", None)]
    assert (list(lp.state.stale), lp.idle("fx").gaps[1:]) == (["fx"], [])
    lp.wait(1).send("W", both_sides("BTCEUR", "90000", "90001"))
    assert len(lp.gaps) == 1, "another group"
    lp.wait(1).send("W", both_sides("EUR/USD", "1.1", "1.2"))
    assert (lp.gaps[1].from_ts, lp.gaps[1].to_ts, lp.gaps[1].resolved_by) == (lp.ticks[0].ts, lp.ticks[-1].ts, "none")
    assert lp.state.stale == {}
    assert lp.bids() == [1.1, 90000, 1.1], "a quiet feed withdraws no price"


def test_a_stale_group_ends_with_its_market_and_with_its_connection():
    lp = established(market_hours=HOURS).send("W", both_sides("EUR/USD", "1.1", "1.2")).wait(11).idle("fx")
    at(lp, "2026-11-21T12:00:00Z").idle()
    assert (lp.state.stale, lp.gaps[-1].to_ts) == ({}, lp.now)
    lp = established().send("W", both_sides("EUR/USD", "1.1", "1.2")).wait(11).idle("all").wait(1).drop()
    assert [(gap.cause, gap.to_ts is None) for gap in lp.gaps] == [("stale", True), ("disconnect", True), ("stale", False)]


def test_time_alone_ends_the_wait_for_a_resend():
    lp = established().lose().send("W", both_sides("EUR/USD", "1.1", "1.2")).wait(31).idle()
    assert (lp.bids(), {gap.cause for gap in lp.gaps}) == ([1.1], {"gap_fill"})
    assert NS_PER_DAY > lp.now - lp.gaps[0].from_ts >= 31 * NS_PER_S
