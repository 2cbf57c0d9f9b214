"""Deliveries to what is to be written: by day, with what is known already left out, and with the watermark they lead to.

A session's entries form a chain: each names the journal position it continues from.

    end ≤ watermark            known: acknowledge it
    start < reached < end      certainly sent before, in part: rows that are there are no duplicates; so it is with an entry
                               that was delivered before, of which a crash may have left the first days committed
    start > watermark          a hole: store it, but the watermark stays until the gateway has filled the hole
    start < begin < end        published across the position at which the number of partitions was changed: other files hold its
                               first part, so it is left out, and the gateway publishes again from there
"""

from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter

from libs.common.bus import Delivery, Entry, Poison, decode_payload, read_entry
from libs.common.bus.entry import TickRow, poison
from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS
from libs.common.domain.record import Quarantined
from libs.common.store import Batch

_TS = itemgetter(2)


@dataclass(slots=True)
class Positions:
    """Per session: the watermark, the highest position seen at all, and where this number of partitions began."""

    durable: dict[str, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    begin: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "Positions":
        return Positions(dict(self.durable), dict(self.reached), self.begin)


@dataclass(slots=True)
class Sorted:
    """One commit's work. `positions` hold once it is written."""

    batches: defaultdict[int, Batch]
    positions: Positions
    entry_ids: list[str] = field(default_factory=list)
    ticks: int = 0
    poisoned: int = 0
    lost: int = 0
    oldest_recv: list[tuple[str, int]] = field(default_factory=list)  # per entry: session, recv_ts of its first tick


def sort(deliveries: list[Delivery], positions: Positions, *, again: bool = False) -> Sorted:
    """Pure: `positions` is left as it is. `again`: delivered before, so part of it may be stored already."""
    work = Sorted(defaultdict(Batch), positions.copy())
    for delivery in deliveries:
        work.entry_ids.append(delivery.entry_id)
        if delivery.fields is None:
            work.lost += 1
            continue
        entry = read_entry(delivery.fields)
        if isinstance(entry, Entry):
            if entry.end <= work.positions.durable.get(entry.session, 0):
                continue
            if entry.start < work.positions.begin.get(entry.session, 0) < entry.end:
                continue
            try:
                _add(entry, work, again=again)
            except Rejected as error:
                _add_poison(poison(entry, str(error)), delivery.entry_id, work)
        else:
            _add_poison(entry, delivery.entry_id, work)
    return work


def _add(entry: Entry, work: Sorted, *, again: bool) -> None:
    records = decode_payload(entry)
    if entry.kind == "ticks":
        redelivered = again or entry.start < work.positions.reached.get(entry.session, 0)
        if records:
            _add_ticks(records, work, redelivered=redelivered)
            work.oldest_recv.append((entry.session, records[0][4]))
    elif entry.kind == "trades":
        for trade in records:
            work.batches[trade.ts // NS_PER_DAY].trades.append(trade)
    elif entry.kind == "books":
        for book in records:
            work.batches[book.ts // NS_PER_DAY].books.append(book)
    elif entry.kind == "gaps":
        for gap in records:
            work.batches[gap.from_ts // NS_PER_DAY].gaps.append(gap)
    else:
        for item in records:
            work.batches[item.recv_ts // NS_PER_DAY].quarantined.append(item)
    _advance(entry.session, entry.start, entry.end, work.positions)


def _add_ticks(ticks: list[TickRow], work: Sorted, *, redelivered: bool) -> None:
    work.ticks += len(ticks)
    first_day, last_day = min(map(_TS, ticks)) // NS_PER_DAY, max(map(_TS, ticks)) // NS_PER_DAY
    by_day: dict[int, list[TickRow]] = {first_day: ticks}
    if first_day != last_day:
        by_day = defaultdict(list)
        for tick in ticks:
            by_day[tick[2] // NS_PER_DAY].append(tick)
    for day, part in by_day.items():
        batch = work.batches[day]
        (batch.redelivered if redelivered else batch.ticks).extend(part)


def _add_poison(entry: Poison, entry_id: str, work: Sorted) -> None:
    """Kept in the quarantine of the day it was published; then it counts as persisted, so that it never blocks."""
    work.poisoned += 1
    milliseconds, _, number = entry_id.partition("-")
    recv_ts = int(milliseconds) * NS_PER_MS
    session = entry.session or "unknown"
    reason = f"undecodable stream entry {entry_id}: {entry.reason}"
    item = Quarantined(recv_ts, session, session, "", reason, entry.raw, int(number or 0))
    work.batches[recv_ts // NS_PER_DAY].quarantined.append(item)
    if entry.session and entry.start is not None and entry.end is not None:
        _advance(entry.session, entry.start, entry.end, work.positions)


def _advance(session: str, start: int, end: int, positions: Positions) -> None:
    durable = positions.durable.get(session, 0)  # a session's first entry continues from 0
    if start <= durable:
        positions.durable[session] = max(end, durable)
    positions.reached[session] = max(end, positions.reached.get(session, 0))
