"""The day files of one partition: which file a day's ticks belong to, and when a day is closed."""

import time
from collections.abc import Mapping
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, day_name, day_of
from libs.common.store import Batch, DayFile, Layout, Written
from libs.common.store.day import Row, durable_positions, is_closed
from libs.common.store.partitions import settle
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point
from services.persistence.legacy import LegacyJson

OPEN_FILES_MAX = 32


class Days:
    """Used by one thread at a time."""

    def __init__(self, layout: Layout, grace_s: float, *, legacy: LegacyJson | None = None) -> None:
        """`legacy`: what is stored is written there too."""
        self._layout = layout
        self._legacy = legacy
        self._grace_s = grace_s
        self._open: dict[int, DayFile] = {}  # least recently written first
        self._idle_since: dict[int, float] = {}  # monotonic, of days that are not closed
        self._late: set[int] = set()  # closed or damaged days: their ticks go to a late file
        self.damaged: list[str] = []
        self.begin: dict[str, int] = {}  # session → where this number of partitions began; known once recovered

    def recover(self) -> dict[str, int]:
        """Session → watermark, from all files; days that a former process left open are taken up for closing.

        Rejected: the store was written in another number of partitions, which have to be drained first.
        """
        self.begin = settle(self._layout.data_dir, self._layout.partitions, time.time_ns())
        positions = dict(self.begin)
        for path in self._layout.own_files():
            try:
                for session, position in durable_positions([path]).items():
                    positions[session] = max(position, positions.get(session, 0))
            except Rejected as error:
                self._set_aside(path, error)
        for day, path in self._layout.day_files():
            if path == self._layout.day(day) and str(path) not in self.damaged and not is_closed(path):
                self._idle_since[day] = time.monotonic()
        if self._legacy is not None:
            self._legacy.recover(self._idle_since)
        return positions

    def write(self, batches: Mapping[int, Batch], positions: dict[str, int]) -> Written:
        """Commit every day's batch; the watermark goes with the last, when all before it is durable."""
        days = sorted(batches)
        if not days and positions:  # heartbeats move the watermark too: into the file in use, or the newest, or today's
            days = [next(reversed(self._open), max(self._idle_since, default=day_of(time.time_ns())))]
        written = Written()
        for day in days:
            batch = batches.get(day) or Batch()
            batch.watermarks = positions if day == days[-1] else {}
            written += self._write_day(day, batch)
            if day != days[-1]:
                point("between_days")
        return written

    def _write_day(self, day: int, batch: Batch) -> Written:
        file = self._file(day)
        new: list[Row] = []
        try:
            written = file.write(batch, new)
        except Rejected as error:
            file.close()
            del self._open[day]
            self._set_aside(file.path, error)
            raise Retryable(f"{file.path.name} is damaged; its ticks go to the late file from now on") from error
        if self._legacy is not None:
            point("stored_not_in_legacy")
            self._legacy.append(day, new)
        if day not in self._late and (batch.has_rows or day not in self._idle_since):
            self._idle_since[day] = time.monotonic()
        return written

    def _file(self, day: int) -> DayFile:
        file = self._open.pop(day, None)
        if file is None:
            path = self._layout.day(day)
            if day not in self._late and path.exists() and self._is_closed(path):
                self._late.add(day)
            if day not in self._late:
                try:
                    file = DayFile(path)
                except Rejected as error:
                    self._set_aside(path, error)
            if file is None:
                file = DayFile(self._layout.late(day), closed=self._readable(path))
            while len(self._open) >= OPEN_FILES_MAX:
                self._open.pop(next(iter(self._open))).close()
        self._open[day] = file
        return file

    def _readable(self, path: Path) -> Path | None:
        return path if path.exists() and str(path) not in self.damaged else None

    def _is_closed(self, path: Path) -> bool:
        try:
            return is_closed(path)
        except Rejected as error:
            self._set_aside(path, error)
            return True

    def _set_aside(self, path: Path, error: Rejected) -> None:
        logger().error(
            "a day file is damaged; it is left as it is, new ticks go to the late file", file=str(path), error=str(error)
        )
        if str(path) not in self.damaged:
            self.damaged.append(str(path))
        self._late |= {day for day, known in self._layout.day_files() if known == path}
        self._idle_since = {day: since for day, since in self._idle_since.items() if day not in self._late}

    def close_due(self, now_ns: int) -> list[int]:
        """Close the days that ended a grace ago and have been quiet for as long; the days closed."""
        closed = []
        for day, idle_since in list(self._idle_since.items()):
            over = day < day_of(now_ns) and now_ns >= (day + 1) * NS_PER_DAY + int(self._grace_s * NS_PER_S)
            if not over or time.monotonic() - idle_since < self._grace_s:
                continue
            file = self._open.pop(day, None) or DayFile(self._layout.day(day))
            try:
                file.close_day(now_ns)
            except Retryable as error:
                self._open[day] = file
                logger().warning("a day cannot be closed yet", day=day_name(day), error=str(error))
                continue
            del self._idle_since[day]
            closed.append(day)
        return closed

    @property
    def open_days(self) -> int:
        return len(self._idle_since)

    def close(self) -> None:
        """Release the files; a day that is not over stays open on disk."""
        for file in self._open.values():
            file.close()
        self._open.clear()
