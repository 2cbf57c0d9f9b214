"""A JSON feed as a fold: quotes, quarantine, gaps; the same from the beginning and from any snapshot."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_MS, NS_PER_S, parse_moment
from libs.common.domain.record import Flag, Tick
from services.gateway.feeds import Feeds
from services.gateway.journal import Direction, Record
from services.gateway.web.fold import RAW_BYTES_MAX, JsonFold, PolledFold

T0 = parse_moment("2026-11-20T10:00:00Z")  # a Friday
ONE = 10**9
BINANCE = {"symbol": "s", "bid": "b", "ask": "a", "bid_size": "B", "ask_size": "A"}
BOOK_TICKER = b'{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}'
TIMED = {**BINANCE, "time": "E"}
WEEKDAYS = {"name": "fx", "symbols": ["*"], "open": [{"start": "sun 22:00", "end": "fri 22:00"}]}


def make_feed(kind="websocket", **keys):
    url = "ws://127.0.0.1:1/" if kind == "websocket" else "http://127.0.0.1:1/"
    return getattr(Feeds.model_validate({kind: [{"name": "WEB", "url": url, "fields": BINANCE, **keys}]}), kind)[0]


def new_fold(feed):
    return (JsonFold if feed.url.startswith("ws") else PolledFold)(feed, feed.items, feed.fields)


class Source:
    """The other end of a feed, without a clock."""

    def __init__(self, kind="websocket", **keys):
        self.feed = make_feed(kind, **keys)
        self.fold = new_fold(self.feed)
        self.now = T0
        self.records = []
        self.ticks, self.gaps, self.quarantined = [], [], []

    def record(self, direction, data=b""):
        self.records.append(Record(len(self.records) + 1, self.now, direction, data))
        self.apply(self.records[-1])
        return self

    def apply(self, record):
        self.fold.apply(record, live=True)
        outcome = self.fold.take()
        self.ticks += [Tick(*row) for row in outcome.ticks]
        self.gaps += outcome.gaps
        self.quarantined += outcome.quarantined

    def connect(self):
        return self.record(Direction.OPENED)

    def drop(self):
        return self.record(Direction.CLOSED)

    def send(self, data):
        return self.record(Direction.IN, data)

    def quote(self, bid, ask, symbol="EURUSD", **more):
        return self.send(msgspec.json.encode({"s": symbol, "b": str(bid), "a": str(ask), **more}))

    def stale(self, *groups):
        return self.record(Direction.CLOCK, msgspec.msgpack.encode(groups))

    def wait(self, seconds):
        self.now += int(seconds * NS_PER_S)
        return self

    def reasons(self):
        return [item.reason for item in self.quarantined]

    def open_gaps(self):
        """Those that have not ended, by cause."""
        ended = {(gap.cause, gap.from_ts) for gap in self.gaps if gap.to_ts is not None}
        return [gap.cause for gap in self.gaps if (gap.cause, gap.from_ts) not in ended]

    def result(self):
        return self.ticks, self.gaps, self.quarantined, self.fold.snapshot(0)


def connected(kind="websocket", **keys):
    return Source(kind, **keys).connect()


# ---- quotes


def test_binance_book_ticker_becomes_a_tick_with_the_exact_decimals():
    (tick,) = connected().send(BOOK_TICKER).ticks
    assert tick == Tick("BNBUSDT", "WEB", T0, 0, T0, 25_351_900_000, 25_365_200_000, 31.21, 40.66, 0)


def test_the_combined_stream_of_binance_is_the_same_one_step_deeper():
    source = connected(items="data").send(b'{"stream":"bnbusdt@bookTicker","data":%s}' % BOOK_TICKER)
    assert source.ticks == connected().send(BOOK_TICKER).ticks


def test_numbers_are_exact():
    source = connected().send(b'{"s":"X","b":0.100000001,"a":0.1000000010,"B":9007199254740993,"A":1e3}')
    (tick,) = source.ticks
    assert (tick.bid, tick.ask, tick.ask_size) == (100_000_001, 100_000_001, 1000.0)
    assert tick.flags == Flag.LOCKED
    assert source.send(b'{"s":"X","b":1,"a":9007199254740993}').reasons() == [
        "price b'9007199254740993' is not above 0 and below 1e9"
    ]


def test_a_list_gives_a_tick_for_each_item_even_of_one_symbol():
    source = connected(items="d.q").send(b'{"d":{"q":[{"s":"x","b":1,"a":2},{"s":"Y","b":1,"a":2},{"s":"X","b":1,"a":2}]}}')
    assert [(tick.symbol, tick.seq) for tick in source.ticks] == [("X", 0), ("Y", 0), ("X", 1)]


def test_a_message_that_is_a_list_holds_the_quotes_itself():
    assert len(connected().send(b'[{"s":"X","b":1,"a":2},{"s":"Y","b":1,"a":2}]').ticks) == 2


def test_the_time_is_the_feeds_where_it_says_one_and_else_ours():
    source = connected(fields=TIMED)
    for time in (str(T0 // NS_PER_MS - 5), "null"):
        source.send(b'{"s":"X","b":1,"a":2,"E":%s}' % time.encode())
    source.send(b'{"s":"X","b":1,"a":2}')
    assert [tick.ts - T0 for tick in source.ticks] == [-5 * NS_PER_MS, 0, 0]


def test_rfc_3339_is_a_time_unit():
    source = connected(fields=TIMED | {"time_unit": "rfc3339"}).quote(1, 2, E="2026-11-20T09:59:59.123456789Z")
    assert source.ticks[0].ts == parse_moment("2026-11-20T09:59:59.123456789Z")


def test_odd_quotes_are_marked_and_kept():
    source = connected(fields=TIMED)
    now = T0 // NS_PER_MS
    for bid, ask, time in ((2, 1, now), (1, 1, now - 61_000), (1, 2, now)):
        source.quote(bid, ask, E=time)
    source.send(b'{"s":"EURUSD","b":"1"}')
    assert [Flag(tick.flags) for tick in source.ticks] == [
        Flag.CROSSED,
        Flag.LOCKED | Flag.SPIKE | Flag.OUT_OF_ORDER | Flag.LATE,
        Flag.SPIKE,
        Flag.ONE_SIDED,
    ]
    assert source.ticks[3].ask is None


def test_an_absent_side_does_not_keep_the_price_it_had():
    source = connected().quote(1, 2).send(b'{"s":"EURUSD","b":"1","a":null}')
    assert (source.ticks[1].bid, source.ticks[1].ask) == (ONE, None)


def test_aliases_give_the_symbol_its_name():
    source = connected(aliases={"BTCUSDT": "BTC/USDT"}, symbols=["btcusdt"]).quote(1, 2, "btcusdt").quote(1, 2, "ETHUSDT")
    assert [tick.symbol for tick in source.ticks] == ["BTC/USDT"]
    assert [(item.symbol, item.reason) for item in source.quarantined] == [("ETHUSDT", "symbol is not in the feed's list")]


# ---- what is no quote


@pytest.mark.parametrize(
    "message", [b'{"result":null,"id":1}', b'{"B":1,"A":2}', b"[17,null]", b"null", b'"pong"', b'{"stream":"x","data":null}']
)
def test_a_message_without_symbol_and_prices_is_counted_and_left(message):
    source = connected().send(message)
    assert source.fold.ignored_entries == (2 if message == b"[17,null]" else 1)
    assert source.ticks == source.quarantined == []


@pytest.mark.parametrize(
    ("message", "symbol", "reason"),
    [
        (b'{"s":"X"}', "X", "no price on either side"),
        (b'{"b":1}', "", "a price without a symbol"),
        (b'{"s":"X","b":"NaN","a":1}', "X", "price b'NaN' is not a decimal number"),
        (b'{"s":"X","b":"","a":1}', "X", "price b'' is not a decimal number"),
        (b'{"s":"X","b":0,"a":1}', "X", "price b'0' is not above 0 and below 1e9"),
        (b'{"s":"X","b":-1,"a":1}', "X", "price b'-1' is not above 0 and below 1e9"),
        (b'{"s":"X","b":1e9,"a":1}', "X", "price b'1000000000' is not above 0 and below 1e9"),
        (b'{"s":"X","b":1.0000000001,"a":1}', "X", "price b'1.0000000001' has more than 9 decimals"),
        (b'{"s":"X","b":1,"a":1,"B":-1}', "X", "size b'-1' is not a number of lots or units"),
        (b'{"s":"X","b":true,"a":1}', "", "bid is neither a number nor a text"),
        (b'{"s":"../x y","b":1,"a":1}', "", "b'../x y' is not a symbol"),
        (b'{"s":"\xc3\x9f","b":1,"a":1}', "", "b'\\xc3\\x9f' is not a symbol"),
        (b'{"s":"X","b":1,"a":1,"E":"soon"}', "X", "time b'soon' is not a number of ms"),
        (b'{"s":"X","b":1,"a":1,"E":4102444800000}', "X", "time is more than an hour in the future"),
    ],
)
def test_a_quote_that_cannot_be_a_tick_goes_to_quarantine_with_its_bytes(message, symbol, reason):
    source = connected(fields=TIMED).send(message)
    (item,) = source.quarantined
    assert (item.symbol, item.reason, item.raw, item.number) == (symbol, reason, message, 1)
    assert (item.provider, item.session, item.recv_ts) == ("WEB", "WEB", T0)
    assert not source.ticks
    assert source.fold.ignored_entries == 0


@pytest.mark.parametrize("message", [b"", b"<html>", b"\xff\x00", b"[" * 100_000, b"1" * 10_000, b'{"s":"X","b":1'])
def test_what_is_no_json_goes_to_quarantine(message):
    source = connected().send(message)
    assert [item.raw for item in source.quarantined] == [message[:RAW_BYTES_MAX]]
    assert source.fold.garbled == 1


def test_of_a_list_only_the_item_that_cannot_be_a_tick_is_quarantined():
    source = connected().send(b'[{"s":"X","b":1,"a":2}, {"s":"X","b":"no" , "a":2},{"s":"Y","b":1,"a":2}]')
    assert [item.raw for item in source.quarantined] == [b'{"s":"X","b":"no" , "a":2}']
    assert [(tick.symbol, tick.seq) for tick in source.ticks] == [("X", 0), ("Y", 0)]


# ---- gaps


def test_a_disconnection_is_a_gap_from_the_last_quote_to_the_next():
    source = connected().quote(1, 2).wait(3).drop()
    assert source.open_gaps() == ["disconnect"]
    assert source.gaps[0].from_ts == T0
    source.wait(2).connect().wait(1).send(b'{"result":null}').wait(1).quote(1, 2).quote(1, 2)
    (_, ended) = source.gaps
    assert (ended.from_ts, ended.to_ts, ended.resolved_by) == (T0, T0 + 7 * NS_PER_S, "snapshot")
    assert not source.open_gaps()


def test_a_connection_that_ends_before_a_quote_came_makes_no_second_gap():
    source = connected().quote(1, 2).drop().connect().wait(1).drop().drop().connect()
    assert len(source.gaps) == 1
    assert source.quote(1, 2).open_gaps() == []


def test_a_process_that_died_leaves_a_gap():
    source = connected().quote(1, 2).wait(5).connect()
    assert [(gap.cause, gap.from_ts) for gap in source.gaps] == [("restart", T0)]
    assert source.quote(1, 2).gaps[-1].resolved_by == "snapshot"


def test_a_feed_that_is_never_reached_has_no_gap_and_one_that_says_nothing_has():
    assert not Source().drop().gaps
    source = connected().wait(1).drop()
    assert [(gap.cause, gap.from_ts) for gap in source.gaps] == [("disconnect", T0 + NS_PER_S)]


def test_an_old_price_does_not_stand_after_a_disconnection():
    source = connected().quote(1, 2).drop()
    assert all((top.bid, top.ask) == (None, None) for top in source.fold.market.books.values())


def test_stale_is_a_gap_of_its_own_from_the_last_tick_to_the_next():
    source = connected().quote(1, 2).wait(11).stale("all").stale("all").wait(1).quote(1, 2)
    assert [(gap.cause, gap.from_ts, gap.to_ts, gap.resolved_by) for gap in source.gaps] == [
        ("stale", T0, None, None),
        ("stale", T0, T0 + 12 * NS_PER_S, "none"),
    ]


def test_stale_ends_with_the_connection_and_with_the_market():
    source = connected().quote(1, 2).wait(11).stale("all").drop()
    assert [(gap.cause, gap.to_ts) for gap in source.gaps[1:]] == [("disconnect", None), ("stale", source.now)]
    source = connected(market_hours=[WEEKDAYS]).quote(1, 2).wait(11).stale("fx").wait(43_200).stale()
    assert [(gap.cause, gap.to_ts) for gap in source.gaps[1:]] == [("stale", source.now)]


def test_closed_is_not_missing():
    source = connected(market_hours=[WEEKDAYS]).quote(1, 2).wait(43_200).drop().wait(3600).connect()
    assert not source.gaps


def test_a_connection_that_ended_while_closed_is_missed_from_the_opening_on():
    source = connected(market_hours=[WEEKDAYS]).quote(1, 2).wait(43_200).drop()
    source.now = parse_moment("2026-11-22T23:00:00Z")
    assert [(gap.cause, gap.from_ts) for gap in source.connect().gaps] == [("disconnect", parse_moment("2026-11-22T22:00:00Z"))]
    assert source.quote(1, 2).open_gaps() == []


def test_the_times_of_a_replayed_history_bound_its_gaps():
    source = connected(fields=TIMED)
    source.quote(1, 2, E=1_000_000).quote(1, 2, E=2_000_000).wait(5).drop().connect().quote(1, 2, E=3_000_000)
    ended = source.gaps[-1]
    assert (ended.from_ts, ended.to_ts) == (2_000_000 * NS_PER_MS, 3_000_000 * NS_PER_MS)


def test_an_old_quote_of_another_symbol_does_not_end_a_gap_before_it_began():
    source = connected(fields=TIMED)
    now = T0 // NS_PER_MS
    source.send(b'[{"s":"A","b":1,"a":2,"E":%d},{"s":"B","b":1,"a":2,"E":%d}]' % (now, now - 86_400_000))
    source.wait(2).drop().wait(2).connect().quote(1, 2, "B", E=now - 86_400_000)
    ended = source.gaps[-1]
    assert (ended.from_ts, ended.to_ts) == (T0, T0 + 4 * NS_PER_S)


# ---- polled


def polled(**keys):
    return connected("rest", **keys)


def test_a_quote_that_stands_as_before_is_no_new_fact():
    source = polled().quote(1, 2, n=1).wait(1).quote(1, 2, n=2).quote(1, 3).quote(1, 2).quote(1, 2, "GBPUSD")
    assert [(tick.symbol, tick.ask // ONE) for tick in source.ticks] == [
        ("EURUSD", 2), ("EURUSD", 3), ("EURUSD", 2), ("GBPUSD", 2),
    ]  # fmt: skip
    assert source.fold.repeated == 1


@pytest.mark.parametrize("change", [{"E": 2}, {"B": 2}, {"A": 2}, {"a": "3"}, {"b": "1.5"}])
def test_another_time_size_or_price_is_a_new_fact(change):
    quote = {"s": "X", "b": "1", "a": "2", "B": 1, "A": 1, "E": 1}
    source = polled(fields=TIMED)
    for message in (quote, quote | change):
        source.send(msgspec.json.encode(message))
    assert len(source.ticks) == 2


def test_an_unusable_quote_is_quarantined_once_while_it_stands():
    source = polled().quote(0, 0, n=1).quote(0, 0, n=2)
    assert len(source.quarantined) == 1


def test_the_first_answer_after_a_disconnection_says_how_things_stand():
    source = polled().quote(1, 2).drop().wait(4).connect().quote(1, 2)
    assert len(source.ticks) == 2
    assert source.gaps[-1].to_ts == T0 + 4 * NS_PER_S


def test_a_stream_says_the_same_twice_and_both_count():
    assert len(connected().quote(1, 2).quote(1, 2).ticks) == 2


# ---- replay

MESSAGES = st.one_of(
    *[st.builds(
        lambda s, b, a, e: msgspec.json.encode({"s": s, "b": b, "a": a, "B": 1, "E": T0 // NS_PER_MS + e}),
        st.sampled_from(["EURUSD", "GBPUSD", "gbpusd", "../"]), st.sampled_from([1.1, "1.1", "1.2", 7, None, "NaN", 1e-7]),
        st.sampled_from(["1.1", 1.3, 0]), st.sampled_from([0, 1, -61_000, 7_200_000]),
    )] * 3,
    st.lists(st.sampled_from([b'{"s":"EURUSD","b":1.1,"a":1.2}', b'{"s":"X","b":"1","a":[]}', b"{}", b"1"]), max_size=4).map(
        lambda items: b"[%s]" % b",".join(items)
    ),
    st.sampled_from([b"", b"{}", b"pong", b"\xff", BOOK_TICKER]),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("send"), MESSAGES),
    st.tuples(st.just("send"), MESSAGES),
    st.tuples(st.sampled_from(["connect", "drop"]), st.none()),
    st.tuples(st.just("stale"), st.sampled_from([(), ("fx",), ("all",)])),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 20, 43_200])),
)
FEEDS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["websocket", "rest"]),
        "symbols": st.sampled_from([None, ["EURUSD", "GBPUSD"]]),
        "market_hours": st.sampled_from([[], [WEEKDAYS]]),
        "fields": st.just(TIMED),
    }
)


def play(source, steps):
    for kind, what in steps:
        if kind == "stale":
            source.stale(*what)
        elif what is None:
            getattr(source, kind)()
        else:
            getattr(source, kind)(what)
    return source


@settings(deadline=None, max_examples=150)
@given(FEEDS, st.lists(STEPS, max_size=25), st.data())
def test_a_replay_gives_the_same_from_the_beginning_and_from_any_snapshot(feed, steps, data):
    source = play(Source(**feed).connect(), steps)
    cut = data.draw(st.integers(0, len(source.records)))
    first, second = Source(**feed), Source(**feed)
    for record in source.records[:cut]:
        first.apply(record)
    second.apply(Record(0, 0, Direction.SNAPSHOT, first.fold.snapshot(0)))
    for record in source.records[cut:]:
        second.apply(record)
    parts = [first.ticks + second.ticks, first.gaps + second.gaps, first.quarantined + second.quarantined]
    assert (*parts, second.fold.snapshot(0)) == source.result()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_break_a_fold(messages):
    source = connected()
    for message in messages:
        source.send(message)
    assert len(source.quarantined) == source.fold.garbled
