"""The one way by which what a feed receives comes to be: journal first, then the fold, then the publisher.

run():  receive ─▶ write ─▶ …   beside it: publish, follow the watermark, fsync, compress and delete old segments
        stopping: receive ends ─▶ what is left is published ─▶ journal closed
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_US
from libs.common.runtime import Health, pause
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point
from services.gateway.fold import Fold
from services.gateway.journal import Direction, Journal, Record
from services.gateway.publisher import Publisher

DISK_RETRY_S = 0.5
TIDY_INTERVAL_S = 60.0
COMPRESS_AFTER_S = 3600.0  # a busy hour is for ticks, not for compressing


def now_ns() -> int:
    """The wall clock in ns, in whole µs: recv_ts."""
    return time.time_ns() // NS_PER_US * NS_PER_US


class Recorder:
    """For one feed. `refuses` says why the disk does not take what was received; it is cleared when it does."""

    def __init__(
        self, name: str, fold: Fold, journal: Journal, publisher: Publisher, *, health: Health, fsync_ms: int, keep_days: float
    ) -> None:
        self.name = name
        self.fold = fold
        self.journal = journal
        self.publisher = publisher
        self.refuses: str | None = None
        self._health = health
        self._fsync_s = fsync_ms / 1000
        self._keep_s = keep_days * 86_400
        self._syncing = asyncio.Lock()
        self._log = logger().bind(session=name)

    def write(self, recv_ts: int, direction: Direction, data: bytes) -> bool:
        """False: the disk refuses, and nothing has happened."""
        journal, fold = self.journal, self.fold
        try:
            if journal.segment_is_full and fold.at_rest:
                journal.begin_segment(fold.snapshot(self.publisher.durable))
                point("segment_begun")
            end = journal.append(recv_ts, direction, data)
        except Retryable as error:
            if self.refuses is None:
                self._log.error("the journal cannot be written; reading stops until it can", error=str(error))
            self.refuses = str(error)
            return False
        if self.refuses is not None:
            self.refuses = None
            self._log.info("the journal can be written again")
        point("journaled_not_folded")
        fold.apply(Record(end, recv_ts, direction, data), live=True)
        self.publisher.offer(end, fold.take())
        return True

    async def keep(self, recv_ts: int, direction: Direction, data: bytes) -> None:
        """Write, however long the disk refuses."""
        while not self.write(recv_ts, direction, data):
            self._health.beat(f"session {self.name}")
            await asyncio.sleep(DISK_RETRY_S)

    async def sync(self) -> None:
        """Make what was written before this call survive a power loss. Retryable: the disk refuses."""
        async with self._syncing:  # the journal takes one at a time; who waits here finds its record synced, or syncs it
            await asyncio.get_running_loop().run_in_executor(None, self.journal.sync)

    async def run(self, receive: Callable[[asyncio.Event], Awaitable[None]], stopping: asyncio.Event) -> None:
        """`receive` until stopping; it is cancelled where its drain takes too long."""
        drained = asyncio.Event()
        workers = [
            asyncio.create_task(work(drained))
            for work in (self.publisher.run, self.publisher.watch, self._sync_journal, self._tidy_journal)
        ]
        receiving = asyncio.ensure_future(receive(stopping))
        try:
            await asyncio.wait({receiving, *workers}, return_when=asyncio.FIRST_COMPLETED)
            stopping.set()
            await receiving
        finally:
            receiving.cancel()  # a no-op, but where the drain took too long
            await asyncio.wait({receiving})
            drained.set()
            await asyncio.gather(*workers)
            self.journal.close()
            self._health.end(f"session {self.name}")

    async def _sync_journal(self, drained: asyncio.Event) -> None:
        """Fsync at the promised pace."""
        while not drained.is_set():
            await pause(drained, self._fsync_s)
            try:
                await self.sync()
            except Retryable as error:
                self._log.error("the journal cannot be synced", error=str(error))

    async def _tidy_journal(self, drained: asyncio.Event) -> None:
        """Compress and delete what is durable and old. It may take minutes: fsync does not wait for it."""
        loop = asyncio.get_running_loop()
        while not drained.is_set():
            await pause(drained, TIDY_INTERVAL_S)
            try:
                await loop.run_in_executor(None, self.journal.tidy, self.publisher.durable, self._keep_s, COMPRESS_AFTER_S)
            except (OSError, Rejected) as error:  # a full disk, or one that reads back something else: the plain segment stays
                self._log.error("the journal cannot be tidied", error=str(error))
