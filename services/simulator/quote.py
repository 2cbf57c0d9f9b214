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
