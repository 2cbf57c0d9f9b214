"""Top of book: one tick per symbol and message, numbered and flagged; what cannot be one has a reason."""

import itertools

import msgspec
import pytest
from gateway_lp import T0, both_sides, entry, increment, market_data, quote, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, NS_PER_S, format_moment, parse_moment
from libs.common.domain.record import Flag, Tick
from services.gateway.fix.wire import Clock, format_sending_time
from services.gateway.market.top import DAYS_KEPT, UNKNOWN_ENTRY, Market

UNIT = 10**9


class Desk:
    """A market, and what has come out of it."""

    def __init__(self, aliases=None, listed=None):
        self.market = Market("LP1", aliases or {}, listed, Clock())
        self.ticks: list[Tick] = []
        self.refused = []

    def apply(self, msg_type, fields, sending=T0, recv=None, marks=0):
        rows = []
        self.market.apply(
            market_data(msg_type, fields, at=sending), sending, sending if recv is None else recv, marks, rows, self.refused
        )
        self.ticks += [Tick(*row) for row in rows]
        return self

    def x(self, *entries, **more):
        return self.apply("X", increment(*entries), **more)

    def quote(self, symbol, bid, ask, **more):
        at = {key: more.pop(key) for key in ("date", "time") if key in more}
        return self.apply("X", quote(symbol, bid, ask, **at), **more)

    def reasons(self):
        return [item.reason for item in self.refused]


def at(text):
    """Date and time of an entry."""
    moment = format_sending_time(parse_moment(text)).split("-")
    return {"date": moment[0], "time": moment[1]}


def sides(tick):
    return (tick.bid, tick.ask, tick.bid_size, tick.ask_size)


# ---- what a message makes of the book


def test_a_message_gives_one_tick_per_symbol_after_all_its_entries():
    desk = Desk().x(
        entry("0", "1.1", "10", action="0", symbol="EUR/USD"),
        entry("0", "2.1", "11", action="0", symbol="GBP/USD"),
        entry("1", "1.2", "12", action="0", symbol="EUR/USD"),
        entry("1", "2.2", "13", action="0", symbol="GBP/USD"),
    )
    assert [(tick.symbol, *sides(tick)) for tick in desk.ticks] == [
        ("EUR/USD", 1_100_000_000, 1_200_000_000, 10.0, 12.0),
        ("GBP/USD", 2_100_000_000, 2_200_000_000, 11.0, 13.0),
    ]


def test_a_message_that_changes_nothing_is_a_tick_all_the_same():
    desk = Desk().quote("EUR/USD", "1.1", "1.2").quote("EUR/USD", "1.1", "1.2")
    assert [tick.seq for tick in desk.ticks] == [0, 1]
    desk.x(entry("0", action="2", symbol="EUR/USD", entry_id="gone long ago"))
    assert desk.ticks[2].bid is None


def test_a_delete_of_an_entry_that_was_replaced_leaves_the_side_and_is_a_tick():
    desk = Desk().apply("W", snapshot("EUR/USD", entry("0", "1.1", entry_id="a"), entry("1", "1.2", entry_id="z")))
    desk.x(entry("0", "1.15", action="0", symbol="EUR/USD", entry_id="b"))
    desk.x(entry("0", action="2", symbol="EUR/USD", entry_id="a"))
    assert [tick.bid for tick in desk.ticks] == [1_100_000_000, 1_150_000_000, 1_150_000_000]
    desk.x(entry("0", action="2", symbol="EUR/USD", entry_id="b"))
    assert desk.ticks[3].bid is None


def test_a_change_keeps_what_it_does_not_mention():
    desk = Desk().apply("W", snapshot("EUR/USD", entry("0", "1.1", "10", entry_id="a"), entry("1", "1.2", "20", entry_id="z")))
    desk.x(entry("0", None, "7", action="1", symbol="EUR/USD", entry_id="a"))
    desk.x(entry("0", "1.15", None, action="1", symbol="EUR/USD", entry_id="a"))
    desk.x(entry("0", "1.16", None, action="0", symbol="EUR/USD", entry_id="a"))
    assert [(tick.bid, tick.bid_size) for tick in desk.ticks[1:]] == [
        (1_100_000_000, 7),
        (1_150_000_000, 7),
        (1_160_000_000, None),
    ]


def test_a_change_of_size_on_a_side_nobody_knows_leaves_it_unknown():
    desk = Desk().x(entry("0", None, "7", action="1", symbol="EUR/USD"), entry("1", "1.2", action="0", symbol="EUR/USD"))
    assert sides(desk.ticks[0]) == (None, 1_200_000_000, None, None)
    assert desk.ticks[0].flags == Flag.ONE_SIDED


def test_a_change_or_delete_may_name_its_entry_only():
    desk = Desk()
    for symbol in ("EUR/USD", "GBP/USD"):
        sides_of = (entry("0", "1.1", entry_id=f"{symbol}-b"), entry("1", "1.2", entry_id=f"{symbol}-a"))
        desk.apply("W", snapshot(symbol, *sides_of))
    desk.x(entry(None, "1.3", action="1", entry_id="GBP/USD-a"), entry(None, action="2", entry_id="EUR/USD-b"))
    assert [(tick.symbol, tick.bid, tick.ask) for tick in desk.ticks[2:]] == [
        ("GBP/USD", 1_100_000_000, 1_300_000_000),
        ("EUR/USD", None, 1_200_000_000),
    ]


def test_an_entry_without_a_symbol_is_of_the_symbol_of_the_entry_before_it():
    desk = Desk().x(
        entry("0", "1.1", action="0", symbol="EUR/USD"),
        entry("0", "2.1", action="0", symbol="GBP/USD"),
        entry("0", "1.15", action="0", symbol="EUR/USD"),
        entry("1", "1.2", action="0"),
    )
    assert {tick.symbol: sides(tick)[:2] for tick in desk.ticks} == {
        "EUR/USD": (1_150_000_000, 1_200_000_000),
        "GBP/USD": (2_100_000_000, None),
    }


def test_an_entry_behind_one_that_was_refused_or_ignored_never_lands_in_another_symbol():
    desk = Desk(listed=frozenset({"EUR/USD", "GBP/USD"}))
    desk.x(
        entry("0", "1.1", action="0", symbol="EUR/USD"), entry("0", "9", action="0", symbol="XXX"), entry("1", "9.1", action="0")
    )
    desk.x(
        entry("0", "1.1", action="0", symbol="EUR/USD"),
        entry("2", "9", action="0", symbol="GBP/USD"),
        entry("1", "9.1", action="0"),
    )
    assert [(tick.symbol, *sides(tick)[:2]) for tick in desk.ticks] == [
        ("EUR/USD", 1_100_000_000, None),
        ("EUR/USD", 1_100_000_000, None),
        ("GBP/USD", None, 9_100_000_000),
    ]
    assert [item.symbol for item in desk.refused] == ["XXX"]


def test_an_id_that_two_symbols_use_names_neither():
    desk = Desk()
    for symbol in ("EUR/USD", "GBP/USD"):
        desk.apply("W", snapshot(symbol, entry("0", "1.1", entry_id="1"), entry("1", "1.2", entry_id="2")))
    desk.x(entry("0", "1.15", action="1", entry_id="1"))
    assert desk.refused == [UNKNOWN_ENTRY]
    desk.x(entry("0", "1.15", action="1", entry_id="1", symbol="GBP/USD"), entry("1", "1.25", action="1", entry_id="2"))
    assert (desk.ticks[-1].symbol, *sides(desk.ticks[-1])[:2]) == ("GBP/USD", 1_150_000_000, 1_250_000_000)


@pytest.mark.parametrize("stated", [entry("0", "1.1", action="1", entry_id="who?"), entry("0", "1.1", action="0")])
def test_an_entry_that_names_neither_a_symbol_nor_a_known_entry_is_refused(stated):
    assert Desk().x(stated).refused == [UNKNOWN_ENTRY]


def test_a_known_symbol_with_neither_a_side_nor_a_known_entry_is_refused():
    desk = Desk().quote("EUR/USD", "1.1", "1.2").x(entry(None, "1.3", action="1", symbol="EUR/USD", entry_id="who?"))
    assert (len(desk.ticks), desk.refused) == (1, [UNKNOWN_ENTRY])


def test_of_several_bids_and_offers_in_a_snapshot_the_best_are_the_top():
    tiers = [entry("0", "1.1", "3"), entry("0", "1.12", "1"), entry("0", "1.12", "9"), entry("0", "1.11", "2")]
    offers = [entry("1", "1.2", "1"), entry("1", "1.19", "2"), entry("1", "1.21", "3")]
    desk = Desk().apply("W", snapshot("EUR/USD", *tiers, *offers)).apply("W", snapshot("EUR/USD", *tiers[:2]))
    assert [sides(tick) for tick in desk.ticks] == [
        (1_120_000_000, 1_190_000_000, 1.0, 2.0),
        (1_120_000_000, None, 1.0, None),
    ]


def test_a_price_that_cannot_be_read_may_have_been_the_best_of_its_side():
    desk = Desk().apply("W", snapshot("A", entry("0", "NaN"), entry("0", "1.1"), entry("1", "1.2")))
    assert (desk.ticks, len(desk.refused)) == ([], 1)
    assert sides(desk.x(entry("1", "1.3", action="0", symbol="A")).ticks[0])[:2] == (None, 1_300_000_000)


def test_a_snapshot_replaces_the_whole_book_of_its_symbol():
    desk = Desk().quote("EUR/USD", "1.1", "1.2").quote("GBP/USD", "2.1", "2.2")
    desk.apply("W", snapshot("EUR/USD", entry("0", "1.15", "5")))
    assert sides(desk.ticks[-1]) == (1_150_000_000, None, 5.0, None)
    assert desk.x(entry("0", "2.15", action="1", symbol="GBP/USD")).ticks[-1].ask == 2_200_000_000


@pytest.mark.parametrize("entries", [(), (entry("2", "1.1", "5"),)])
def test_a_snapshot_without_bid_and_offer_withdraws_both_sides_and_says_so(entries):
    desk = Desk().quote("EUR/USD", "1.1", "1.2").apply("W", snapshot("EUR/USD", *entries))
    assert desk.reasons() == ["no price on either side"]
    assert desk.x(entry("1", "1.3", action="0", symbol="EUR/USD")).ticks[-1].bid is None


def test_an_increment_without_entries_says_nothing():
    desk = Desk().quote("EUR/USD", "1.1", "1.2").apply("X", [(268, 0)])
    assert (len(desk.ticks), desk.refused) == (1, [])


def test_entries_of_other_types_are_counted_and_change_nothing():
    desk = Desk().quote("EUR/USD", "1.1", "1.2").x(entry("2", "9", action="0", symbol="EUR/USD"))
    assert (len(desk.ticks), desk.market.ignored_entries) == (1, 1)


def test_withdrawn_sides_are_unknown_until_stated_again():
    desk = Desk().quote("EUR/USD", "1.1", "1.2")
    desk.market.withdraw_all()
    desk.x(entry("0", "1.15", action="1", symbol="EUR/USD"))
    assert (sides(desk.ticks[-1]), desk.ticks[-1].flags) == ((1_150_000_000, None, None, None), Flag.ONE_SIDED)


def test_what_came_too_late_becomes_a_tick_and_leaves_the_book_as_it_stands():
    desk = Desk().quote("EUR/USD", "1.1", "1.2")
    with desk.market.past():
        desk.x(entry("0", "1.05", action="0", symbol="EUR/USD"), entry("0", "2.05", action="0", symbol="GBP/USD"))
    desk.x(entry("1", "1.21", action="0", symbol="EUR/USD"), entry("1", "2.2", action="0", symbol="GBP/USD"))
    assert [(tick.symbol, tick.seq, *sides(tick)[:2]) for tick in desk.ticks[1:]] == [
        ("EUR/USD", 1, 1_050_000_000, None),
        ("GBP/USD", 0, 2_050_000_000, None),
        ("EUR/USD", 2, 1_100_000_000, 1_210_000_000),
        ("GBP/USD", 1, None, 2_200_000_000),
    ]


# ---- time


def test_event_time_is_date_and_time_to_the_nanosecond():
    desk = Desk().quote("EUR/USD", "1.1", "1.2", date="20261120", time="09:59:59.123456789")
    assert desk.ticks[0].ts == parse_moment("2026-11-20T09:59:59.123456789Z")


@pytest.mark.parametrize(
    ("sending", "time", "expected"),
    [
        ("2026-11-20T00:00:01Z", "23:59:59.900", "2026-11-19T23:59:59.900Z"),
        ("2026-11-19T23:59:59Z", "00:00:00.100", "2026-11-20T00:00:00.100Z"),
        ("2026-11-20T12:00:00Z", "11:59:59.5", "2026-11-20T11:59:59.5Z"),
    ],
)
def test_a_time_without_a_date_is_on_the_day_nearest_to_sending_time(sending, time, expected):
    desk = Desk().quote("EUR/USD", "1.1", "1.2", time=time, sending=parse_moment(sending))
    assert desk.ticks[0].ts == parse_moment(expected)


def test_without_a_time_it_is_transact_time_and_failing_that_sending_time():
    desk = (
        Desk()
        .apply("X", [(60, "20261120-09:59:58"), *quote("EUR/USD", "1.1", "1.2")])
        .quote("EUR/USD", "1.1", "1.2", sending=T0 + 5)
    )
    assert [tick.ts for tick in desk.ticks] == [T0 - 2 * NS_PER_S, T0 + 5]


def test_the_time_of_a_tick_is_the_latest_of_its_entries():
    desk = Desk().x(
        entry("0", "1.1", action="0", symbol="EUR/USD", **at("2026-11-20T09:59:59Z")),
        entry("1", "1.2", action="0", symbol="EUR/USD", **at("2026-11-20T09:59:57Z")),
    )
    assert format_moment(desk.ticks[0].ts) == "2026-11-20T09:59:59.000Z"


# ---- numbers


def test_each_symbol_and_utc_day_is_numbered_from_0_across_midnight_and_back():
    desk = Desk()
    for symbol, moment in [
        ("EUR/USD", "2026-11-20T23:59:59.998Z"), ("EUR/USD", "2026-11-20T23:59:59.999Z"), ("GBP/USD", "2026-11-20T23:59:59.999Z"),
        ("EUR/USD", "2026-11-21T00:00:00Z"), ("EUR/USD", "2026-11-20T23:59:59.999Z"), ("EUR/USD", "2026-11-21T00:00:00Z"),
        ("GBP/USD", "2026-11-21T00:00:00Z"), ("EUR/USD", "2026-11-20T23:59:59.997Z"),
    ]:  # fmt: skip
        desk.quote(symbol, "1.1", "1.2", sending=parse_moment("2026-11-21T00:00:01Z"), **at(moment))
    assert [(tick.symbol[:3], tick.ts // NS_PER_DAY - T0 // NS_PER_DAY, tick.seq) for tick in desk.ticks] == [
        ("EUR", 0, 0), ("EUR", 0, 1), ("GBP", 0, 0), ("EUR", 1, 0), ("EUR", 0, 2), ("EUR", 1, 1), ("GBP", 1, 0), ("EUR", 0, 3),
    ]  # fmt: skip


def test_a_quote_that_comes_back_within_a_millisecond_is_three_ticks():
    desk = Desk()
    for bid in ("1.1", "1.2", "1.1"):
        desk.quote("EUR/USD", bid, "1.3", date="20261120", time="10:00:00.000")
    assert [(tick.ts, tick.seq, tick.bid) for tick in desk.ticks] == [
        (T0, 0, 11 * UNIT // 10),
        (T0, 1, 12 * UNIT // 10),
        (T0, 2, 11 * UNIT // 10),
    ]


def test_the_numbers_of_many_days_are_kept_and_bounded():
    desk = Desk()
    for day in (*range(DAYS_KEPT + 5), DAYS_KEPT, 10):
        desk.quote("EUR/USD", "1.1", "1.2", sending=T0 + day * NS_PER_DAY)
    assert [tick.seq for tick in desk.ticks[-2:]] == [1, 1]
    assert len(desk.market.books["EUR/USD"].other_days) <= DAYS_KEPT


# ---- flags


@pytest.mark.parametrize(
    ("bid", "ask", "flags"),
    [
        ("1.1", "1.2", 0),
        ("1.2", "1.1", Flag.CROSSED),
        ("1.2", "1.2", Flag.LOCKED),
        ("1.2", "1.20000", Flag.LOCKED),
        ("1.1", None, Flag.ONE_SIDED),
    ],
)
def test_a_book_is_marked_crossed_locked_or_one_sided(bid, ask, flags):
    stated = [entry("0", bid, action="0", symbol="A"), *([entry("1", ask, action="0", symbol="A")] if ask else [])]
    assert Desk().x(*stated).ticks[0].flags == flags


@pytest.mark.parametrize(("bid", "spike"), [("110", False), ("90", False), ("110.000000001", True), ("89.999999999", True)])
def test_a_side_that_moves_by_more_than_a_tenth_is_a_spike(bid, spike):
    desk = Desk().quote("A", "100", "200").quote("A", bid, "200")
    assert [tick.flags for tick in desk.ticks] == [0, Flag.SPIKE if spike else 0]


def test_late_is_more_than_a_minute_behind_sending_time():
    desk = Desk().quote("A", "1", "2", **at("2026-11-20T09:59:00Z")).quote("B", "1", "2", **at("2026-11-20T09:58:59.999Z"))
    assert [tick.flags for tick in desk.ticks] == [0, Flag.LATE]


def test_out_of_order_is_before_any_earlier_tick_of_the_symbol():
    desk = Desk()
    for ms in (5, 7, 6, 7, 6):
        desk.quote("A", "1", "2", sending=T0 + ms * NS_PER_MS)
    desk.quote("B", "1", "2", sending=T0)
    assert [tick.flags for tick in desk.ticks] == [0, 0, Flag.OUT_OF_ORDER, 0, Flag.OUT_OF_ORDER, 0]


def test_marks_are_on_every_tick_of_the_message():
    desk = Desk().quote("A", "2", "1", marks=int(Flag.RESENT))
    assert desk.ticks[0].flags == Flag.RESENT | Flag.CROSSED


# ---- quarantine


@pytest.mark.parametrize(
    "price", ["NaN", "-1", "0", "0.0", "1000000000", "1e9", "9" * 40, "1.0000000001", "1,1", "inf", "0x1", " 1"]
)
def test_what_is_no_price_is_refused_and_leaves_its_side_unknown(price):
    desk = Desk().quote("A", "1", "2").quote("A", price, "2")
    assert len(desk.ticks) == 1
    assert [item.symbol for item in desk.refused] == ["A"]
    assert "price" in desk.reasons()[0]
    assert sides(desk.x(entry("1", "2.1", action="1", symbol="A")).ticks[-1])[:2] == (None, 2_100_000_000)


@pytest.mark.parametrize("price", ["0.000000001", "999999999.999999999", "1.10000000000000", "+1.5", ".5", "1."])
def test_the_smallest_and_the_largest_price_are_prices(price):
    assert Desk().quote("A", price, "2").refused == []


@pytest.mark.parametrize("size", ["NaN", "-1", "x", "1e3", "9" * 41])
def test_what_is_no_size_is_refused(size):
    desk = Desk().x(entry("0", "1", size, action="0", symbol="A"))
    assert (desk.ticks, len(desk.refused)) == ([], 1)


def test_a_size_of_nothing_is_not_an_absent_size():
    desk = Desk().x(entry("0", "1", "0", action="0", symbol="A"), entry("1", "2", None, action="0", symbol="A"))
    assert sides(desk.ticks[0])[2:] == (0.0, None)


@pytest.mark.parametrize(
    "symbol",
    ["..\\etc", "~/x", "EUR USD", "EUR\x00USD", "EUR\x02", "A" * 33, "ß", "ﬁ", "EUR\u212aUSD", b"\xff\xfe", "a\nb", "A:B"],
)
def test_what_is_no_symbol_is_refused(symbol):
    desk = Desk().quote(symbol, "1", "2").apply("W", both_sides(symbol, "1", "2"))
    assert (desk.ticks, desk.market.books) == ([], {})
    assert {item.reason.endswith("is not a symbol") for item in desk.refused} == {True}


def test_a_symbol_that_looks_like_a_path_is_a_name_like_any_other():
    assert Desk().quote("../x", "1", "2").ticks[0].symbol == "../X"


def test_symbols_are_upper_cased_and_go_through_the_aliases():
    desk = Desk(aliases={"EURUSD.r": "EUR/USD", "€": "EUR"})
    for spelt in ("eurusd.R", "EUR/usd", "gbp/usd", "€"):
        desk.quote(spelt, "1", "2")
    assert [(tick.symbol, tick.seq) for tick in desk.ticks] == [("EUR/USD", 0), ("EUR/USD", 1), ("GBP/USD", 0), ("EUR", 0)]


def test_a_symbol_outside_a_closed_list_is_refused_once_a_message():
    desk = Desk(listed=frozenset({"EUR/USD"})).quote("eur/usd", "1", "2").quote("XAU/USD", "1", "2")
    assert [tick.symbol for tick in desk.ticks] == ["EUR/USD"]
    assert [(item.symbol, item.reason) for item in desk.refused] == [("XAU/USD", "symbol is not in the feed's list")]


def test_a_time_more_than_an_hour_ahead_is_refused():
    desk = Desk().quote("A", "1", "2", **at("2026-11-20T11:00:00Z")).quote("A", "1", "2", **at("2026-11-20T11:00:00.001Z"))
    assert (len(desk.ticks), desk.reasons()) == (1, ["time is more than an hour in the future"])


@pytest.mark.parametrize(
    "when", [{"date": "20261320", "time": "10:00:00"}, {"time": "25:00:00"}, {"date": "00010101", "time": "10:00:00"}]
)
def test_what_is_no_time_is_refused(when):
    desk = Desk().quote("A", "1", "2", **when)
    assert (desk.ticks, [item.symbol for item in desk.refused]) == ([], ["A"])


def test_an_action_that_is_none_of_new_change_delete_is_refused():
    desk = (
        Desk()
        .quote("A", "1", "2")
        .x(entry("0", "1.5", "1", action="5", symbol="A"), entry("1", "2.5", "1", action="5", symbol="A"))
    )
    assert (len(desk.ticks), desk.reasons()) == (1, ["MDUpdateAction b'5' is not new, change or delete"])


def test_both_sides_withdrawn_is_no_tick():
    desk = Desk().quote("A", "1", "2").x(entry("0", action="2", symbol="A"), entry("1", action="2", symbol="A"))
    assert desk.reasons() == ["no price on either side"]


def test_one_bad_entry_refuses_its_symbol_only():
    desk = Desk().x(entry("0", "NaN", action="0", symbol="A"), entry("0", "1", action="0", symbol="B"))
    assert ([tick.symbol for tick in desk.ticks], [item.symbol for item in desk.refused]) == (["B"], ["A"])


# ---- against a slow and plain model


class Model:
    """The rules, one by one, on dictionaries."""

    def __init__(self):
        self.books = {}
        self.numbers = {}

    def apply(self, snapshot_of, entries, sending):
        """(ticks, symbols refused) of a message; snapshot_of is None for an X."""
        touched, wrong, refused = {}, set(), set()
        merits = {}  # of a W: the best price a side has had, beginning with one that cannot be read
        before = None  # of the entry before: a symbol, or ("refused", why)
        if snapshot_of is not None:
            before = self._symbol(snapshot_of)
            if before[0] == "refused":
                refused.add(before)
            else:
                self.books[before] = {"0": None, "1": None}
                touched[before] = []
        for action, side, symbol, entry_id, price, size, time in entries:
            if symbol is not None:
                before = self._symbol(symbol)
            elif action in {"1", "2"} and entry_id is not None and not self._has(before, entry_id):
                holders = [known for known in self.books if self._has(known, entry_id)]
                if len(holders) == 1:
                    before = holders[0]
            if before is None or before[0] == "refused":
                refused.add(before or ("refused", "unknown entry"))
                continue
            book = self.books.setdefault(before, {"0": None, "1": None})
            named = [name for name in "01" if entry_id is not None and book[name] and book[name][2] == entry_id]
            stated = side or (named[0] if named else None)
            if stated is None:
                refused.add(("refused", "unknown entry"))
            if stated not in {"0", "1"}:
                continue
            touched.setdefault(before, [])
            moment = {None: sending, "bad": None}.get(time, time)
            problem, now = self._side(book[stated], action, entry_id, price, size)
            if problem or moment is None:
                wrong.add(before)
                now = None
            else:
                touched[before].append(moment)
            if snapshot_of is not None:
                merit = {"1.1": 1, "1.25": 2}.get(price, 9) * (-1 if stated == "1" and price in {"1.1", "1.25"} else 1)
                if merit <= merits.get(stated, -9):
                    continue
                merits[stated] = merit
            book[stated] = now
        ticks = []
        for symbol, moments in touched.items():
            bid, ask = self.books[symbol]["0"], self.books[symbol]["1"]
            if symbol in wrong or not ((bid and bid[0]) or (ask and ask[0])):
                refused.add((symbol,))
                continue
            seq = self.numbers.get(symbol, 0)
            self.numbers[symbol] = seq + 1
            (bid, bid_size, _), (ask, ask_size, _) = bid or (None,) * 3, ask or (None,) * 3
            ticks.append((symbol, max(moments), seq, bid, ask, bid_size, ask_size))
        return ticks, len(refused)

    def _has(self, symbol, entry_id):
        return symbol in self.books and any(side and side[2] == entry_id for side in self.books[symbol].values())

    @staticmethod
    def _symbol(text):
        return ("refused", text) if "@" in text else text.upper()

    @staticmethod
    def _side(was, action, entry_id, price, size):
        """(whether it is wrong, what stands on the side now)"""
        prices = {"1.1": 1_100_000_000, "1.25": 1_250_000_000}
        sizes = {"5": 5.0, "0": 0.0}
        if action == "2":
            replaced = was is not None and was[2] is not None and entry_id is not None and was[2] != entry_id
            return False, was if replaced else None
        if action == "5" or (price is None and action != "1") or (price or "1.1") not in prices or (size or "5") not in sizes:
            return True, None
        old = was if was and action == "1" else (None, None, None)
        now = prices[price] if price else old[0]
        if now is None:
            return False, (None, None, entry_id)
        return False, (now, sizes[size] if size else old[1], entry_id)


MAYBE = st.none
ENTRIES = st.tuples(
    st.sampled_from(["0", "0", "1", "1", "2", "5"]),
    st.sampled_from(["0", "0", "1", "1", "2", None]),
    st.sampled_from(["EUR/USD", "eur/usd", "GBP/USD", "b@d", None, None]),
    st.sampled_from([None, None, "a", "b", "c"]),
    st.sampled_from(["1.1", "1.25", "1.1", None, "NaN", "-1"]),
    st.sampled_from(["5", "0", None, "x"]),
    st.sampled_from([None, T0 - 3 * NS_PER_MS, T0 - 1 * NS_PER_MS, "bad"]),
)
PLAIN_ENTRIES = st.tuples(
    st.sampled_from(["0", "1", "2"]), st.sampled_from(["0", "1"]), st.sampled_from(["EUR/USD", "GBP/USD"]),
    st.sampled_from([None, "a", "b"]), st.sampled_from(["1.1", "1.25"]), st.sampled_from(["5", "0", None]),
    st.just(T0 - 1 * NS_PER_MS),
)  # fmt: skip
MESSAGES = st.tuples(
    st.sampled_from([None, None, None, "EUR/USD", "GBP/USD", "b@d"]),
    st.one_of(
        st.lists(ENTRIES, max_size=4),
        st.lists(PLAIN_ENTRIES, max_size=3),
        st.tuples(PLAIN_ENTRIES, PLAIN_ENTRIES).map(list),
        st.lists(PLAIN_ENTRIES | ENTRIES, min_size=20, max_size=20),
    ),
)


def as_fields(whole, stated):
    action, side, symbol, entry_id, price, size, time = stated
    when = {} if time is None else {"time": "99:00:00"} if time == "bad" else at(format_moment(time))
    return entry(side, price, size, action=None if whole else action, symbol=None if whole else symbol, entry_id=entry_id, **when)


@settings(deadline=None, max_examples=250)
@given(st.lists(MESSAGES, min_size=1, max_size=12))
def test_any_sequence_of_messages_gives_the_ticks_of_the_plain_model(messages):
    desk, model = Desk(), Model()
    for number, (whole, given_entries) in enumerate(messages):
        # an entry of a W has no action and no symbol, and begins with its side
        entries = [(None, stated[1] or "0", None, *stated[3:]) for stated in given_entries] if whole else given_entries
        desk.ticks.clear()
        desk.refused.clear()
        body = [as_fields(whole, stated) for stated in entries]
        desk.apply("W" if whole else "X", snapshot(whole, *body) if whole else increment(*body), sending=T0 + number * NS_PER_MS)
        expected, refused = model.apply(whole, entries, T0 + number * NS_PER_MS)
        assert [(t.symbol, t.ts, t.seq, t.bid, t.ask, t.bid_size, t.ask_size) for t in desk.ticks] == expected
        assert len(desk.refused) == refused


@settings(deadline=None, max_examples=80)
@given(st.lists(MESSAGES, min_size=1, max_size=10), st.integers(0, 10))
def test_a_restored_market_goes_on_as_if_nothing_had_happened(messages, cut):
    one, other = Desk(), Desk()

    def play(desk, number, whole, entries):
        body = [as_fields(whole, (stated[0], stated[1] or "0", *stated[2:])) for stated in entries]
        when = T0 + number * NS_PER_DAY // 3
        desk.apply("W" if whole else "X", snapshot(whole, *body) if whole else increment(*body), sending=when)

    for number, message in enumerate(messages):
        if number == cut:
            other.market.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.market.snapshot())))
            assert other.market.snapshot() == one.market.snapshot()
            one.ticks.clear()
        play(one, number, *message)
        if number >= cut:
            play(other, number, *message)
    if cut < len(messages):
        assert other.ticks == one.ticks
        assert other.market.snapshot() == one.market.snapshot()


def test_the_two_entry_path_and_the_general_one_agree_on_every_order_of_sides():
    for sides_of in itertools.product("01", repeat=2):
        for actions in itertools.product("012", repeat=2):
            pair = [
                entry(side, price, "5", action=action, symbol="A", **at("2026-11-20T09:59:59Z"))
                for side, action, price in zip(sides_of, actions, ("1.1", "1.25"), strict=True)
            ]
            one, other = Desk(), Desk()
            for _ in range(2):  # prices, sizes and times are known the second time
                one.x(*pair)
                other.x(*pair, entry("2", "1", "1", action="0", symbol="B"))
            assert one.ticks == other.ticks
