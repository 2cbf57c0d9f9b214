"""Beyond the cases: what an LP sends instead of W and X, refusals, depth and trades, by version and on the wire."""

import pytest
from lp import bid, scenario

from libs.common.domain.record import Book, Flag, Trade
from tests.unit.gateway.gateway_lp import both_sides, entry, increment, quote, snapshot

X = quote("EUR/USD", "1.1", "1.2")
REQUESTS = {"subscribe_by": "quote_request"}


@scenario()
async def test_a_snapshot_and_its_increments_are_a_tick_each_numbered_without_a_hole(lp, gateway):
    await lp.logs_on()
    lp.send("W", both_sides("EUR/USD", "1.1", "1.2"))
    for number in range(3, 23):
        lp.send("X", bid(f"1.{number:03d}"))
    await lp.settled()
    ticks = await gateway.all_ticks()
    assert [tick.seq for tick in ticks] == list(range(21))
    assert {tick.ask for tick in ticks} == {1_200_000_000}


@scenario(symbols=("EUR/USD", "NOK/SEK"))
async def test_a_refused_symbol_is_not_asked_for_again_on_this_connection(lp, gateway):
    await lp.logs_on()
    refused = await lp.expect("V", {55: "NOK/SEK"})
    lp.send("Y", [(262, refused.text(262)), (281, 0), (58, "unknown symbol")])
    lp.send("4", [(123, "Y"), (36, 9)])
    lp.next_out = 9
    await lp.resubscribed()
    await lp.settled()
    assert gateway.session.subscriptions.refused == {"NOK/SEK": "281=0 unknown symbol"}
    assert gateway.session.alarms["symbols_refused"].endswith("unknown symbol")


@scenario()
async def test_request_ids_are_never_used_twice(lp, gateway):
    ids = []
    for _ in range(3):
        await lp.accept()
        await lp.expect("A")
        lp.next_out = 1
        lp.logon((141, "Y"))
        ids.append((await lp.expect("V", {263: 1})).text(262))
        lp.send("4", [(123, "Y"), (36, 9)])
        await lp.expect("V", {263: 2, 262: ids[-1]})
        ids.append((await lp.expect("V", {263: 1})).text(262))
        lp.disconnect()
    assert len(set(ids)) == 6


@scenario()
async def test_an_entry_we_cannot_place_asks_for_fresh_snapshots_once(lp, gateway):
    await lp.logs_on()
    unknown = increment(entry("0", "1.5", action="1", entry_id="never seen"))
    lp.send("X", unknown)
    await lp.resubscribed()
    lp.send("X", unknown)
    lp.send("W", both_sides("EUR/USD", "1.1", "1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert len(await gateway.reasons()) == 2


# ---- quotes


async def asked_for_quotes(lp):
    """The request's id."""
    await lp.accept()
    await lp.expect("A")
    lp.logon((141, "Y"))
    asked = await lp.expect("R", {146: 1, 55: "EUR/USD"})
    return asked.text(131)


@scenario(**REQUESTS)
async def test_quotes_are_asked_for_and_a_cancel_withdraws_them(lp, gateway):
    request = await asked_for_quotes(lp)
    lp.send("S", [(131, request), (117, "q1"), (55, "EUR/USD"), (132, "1.1"), (133, "1.2"), (134, 1000), (135, 2000)])
    lp.send("S", [(131, request), (117, "q2"), (132, "1.15")])
    lp.send("Z", [(131, request), (117, "q2"), (298, 1), (295, 1), (55, "EUR/USD")])
    lp.send("S", [(131, request), (117, "q3"), (55, "EUR/USD"), (133, "1.3")])
    await lp.settled()
    ticks = await gateway.all_ticks()
    assert [(tick.bid, tick.ask, tick.ask_size) for tick in ticks] == [
        (1_100_000_000, 1_200_000_000, 2000.0), (1_150_000_000, None, None), (None, 1_300_000_000, None),
    ]  # fmt: skip
    assert await gateway.reasons() == ["no price on either side"]


@pytest.mark.parametrize("level", [None, 0, 1, 2])
@scenario(symbols=("EUR/USD", "GBP/USD"))
async def test_a_mass_quote_is_a_tick_a_symbol_and_acknowledged_where_that_is_wanted(lp, gateway, level):
    await lp.logs_on()
    await lp.expect("V", {55: "GBP/USD"})
    entries = [(299, 0), (55, "EUR/USD"), (132, "1.1"), (133, "1.2"), (299, 1), (55, "GBP/USD"), (132, "1.3"), (133, "1.4")]
    wanted = [] if level is None else [(301, level)]
    lp.send("i", [(117, "q"), *wanted, (296, 1), (302, "s"), (304, 2), (295, 2), *entries])
    if level:
        await lp.expect("b", {117: "q", 297: 0})
    await lp.settled()
    assert [(tick.symbol, tick.bid) for tick in await gateway.all_ticks()] == [
        ("EUR/USD", 1_100_000_000), ("GBP/USD", 1_300_000_000),
    ]  # fmt: skip


@pytest.mark.parametrize("refusal", ["b", "AG"])
@scenario(versions=["4.4", "5.0SP2"], **REQUESTS)
async def test_a_refused_quote_request_is_not_repeated(lp, gateway, refusal):
    request = await asked_for_quotes(lp)
    why = [(297, 5)] if refusal == "b" else [(658, 1)]
    lp.send(refusal, [(131, request), *why, (58, "unknown symbol")])
    lp.send("4", [(123, "Y"), (36, 9)])
    lp.next_out = 9
    await lp.settled()
    assert list(gateway.session.subscriptions.refused) == ["EUR/USD"]


@scenario(versions=["4.2"], **REQUESTS)
async def test_a_refused_quote_request_is_not_repeated_in_4_2_either(lp, gateway):
    request = await asked_for_quotes(lp)
    lp.send("b", [(131, request), (297, 5), (58, "unknown symbol")])
    await lp.settled()
    assert list(gateway.session.subscriptions.refused) == ["EUR/USD"]


@scenario()
async def test_quotes_that_were_missed_are_resent_as_market_data_is(lp, gateway):
    await lp.logs_on()

    def stated(price):
        return [(117, "q"), (55, "EUR/USD"), (132, price), (133, "2")]

    lp.lose()
    lp.send("S", stated("1.3"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("S", 2, stated("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3]
    assert [tick.flags & Flag.RESENT for tick in await gateway.all_ticks()] == [Flag.RESENT, 0]


# ---- depth and trades


@scenario(market_depth=0, trades=True, book_interval_s=0)
async def test_the_whole_book_and_trades_are_asked_for_and_kept(lp, gateway):
    await lp.accept()
    await lp.expect("A")
    lp.logon((141, "Y"))
    asked = await lp.expect("V", {264: 0, 267: 3})
    assert [value for tag, value in asked.fields if tag == 269] == [b"0", b"1", b"2"]
    lp.send("W", snapshot("EUR/USD", entry("0", "1.1", "5"), entry("0", "1.0", "6"), entry("1", "1.2", "7")))
    lp.send("X", increment(entry("0", "1.0", action="2", symbol="EUR/USD"), entry("1", "1.3", "8", action="0", symbol="EUR/USD")))
    lp.send("X", increment(entry("2", "1.15", "3", action="0", symbol="EUR/USD", entry_id="t1")))
    await lp.settled()
    await gateway.level()
    books = [book if isinstance(book, Book) else Book(*book) for book in gateway.kept("books")]
    assert [(book.seq, book.bids, book.asks) for book in books] == [
        (0, [(1_100_000_000, 5.0), (1_000_000_000, 6.0)], [(1_200_000_000, 7.0)]),
        (1, [(1_100_000_000, 5.0)], [(1_200_000_000, 7.0), (1_300_000_000, 8.0)]),
    ]
    trades = [trade if isinstance(trade, Trade) else Trade(*trade) for trade in gateway.kept("trades")]
    assert [(trade.price, trade.size, trade.trade_id) for trade in trades] == [(1_150_000_000, 3.0, "t1")]
    assert await gateway.bids() == [1.1, 1.1]


@scenario(market_depth=0, book_interval_s=0)
async def test_a_missed_level_comes_with_the_resend_and_the_book_is_whole(lp, gateway):
    await lp.logs_on()
    lp.send("W", snapshot("EUR/USD", entry("0", "1.1", "5"), entry("1", "1.2", "7")))
    lp.lose()
    lp.send("X", increment(entry("0", "1.08", "1", action="0", symbol="EUR/USD")))
    await lp.expect("2", {7: 3})
    lp.resend("X", 3, increment(entry("0", "1.09", "2", action="0", symbol="EUR/USD")))
    await lp.settled()
    await gateway.level()
    last = gateway.kept("books")[-1]
    assert [price for price, _ in last.bids] == [1_100_000_000, 1_090_000_000, 1_080_000_000]
    assert await gateway.gaps() == []
