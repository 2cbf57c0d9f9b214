"""Whether quotes come while their market is open: a line that is up and silent is the fault that nobody notices."""

import time
from typing import Protocol

from services.gateway.feeds import REST_OF_SYMBOLS, Feed
from services.gateway.market.top import Market


class Watched(Protocol):
    """A feed's fold, as far as staleness goes."""

    market: Market

    def group_of(self, symbol: str) -> str: ...


class Staleness:
    """Of one feed, by group of symbols. What it finds becomes a CLOCK record, so that a replay knows it too."""

    def __init__(self, feed: Feed, fold: Watched) -> None:
        self._feed = feed
        self._fold = fold
        self._seen: dict[str, tuple[int, int]] = {}  # group -> what its ticks came to
        self._quiet_since: dict[str, float] = {}  # monotonic

    def begin(self) -> None:
        """The feed has just begun: nothing is late yet."""
        self._quiet_since.clear()

    def newly_stale(self, now_ns: int) -> list[str]:
        """The groups that are open and have been quiet for too long; each once, until a tick of it comes."""
        if not self._feed.stale_after_s or not self._feed.expects_quotes:
            return []
        now = time.monotonic()
        counts: dict[str, tuple[int, int]] = dict.fromkeys((hours.name for hours in self._feed.market_hours), (0, 0))
        if not counts:
            counts[REST_OF_SYMBOLS] = (0, 0)
        for top in self._fold.market.books.values():
            group = self._fold.group_of(top.symbol)
            numbers, last_ts = counts.get(group, (0, 0))
            counts[group] = numbers + top.seq, max(last_ts, top.last_ts)
        stale = []
        for group, count in counts.items():
            if count != self._seen.get(group) or group not in self._quiet_since or not self._feed.is_open(group, now_ns):
                self._seen[group] = count
                self._quiet_since[group] = now
            elif now - self._quiet_since[group] > self._feed.stale_after_s:
                self._quiet_since[group] = float("inf")
                stale.append(group)
        return stale
