"""What the store holds without its ticks: symbols, days and their states, the account, and the gaps."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from libs.common.domain.record import Gap
from libs.common.store.tiers.day import State


@dataclass(frozen=True, slots=True)
class AccountLine:
    """Of one provider and symbol, in ticks; `numbered` is the highest seq that the gateway has given out, plus 1."""

    provider: str
    symbol: str
    numbered: int
    stored: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What one day of one partition holds in one file; `stored` counts no tick that another file of the day has counted.

    `state`: of the day and partition. `generation`: of its sealed form; 0 without one, and for what came late. `spans`: symbol →
    first and last ts.
    """

    day: int
    state: State
    generation: int
    account: tuple[AccountLine, ...]
    spans: dict[str, tuple[int, int]]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """All files, oldest day first, what came late after the day's own. `left_out`: days with a file that cannot be read."""

    files: list[FileSummary]
    left_out: set[int]


def distinct_gaps(files: Iterable[Iterable[Gap]]) -> list[Gap]:
    """The gaps of several files in the order of `Overview`, oldest first; of each gap the newest record."""
    newest = {(gap.session, gap.cause, gap.from_ts, gap.first_seq): gap for gaps in files for gap in gaps}
    return sorted(newest.values(), key=attrgetter("from_ts", "session"))


def overlaps(gap: Gap, start: int, end: int) -> bool:
    """A gap without an end is still open; one without a length is an instant."""
    return gap.from_ts < end and (gap.to_ts is None or max(gap.to_ts, gap.from_ts + 1) > start)
