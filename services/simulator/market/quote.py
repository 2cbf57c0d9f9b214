"""What a market says at one moment, as the texts that go on the wire."""

from typing import NamedTuple


class Quote(NamedTuple):
    """Both sides of one symbol. ts in ns; prices are exact decimal text; a size may be absent, which is empty."""

    symbol: bytes
    ts: int
    bid: bytes
    ask: bytes
    bid_size: bytes
    ask_size: bytes


class Level(NamedTuple):
    """`entry_id` stays with a level as long as it stands, whatever its price and size."""

    entry_id: bytes
    price: bytes
    size: bytes


class Trade(NamedTuple):
    """`buys`: the aggressor bought."""

    symbol: bytes
    ts: int
    price: bytes
    size: bytes
    buys: bool
    trade_id: bytes


Levels = tuple[Level, ...]


class Update(Quote):
    """A quote, the levels behind it (the best first; none in a market of tops), and what was traded in the same moment."""

    bids: Levels = ()
    asks: Levels = ()
    trade: Trade | None = None
