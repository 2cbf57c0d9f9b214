"""The synthetic market is a function of its seed, and looks like one."""

from collections import Counter

import pytest

from libs.common.domain.moment import NS_PER_S, parse_moment
from libs.common.domain.symbol import normalise_symbol
from services.simulator.market.instrument import instruments
from services.simulator.market.synthetic import Market, activity

WEDNESDAY = parse_moment("2026-11-18T14:00:00Z")
SATURDAY = parse_moment("2026-11-21T14:00:00Z")
BY_SYMBOL = {instrument.symbol: instrument for instrument in instruments(128)}


def draw(market, slices=400, count=50, begin=WEDNESDAY, step=NS_PER_S // 10):
    return [quote for number in range(slices) for quote in market.quotes(begin + number * step, count)]


@pytest.fixture(scope="module")
def sample():
    return draw(Market(7, 128))


def test_the_same_seed_gives_the_same_market(sample):
    assert draw(Market(7, 128)) == sample
    assert draw(Market(8, 128)) != sample


def test_bid_is_below_ask(sample):
    assert all(0 < float(quote.bid) < float(quote.ask) for quote in sample)


def test_prices_have_the_instruments_decimals(sample):
    assert all(len(quote.bid.partition(b".")[2]) == BY_SYMBOL[quote.symbol.decode()].digits for quote in sample)


def test_majors_tick_more_than_exotics(sample):
    ticks = Counter(quote.symbol for quote in sample)
    assert ticks[b"EUR/USD"] > 10 * ticks[b"USD/HKD"]
    assert ticks[b"XAU/USD"] > 10 * ticks[b"USD/HKD"]


def test_no_quote_leaps_by_a_tenth_even_after_hours_of_silence():
    last = {}
    for quote in draw(Market(3, 128), slices=3000, count=10, step=1800 * NS_PER_S):
        for side, price in (("bid", float(quote.bid)), ("ask", float(quote.ask))):
            before = last.setdefault((quote.symbol, side), price)
            assert abs(price - before) < 0.1 * before
            last[quote.symbol, side] = price


def test_a_mid_stays_near_where_it_began():
    prices = [float(quote.bid) for quote in draw(Market(5, 1), slices=3000, count=1, step=3600 * NS_PER_S)]
    assert 0.8 * prices[0] < min(prices) < max(prices) < 1.25 * prices[0]


def test_bursts_make_some_seconds_much_busier_than_others(sample):
    eurusd = Counter(quote.ts // NS_PER_S for quote in sample if quote.symbol == b"EUR/USD")
    assert max(eurusd.values()) > 2 * sorted(eurusd.values())[len(eurusd) // 2]


def test_currencies_rest_at_the_weekend_and_crypto_does_not():
    assert activity(BY_SYMBOL["EUR/USD"], SATURDAY) < 0.05
    assert activity(BY_SYMBOL["EUR/USD"], WEDNESDAY) > 0.5
    assert activity(BY_SYMBOL["BTC/USD"], SATURDAY) > 0.5


def test_stocks_rest_at_night():
    assert activity(BY_SYMBOL["AAPL.US"], parse_moment("2026-11-18T03:00:00Z")) < 0.05


def test_the_busiest_hours_are_those_where_regions_overlap():
    at = [activity(BY_SYMBOL["EUR/USD"], WEDNESDAY + hours * 3600 * NS_PER_S) for hours in (0, 8)]
    assert at[0] > 3 * at[1]


def test_symbols_are_those_of_the_trade_and_more_are_made_up_when_asked_for():
    symbols = [instrument.symbol for instrument in instruments(500)]
    assert {"EUR/USD", "XAU/USD", "US500", "BTC/USD", "AAPL.US"} <= set(symbols[:128])
    assert len(set(symbols)) == 500
    assert all(normalise_symbol(symbol) == symbol for symbol in symbols)
    assert instruments(3) == instruments(128)[:3]


def test_a_run_has_no_symbol_twice():
    market = Market(1, 12, run=10)
    for begin in (WEDNESDAY, SATURDAY):
        quotes = market.quotes(begin, 1000)
        assert all(len({quote.symbol for quote in quotes[at : at + 10]}) == 10 for at in range(0, 1000, 10))


def test_a_snapshot_moves_the_symbol_it_is_asked_for():
    quote = Market(1, 5).quote(b"XAU/USD", WEDNESDAY)
    assert (quote.symbol, quote.ts) == (b"XAU/USD", WEDNESDAY)
