"""Local times to UTC by the zone's own rules; a time that a change of the clocks skips or repeats is never guessed at."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_S
from libs.common.imports.option import Ambiguous, Fold

_FIXED = re.compile(r"(?:UTC|GMT|Z)(?:([+-])(\d{1,2})(?::?([0-5]\d))?)?", re.IGNORECASE | re.ASCII)
_SHIFTED = re.compile(r"(.+?)([+-]\d{1,2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS_MAX = 24


@dataclass(frozen=True, slots=True)
class Zone:
    """`shift`: how far the zone's clocks are ahead of those of `rules`, whose changes they follow."""

    name: str
    rules: tzinfo
    shift: timedelta = timedelta(0)

    def utc_ns(self, local: datetime, fold: Fold | None = None) -> int:
        """A local time (without tzinfo) to ns. Rejected where it does not exist, Ambiguous where it comes twice."""
        first = (local - self.shift).replace(tzinfo=self.rules)
        second = first.replace(fold=1)
        if first.utcoffset() != second.utcoffset():
            if first.astimezone(UTC).astimezone(self.rules).replace(tzinfo=None) != first.replace(tzinfo=None):
                raise Rejected(f"{local:%Y-%m-%d %H:%M} does not exist in {self.name}: the clocks went forward")
            if fold is None:
                raise Ambiguous(f"{local:%Y-%m-%d %H:%M} comes twice in {self.name}", "--fold earlier or --fold later")
            first = second if fold == "later" else first
        since = first.astimezone(UTC) - _EPOCH
        return (since.days * 86_400 + since.seconds) * NS_PER_S


def parse_zone(name: str) -> Zone:
    """`UTC`, `UTC-5`, `GMT+05:30`, a name of the IANA database, or one with whole hours added; Rejected for anything else.

    America/New_York+7 is the server time of brokers whose day ends with New York's: UTC+2, and UTC+3 in American summer.
    """
    if match := _FIXED.fullmatch(name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if offset < timedelta(hours=_HOURS_MAX):
            return Zone(name, timezone(-offset if sign == "-" else offset))
    for base, hours in ((name, "0"), *(match.groups() for match in [_SHIFTED.fullmatch(name)] if match)):
        try:
            rules = ZoneInfo(base)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
        if abs(int(hours)) < _HOURS_MAX:
            return Zone(name, rules, timedelta(hours=int(hours)))
    raise Rejected(f"{name[:64]!r} is not a time zone: write UTC, UTC-5, Europe/Athens or America/New_York+7")


UTC_ZONE = Zone("UTC", UTC)
