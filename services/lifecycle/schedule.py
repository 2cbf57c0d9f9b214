"""Which step is due for which day; one day's failure is its own, and the others go on.

seal: finish what was killed, first sealing, what came late ─▶ compress ─▶ archive ─▶ retain ─▶ sweep
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_S, day_of
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import (
    ColdStorage,
    Done,
    Retention,
    Step,
    TierDay,
    amend_day,
    archive_day,
    clear_scratch,
    compress_day,
    extras,
    finish,
    keeps_position,
    read_receipt,
    read_retention,
    require_space,
    retain_day,
    seal_day,
    sweep,
    tier_days,
)
from services.lifecycle.settings import LifecycleSettings

STEPS: tuple[Step, ...] = ("seal", "compress", "archive", "retain")
RETRY_S = 3_600.0  # a day that was set aside is looked at again after this, or when its files change


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that a day did not take. `damaged`: trying again changes nothing until somebody has looked at it."""

    step: Step
    day: TierDay | None
    error: str
    damaged: bool


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: by the calendar, or as somebody asked. `today` and `day` count days since the epoch.

    `day`: this one only, whatever its age but for retention. `asked`: late ticks need not be quiet, failures are tried again.
    """

    steps: Sequence[Step]
    today: int
    day: int | None = None
    dry_run: bool = False
    asked: bool = False


K = TypeVar("K", bound=Hashable)
_Stamp = tuple[tuple[str, int, int], ...]


class Schedule:
    """For one thread at a time, of a process that holds the lock. What it remembers only saves it work."""

    def __init__(self, settings: LifecycleSettings, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir
        self._clock = clock
        self._cold: ColdStorage | None = None
        self._failed: dict[tuple[Step, TierDay], tuple[_Stamp, float]] = {}
        self._amended: dict[TierDay, tuple[_Stamp, float]] = {}  # late files that are sealed, and that their writer has open
        self.damaged: dict[TierDay, str] = {}

    def check(self) -> None:
        """Rejected: the settings name no cold storage that there could be, or retention that cannot be read."""
        self._retention()
        _ = self.cold

    @property
    def cold(self) -> ColdStorage | None:
        """None where there is none. Rejected: its URL is none; Retryable: it cannot be reached."""
        if self._cold is None and self._settings.cold_url:
            self._cold = ColdStorage(self._settings.cold_url)
        return self._cold

    def run(self, order: Order, stopping: Callable[[], bool] = lambda: False) -> Iterator[Done | Failed]:
        """Do what is due, oldest days first; what was done, as it is done."""
        for step in order.steps:
            if step == "retain" and (wrong := self._retention_error()) is not None:
                yield Failed(step, None, wrong, damaged=False)
                continue
            for day in tier_days(self._data_dir):
                if stopping():
                    return
                if day.day <= order.today and order.day in (None, day.day):
                    yield from self._try(step, day, order)
        if not order.dry_run:
            try:
                sweep(self._data_dir, self._clock(), self._settings.lifecycle_linger_s)
            except Retryable as error:
                yield Failed(order.steps[-1], None, str(error), damaged=False)

    def _try(self, step: Step, day: TierDay, order: Order) -> Iterator[Done | Failed]:
        key = (step, day)
        if not order.asked and (
            self._is_stuck(step, day) or (key in self._failed and self._is_known(self._failed, key, day.files()))
        ):
            return
        try:
            yield from self._take(step, day, order)
        except Rejected as error:
            self.damaged[day] = str(error)
            self._failed[key] = (_stamp(day.files()), time.monotonic())
            yield Failed(step, day, str(error), damaged=True)
        except Retryable as error:
            yield Failed(step, day, str(error), damaged=False)
        else:
            self._failed.pop(key, None)
            if not any(failed == day for _, failed in self._failed):
                self.damaged.pop(day, None)
        finally:
            clear_scratch(self._data_dir)

    def _take(self, step: Step, day: TierDay, order: Order) -> Iterator[Done]:
        if not order.dry_run and day.state() != "open":
            finish(day, self._clock())
        receipt = read_receipt(day.receipt)
        deleting = receipt is not None and receipt.deleting
        if step == "retain":
            yield from self._retain(day, order)
        elif not deleting and (state := day.state()) not in (None, "open"):
            age = order.today - day.day
            chosen = order.day is not None
            if step == "seal" and not order.dry_run:
                yield from self._seal(day, order)
            elif step == "compress" and state == "sealed" and (chosen or age >= self._settings.compress_after_days):
                yield from self._compress(day, order)
            elif step == "archive" and state == "compressed" and (chosen or age >= self._settings.archive_after_days):
                yield from self._archive(day, order)

    def _seal(self, day: TierDay, order: Order) -> Iterator[Done]:
        now = self._clock()
        if day.db.exists():
            self._require_space(day, 0.5)
        if (done := seal_day(day, now)) is not None:
            yield done
        found = extras(day)
        for extra in found:
            # what was sealed of an open late file is not in a day file that is rebuilt without it
            if extra != day.late or len(found) > 1 or self._is_due(day, order):
                self._require_space(day, 2.5)
                done = amend_day(day, extra, now, self.cold)
                if day.late.exists():
                    self._amended[day] = (_stamp(_late_files(day)), time.monotonic())
                if done is not None:
                    yield done

    def _compress(self, day: TierDay, order: Order) -> Iterator[Done]:
        if not extras(day) and not keeps_position(day):
            if not order.dry_run:
                self._require_space(day, 1.5)
            yield compress_day(day, dry_run=order.dry_run)

    def _archive(self, day: TierDay, order: Order) -> Iterator[Done]:
        if self.cold is not None and not extras(day):
            yield archive_day(day, self.cold, dry_run=order.dry_run)

    def _retain(self, day: TierDay, order: Order) -> Iterator[Done]:
        """The rules are read for every day: a hold that was written a moment ago counts."""
        retention = self._retention()
        if retention.all_kept(order.today - day.day) or day.state() == "open" or extras(day):
            return
        age = order.today - (day.day if order.asked else self._arrived(day))
        done = retain_day(day, retention, age, self._clock(), self.cold, dry_run=order.dry_run)
        if done is None:
            return
        yield done
        if done.changed and not order.dry_run:  # rebuilt: back to where it was, and what it was built from goes
            yield from self._compress(day, order)
            if day.state() == "compressed" and order.today - day.day >= self._settings.archive_after_days:
                yield from self._archive(day, order)
            done = retain_day(day, retention, age, self._clock(), self.cold)
            if done is not None:
                yield done

    def _arrived(self, day: TierDay) -> int:
        """When the day was closed: history that was imported is not deleted in the night after, by the calendar of its ticks."""
        return max(day.day, day_of(read_manifest(day.manifest).closed_at)) if day.manifest.exists() else day.day

    def _retention(self) -> Retention:
        return read_retention(self._settings.lifecycle_retention_file, self._settings.retain_days)

    def _retention_error(self) -> str | None:
        """A file that cannot be read is no day's fault."""
        try:
            self._retention()
        except Rejected as error:
            return str(error)
        return None

    def _is_due(self, day: TierDay, order: Order) -> bool:
        """Whether late ticks are to be made part of their day now."""
        if order.asked:
            return True
        newest = max(path.stat().st_mtime_ns for path in _late_files(day))
        is_quiet = self._clock() - newest >= self._settings.amend_quiet_s * NS_PER_S
        return is_quiet and not self._is_known(self._amended, day, _late_files(day))

    def _is_set_aside(self, step: Step, day: TierDay) -> bool:
        """Whether these very files did not take the step, not long ago."""
        return (step, day) in self._failed and self._is_known(self._failed, (step, day), day.files())

    def _is_stuck(self, step: Step, day: TierDay) -> bool:
        """Whether the day did not take an earlier step."""
        return any((earlier, day) in self._failed for earlier in STEPS[: STEPS.index(step)])

    def _is_known(self, known: Mapping[K, tuple[_Stamp, float]], key: K, files: list[Path]) -> bool:
        """Whether these very files were looked at, not long ago."""
        stamp, since = known.get(key, ((), 0.0))
        return stamp == _stamp(files) and time.monotonic() - since < RETRY_S

    def _require_space(self, day: TierDay, times: float) -> None:
        receipt = read_receipt(day.receipt)
        size = receipt.db.bytes if receipt is not None else day.db.stat().st_size
        require_space(self._data_dir, int(times * size), self._settings.lifecycle_disk_reserve_bytes)


def today(clock: Callable[[], int] = time.time_ns) -> int:
    return day_of(clock())


def _late_files(day: TierDay) -> list[Path]:
    """The late file, and the log of it that holds what it does not yet."""
    wal = day.late.with_name(day.late.name + "-wal")
    return [day.late, wal] if wal.exists() and wal.stat().st_size else [day.late]


def _stamp(files: list[Path]) -> _Stamp:
    found = [(path, path.stat()) for path in files if path.exists()]
    return tuple((str(path), status.st_mtime_ns, status.st_size) for path, status in found)
