"""Trades: a share of the quotes is hit."""

from random import Random

from services.simulator.market.quote import Quote, Trade, Update
from services.simulator.market.synthetic import Market


class Tape:
    """A function of the seed and of the quotes it is shown."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = Random(seed)  # noqa: S311 - a market, not a secret
        self._share = share
        self._number = 0

    def trade(self, quote: Quote) -> Trade | None:
        """At the best ask for who buys, at the best bid for who sells."""
        if self._random.random() >= self._share:
            return None
        self._number += 1
        buys = self._random.random() < 0.5
        price, size = (quote.ask, quote.ask_size) if buys else (quote.bid, quote.bid_size)
        return Trade(quote.symbol, quote.ts, price, size, buys, b"T%d" % self._number)

    def printed(self, quote: Quote) -> Update:
        """The quote with its trade, if it has one."""
        update = Update(*quote)
        update.trade = self.trade(quote)
        return update


class TradedMarket:
    """The tops of a `market` and the trades on a `tape`."""

    def __init__(self, market: Market, tape: Tape) -> None:
        self.symbols = market.symbols
        self.run = market.run
        self.quote = market.quote
        self._market = market
        self._tape = tape

    def quotes(self, ts: int, count: int) -> list[Quote]:
        return [self._tape.printed(quote) for quote in self._market.quotes(ts, count)]
