"""Books around the tops of a synthetic market: each quote becomes a change of one or a few levels of its symbol.

    quote ─▶ half: its bid or ask becomes the best of its side ─┐
          ├▶ a third: a level has another size                  ├▶ levels removed, added, resized ─▶ the whole book as an update
          └▶ the rest: a level comes or goes                   ─┘

A book is never crossed, and no side of it ever empty: where a move would cross, the other side gives way first.
"""

from bisect import bisect_left
from itertools import count
from random import Random

from libs.common.domain.moment import NS_PER_US
from services.simulator.market.quote import Level, Levels, Quote, Update
from services.simulator.market.synthetic import Market
from services.simulator.market.tape import Tape

_MOVED_MAX = 2  # levels of a side that one update takes away, and as many that grow behind
_FOLLOWS, _RESIZES = 0.5, 0.83  # of the updates, cumulative
_REPRICES = 0.3  # of the better prices: the best level moves there; else a new one comes
_STEP_MAX = 4  # points between two levels that grow at the end


class _Side:
    """Levels by rank, the best first; rank = points of an ask, minus the points of a bid. `levels`: as they were shown last."""

    __slots__ = ("_digits", "_levels", "_random", "_ranks", "_serial", "_sign", "_sizes", "levels")

    def __init__(self, sign: int, digits: int, sizes: tuple[bytes, ...], serial: "count[int]", random: Random) -> None:
        self._sign = sign
        self._digits = digits
        self._sizes = sizes
        self._serial = serial
        self._random = random
        self._ranks: list[int] = []
        self._levels: list[Level] = []
        self.levels: Levels = ()

    def __len__(self) -> int:
        return len(self._ranks)

    @property
    def best(self) -> int:
        return self._ranks[0]

    def show(self) -> None:
        """What `levels` says from now on."""
        self.levels = tuple(self._levels)

    def insert(self, rank: int) -> bool:
        """False where a level stands already, and below one point."""
        index = bisect_left(self._ranks, rank)
        if (index < len(self._ranks) and self._ranks[index] == rank) or rank * self._sign < 1:
            return False
        self._ranks.insert(index, rank)
        self._levels.insert(index, Level(b"%d" % next(self._serial), self._price(rank), self._random.choice(self._sizes)))
        return True

    def remove(self, index: int) -> None:
        del self._ranks[index], self._levels[index]

    def resize(self, index: int) -> None:
        level = self._levels[index]
        size = level.size
        while size == level.size:
            size = self._random.choice(self._sizes)
        self._levels[index] = level._replace(size=size)

    def reprice_best(self, rank: int) -> None:
        self._ranks[0] = rank
        self._levels[0] = self._levels[0]._replace(price=self._price(rank))

    def grow(self, length: int) -> None:
        """Up to so many levels, behind the last."""
        while len(self._ranks) < length and self.insert(self._ranks[-1] + self._random.randint(1, _STEP_MAX)):
            pass

    def _price(self, rank: int) -> bytes:
        text = b"%0*d" % (self._digits + 1, rank * self._sign)
        return text[: -self._digits] + b"." + text[-self._digits :] if self._digits else text


class _Book:
    __slots__ = ("asks", "bids", "ts")

    def __init__(self, quote: Quote, depth: int, sizes: tuple[bytes, ...], serial: "count[int]", random: Random) -> None:
        digits = len(quote.bid.partition(b".")[2])
        self.ts = 0
        self.bids = _Side(-1, digits, sizes, serial, random)
        self.asks = _Side(1, digits, sizes, serial, random)
        self.bids.insert(-points(quote.bid))
        self.asks.insert(max(points(quote.ask), 1 - self.bids.best))
        for side in (self.bids, self.asks):
            side.grow(depth)
            side.show()

    def at(self, symbol: bytes, ts: int) -> Update:
        """The book as it stands, at a time of its own: not before `ts`, and 1 µs after the last one at least."""
        self.ts = ts = max(ts, self.ts + NS_PER_US)
        bids, asks = self.bids.levels, self.asks.levels
        update = Update(symbol, ts, bids[0].price, asks[0].price, bids[0].size, asks[0].size)
        update.bids, update.asks = bids, asks
        return update


class BookMarket:
    """The `market` with `depth` levels a side (2 or more); one symbol a message. A function of seeds, times and counts."""

    run = 1

    def __init__(self, market: Market, depth: int, seed: int, tape: Tape | None = None) -> None:
        self.symbols = market.symbols
        self._market = market
        self._depth = depth
        self._tape = tape
        self._random = Random(seed)  # noqa: S311 - a market, not a secret
        self._serial = count(1)
        self._books: dict[bytes, _Book] = {}

    def quotes(self, ts: int, count: int) -> list[Quote]:
        return [self._moved(quote) for quote in self._market.quotes(ts, count)]

    def quote(self, symbol: bytes, ts: int) -> Quote:
        """The book as it stands, as for a snapshot."""
        book = self._books.get(symbol) or self._open(self._market.quote(symbol, ts))
        return book.at(symbol, ts)

    def _open(self, quote: Quote) -> _Book:
        sizes = self._market.sizes(quote.symbol)
        book = self._books[quote.symbol] = _Book(quote, self._depth, sizes, self._serial, self._random)
        return book

    def _moved(self, quote: Quote) -> Update:
        book = self._books.get(quote.symbol) or self._open(quote)
        bids, asks, random = book.bids, book.asks, self._random.random
        bid, ask = points(quote.bid), points(quote.ask)
        kind = random()
        if kind < _FOLLOWS:
            if bid >= asks.best:
                side = asks
            elif ask <= -bids.best:
                side = bids
            else:
                side = bids if random() < 0.5 else asks
            self._follow(side, max(-bid, 1 - asks.best) if side is bids else max(ask, 1 - bids.best))
        else:
            side = bids if random() < 0.5 else asks
            index = int(random() * len(side))
            if kind < _RESIZES or not self._come_or_go(side, index):
                side.resize(index)
        side.show()
        update = book.at(quote.symbol, quote.ts)
        if self._tape is not None:
            update.trade = self._tape.trade(update)
        return update

    def _follow(self, side: _Side, rank: int) -> None:
        """`rank` becomes the best, or as near to it as _MOVED_MAX lets it."""
        length, gone = len(side), 0
        while side.best < rank and len(side) > 1 and gone < _MOVED_MAX:
            side.remove(0)
            gone += 1
        if side.best > rank and not gone and self._random.random() < _REPRICES:
            side.reprice_best(rank)
        elif side.best > rank:
            side.insert(rank)
        elif side.best < rank and not gone:
            side.reprice_best(rank)
        elif not gone:
            side.resize(0)
        side.grow(length)
        if len(side) > self._depth:
            side.remove(len(side) - 1)

    def _come_or_go(self, side: _Side, index: int) -> bool:
        """One side loses a level, never its best, another gets one behind its best: between half and all of the depth stand."""
        length = len(side)
        if length >= self._depth or (length > max(2, self._depth // 2) and self._random.random() < 0.5):
            side.remove(max(index, 1))
            return True
        return side.insert(side.best + self._random.randint(1, _STEP_MAX * self._depth))


def points(price: bytes) -> int:
    """A price in units of its last decimal."""
    return int(price.replace(b".", b""))
