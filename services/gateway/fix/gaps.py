"""The gaps of a session: opened where something may be missing, closed where the feed's data goes on."""

from collections.abc import Callable, Iterable

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Gap, GapCause

REPLAYED_SKEW_NS = 3600 * NS_PER_S  # quotes this far from SendingTime are history being replayed


def market_time(choose: Callable[[int, int], int], sending: int, last_ts: int, recv_ts: int) -> int:
    """The feed's own now: SendingTime and the last event time where they agree, event time alone in a replay of history.

    Before the first quote it is ours.
    """
    if not last_ts or abs(sending - last_ts) > REPLAYED_SKEW_NS:
        return last_ts or sending or recv_ts
    return choose(sending, last_ts)


def resolved(gap: Gap, to_ts: int, by: str) -> Gap:
    return msgspec.structs.replace(gap, to_ts=max(to_ts, gap.from_ts), resolved_by=by)


def open_gap(session: str, cause: GapCause, from_ts: int, first: int | None = None, last: int | None = None) -> Gap:
    return Gap(session, first, last, from_ts, None, cause, None)


def freshened(stale: dict[str, Gap], ticks: Iterable[TickRow], group_of: Callable[[str], str]) -> list[Gap]:
    """The stale groups that `ticks` bring back, ended with their first tick; they leave `stale`."""
    ended = []
    for tick in ticks:
        gap = stale.pop(group_of(tick[0]), None)
        if gap is not None:
            ended.append(resolved(gap, tick[2], "none"))
        if not stale:
            break
    return ended
