"""Time is int64 ns since the Unix epoch, UTC; a day is the UTC day that a time falls in, counted from 1970-01-01."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

from libs.common.domain.errors import Rejected

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000
NS_PER_DAY = 86_400 * NS_PER_S
_EPOCH = date(1970, 1, 1).toordinal()
_TS_MIN = -(2**63)
_TS_MAX = 2**63 - 1

_EPOCH_NS = re.compile(r"-?\d{1,20}", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?)?",
    re.ASCII,
)


def day_of(ts: int) -> int:
    """The UTC day of `ts` (ns), in days since the epoch."""
    return ts // NS_PER_DAY


def day_name(day: int) -> str:
    """Days since the epoch to `YYYY-MM-DD`."""
    return date.fromordinal(_EPOCH + day).isoformat()


def parse_day(name: str) -> int:
    """`YYYY-MM-DD` to days since the epoch; Rejected for anything else."""
    try:
        return date.fromisoformat(name).toordinal() - _EPOCH
    except ValueError as error:
        raise Rejected(f"{name!r} is not a date: write YYYY-MM-DD") from error


def day_number(year: int, month: int, day: int) -> int:
    """A calendar date to days since the epoch; ValueError where there is no such date."""
    return date(year, month, day).toordinal() - _EPOCH


def parse_moment(text: str) -> int:
    """RFC 3339 (no zone = UTC, a bare date = its midnight) or an integer of epoch ns, to ns; else Rejected."""
    if _EPOCH_NS.fullmatch(text):
        ts = int(text)
        if not _TS_MIN <= ts <= _TS_MAX:
            raise Rejected(f"{text[:40]!r} is outside the range of epoch nanoseconds (int64)")
        return ts
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Rejected(f"{text[:40]!r} is not a time: write RFC 3339 (2026-11-20T10:00:00Z) or an integer of epoch ns")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    offset = UTC
    if zone and zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        offset = timezone(sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])))
    try:
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=offset)
    except ValueError as error:
        raise Rejected(f"{text[:40]!r} is not a time: {error}") from error
    ts = _whole_seconds(at) * NS_PER_S + int((fraction or "0").ljust(9, "0"))
    if not _TS_MIN <= ts <= _TS_MAX:
        raise Rejected(f"{text[:40]!r} is outside the range of epoch nanoseconds (1677 to 2262)")
    return ts


def _whole_seconds(at: datetime) -> int:
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400 + delta.seconds


def format_moment(ts: int) -> str:
    """Ns to RFC 3339 in UTC with 3, 6 or 9 decimals, as few as are exact."""
    seconds, ns = divmod(ts, NS_PER_S)
    stamp = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if ns % NS_PER_MS == 0:
        return f"{stamp}.{ns // NS_PER_MS:03d}Z"
    if ns % NS_PER_US == 0:
        return f"{stamp}.{ns // NS_PER_US:06d}Z"
    return f"{stamp}.{ns:09d}Z"
