"""Recurring stretches of time in a zone with its daylight saving: when a session runs, when a market is open.

    daily    start = "17:05", end = "17:00", days = ["sun", "mon", "tue", "wed", "thu"]   (days: on which a stretch begins)
    weekly   start = "sun 17:05", end = "fri 17:00"

A stretch whose end is not after its start ends on a later day; start = end is all day, or all week, with a boundary. Times are
wall clock times of the zone: 17:00 in New York is 21:00 UTC in summer and 22:00 in winter. A time that a change of the clocks
skips or repeats is taken as the zone's rules before the change have it.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from libs.common.domain.moment import NS_PER_S

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = re.compile(r"(?:(mon|tue|wed|thu|fri|sat|sun) )?([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


class Schedule(BaseModel):
    """`start` and `end` are HH:MM[:SS], both with a weekday before them or both without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_zone: str = "UTC"
    start: str
    end: str
    days: tuple[Weekday, ...] = WEEK

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone; write one such as America/New_York") from None
        return name

    @field_validator("start", "end")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if not _TIME.fullmatch(text):
            raise ValueError(f"{text!r} is not HH:MM, HH:MM:SS, or one of these behind a weekday (sun 17:05)")
        return text

    @model_validator(mode="after")
    def _both_weekly(self) -> Self:
        if (_weekday(self.start) is None) != (_weekday(self.end) is None):
            raise ValueError("start and end both name a weekday, or neither does")
        if _weekday(self.start) is not None and self.days != WEEK:
            raise ValueError("days belong to a daily schedule; start and end name weekdays already")
        if not self.days:
            raise ValueError("no day to begin on")
        return self

    def began(self, at_ns: int) -> int | None:
        """When the stretch that covers `at_ns` began, in ns; None where none does."""
        zone = ZoneInfo(self.time_zone)
        at = datetime.fromtimestamp(at_ns // NS_PER_S, UTC)
        today = at.astimezone(zone).date()
        for back in range(-1, 8):
            day = today - timedelta(days=back)
            if WEEK[day.weekday()] not in self._start_days:
                continue
            start, end = self._stretch(day, zone)
            if start <= at < end:
                return int(start.timestamp()) * NS_PER_S
        return None

    def covers(self, at_ns: int) -> bool:
        return self.began(at_ns) is not None

    @property
    def _start_days(self) -> tuple[Weekday, ...]:
        weekday = _weekday(self.start)
        return self.days if weekday is None else (weekday,)

    def _stretch(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        start, end, last_weekday = _clock(self.start), _clock(self.end), _weekday(self.end)
        if last_weekday is None:
            days = 0 if end > start else 1
        else:
            days = (WEEK.index(last_weekday) - day.weekday()) % 7
            if days == 0 and end <= start:
                days = 7
        last = day + timedelta(days=days)
        return datetime.combine(day, start, zone).astimezone(UTC), datetime.combine(last, end, zone).astimezone(UTC)


class MarketHours(BaseModel):
    """A group of symbols that trade at the same times. Closed is not stale, and not missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_ -]{1,32}$")
    symbols: tuple[str, ...] = Field(description="canonical symbols; * and ? are wildcards", min_length=1)
    open: tuple[Schedule, ...] = Field(min_length=1)

    def is_open(self, at_ns: int) -> bool:
        return any(schedule.covers(at_ns) for schedule in self.open)


def _weekday(text: str) -> Weekday | None:
    match = _TIME.fullmatch(text)
    return match[1] if match else None  # type: ignore[return-value]


def _clock(text: str) -> time:
    match = _TIME.fullmatch(text)
    assert match is not None, "validated"
    return time(int(match[2]), int(match[3]), int(match[4] or 0))
