"""From the journal to the bus: every record's outcome is published, in order, until persistence says it is durable.

live      outcomes wait in memory while one round trip is under way, then go in entries as big as they have become
behind    Redis is away, refuses, restarted, or memory is full: what waits is forgotten; the journal is the outbox.
          When Redis answers, a second fold replays it from the watermark on and publishes, until it is level with
          the live one.

A partition gets entries where it has records, and once a second one that only moves its watermark.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from libs.common.bus import ENTRY_TICKS_MAX, Bus, Entry, encode_payload, partition_of
from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Retryable
from libs.common.runtime import Backoff, Health, pause
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point
from services.gateway.fold import Fold, Outcome
from services.gateway.journal import Journal

WAITING_TICKS_MAX = 150_000  # about 50 MB, a second at full rate; beyond it the journal takes over
ROUND_TICKS_MAX = 20_000  # published in one round trip
BOOK_WEIGHT = 10  # ticks that take the memory of a book
WATCH_INTERVAL_S = 1.0
ENTRY_BOOKS_MAX = 200  # of some kB each
BOOK_ENTRIES_MAX = 8  # of one record: each has a position of its own inside the record, and the shortest has 17 bytes
READ_RECORDS_PER_TURN = 4  # of a replay, before the sockets get their turn


class Publisher:
    """For one session. `offer` is called for each record as it is folded; `run` publishes."""

    def __init__(
        self,
        bus: Bus,
        journal: Journal,
        name: str,
        new_fold: Callable[[], Fold],
        *,
        partitions: int,
        durable: int,
        health: Health,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._name = name
        self._loop = f"publisher {name}"
        self._new_fold = new_fold
        self._partitions = partitions
        self._health = health
        self._waiting: deque[tuple[int, Outcome]] = deque()
        self._partition_of: dict[str, int] = {}
        self._waiting_ticks = 0
        self._behind = True
        self._watermarks_are_due = False  # of partitions without records, or of records without ticks
        self._ready = asyncio.Event()
        self._durable = dict.fromkeys(range(partitions), durable)  # per partition, as far as we know
        self._chain = dict(self._durable)  # where the next entry of each partition continues
        self.published_ticks = 0
        self.entries = 0

    @property
    def durable(self) -> int:
        """The journal position up to which everything is durable in every partition."""
        return min(self._durable.values())

    @property
    def behind(self) -> bool:
        """Whether the journal, not memory, holds what is to be published."""
        return self._behind

    @property
    def level(self) -> bool:
        """Whether everything in the journal has been published."""
        return not self._behind and not self._waiting and min(self._chain.values()) >= self._journal.end

    def offer(self, position: int, outcome: Outcome) -> None:
        """What the record that ends at `position` came to."""
        if self._behind:
            return
        self._waiting.append((position, outcome))
        self._waiting_ticks += len(outcome.ticks) + BOOK_WEIGHT * len(outcome.books)
        if self._waiting_ticks > WAITING_TICKS_MAX:
            self._fall_behind()
        self._ready.set()

    def _fall_behind(self) -> None:
        self._behind = True
        self._waiting.clear()
        self._waiting_ticks = 0
        self._ready.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until stopping and level. A Redis failure means: begin again from the watermark."""
        backoff = Backoff(cap_s=5.0)
        while not (stopping.is_set() and self.level):
            self._health.beat(self._loop)
            try:
                if self._behind:
                    await self._catch_up()
                    backoff.reset()
                elif self._waiting:
                    await self._publish(self._next_round())
                elif stopping.is_set() or self._watermarks_are_due:
                    self._watermarks_are_due = False
                    await self._publish([(self._journal.end, Outcome())], everywhere=True)
                else:
                    self._ready.clear()
                    await self._ready.wait()
            except Retryable as error:
                self._fall_behind()
                logger().warning("publishing failed; the journal is the outbox", session=self._name, error=str(error))
                if stopping.is_set():
                    break  # the journal keeps it for the next start
                await backoff.wait(stopping)
        self._health.end(self._loop)

    async def watch(self, stopping: asyncio.Event) -> None:
        """Once a second: follow the watermark, publish again what Redis lost, wake the publisher."""
        while not stopping.is_set():
            await pause(stopping, WATCH_INTERVAL_S)
            if not self._behind:
                try:
                    if await self._something_is_lost():
                        logger().warning("Redis lost entries; publishing again from the watermark", session=self._name)
                        self._fall_behind()
                except Retryable as error:
                    logger().warning("the watermark cannot be read", session=self._name, error=str(error))
                    self._fall_behind()
            self._watermarks_are_due = min(self._chain.values()) < self._journal.end
            self._ready.set()

    async def _something_is_lost(self) -> bool:
        """Whether persistence has taken all there is in the streams and its watermark still falls short of what we published."""
        published, before = dict(self._chain), dict(self._durable)
        await self._read_watermarks()
        for partition, position in published.items():
            stuck = self._durable[partition] < position and self._durable[partition] == before[partition]
            if stuck and (await self._bus.backlog(partition)).entries == 0:
                await self._read_watermarks()
                if self._durable[partition] < position:
                    return True
        return False

    def _next_round(self) -> list[tuple[int, Outcome]]:
        batch: list[tuple[int, Outcome]] = []
        ticks = 0
        while self._waiting and ticks < ROUND_TICKS_MAX:
            item = self._waiting.popleft()
            ticks += len(item[1].ticks) + BOOK_WEIGHT * len(item[1].books)
            batch.append(item)
        self._waiting_ticks -= ticks
        return batch

    async def _publish(self, batch: list[tuple[int, Outcome]], *, everywhere: bool = False) -> None:
        """`everywhere`: partitions without records get an entry too, for their watermark."""
        if not batch:
            return
        entries = []
        for partition, part in enumerate(self._split(batch)):
            if everywhere or any(has_records(outcome) for _, outcome in part):
                entries += [(partition, entry) for entry in self._entries(partition, part)]
        point("folded_not_published")
        await self._bus.publish(entries)
        point("published_not_noted")
        for partition, entry in entries:
            self._chain[partition] = entry.end
        self.entries += len(entries)
        self.published_ticks += sum(len(outcome.ticks) for _, outcome in batch)

    def _split(self, batch: list[tuple[int, Outcome]]) -> list[list[tuple[int, Outcome]]]:
        """The batch of each partition, by symbol; what has no symbol is partition 0's."""
        if self._partitions == 1:
            return [batch]
        parts: list[list[tuple[int, Outcome]]] = [[] for _ in range(self._partitions)]
        known = self._partition_of
        for position, outcome in batch:
            own = [Outcome() for _ in parts]
            own[0].gaps, own[0].quarantined = outcome.gaps, outcome.quarantined
            for tick in outcome.ticks:
                symbol = tick[0]
                partition = known.get(symbol)
                if partition is None:
                    partition = known[symbol] = partition_of(symbol, self._partitions)
                own[partition].ticks.append(tick)
            for trade in outcome.trades:
                own[partition_of(trade.symbol, self._partitions)].trades.append(trade)
            for book in outcome.books:
                own[partition_of(book.symbol, self._partitions)].books.append(book)
            for part, outcome_of_part in zip(parts, own, strict=True):
                part.append((position, outcome_of_part))
        return parts

    def _entries(self, partition: int, batch: list[tuple[int, Outcome]]) -> list[Entry]:
        """A partition's entries, each continuing the one before; at least one, for the watermark.

        Records share an entry while only ticks come of them. A record that comes to several entries gives them positions
        inside itself, the same ones at every replay, so that none is published again once it is durable.
        """
        entries: list[Entry] = []
        start = reached = self._chain[partition]
        ticks: list[TickRow] = []

        def add(kind: str, records: Sequence[object], end: int) -> None:
            nonlocal start
            if end > start:
                entries.append(Entry(kind, self._name, start, end, len(records), encode_payload(records)))
                start = end

        for position, outcome in batch:
            if position <= start:
                continue
            only_ticks = not (outcome.trades or outcome.books or outcome.gaps or outcome.quarantined)
            if only_ticks and len(ticks) + len(outcome.ticks) <= ENTRY_TICKS_MAX:
                ticks += outcome.ticks
                reached = position
                continue
            add("ticks", ticks, reached)
            if only_ticks and len(outcome.ticks) <= ENTRY_TICKS_MAX:
                ticks, reached = list(outcome.ticks), position
                continue
            parts: list[tuple[str, Sequence[object]]] = []
            kinds: tuple[tuple[str, Sequence[object], int], ...] = (
                ("gaps", outcome.gaps, ENTRY_TICKS_MAX),
                ("quarantine", outcome.quarantined, ENTRY_TICKS_MAX),
                ("trades", outcome.trades, ENTRY_TICKS_MAX),
                ("books", outcome.books, max(ENTRY_BOOKS_MAX, -(-len(outcome.books) // BOOK_ENTRIES_MAX))),
                ("ticks", outcome.ticks, ENTRY_TICKS_MAX),
            )
            for kind, records, size in kinds:
                parts += [(kind, records[at : at + size]) for at in range(0, len(records), size)]
            for behind, (kind, records) in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
                add(kind, records, position - behind)
            ticks, reached = [], position
        add("ticks", ticks, reached)
        return entries

    async def _catch_up(self) -> None:
        """Replay the journal from the watermark on, publishing, until nothing is left that the live session has already seen."""
        await self._read_watermarks()
        self._chain = dict(self._durable)
        start = min(self._chain.values())
        if start >= self._journal.end:
            self._behind = False
            return
        fold = self._new_fold()
        batch: list[tuple[int, Outcome]] = []
        ticks = records = reached = 0
        for record in self._journal.read(start):
            if record is None:
                await self._publish([*batch, (reached, Outcome())], everywhere=True)
                batch, ticks = [], 0
                if min(self._chain.values()) >= self._journal.end:
                    self._behind = False
                    logger().info("caught up with the journal", session=self._name, position=self._journal.end)
                    return
                await asyncio.sleep(0)
                continue
            fold.apply(record)
            outcome = fold.take()
            reached = record.end
            if reached > start:
                batch.append((reached, outcome))
                ticks += len(outcome.ticks)
            records += 1
            if ticks >= ENTRY_TICKS_MAX:
                self._health.beat(self._loop)
                await self._publish(batch)
                batch, ticks = [], 0
            elif records % READ_RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _read_watermarks(self) -> None:
        """What persistence says stands, even if it is less than we knew: it may have been restored from a backup."""
        for partition in range(self._partitions):
            known = await self._bus.watermarks(partition)
            if known is not None:
                self._durable[partition] = known.get(self._name, 0)


def has_records(outcome: Outcome) -> bool:
    return bool(outcome.ticks or outcome.trades or outcome.books or outcome.gaps or outcome.quarantined)
