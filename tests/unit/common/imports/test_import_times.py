"""Times in every way they are written, and zones by their own rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_S
from libs.common.imports import Ambiguous, Options
from libs.common.imports.number import exact_price
from libs.common.imports.times import read_times
from libs.common.imports.zone import parse_zone

MS = st.integers(10**12 // 10 * 2, 4 * 10**12)  # 1976 to 2096
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WRITTEN = {
    "ISO": ("%Y-%m-%d %H:%M:%S.{ms:03d}", "UTC"),
    "ISO with its zone": ("%Y-%m-%dT%H:%M:%S.{ms:03d}+00:00", None),
    "ISO in µs": ("%Y-%m-%dT%H:%M:%S.{ms:03d}000Z", None),
    "MT5": ("%Y.%m.%d %H:%M:%S.{ms:03d}", "GMT"),
    "slashes": ("%Y/%m/%d %H:%M:%S,{ms:03d}", "Etc/UTC"),
    "TrueFX": ("%Y%m%d %H:%M:%S.{ms:03d}", "UTC+0"),
    "FIX": ("%Y%m%d-%H:%M:%S.{ms:03d}", "UTC"),
    "HistData": ("%Y%m%d %H%M%S{ms:03d}", "UTC"),
    "day-first": ("%d.%m.%Y %H:%M:%S.{ms:03d}", "UTC"),
}


@pytest.mark.parametrize("name", WRITTEN)
@given(ms=MS)
def test_a_time_is_read_as_it_was_written(name, ms):
    pattern, zone = WRITTEN[name]
    text = (EPOCH + timedelta(seconds=ms // 1000)).strftime(pattern).replace("{ms:03d}", f"{ms % 1000:03d}")
    moment = read_times([text], Options(timezone=zone, dates="day-first" if name == "day-first" else None)).moment
    assert moment(text) == moment(text) == ms * NS_PER_MS


@given(MS, st.sampled_from(["UTC-5", "UTC+05:30", "Europe/Athens", "America/New_York+7", "EET", "Australia/Lord_Howe"]))
def test_a_local_time_is_the_utc_it_came_from_or_asked_about(ms, name):
    zone = parse_zone(name)
    seconds = ms // 1000 // 60 * 60
    local = ((EPOCH + timedelta(seconds=seconds)).astimezone(zone.rules) + zone.shift).replace(tzinfo=None)
    try:
        assert zone.utc_ns(local) == seconds * NS_PER_S
    except Ambiguous:
        assert seconds * NS_PER_S in {zone.utc_ns(local, "earlier"), zone.utc_ns(local, "later")}


@pytest.mark.parametrize(
    "name", ["", "Mars", "UTC+25", "UTC+1x", "America/New_York+", "America/New_York+30", "../etc/passwd", "/etc/localtime"]
)
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(Rejected, match="is not a time zone"):
        parse_zone(name)


@given(st.integers(1, 10**18 - 1), st.integers(0, 4))
def test_prices_come_back_from_their_text_in_any_notation(price, zeros):
    text = f"{price // 10**9}.{price % 10**9:09d}"
    assert exact_price(text + "0" * zeros) == exact_price(f"{price}e-9") == exact_price(f"+{text}") == price


@given(st.integers(1, 10**7), st.integers(0, 6), st.integers(1, 50), st.sampled_from([0.1, 3.0, 1e-5]))
def test_what_doubles_leave_behind_is_taken_off(number, decimals, times, step):
    true = number / 10**decimals
    noisy = true + step * times - step * times  # as sums of steps in a vendor's program are
    if abs(noisy - true) < true * 5e-16:
        assert exact_price(repr(noisy)) == number * 10 ** (9 - decimals)
