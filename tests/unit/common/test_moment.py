"""Times: ns in, RFC 3339 out, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, day_name, day_of, format_moment, parse_day, parse_moment

moments = st.integers(-(2**62), 2**63 - 1)


@given(moments)
def test_a_time_survives_being_written_and_read(ts: int) -> None:
    assert parse_moment(format_moment(ts)) == ts
    assert parse_moment(str(ts)) == ts


@given(moments)
def test_the_day_of_a_time_is_the_date_it_is_written_with(ts: int) -> None:
    assert format_moment(ts).startswith(day_name(day_of(ts)))
    assert parse_day(day_name(day_of(ts))) == ts // NS_PER_DAY


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20T10:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20 10:00:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00Z"),
        ("2026-11-20T10:00:00.5-05:00", "2026-11-20T15:00:00.5Z"),
    ],
)
def test_no_zone_is_utc_and_offsets_count(text: str, same_as: str) -> None:
    assert parse_moment(text) == parse_moment(same_as)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-13-01", "2026-02-30", "2026-11-20T25:00:00Z", "1.5", "1e9", "--5", "-", "9" * 25, "9999-01-01"),
        *("2026-11-20T10:00:00+99:99", "２０２６-11-20", "2026-11-20T10:00:00.1234567891Z"),
    ],
)
def test_what_is_no_time_is_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        parse_moment(text)


def test_plain_digits_are_epoch_nanoseconds_whatever_they_look_like() -> None:
    assert parse_moment("20261120") == 20_261_120
