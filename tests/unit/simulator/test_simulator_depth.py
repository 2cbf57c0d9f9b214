"""W and X of books: whoever folds what arrives has the book, however its levels are addressed."""

from bisect import insort
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_desk import NOW_NS, SYMBOLS, groups, seqs, types

from services.simulator.market.book import BookMarket
from services.simulator.market.quote import Level, Trade, Update
from services.simulator.market.synthetic import Market
from services.simulator.market.tape import Tape
from services.simulator.stream.depth import changes

BY = ("id", "position", "price")
FIXES = ("FIX.4.2", "FIX.4.4", "FIX.5.0SP2")


def make_update(bids, asks, ts=NOW_NS, symbol=b"EUR/USD", trade=None):
    """Levels as `id price size`."""
    sides = [tuple(Level(*text.encode().split()) for text in side) for side in (bids, asks)]
    best_bid, best_ask = sides[0][0], sides[1][0]
    update = Update(symbol, ts, best_bid.price, best_ask.price, best_bid.size, best_ask.size)
    update.bids, update.asks = sides
    update.trade = trade
    return update


FIRST = make_update(["1 1.3 5", "2 1.2 6", "3 1.1 7"], ["4 1.4 5", "5 1.5 6"])
SECOND = make_update(["1 1.3 5", "6 1.25 1", "2 1.2 9"], ["5 1.5 6"], ts=NOW_NS + 1000)


def book_desk(new_desk, **options):
    desk = new_desk(**{"depth": 20, **options})
    desk.quotes[b"EUR/USD"] = FIRST
    desk.log_on()
    return desk


def entries(message):
    first = 269 if message.message_type == b"W" else 279
    return [tuple(group.get(tag, "") for tag in (279, 269, 278, 290, 270, 271)) for group in groups(message, first)]


@pytest.mark.parametrize(
    ("by", "shown", "changed"),
    [
        (
            "id",
            [("1", "", "1.3"), ("2", "", "1.2"), ("3", "", "1.1"), ("4", "", "1.4"), ("5", "", "1.5")],
            [("2", "0", "3", "", "", ""), ("0", "0", "6", "", "1.25", "1"),
             ("1", "0", "2", "", "1.2", "9"), ("2", "1", "4", "", "", "")],
        ),
        (
            "position",
            [("", "1", "1.3"), ("", "2", "1.2"), ("", "3", "1.1"), ("", "1", "1.4"), ("", "2", "1.5")],
            [("2", "0", "", "3", "", ""), ("0", "0", "", "2", "1.25", "1"),
             ("1", "0", "", "3", "1.2", "9"), ("2", "1", "", "1", "", "")],
        ),
        (
            "price",
            [("", "", "1.3"), ("", "", "1.2"), ("", "", "1.1"), ("", "", "1.4"), ("", "", "1.5")],
            [
                ("2", "0", "", "", "1.1", ""), ("0", "0", "", "", "1.25", "1"), ("1", "0", "", "", "1.2", "9"),
                ("2", "1", "", "", "1.4", ""),
            ],
        ),
    ],
)  # fmt: skip
def test_levels_are_addressed_one_way(new_desk, by, shown, changed):
    desk = book_desk(new_desk, depth_by=by)
    (snapshot,) = desk.subscribe("EUR/USD", levels=0)
    assert [(entry_id, position, price) for _, _, entry_id, position, price, _ in entries(snapshot)] == shown
    (increment,) = desk.publish(SECOND)
    assert entries(increment) == changed
    assert (increment.get(262), increment.get(268)) == (b"R1", b"4")
    assert {group[273] for group in groups(increment, 279)} == {"11:06:40.123001"}
    assert {group[55] for group in groups(increment, 279)} == {"EUR/USD"}


def test_a_client_sees_as_many_levels_as_it_asked_for(new_desk):
    desk = book_desk(new_desk, depth_by="price")
    (snapshot,) = desk.subscribe("EUR/USD", levels=2)
    assert [entry[4] for entry in entries(snapshot)] == ["1.3", "1.2", "1.4", "1.5"]
    (increment,) = desk.publish(SECOND)
    assert [(entry[0], entry[4]) for entry in entries(increment)] == [("2", "1.2"), ("0", "1.25"), ("2", "1.4")]


def test_what_changes_behind_its_levels_is_no_message(new_desk):
    desk = book_desk(new_desk)
    desk.subscribe("EUR/USD", levels=1)
    behind = make_update(["1 1.3 5", "2 1.2 7"], ["4 1.4 5"], ts=NOW_NS + 1000)
    assert desk.publish(behind) == []
    assert len(desk.ledger_lines()) == 1
    assert seqs(desk.publish(make_update(["1 1.3 6"], ["4 1.4 5"], ts=NOW_NS + 2000))) == [3]


def test_a_level_that_comes_into_view_again_is_new_again(new_desk):
    desk = book_desk(new_desk)
    desk.subscribe("EUR/USD", levels=1)
    better = make_update(["9 1.31 1", "1 1.3 5"], ["4 1.4 5"], ts=NOW_NS + 1000)
    again = make_update(["1 1.3 5"], ["4 1.4 5"], ts=NOW_NS + 2000)
    first, second = desk.publish(better, again)
    assert [entry[:3] for entry in entries(first)] == [("2", "0", "1"), ("0", "0", "9")]
    assert [entry[:3] for entry in entries(second)] == [("2", "0", "9"), ("0", "0", "1")]


def test_a_price_that_moves_is_a_change_but_where_it_is_the_address(new_desk):
    moved = make_update(["1 1.35 5", "2 1.2 6", "3 1.1 7"], ["4 1.4 5", "5 1.5 6"], ts=NOW_NS + 1000)
    found = {}
    for by in BY:
        desk = book_desk(new_desk, depth_by=by)
        desk.subscribe("EUR/USD", levels=0)
        found[by] = [entry[0] for entry in entries(desk.publish(moved)[0])]
    assert found == {"id": ["1"], "position": ["1"], "price": ["2", "0"]}


def test_the_ledgers_say_what_the_messages_say_before_they_are_sent(new_desk):
    desk = book_desk(new_desk)
    seen = []
    write = desk.line.write
    desk.line.write = lambda data: (seen.append(len(desk.ledger_lines(".depth"))), write(data))
    desk.subscribe("EUR/USD", levels=2)
    desk.publish(SECOND)
    assert seen == [4, 7]
    assert desk.ledger_lines() == [
        f"LP1,2,EUR/USD,{NOW_NS},1.3,1.4,5,5",
        f"LP1,3,EUR/USD,{NOW_NS + 1000},1.3,1.5,5,6",
    ]
    assert desk.ledger_lines(".depth") == [
        f"LP1,2,W,EUR/USD,{NOW_NS},0,0,1,,1.3,5",
        f"LP1,2,W,EUR/USD,{NOW_NS},0,0,2,,1.2,6",
        f"LP1,2,W,EUR/USD,{NOW_NS},0,1,4,,1.4,5",
        f"LP1,2,W,EUR/USD,{NOW_NS},0,1,5,,1.5,6",
        f"LP1,3,X,EUR/USD,{NOW_NS + 1000},2,0,2,,,",
        f"LP1,3,X,EUR/USD,{NOW_NS + 1000},0,0,6,,1.25,1",
        f"LP1,3,X,EUR/USD,{NOW_NS + 1000},2,1,4,,,",
    ]


def test_a_snapshot_alone_changes_nothing_for_a_subscription(new_desk):
    desk = book_desk(new_desk)
    desk.subscribe("EUR/USD", levels=0)
    desk.quotes[b"EUR/USD"] = SECOND
    assert types(desk.subscribe("EUR/USD", levels=0, kind=0, request="R2")) == [b"W"]
    (increment,) = desk.publish(SECOND)
    assert len(entries(increment)) == 4


class Folded:
    """A client's book, kept by the rules of the standard and with nothing of the simulator's."""

    def __init__(self, by):
        self.by = by
        self.sides = {"0": [], "1": []}

    def take(self, message):
        found = entries(message)
        if message.message_type == b"W":
            self.sides = {"0": [], "1": []}
            for _, side, entry_id, _, price, size in found:
                self.sides[side].append((entry_id, price, size))
        else:
            for entry in found:
                self.change(*entry)

    def change(self, action, side, entry_id, position, price, size):
        levels = self.sides[side]
        sign = -1 if side == "0" else 1
        if self.by == "position":
            at = int(position) - 1
            if action != "0":
                assert at < len(levels)
                del levels[at]
            if action != "2":
                assert at <= len(levels)
                levels.insert(at, ("", price, size))
            return
        key = 0 if self.by == "id" else 1
        address = entry_id if self.by == "id" else price
        standing = [level for level in levels if level[key] == address]
        assert len(standing) == (0 if action == "0" else 1)
        for level in standing:
            levels.remove(level)
        if action != "2":
            insort(levels, (entry_id, price, size), key=lambda level: sign * float(level[1]))


@pytest.mark.parametrize("levels", [0, 1, 5, 99])
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("fix", FIXES)
def test_whoever_folds_the_messages_has_the_book(new_desk, fix, by, levels):
    tops = Market(1, 3)
    market = BookMarket(tops, 20, 1)
    desk = new_desk(depth=20, depth_by=by, fix=fix, symbols=tops.symbols)
    books = {symbol: Folded(by) for symbol in desk.provider.symbols}
    desk.log_on()
    desk.quotes |= {symbol: market.quote(symbol, NOW_NS) for symbol in books}
    received = desk.subscribe(*[symbol.decode() for symbol in books], levels=levels)
    drawn = market.quotes(NOW_NS, 600)
    latest = {**desk.quotes, **{update.symbol: update for update in drawn}}
    received += desk.publish(*drawn)
    most_longer = 0
    for message in received:
        book = books[message.get(55)]
        book.take(message)
        most_longer = max(most_longer, *(len(side) for side in book.sides.values()))
    for symbol, book in books.items():
        for side, standing in (("0", latest[symbol].bids), ("1", latest[symbol].asks)):
            shown = [(level.price.decode(), level.size.decode()) for level in standing[: levels or None]]
            assert [level[1:] for level in book.sides[side]] == shown
    assert most_longer <= (min(levels, 20) or 20)
    times = [(message.get(55), groups(message, 269)[0][273]) for message in received]
    assert len(set(times)) == len(times)
    assert len(desk.ledger_lines()) == len(received)
    assert len(desk.ledger_lines(".depth")) == sum(int(message.get(268)) for message in received)


LEVELS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), max_size=8, unique_by=lambda level: level[0])


@settings(max_examples=300)
@given(LEVELS, LEVELS, st.booleans())
def test_the_changes_between_any_two_sides_lead_from_one_to_the_other(old, new, moves):
    """An id is the order of arrival here, and its price may differ from side to side."""
    before = tuple(Level(b"%d" % serial, b"%d" % (serial * 10 + size % 2), b"%d" % size) for serial, size in sorted(old))
    after = tuple(Level(b"%d" % serial, b"%d" % (serial * 10), b"%d" % size) for serial, size in sorted(new))
    standing = list(before)
    for action, position, level in changes(before, after, moves=moves):
        if action == b"2":
            assert standing.pop(position - 1) == level
        elif action == b"0":
            standing.insert(position - 1, level)
        else:
            old_level = standing[position - 1]
            assert old_level.entry_id == level.entry_id
            assert moves or old_level.price == level.price
            standing[position - 1] = level
    assert tuple(standing) == after


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize(
    ("fix", "said", "side"),
    [("FIX.4.4", {278: "T1"}, ""), ("FIX.4.2", {278: "T1"}, ""), ("FIX.5.0SP2", {1003: "T1", 2446: "1"}, "buy")],
)
def test_a_trade_is_an_entry_more_for_who_asked_for_it(new_desk, depth, fix, said, side):
    desk = book_desk(new_desk, fix=fix, trades=True, depth=depth)
    desk.subscribe("EUR/USD", types=(0, 1, 2))
    trade = Trade(b"EUR/USD", NOW_NS + 1000, b"1.5", b"6", True, b"T1")
    traded = make_update(["1 1.3 4"], ["4 1.4 5"], ts=NOW_NS + 1000, trade=trade)
    (message,) = desk.publish(traded)
    *_, last = found = groups(message, 279)
    assert int(message.get(268)) == len(found) == (3 if depth == 1 else 2)
    assert last == {279: "0", 269: "2", 55: "EUR/USD", 270: "1.5", 271: "6", 272: "20261118", 273: "11:06:40.123001", **said,
                    10: last[10]}  # fmt: skip
    assert desk.ledger_lines(".trades") == [f"LP1,3,EUR/USD,{NOW_NS + 1000},1.5,6,{side},T1"]
    assert len(desk.ledger_lines()) == 2


@pytest.mark.parametrize("depth", [1, 20])
def test_who_did_not_ask_for_trades_gets_none(new_desk, depth):
    desk = book_desk(new_desk, trades=True, depth=depth)
    desk.subscribe("EUR/USD")
    trade = Trade(b"EUR/USD", NOW_NS, b"1.5", b"", False, b"T1")
    (message,) = desk.publish(make_update(["1 1.3 4"], ["4 1.4 5"], trade=trade))
    assert {group[269] for group in groups(message, 279)} <= {"0", "1"}
    assert desk.ledger_lines(".trades") == []


def test_several_trades_share_a_message_and_sizes_may_be_absent(new_desk):
    desk = new_desk(trades=True, symbols_per_message=3)
    desk.log_on()
    desk.subscribe(*[symbol.decode() for symbol in SYMBOLS], types=(0, 1, 2))
    tape = Tape(1, 1.0)
    (message,) = desk.publish(*[tape.printed(make_update(["1 1.3 4"], ["4 1.4 5"], symbol=symbol)) for symbol in SYMBOLS])
    assert message.get(268) == b"9"
    assert [group[55] for group in groups(message, 279) if group[269] == "2"] == [symbol.decode() for symbol in SYMBOLS]
    quote = SimpleNamespace(symbol=b"EUR/USD", ts=1, bid=b"1", ask=b"2", bid_size=b"", ask_size=b"")
    assert tape.trade(quote).size == b""
