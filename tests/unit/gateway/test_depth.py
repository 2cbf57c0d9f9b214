"""Depth of book and trades: levels by id, position or price; books at a pace; trades numbered apart."""

import msgspec
import pytest
from gateway_lp import T0, build, increment, snapshot
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_market import MESSAGES, as_fields

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, NS_PER_S
from libs.common.domain.record import Flag, Tick
from services.gateway.fix.decoder import DEPTH_TAGS, decode, decode_quotes
from services.gateway.fix.wire import Clock, parse
from services.gateway.market.depth import DepthMarket
from services.gateway.market.levels import LEVELS_MAX
from services.gateway.market.top import DAYS_KEPT, UNKNOWN_ENTRY, Market

UNIT = 10**9
COLUMNS = {"action": 279, "side": 269, "symbol": 55, "id": 278, "price": 270, "size": 271, "date": 272, "time": 273,
           "ref": 280, "position": 290, "trade_id": 1003, "aggressor": 2446, "dealt": 54}  # fmt: skip


class Desk:
    """A market with depth, and what has come out of it."""

    def __init__(self, depth=0, interval_ns=0, trades=True, listed=None):
        self.settings = {"depth": depth, "book_interval_ns": interval_ns, "trades": trades}
        self.market = DepthMarket("LP1", {"EURUSD.r": "EUR/USD"}, listed, Clock(), **self.settings)
        self.ticks: list[Tick] = []
        self.trades = []
        self.books = []
        self.refused = []

    def apply(self, msg_type, fields, sending=T0, recv=None, marks=0, asked_for=None):
        message = parse(build(msg_type, 1, fields, at=sending))
        found = [decode(message, DEPTH_TAGS)] if msg_type in "WX" else decode_quotes(message, asked_for)
        for one in found:
            rows = []
            self.market.apply(one, sending, sending if recv is None else recv, marks, rows, self.refused)
            self.ticks += [Tick(*row) for row in rows]
        return self.take()

    def x(self, *entries, **more):
        return self.apply("X", increment(*entries), **more)

    def w(self, symbol, *entries, **more):
        return self.apply("W", snapshot(symbol, *entries), **more)

    def pass_time(self, recv):
        self.market.emit_due(recv)
        return self.take()

    def take(self):
        trades, books = self.market.take()
        self.trades += trades
        self.books += books
        return self

    def reasons(self):
        return [item.reason for item in self.refused]


def row(action=None, side=None, symbol=None, price=None, size=None, **more):
    """The fields of one entry, MDUpdateAction first."""
    stated = {"action": action, "side": side, "symbol": symbol, "price": price, "size": size} | more
    return [(COLUMNS[name], value) for name, value in stated.items() if value is not None]


def text(price):
    return None if price is None else f"{price // 100}.{price % 100:02}"


def levels(*pairs):
    """(price in hundredths, size), as a record has it."""
    return [(price * UNIT // 100, None if size is None else float(size)) for price, size in pairs]


def top(tick):
    return (tick.bid, tick.ask, tick.bid_size, tick.ask_size)


def sides(book):
    return book.bids, book.asks


# ---- the three ways of addressing, against plain lists


class ById:
    """Entries in the order of arrival at their price: [id, price, size]."""

    def __init__(self):
        self.entries = []

    def apply(self, action, stated):
        entry_id, ref, price, size = stated
        found = {known[0]: known for known in self.entries}
        if action == "2":
            if entry_id not in found:
                return False
            self.entries.remove(found[entry_id])
            return True
        old = found.get(ref) or found.get(entry_id)
        if action == "1":
            if old is None:
                return False
            price, size = price or old[1], size if size is not None else old[2]
        if entry_id in found and found[entry_id] is not old:
            self.entries.remove(found[entry_id])
        now = [entry_id, price, size]
        if old is not None and old[1] == price:
            self.entries[self.entries.index(old)] = now
        else:
            if old is not None:
                self.entries.remove(old)
            self.entries.append(now)
        return True

    def levels(self):
        return [(price, size) for _, price, size in self.entries]


class ByPosition:
    """The list of the standard, cut at the depth that was asked for."""

    def __init__(self, most=LEVELS_MAX):
        self.most = most
        self.entries = []

    def apply(self, action, stated):
        position, price, size = stated
        count = len(self.entries)
        if action in "234":
            first, last = {"2": (position - 1, position), "3": (0, position), "4": (position - 1, count)}[action]
            known = bool(self.entries[first:last]) or position > self.most
            self.entries[first:last] = []
            return known
        if position > self.most:
            return True
        if action == "0" or (action == "5" and position == count + 1):
            if position > count + 1:
                return False
            self.entries.insert(position - 1, (price, size))
            del self.entries[self.most :]
            return True
        if position > count:
            return False
        old = self.entries[position - 1] if action == "1" else (None, None)
        self.entries[position - 1] = (price or old[0], size if size is not None else old[1])
        return True

    def levels(self):
        return self.entries


class ByPrice:
    def __init__(self):
        self.sizes = {}

    def apply(self, action, stated):
        price, size = stated
        if action == "2":
            return self.sizes.pop(price, "none") != "none"
        old = self.sizes.get(price) if action == "1" else None
        self.sizes[price] = size if size is not None else old
        return True

    def levels(self):
        return list(self.sizes.items())


PRICES = st.integers(100, 104)
SIZES = st.none() | st.integers(0, 9)
IDS = st.sampled_from("abcd")


def in_any_message(columns, stated):
    """X messages of entries (action, side, symbol, what is stated); a new one and an overlay state a price."""
    entry = st.tuples(st.sampled_from("01"), st.sampled_from(["A", "B"]), stated).map(
        lambda given: (given[2][0], given[0], given[1], given[2][1:])
    )
    return st.tuples(st.just(columns), st.lists(st.lists(entry, min_size=1, max_size=5), min_size=1, max_size=12))


BY_ID = in_any_message(
    ("id", "ref", "price", "size"),
    st.tuples(st.just("0"), IDS, IDS | st.none(), PRICES, SIZES)
    | st.tuples(st.just("1"), IDS, IDS | st.none(), PRICES | st.none(), SIZES)
    | st.tuples(st.just("2"), IDS, st.none(), st.none(), st.none()),
)
POSITIONS = st.integers(1, 5)
BY_POSITION = in_any_message(
    ("position", "price", "size"),
    st.tuples(st.sampled_from("0005"), POSITIONS, PRICES, SIZES)
    | st.tuples(st.just("1"), POSITIONS, PRICES | st.none(), SIZES)
    | st.tuples(st.sampled_from("2234"), POSITIONS, st.none(), st.none()),
)
BY_PRICE = in_any_message(
    ("price", "size"),
    st.tuples(st.sampled_from("01"), PRICES, SIZES) | st.tuples(st.just("2"), PRICES, st.none()),
)


def check_against(new_model, columns, messages, depth):
    desk, models = Desk(depth), {}
    for number, entries in enumerate(messages):
        desk.ticks.clear()
        desk.books.clear()
        desk.refused.clear()
        touched, unknown = {}, False
        for action, side, symbol, stated in entries:
            model = models.setdefault((symbol, side), new_model())
            if model.apply(action, stated):
                touched[symbol] = True
            else:
                unknown = True
        named = [
            {name: text(value) if name == "price" else value for name, value in zip(columns, stated, strict=True)}
            for *_, stated in entries
        ]
        rows = [row(*entry[:3], **fields) for entry, fields in zip(entries, named, strict=True)]
        desk.x(*rows, sending=T0 + number)
        expected = {}
        for symbol in touched:
            bids, asks = (models.setdefault((symbol, side), new_model()).levels() for side in "01")
            expected[symbol] = (
                levels(*sorted(bids, key=lambda level: -level[0])[: depth or None]),
                levels(*sorted(asks, key=lambda level: level[0])[: depth or None]),
            )
        assert {book.symbol: sides(book) for book in desk.books} == expected
        assert len(desk.books) == len(expected)
        assert {tick.symbol: top(tick) for tick in desk.ticks} == {
            symbol: (
                *((side[0] if side else (None, None))[0] for side in both),
                *((side or [(None, None)])[0][1] for side in both),
            )
            for symbol, both in expected.items()
            if both != ([], [])
        }
        assert (UNKNOWN_ENTRY in desk.refused) == unknown
        empty = ["no price on either side" for both in expected.values() if both == ([], [])]
        assert [reason for reason in desk.reasons() if reason != UNKNOWN_ENTRY.reason] == empty


DEPTHS = st.sampled_from([0, 2, 3])


@settings(deadline=None, max_examples=200)
@given(BY_ID, DEPTHS)
def test_entries_that_are_addressed_by_id_stand_as_in_a_plain_list(given_messages, depth):
    check_against(ById, *given_messages, depth)


@settings(deadline=None, max_examples=200)
@given(BY_POSITION, DEPTHS)
def test_entries_that_are_addressed_by_position_stand_as_in_a_plain_list(given_messages, depth):
    check_against(lambda: ByPosition(depth or LEVELS_MAX), *given_messages, depth)


@settings(deadline=None, max_examples=200)
@given(BY_PRICE, DEPTHS)
def test_entries_that_are_addressed_by_price_stand_as_in_a_plain_dict(given_messages, depth):
    check_against(ByPrice, *given_messages, depth)


def test_entries_of_one_price_stay_apart_in_the_order_of_their_arrival():
    desk = Desk().x(*(row("0", "0", "A", "1.1", size, id=f"i{size}") for size in (3, 1, 2)))
    desk.x(row("1", "0", "A", None, 5, id="i3"))
    assert desk.books[-1].bids == levels((110, 5), (110, 1), (110, 2))
    assert desk.ticks[-1].bid_size == 5.0


def test_an_entry_may_be_changed_under_a_new_id_and_found_by_either_side():
    desk = Desk().x(row("0", "0", "A", "1.1", 1, id="a"), row("0", "1", "A", "1.2", 2, id="b"))
    desk.x(row("1", None, "A", "1.11", None, id="a2", ref="a"), row("2", None, "A", id="b"))
    assert sides(desk.books[-1]) == (levels((111, 1)), [])
    assert desk.x(row("2", "0", "A", id="a")).refused == [UNKNOWN_ENTRY]


def test_an_entry_that_names_only_what_it_replaces_or_deletes_is_found_in_its_symbol():
    desk = Desk().x(row("0", "0", "A", "1.1", id="a"), row("0", "0", "B", "2.1", id="b"))
    desk.x(row("0", "0", None, "2.2", id="b2", ref="b"), row("2", None, None, ref="a"), row("0", "0", "A", "1.0", id="c"))
    assert {book.symbol: book.bids for book in desk.books[-2:]} == {"B": levels((220, None)), "A": levels((100, None))}


def test_an_id_on_both_sides_names_neither_where_the_side_is_not_stated():
    desk = Desk().x(row("0", "0", "A", "1.1", id="1"), row("0", "1", "A", "1.2", id="1"))
    assert desk.x(row("2", None, "A", id="1")).refused == [UNKNOWN_ENTRY]
    assert desk.x(row("2", "1", "A", id="1")).ticks[-1].flags == Flag.ONE_SIDED


def test_a_delete_that_names_no_entry_withdraws_its_side():
    desk = Desk().w("A", row(None, "0", None, "1.1"), row(None, "0", None, "1.0"), row(None, "1", None, "1.2"))
    desk.x(row("2", "0", "A"))
    assert sides(desk.books[-1]) == ([], levels((120, None)))
    assert desk.x(row("2", "0", "A")).refused == [UNKNOWN_ENTRY]


def test_what_is_deleted_or_replaced_by_position_or_with_its_side_is_no_entry_any_more():
    for gone in (
        row("2", "0", "A", position=1),
        row("4", "0", "A", position=1),
        row("1", "0", "A", "1.0", position=1),
        row("2", "0", "A"),
    ):
        desk = Desk().x(row("0", "0", "A", "1.1", id="a")).x(gone)
        assert desk.x(row("1", "0", "A", None, 5, id="a")).refused[-1] == UNKNOWN_ENTRY


def test_a_delete_needs_neither_price_nor_size():
    desk = Desk().x(row("0", "0", "A", "1.1", id="a"), row("0", "1", "A", "1.2", id="b"))
    assert desk.x(row("2", "0", "A", "0", "-", id="a")).refused == []
    assert desk.ticks[-1].bid is None
    desk = Desk().x(row("0", "0", "A", "1.1"), row("0", "0", "A", "1.2")).x(row("2", "0", "A", "1.2", "-"))
    assert (desk.refused, desk.ticks[-1].bid) == ([], 1_100_000_000)


def test_an_lp_may_pass_from_one_way_of_addressing_to_another():
    desk = Desk().w("A", *(row(None, "0", None, price) for price in ("1.0", "1.2", "1.1")))
    desk.x(row("2", "0", "A", position=1)).x(row("2", "0", "A", "1.1", id="never stated")).x(row("0", "0", "A", "1.3", id="z"))
    desk.x(row("1", "0", "A", "1.4", position=1)).x(row("0", "0", "A", "1.2"))
    assert [book.bids for book in desk.books] == [
        levels((120, None), (110, None), (100, None)),
        levels((110, None), (100, None)),
        levels((100, None)),
        levels((130, None), (100, None)),
        levels((140, None), (100, None)),
        levels((140, None), (120, None), (100, None)),
    ]
    assert desk.refused == []


# ---- snapshots, ticks and what cannot be placed


def test_a_snapshot_replaces_the_whole_book_of_its_symbol_in_any_order_of_positions():
    desk = Desk().w("A", *(row(None, "0", None, text(price), position=103 - price) for price in (100, 102, 101)))
    desk.x(row("2", "0", "A", position=1))
    desk.x(row("0", "0", "B", "2.1")).w("A", row(None, "1", None, "1.2", 7))
    assert [sides(book) for book in desk.books] == [
        (levels((102, None), (101, None), (100, None)), []),
        (levels((101, None), (100, None)), []),
        (levels((210, None)), []),
        ([], levels((120, 7))),
    ]
    assert desk.x(row("1", "1", "A", None, 5, position=1)).books[-1].asks == levels((120, 5))


def test_a_snapshot_may_leave_positions_out():
    desk = Desk().w("A", row(None, "0", None, "1.1", position=4), row(None, "0", None, "1.2", position=2))
    assert desk.x(row("2", "0", "A", position=1)).books[-1].bids == levels((110, None))


def test_a_message_gives_one_tick_a_symbol_also_where_the_top_stays():
    desk = Desk().x(row("0", "0", "A", "1.1"), row("0", "0", "B", "2.1"), row("0", "0", "A", "1.2"))
    desk.x(row("0", "0", "A", "1.05"))
    assert [(tick.symbol, tick.seq, tick.bid) for tick in desk.ticks] == [
        ("A", 0, 1_200_000_000),
        ("B", 0, 2_100_000_000),
        ("A", 1, 1_200_000_000),
    ]


def test_deletes_leave_one_side_and_then_none():
    desk = Desk().x(row("0", "0", "A", "1.1", id="a"), row("0", "1", "A", "1.2", id="b"))
    desk.x(row("2", "0", "A", id="a")).x(row("2", "1", "A", id="b"))
    assert [tick.flags for tick in desk.ticks] == [0, Flag.ONE_SIDED]
    assert desk.reasons() == ["no price on either side"]
    assert sides(desk.books[-1]) == ([], [])


def test_the_time_of_a_tick_and_a_book_is_the_latest_of_its_entries():
    times = [{"date": "20261120", "time": f"09:59:{second}"} for second in (58, 59, 57)]
    desk = Desk().x(*(row("0", "0", "A", "1.1", **when) for when in times))
    assert (desk.ticks[0].ts, desk.books[0].ts) == (T0 - NS_PER_S, T0 - NS_PER_S)


def test_a_book_whose_best_bid_is_above_its_best_offer_is_crossed():
    assert Desk().x(row("0", "0", "A", "1.3"), row("0", "1", "A", "1.2")).ticks[0].flags == Flag.CROSSED


def test_an_unknown_entry_is_refused_and_the_rest_of_its_message_counts():
    desk = Desk().x(row("1", "0", "A", "1.1", id="who?"), row("2", "1", "A", id="who?"), row("0", "0", "A", "1.0", id="a"))
    assert (desk.refused, desk.ticks[0].bid) == ([UNKNOWN_ENTRY], UNIT)
    assert Desk().x(row("2", "0", "A", "1.1")).refused == [UNKNOWN_ENTRY]
    assert Desk().x(row("0", "0", "A", "1.1", position=2)).refused == [UNKNOWN_ENTRY]
    assert Desk().x(row("1", "0", None, "1.1", id="who?")).refused == [UNKNOWN_ENTRY]


@pytest.mark.parametrize("price", ["NaN", "-1", "0", "1000000000", "1.0000000001"])
def test_what_is_no_price_is_refused_and_holds_its_place_without_one(price):
    for address in ({"position": 1}, {"id": "bad"}):
        desk = Desk().x(row("0", "0", "A", "1.1", 1, **address | ({"id": "a"} if "id" in address else {})))
        desk.x(row("0", "0", "A", price, 2, **address))
        assert (len(desk.ticks), len(desk.books)) == (1, 1)
        assert "price" in desk.reasons()[0]
        desk.x(row("0", "1", "A", "1.2"))
        assert sides(desk.books[-1]) == (levels((110, 1)), levels((120, None)))
        assert top(desk.x(row("0", "0", "B", price, **address), row("0", "1", "A", "1.2")).ticks[-1])[0] == 1_100_000_000
        assert desk.x(row("0", "1", "B", "1.2")).ticks[-1].bid is None
        desk.x(row("1", "0", "A", "1.15", **address))
        assert desk.books[-1].bids[0] == levels((115, None))[0]
        assert desk.x(row("2", "0", "A", price, 0, **address)).books[-1].bids == levels((110, 1))
        assert len(desk.refused) == 2


def test_a_price_or_size_or_position_or_action_that_cannot_be_read_is_refused_by_its_reason():
    desk = Desk()
    for entry in (
        row("0", "0", "A", "NaN"), row("2", "0", "A", "0"), row("1", "0", "A", None, 5), row("0", "0", "A", None, id="a"),
        row("0", "0", "A", "1.1", "x"), row("0", "0", "A", "1.1", position=0), row("0", "0", "A", "1.1", position="x"),
        row("3", "0", "A", "1.1"), row("4", "0", "A", id="a"), row("9", "0", "A", "1.1", position=1),
        row("0", "0", "A", "1.1", time="25:00:00"),
    ):  # fmt: skip
        desk.x(entry)
    assert (desk.ticks, desk.books, len(desk.refused), UNKNOWN_ENTRY in desk.refused) == ([], [], 11, False)
    assert {item.symbol for item in desk.refused} == {"A"}


def test_a_time_too_far_ahead_is_refused_and_gives_no_book():
    desk = Desk().x(row("0", "0", "A", "1.1", date="20261120", time="11:00:01"))
    assert (desk.ticks, desk.books, desk.reasons()) == ([], [], ["time is more than an hour in the future"])


def test_a_symbol_outside_the_list_is_refused_with_its_books_and_trades():
    desk = Desk(listed=frozenset({"EUR/USD"})).x(row("0", "0", "B", "1.1"), row("0", "2", "B", "1.1"))
    desk.x(row("0", "2", "eurusd.R", "1.1"))
    assert (desk.ticks, desk.books, [item.symbol for item in desk.refused]) == ([], [], ["B"])
    assert [trade.symbol for trade in desk.trades] == ["EUR/USD"]


def test_the_worst_levels_go_where_there_are_too_many():
    desk = Desk()
    prices = [f"1.{number:04}" for number in range(1, LEVELS_MAX + 3)]
    desk.w("A", *(row(None, "0", None, price, id=price) for price in prices))
    assert (len(desk.books[0].bids), desk.market.dropped_levels) == (LEVELS_MAX, 2)
    assert desk.x(row("2", "0", "A", id=prices[0])).refused == [UNKNOWN_ENTRY]
    desk = Desk().w("A", *(row(None, "0", None, price, position=number + 1) for number, price in enumerate(reversed(prices))))
    assert (len(desk.books[0].bids), desk.books[0].bids[0][0]) == (LEVELS_MAX, 1_100_200_000)


def test_a_book_shows_as_many_levels_as_the_depth():
    desk = Desk(depth=2).w("A", *(row(None, side, None, text(price)) for side in "01" for price in (100, 101, 102)))
    assert sides(desk.books[0]) == (levels((102, None), (101, None)), levels((100, None), (101, None)))
    desk.x(row("2", "0", "A", "1.02"))
    assert desk.books[1].bids == levels((101, None), (100, None))


# ---- trades


def test_trades_are_numbered_by_symbol_and_day_apart_from_ticks():
    desk = Desk().x(row("0", "0", "A", "1.1"), row("0", "2", "A", "1.15", 3), row("0", "2", "B", "2", None))
    desk.x(row("0", "2", "A", "1.16"), sending=T0 + NS_PER_DAY)
    desk.x(row("0", "2", "A", "1.17"), recv=T0 + NS_PER_DAY).x(row("0", "0", "A", "1.1"))
    assert [(trade.symbol, trade.seq, trade.price, trade.size) for trade in desk.trades] == [
        ("A", 0, 1_150_000_000, 3.0),
        ("B", 0, 2 * UNIT, None),
        ("A", 0, 1_160_000_000, None),
        ("A", 1, 1_170_000_000, None),
    ]
    assert desk.trades[3].recv_ts == T0 + NS_PER_DAY
    assert [(tick.symbol, tick.seq) for tick in desk.ticks] == [("A", 0), ("A", 1)]


def test_the_days_of_trades_and_books_are_kept_and_bounded():
    desk = Desk()
    for day in (*range(DAYS_KEPT + 5), DAYS_KEPT):
        desk.x(row("0", "2", "A", "1"), row("0", "0", "A", "1"), sending=T0 + day * NS_PER_DAY)
    assert (desk.trades[-1].seq, desk.books[-1].seq) == (1, 1)
    book = desk.market.books["A"]
    assert max(len(book.trades.other_days), len(book.books.other_days)) <= DAYS_KEPT


@pytest.mark.parametrize(
    ("stated", "side", "trade_id"),
    [
        ({"aggressor": 1, "dealt": 2, "trade_id": "t", "id": "i"}, "buy", "t"),
        ({"aggressor": 2}, "sell", None),
        ({"dealt": 1, "id": "i"}, "buy", "i"),
        ({"dealt": 2}, "sell", None),
        ({"aggressor": 0, "dealt": 1}, None, None),
        ({}, None, None),
    ],
)
def test_a_trade_says_who_was_the_aggressor_and_its_id(stated, side, trade_id):
    trade = Desk().x(row("0", "2", "A", "1.1", **stated)).trades[0]
    assert (trade.side, trade.trade_id, trade.provider) == (side, trade_id, "LP1")


def test_trades_give_no_tick_and_a_snapshot_of_trades_leaves_the_book():
    desk = Desk().x(row("0", "0", "A", "1.1")).w("A", row(None, "2", None, "1.1", 1), row(None, "2", None, "1.2", 2))
    desk.x(row("0", "1", "A", "1.2"))
    assert (len(desk.trades), top(desk.ticks[-1])[:2], len(desk.ticks), len(desk.books)) == (
        2,
        (1_100_000_000, 1_200_000_000),
        2,
        2,
    )
    desk.w("A", row(None, "2", None, "1.3"), row(None, "0", None, "1.15"))
    assert (len(desk.trades), top(desk.ticks[-1])[:2]) == (3, (1_150_000_000, None))


def test_a_snapshot_without_entries_withdraws_the_book():
    desk = Desk().x(row("0", "0", "A", "1.1")).w("A")
    assert (desk.reasons(), sides(desk.books[-1]), desk.books[-1].ts) == (["no price on either side"], ([], []), T0)


def test_a_busted_trade_is_ignored_and_counted_as_are_trades_nobody_asked_for():
    desk = Desk().x(row("2", "2", "A", "1.1", id="t"), row("0", "4", "A", "1.1"))
    assert (desk.trades, desk.refused, desk.market.ignored_entries) == ([], [], 2)
    desk = Desk(trades=False).x(row("0", "2", "A", "1.1"))
    assert (desk.trades, desk.market.ignored_entries) == ([], 1)


def test_a_resent_trade_is_stored_like_any_other():
    assert len(Desk().x(row("0", "2", "A", "1.1"), marks=int(Flag.RESENT)).trades) == 1


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"price": "NaN"}, "price b'NaN' is not a decimal number"),
        ({"price": "0"}, "price b'0' is not above 0 and below 1e9"),
        ({}, "entry has no price"),
        ({"price": "1", "size": "x"}, "size b'x' is not a number of lots or units"),
        ({"price": "1", "action": "5"}, "MDUpdateAction b'5' is not new or change"),
        ({"price": "1", "date": "20261120", "time": "11:00:01"}, "time is more than an hour in the future"),
    ],
)
def test_what_cannot_be_a_trade_is_refused_and_the_quotes_beside_it_count(stated, reason):
    desk = Desk().x(row(**{"action": "0", "side": "2", "symbol": "A"} | stated), row("0", "0", "A", "1.1"))
    assert (desk.trades, desk.reasons(), len(desk.ticks)) == ([], [f"trade: {reason}"], 1)


# ---- the pace of books


def bid(price, symbol="A"):
    return row("0", "0", symbol, price, position=1)


def test_books_come_at_their_pace_and_the_last_state_before_a_quiet_spell_is_kept():
    desk = Desk(interval_ns=10)
    for at, price in ((0, "1.0"), (3, "1.1"), (7, "1.2"), (12, "1.3"), (100, "1.4"), (101, "1.5")):
        desk.x(bid(price), sending=T0 + at)
    desk.pass_time(T0 + 109).pass_time(T0 + 110).pass_time(T0 + 500)
    assert [(book.recv_ts - T0, len(book.bids), book.seq) for book in desk.books] == [
        (0, 1, 0), (7, 3, 1), (12, 4, 2), (100, 5, 3), (101, 6, 4),
    ]  # fmt: skip


def test_a_book_that_is_due_has_the_event_time_of_its_last_change():
    desk = Desk(interval_ns=10).x(bid("1")).x(bid("1.1"), sending=T0 + 5, recv=T0 + 6).pass_time(T0 + 10)
    assert (desk.books[1].ts - T0, desk.books[1].recv_ts - T0) == (5, 6)


def test_the_pace_of_each_symbol_is_its_own():
    desk = Desk(interval_ns=10).x(bid("1", "A")).x(bid("1", "B"), sending=T0 + 5)
    desk.x(bid("2", "B"), sending=T0 + 6).x(bid("2", "A"), sending=T0 + 7)
    desk.pass_time(T0 + 10).pass_time(T0 + 14).pass_time(T0 + 15)
    assert [(book.symbol, book.recv_ts - T0) for book in desk.books] == [("A", 0), ("B", 5), ("A", 7), ("B", 6)]


def test_every_snapshot_is_a_book_and_the_pace_begins_with_it_anew():
    desk = Desk(interval_ns=10)
    for at in (0, 1, 2):
        desk.w("A", row(None, "0", None, "1.1"), sending=T0 + at)
        desk.x(bid("1.2"), sending=T0 + at)
    desk.pass_time(T0 + 11)
    assert [book.recv_ts - T0 for book in desk.books] == [0, 1, 2]
    assert [book.recv_ts - T0 for book in desk.pass_time(T0 + 12).books] == [0, 1, 2, 2]


def test_without_an_interval_every_message_is_a_book():
    desk = Desk()
    for recv in (5, 5, 3):
        desk.x(bid("1.1"), recv=T0 + recv)
    assert [book.recv_ts - T0 for book in desk.books] == [5, 5, 3]


def test_a_clock_that_is_set_back_does_not_stop_the_books():
    desk = Desk(interval_ns=10)
    for recv in (1000, 1003, 0, 5, 9):
        desk.x(bid("1.1"), recv=T0 + recv)
    desk.pass_time(T0 + 10)
    assert [book.recv_ts - T0 for book in desk.books] == [1000, 0, 9]


def test_what_is_due_when_the_books_are_withdrawn_is_taken_first():
    desk = Desk(interval_ns=10).x(bid("1")).x(bid("1.1"))
    desk.market.withdraw_all()
    desk.take()
    assert [len(book.bids) for book in desk.books] == [1, 2]
    assert desk.pass_time(T0 + 100).x(row("0", "1", "A", "1.2"), sending=T0 + 100).ticks[-1].bid is None
    assert sides(desk.books[-1]) == ([], levels((120, None)))


# ---- too late


def test_what_came_too_late_leaves_the_book_and_its_pace_as_they_stand():
    desk = Desk(interval_ns=10).x(bid("1.1")).x(bid("1.2"), sending=T0 + 5)
    with desk.market.past():
        desk.x(bid("1.15"), row("0", "2", "A", "1.16"), sending=T0 + 20).x(row("2", "0", "A", id="who?"))
        desk.w("A", row(None, "0", None, "1.13"), sending=T0 + 20)
    assert [(tick.bid, tick.flags) for tick in desk.ticks[2:]] == [(1_150_000_000, 64), (1_130_000_000, 64)]
    assert desk.reasons() == ["resent too late to find its place in the book"]
    assert [trade.price for trade in desk.trades] == [1_160_000_000]
    desk.pass_time(T0 + 10)
    assert [book.bids for book in desk.books] == [
        levels((110, None)),
        levels((113, None)),
        levels((120, None), (110, None)),
    ]


# ---- quotes


def quote_fields(symbol, offers):
    entries = [[(299, number), (55, symbol), (133, price), (135, size)] for number, (price, size) in enumerate(offers)]
    return [
        (117, "q"),
        (296, 1),
        (302, "s"),
        (304, len(entries)),
        (295, len(entries)),
        *(pair for entry in entries for pair in entry),
    ]


def test_quotes_are_books():
    desk = Desk().apply("S", [(117, "q"), (132, "1.1"), (133, "1.2"), (134, 5), (60, "20261120-09:59:59")], asked_for="A")
    desk.apply("i", quote_fields("A", [("1.3", 1), ("1.2", 2), ("1.25", 3)])).apply("Z", [(117, "q"), (298, 1), (55, "A")])
    assert [sides(book) for book in desk.books] == [
        (levels((110, 5)), levels((120, None))),
        ([], levels((120, 2), (125, 3), (130, 1))),
        ([], []),
    ]
    assert [(tick.ts - T0, *top(tick)[:2]) for tick in desk.ticks] == [
        (-NS_PER_S, 1_100_000_000, 1_200_000_000),
        (0, None, 1_200_000_000),
    ]
    assert desk.reasons() == ["no price on either side"]


# ---- a depth of 1


@settings(deadline=None, max_examples=150)
@given(st.lists(MESSAGES, min_size=1, max_size=8))
def test_with_a_depth_of_1_ticks_are_those_of_the_top_of_book(messages):
    desk, market = Desk(depth=1), Market("LP1", {"EURUSD.r": "EUR/USD"}, None, Clock())
    rows, refused = [], []
    for number, (whole, entries) in enumerate(messages):
        assume(not whole or not entries or any(stated[1] != "2" for stated in entries))  # a W of trades alone
        body = [as_fields(whole, (stated[0], stated[1] or "0", *stated[2:])) for stated in entries]
        fields, sending = snapshot(whole, *body) if whole else increment(*body), T0 + number * NS_PER_MS
        kind = "W" if whole else "X"
        for out in (desk.ticks, desk.refused, rows, refused):
            out.clear()
        desk.apply(kind, fields, sending=sending)
        market.apply(decode(parse(build(kind, 1, fields, at=sending))), sending, sending, 0, rows, refused)
        refused_quotes = [item for item in desk.refused if not item.reason.startswith("trade: ")]
        assert (desk.ticks, refused_quotes) == ([Tick(*fields) for fields in rows], refused)
    assert desk.books == []


# ---- the same from any snapshot on


PLAIN = st.tuples(
    st.sampled_from("0012"), st.sampled_from("012"), st.sampled_from("AB"),
    st.sampled_from([{}, {"id": "a"}, {"position": 1}, {"position": 2}]), st.sampled_from(["1.1", "1.2", "1.3"]), st.just("5"),
)  # fmt: skip
ODD = st.tuples(
    st.sampled_from(["0", "0", "0", "1", "2", "2", "3", "4", "5"]),
    st.sampled_from(["0", "0", "1", "1", "2", "7", None]),
    st.sampled_from(["A", "A", "B", "b", "@", None]),
    st.sampled_from(
        [{}, {}, {"id": "a"}, {"id": "b"}, {"id": "c", "ref": "a"}, {"ref": "b"}, *({"position": n} for n in (1, 1, 2, 3))]
    ),
    st.sampled_from(["1.1", "1.2", "1.3", "1.1", "NaN", None]),
    st.sampled_from([None, "5", "0", "x"]),
)
ENTRIES = PLAIN | ODD
STEPS = st.one_of(
    st.tuples(st.just("X"), st.lists(PLAIN, min_size=1, max_size=3)),
    st.tuples(st.just("X"), st.lists(ENTRIES, min_size=1, max_size=4)),
    st.tuples(st.just("W"), st.lists(ENTRIES, max_size=4)),
    st.tuples(st.just("late X"), st.lists(ENTRIES, min_size=1, max_size=2)),
    st.tuples(st.just("late W"), st.lists(ENTRIES, min_size=1, max_size=2)),
    st.tuples(st.sampled_from(["time", "withdraw", "Z"]), st.just([])),
)
GAPS = st.sampled_from([0, 1, 3, 10, 25, -40, NS_PER_DAY // 2])  # between the arrival of one step and the next


def play(desk, kind, entries, now):
    if kind == "time":
        return desk.pass_time(now)
    if kind == "withdraw":
        desk.market.withdraw_all()
        return desk.take()
    if kind == "Z":
        return desk.apply("Z", [(298, 1), (55, "A")], recv=now, sending=now)
    if kind.startswith("late "):
        with desk.market.past():
            return play(desk, kind.removeprefix("late "), entries, now)
    if kind == "W":
        rows = [row(None, side or "0", None, price, size, **address) for _, side, _, address, price, size in entries]
        return desk.w("A", *rows, sending=now)
    rows = [row(action, side, symbol, price, size, **address) for action, side, symbol, address, price, size in entries]
    return desk.x(*rows, sending=now)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(GAPS, STEPS), min_size=1, max_size=16),
    st.integers(0, 15),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 10]),
)
def test_a_restored_market_goes_on_as_if_nothing_had_happened(steps, cut, depth, interval_ns):
    one, other = Desk(depth, interval_ns), Desk(depth, interval_ns)
    now = T0
    for number, (gap, (kind, entries)) in enumerate(steps):
        now += gap
        if number == cut:
            other.market.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.market.snapshot())))
            assert other.market.snapshot() == one.market.snapshot()
            for out in (one.ticks, one.trades, one.books, one.refused):
                out.clear()
        play(one, kind, entries, now)
        if number >= cut:
            play(other, kind, entries, now)
    if cut < len(steps):
        assert (other.ticks, other.trades, other.books, other.refused) == (one.ticks, one.trades, one.books, one.refused)
        assert other.market.snapshot() == one.market.snapshot()


def test_a_book_that_is_due_is_taken_after_a_restart_too():
    desk, other = Desk(interval_ns=10).x(bid("1")).x(bid("1.1"), sending=T0 + 4), Desk(interval_ns=10)
    other.market.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(desk.market.snapshot())))
    assert other.pass_time(T0 + 10).books == desk.pass_time(T0 + 10).books[1:]
    assert len(other.books) == 1


def test_positions_out_of_the_order_of_price_are_so_after_a_restart_too():
    desk, other = Desk().x(bid("1.3"), bid("1.1")), Desk()
    other.market.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(desk.market.snapshot())))
    assert other.x(row("0", "1", "A", "1.4")).ticks[0].bid == 1_300_000_000
    assert other.x(row("2", "0", "A", position=1)).books[-1].bids == levels((130, None))


def test_numbers_go_on_when_depth_is_configured_away_and_back():
    desk = Desk().x(bid("1.1"), row("0", "2", "A", "1.1"))
    without = Market("LP1", {}, None, Clock())
    without.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(desk.market.snapshot())))
    rows = []
    without.apply(decode(parse(build("X", 1, increment(bid("1.2"))))), T0, T0, 0, rows, [])
    assert rows[0][3] == 1
    back = Desk()
    back.market.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(without.snapshot())))
    back.market.withdraw_all()
    back.x(bid("1.1"), row("0", "2", "A", "1.1"))
    assert (back.ticks[0].seq, back.books[0].seq, back.trades[0].seq) == (2, 1, 1)


def test_a_session_may_begin_with_what_the_top_alone_has_kept():
    before = Market("LP1", {}, None, Clock())
    before.apply(decode(parse(build("X", 1, increment(bid("1.2"))))), T0, T0, 0, [], [])
    desk = Desk()
    desk.market.restore([fields[:14] for fields in before.snapshot()])
    assert desk.x(bid("1.1")).ticks[0].seq == 1
