"""Books around a synthetic market's tops."""

from decimal import Decimal

import pytest

from libs.common.domain.moment import NS_PER_MS, NS_PER_US
from services.simulator.market.book import BookMarket
from services.simulator.market.synthetic import Market
from services.simulator.market.tape import Tape

BEGIN = 1_795_000_000_000_000_000


def updates(depth=20, count=4000, seed=1, symbols=8):
    market = BookMarket(Market(seed, symbols), depth, seed)
    return [update for slice_ in range(count // 10) for update in market.quotes(BEGIN + slice_ * NS_PER_MS, 10)]


@pytest.fixture(scope="module")
def many():
    return updates()


def prices(levels):
    return [Decimal(level.price.decode()) for level in levels]


def test_the_same_seed_is_the_same_market():
    def said(seed):
        return [(*update, update.bids, update.asks) for update in updates(count=500, seed=seed)]

    assert said(3) == said(3)
    assert said(3) != said(4)


@pytest.mark.parametrize("depth", [2, 3, 20])
def test_both_sides_stand_in_order_at_different_prices_and_never_cross(depth):
    for update in updates(depth):
        bids, asks = prices(update.bids), prices(update.asks)
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert bids[-1] > 0
        assert bids[0] < asks[0]
        assert 1 <= len(bids) <= depth
        assert 1 <= len(asks) <= depth


def test_most_of_the_depth_stands(many):
    assert sum(len(update.bids) for update in many) / len(many) > 15


def test_the_quote_is_the_top_of_the_book(many):
    for update in many:
        best_bid, best_ask = update.bids[0], update.asks[0]
        assert update[2:] == (best_bid.price, best_ask.price, best_bid.size, best_ask.size)


def test_every_update_of_a_symbol_has_a_later_time_in_whole_us(many):
    last = {}
    for update in many:
        assert update.ts > last.get(update.symbol, 0)
        assert update.ts % NS_PER_US == 0
        last[update.symbol] = update.ts
    assert max(last.values()) < BEGIN + 401 * NS_PER_MS


def test_an_update_changes_something_and_never_much(many):
    books, counts = {}, []
    for update in many:
        now = {*update.bids, *update.asks}
        before = books.get(update.symbol)
        if before is not None:
            counts.append(len({level.entry_id for level in now ^ before}))
        books[update.symbol] = now
    assert min(counts) >= 1
    assert max(counts) <= 6
    assert sum(counts) / len(counts) < 3


def test_an_id_belongs_to_one_level_of_one_symbol_and_side(many):
    owner = {}
    for update in many:
        for side, levels in (("bid", update.bids), ("ask", update.asks)):
            for level in levels:
                assert owner.setdefault(level.entry_id, (update.symbol, side)) == (update.symbol, side)


def test_the_book_follows_the_market():
    market, shadow = BookMarket(Market(1, 1), 5, 1), Market(1, 1)
    for step in range(3000):
        (update,), (quote,) = market.quotes(BEGIN + step * 1000 * NS_PER_MS, 1), shadow.quotes(BEGIN + step * 1000 * NS_PER_MS, 1)
        if step > 100:
            assert abs(Decimal(update.bid.decode()) - Decimal(quote.bid.decode())) < Decimal("0.003")


def test_a_snapshot_shows_the_book_without_changing_it():
    market = BookMarket(Market(1, 2), 5, 1)
    one, two = market.quote(b"EUR/USD", BEGIN), market.quote(b"EUR/USD", BEGIN)
    assert (one.bids, one.asks) == (two.bids, two.asks)
    assert two.ts == one.ts + NS_PER_US


def test_a_share_of_the_updates_is_traded_at_the_best():
    market = BookMarket(Market(1, 4), 5, 1, Tape(1, 0.25))
    drawn = market.quotes(BEGIN, 4000)
    trades = [(update, update.trade) for update in drawn if update.trade]
    assert 800 < len(trades) < 1200
    assert len({trade.trade_id for _, trade in trades}) == len(trades)
    for update, trade in trades:
        best = (update.ask, update.ask_size) if trade.buys else (update.bid, update.bid_size)
        assert trade[:4] == (update.symbol, update.ts, *best)
