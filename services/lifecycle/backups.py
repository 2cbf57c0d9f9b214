"""Backups when they are due: one a day after midnight, a full one a week and a quarter; what was missed is made up at once.

due ─▶ `tickvault backup` in a process of its own ─▶ event, age

SQLite's locks are a process's and end with any look at the file: what copies an open day must not share one with the keeper.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_S
from libs.common.runtime import Health, pause
from libs.common.store.backup import KINDS, BackupName, BackupStorage, Kind
from libs.common.telemetry import logger
from services.lifecycle.message import Event
from services.lifecycle.settings import LifecycleSettings

AFTER_MIDNIGHT_S = 1_800  # rotation and sealing come first
RETRY_S = 600.0
TERMINATE_S = 10.0

_LOOP = "backups"
R = TypeVar("R")


class Backups:
    """`run_once` is the loop's body. `failures`: backups that were not made, or not of everything."""

    def __init__(
        self,
        settings: LifecycleSettings,
        tell: Callable[[Event], None],
        health: Health,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._health = health
        self._clock = clock
        self._found: list[BackupName] | None = None
        self._failure: str | None = None
        self._incomplete: str | None = None  # what the last backup left out
        self.failures = 0
        self.sent_bytes: int | None = None

    @property
    def age_s(self) -> dict[Kind, float]:
        """Of the newest of each kind that there is."""
        return {name.kind: (self._clock() - name.at) / NS_PER_S for name in self._found or ()}

    @property
    def obstacle(self) -> str | None:
        return self._failure or self._incomplete

    async def run(self, stopping: asyncio.Event) -> None:
        """Make backups until stopping; one that is under way is given up, and what it has sent is not sent again."""
        while not stopping.is_set():
            wait_s = await self.run_once(stopping)
            await self._wait(asyncio.create_task(pause(stopping, wait_s)))
        self._health.end(_LOOP)

    async def run_once(self, stopping: asyncio.Event) -> float:
        """What is due now; in how many seconds to look again."""
        try:
            if self._found is None:
                self._found = await self._wait(asyncio.create_task(asyncio.to_thread(self._list)))
            for kind in due(self._found, self._clock()):
                if not stopping.is_set():
                    await self._make(kind, stopping)
        except (Retryable, Rejected) as error:
            if not stopping.is_set():
                self._fail(str(error))
            return RETRY_S
        self._failure = None
        return self._settings.lifecycle_interval_s

    def _list(self) -> list[BackupName]:
        return BackupStorage(self._settings.backup_url).backups()

    async def _make(self, kind: Kind, stopping: asyncio.Event) -> None:
        """Retryable: it was not made, or what is too old could not be deleted."""
        command = [sys.executable, "-m", "services.lifecycle.cli", "backup", "--kind", kind, "--json"]
        settings = {"TICKVAULT_DATA_DIR": str(self._settings.data_dir), "TICKVAULT_BACKUP_URL": self._settings.backup_url}
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=os.environ | settings)
        ended = asyncio.create_task(process.communicate())
        stopped = asyncio.create_task(stopping.wait())
        try:
            await self._wait(asyncio.create_task(_first(ended, stopped)))
            if not ended.done():
                process.terminate()
            out, err = await self._wait(ended)
        finally:
            stopped.cancel()
        lines = [msgspec.json.decode(line) for line in out.splitlines()]
        made = next((msgspec.convert(line, _Made) for line in lines if "backup" in line), None)
        problems = [f"{line['file']}: {line['problem']}" for line in lines if "file" in line]
        error = err.decode(errors="replace").strip() or f"exit code {process.returncode}"
        if made is None:
            raise Retryable(error)
        self._found = await self._wait(asyncio.create_task(asyncio.to_thread(self._list)))
        self.sent_bytes = made.sent_bytes
        self.failures += bool(problems)
        self._incomplete = "; ".join(problems) or None
        logger().info("backed up", backup=made.backup, sent_bytes=made.sent_bytes, left_out=problems)
        event = Event(
            at=self._clock(), event="backed_up", step="backup", written=(made.backup,), bytes_after=made.sent_bytes,
            failures=len(problems), error=self._incomplete or "",
        )  # fmt: skip
        self._tell(event)
        if process.returncode and not problems:
            raise Retryable(error)

    def _fail(self, error: str) -> None:
        self.failures += 1
        if self._failure != error:
            logger().error("a backup failed", error=error)
            self._tell(Event(at=self._clock(), event="failed", step="backup", error=error))
        self._failure = error

    async def _wait(self, task: "asyncio.Task[R]") -> R:
        """A full backup may take hours: the loop goes on moving."""
        while not task.done():
            self._health.beat(_LOOP)
            await asyncio.wait({task}, timeout=1.0)
        return task.result()


class _Made(msgspec.Struct):
    backup: str
    sent_bytes: int


async def _first(*tasks: "asyncio.Task[object]") -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def due(found: Sequence[BackupName], now: int) -> list[Kind]:
    """The kinds that have no backup of the present day, week or quarter, which begin half an hour after midnight UTC."""
    late = AFTER_MIDNIGHT_S * NS_PER_S
    there = {(name.kind, BackupName(name.at - late, name.kind).period) for name in found}
    return [kind for kind in KINDS if (kind, BackupName(now - late, kind).period) not in there]
