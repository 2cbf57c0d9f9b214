"""One side of a book, and the three ways in which an LP addresses what stands there: by id, by position, by price.

Levels stand in the order of their prices, the best first, and at one price in the order of their arrival. Only where the LP
numbers positions itself its order stands, whatever the prices, until an entry is addressed otherwise.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.record import Level as ShownLevel

LEVELS_MAX = 1_000  # a side: more than any LP shows; one that never deletes must not fill the memory
UNPRICED = 2**62  # the rank of what stands with a price that could not be read: behind all others, and never shown

NEW, CHANGE, DELETE, DELETE_THRU, DELETE_FROM, OVERLAY = b"0", b"1", b"2", b"3", b"4", b"5"  # MDUpdateAction(279)
_STATES = frozenset({None, NEW, CHANGE})  # an entry of a W has no action


class Level(msgspec.Struct, eq=False, gc=False):
    """`rank` orders a side: the price of an offer, minus the price of a bid."""

    rank: int
    size: float | None
    entry_id: bytes | None


class Stated(NamedTuple):
    """What an entry says of its level; None is what it does not mention."""

    rank: int | None
    size: float | None
    keeps: bool  # a change: what is not mentioned stays
    wrong: str | None = None  # why price or size cannot be read; the rank is UNPRICED then

    def on(self, old: Level | None, entry_id: bytes | None) -> Level:
        """The level it leaves in the place of `old`."""
        if old is None or not self.keeps:
            return Level(UNPRICED if self.rank is None else self.rank, self.size, entry_id)
        return Level(old.rank if self.rank is None else self.rank, old.size if self.size is None else self.size, entry_id)


_BY_RANK = attrgetter("rank")


class Levels:
    """What `by_…` returns: False where nothing stands at that id, position or price. Rejected: the action or price does not fit.

    most: positions that are kept. An LP that was asked for so many levels need not delete what falls out at the end.
    """

    __slots__ = ("_by_id", "_levels", "_ranked", "most")

    def __init__(self, most: int = LEVELS_MAX, state: Sequence[tuple[int, float | None, bytes | None]] = ()) -> None:
        self.most = most
        self._levels = [Level(*level) for level in state]
        self._by_id: dict[bytes | None, Level] = {level.entry_id: level for level in self._levels if level.entry_id is not None}
        self._ranked = all(one.rank <= next_one.rank for one, next_one in pairwise(self._levels))  # in the order of ranks

    def __contains__(self, entry_id: bytes) -> bool:
        return entry_id in self._by_id

    def state(self) -> list[tuple[int, float | None, bytes | None]]:
        return [(level.rank, level.size, level.entry_id) for level in self._levels]

    def best(self) -> Level | None:
        levels = self._levels
        if not levels:
            return None
        best = levels[0] if self._ranked else min(levels, key=_BY_RANK)
        return None if best.rank == UNPRICED else best

    def shown(self, depth: int) -> list[ShownLevel]:
        """(price, size), the best first; of `depth` levels, or of all for 0."""
        levels = self._levels if self._ranked else sorted(self._levels, key=_BY_RANK)
        return [(abs(level.rank), level.size) for level in levels[: depth or None] if level.rank != UNPRICED]

    def cut(self) -> int:
        """Drop the worst beyond LEVELS_MAX: how many."""
        dropped = len(self._levels) - LEVELS_MAX
        for _ in range(dropped):
            self._by_id.pop(self._levels.pop().entry_id, None)
        return max(dropped, 0)

    # ---- by id

    def by_id(self, action: bytes | None, entry_id: bytes, ref_id: bytes | None, stated: Stated) -> bool:
        """`ref_id` (280) names the entry that a new or changed one replaces."""
        standing = self._by_id.get(entry_id)
        if action == DELETE:
            gone = standing or self._nameless_at(stated.rank)
            if gone is not None:
                self._remove(gone)
            return gone is not None
        if action not in _STATES:
            raise _misfit(action)
        old = standing if ref_id is None else self._by_id.get(ref_id, standing)
        if action == CHANGE and old is None:
            old = self._nameless_at(stated.rank)
            if old is None:
                return False
        if standing is not None and standing is not old:
            self._remove(standing)
        self._put(old, stated, entry_id)
        return True

    def _nameless_at(self, rank: int | None) -> Level | None:
        """What a W stated without an id, as in FIX 4.2 and 4.4, may be found by its price."""
        if rank is None or rank == UNPRICED:
            return None
        self._sort()
        for index in range(bisect_left(self._levels, rank, key=_BY_RANK), len(self._levels)):
            level = self._levels[index]
            if level.rank != rank:
                break
            if level.entry_id is None:
                return level
        return None

    # ---- by position, from 1

    def by_position(self, action: bytes | None, position: int, stated: Stated) -> bool:
        """New moves what stands there and behind it down, a delete moves it up, a change or overlay replaces.

        Delete thru: from the first to this position; delete from: from it to the last. Behind what is kept nothing is unknown.
        """
        levels = self._levels
        if action in {DELETE, DELETE_THRU, DELETE_FROM}:
            first = 0 if action == DELETE_THRU else position - 1
            last = len(levels) if action == DELETE_FROM else position
            gone = levels[first:last]
            del levels[first:last]
            for level in gone:
                self._by_id.pop(level.entry_id, None)
            return bool(gone) or position > self.most
        if action not in _STATES and action != OVERLAY:
            raise _misfit(action)
        if action is None:  # a W, in order
            position = len(levels) + 1
        if position > self.most:
            return True
        if position <= len(levels) and action in {CHANGE, OVERLAY}:
            old = levels[position - 1]
            self._by_id.pop(old.entry_id, None)
            levels[position - 1] = stated.on(old, None)
            self._keep_ranked(position - 1)
            return True
        if position > len(levels) + 1 or action == CHANGE:
            return False
        levels.insert(position - 1, stated.on(None, None))
        self._keep_ranked(position - 1)
        for level in levels[self.most :] if self.most < LEVELS_MAX else ():
            self._by_id.pop(level.entry_id, None)
        if self.most < LEVELS_MAX:
            del levels[self.most :]
        return True

    def _keep_ranked(self, index: int) -> None:
        around = self._levels[max(index - 1, 0) : index + 2]
        self._ranked = self._ranked and all(one.rank <= next_one.rank for one, next_one in pairwise(around))

    # ---- by price

    def by_price(self, action: bytes | None, stated: Stated) -> bool:
        """A new or changed price sets its level; a delete that names no price withdraws the side."""
        rank = stated.rank
        if action == DELETE and rank is None:
            had = bool(self._levels)
            self._levels.clear()
            self._by_id.clear()
            return had
        if action != DELETE and action not in _STATES:
            raise _misfit(action)
        if rank is None or stated.wrong is not None:
            raise Rejected(stated.wrong or "entry has no price")
        self._sort()
        index = bisect_left(self._levels, rank, key=_BY_RANK)
        old = self._levels[index] if index < len(self._levels) and self._levels[index].rank == rank else None
        if action != DELETE:
            self._put(old, stated, None if old is None else old.entry_id)
        elif old is not None:
            self._remove(old)
        return action != DELETE or old is not None

    # ---- the order of ranks

    def _put(self, old: Level | None, stated: Stated, entry_id: bytes | None) -> None:
        """What keeps its price keeps its place; else it arrives behind all others of its price."""
        level = stated.on(old, entry_id)
        self._sort()
        if old is not None and old.rank == level.rank:
            self._levels[self._index(old)] = level
            self._by_id.pop(old.entry_id, None)
        else:
            if old is not None:
                self._remove(old)
            self._levels.insert(bisect_right(self._levels, level.rank, key=_BY_RANK), level)
        if entry_id is not None:
            self._by_id[entry_id] = level

    def _remove(self, level: Level) -> None:
        self._sort()
        del self._levels[self._index(level)]
        self._by_id.pop(level.entry_id, None)

    def _index(self, level: Level) -> int:
        index = bisect_left(self._levels, level.rank, key=_BY_RANK)
        while self._levels[index] is not level:
            index += 1
        return index

    def _sort(self) -> None:
        if not self._ranked:
            self._levels.sort(key=_BY_RANK)
            self._ranked = True


def _misfit(action: bytes | None) -> Rejected:
    return Rejected(f"MDUpdateAction {action!r} does not fit how the entry is addressed")
