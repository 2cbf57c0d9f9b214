"""13 days of genuine EURUSD of two vendors, replayed as two LPs: every tick in the right day file, value for value."""

import contextlib
import os
import sqlite3
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, day_number
from libs.common.domain.price import parse_price
from libs.common.store import Layout
from libs.common.testing.reckoning import numbering_errors
from tests.chaos.pipeline import Pipeline, Provider

DATA = Path(os.environ.get("TICKVAULT_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VENDORS = {"OANDA": ("oanda", "UTC", 0), "FXCM": ("fxcm", "UTC-5", 5)}  # folder, zone of its files, hours behind UTC
TICKS = {"OANDA": 532_903, "FXCM": 1_144_807}
REPLAY_TIMEOUT_S = 150.0

Quote = tuple[int, int, int]  # ts, bid, ask
Days = defaultdict[tuple[str, int], Counter[Quote]]  # provider and UTC day


def folder_of(vendor: str) -> Path:
    return DATA / "lean" / vendor / "tick" / "eurusd"


pytestmark = pytest.mark.skipif(
    not all(folder_of(vendor).is_dir() for vendor, _, _ in VENDORS.values()),
    reason=f"the real market data is not here ({DATA}); set TICKVAULT_TEST_DATA to its folder",
)


def quotes_in(zipped: Path, hours_behind: int) -> Iterator[Quote]:
    """Read apart from the simulator: `ms_since_midnight,bid,ask`, the file named by its local day."""
    name = zipped.name
    midnight = day_number(int(name[:4]), int(name[4:6]), int(name[6:8])) * NS_PER_DAY + hours_behind * 3600 * 10**9
    with zipfile.ZipFile(zipped) as archive:
        (member,) = archive.namelist()
        for line in archive.read(member).decode("ascii").splitlines():
            ms, bid, ask = line.split(",")
            yield midnight + int(ms) * NS_PER_MS, parse_price(bid.encode()), parse_price(ask.encode())


def vendors_files() -> Days:
    days: Days = defaultdict(Counter)
    for provider, (vendor, _, hours_behind) in VENDORS.items():
        for zipped in sorted(folder_of(vendor).glob("*_quote.zip")):
            for quote in quotes_in(zipped, hours_behind):
                days[provider, quote[0] // NS_PER_DAY][quote] += 1
    return days


def stored_days(data_dir: Path) -> Days:
    """By the day of the file, whatever the tick's own time says."""
    days: Days = defaultdict(Counter)
    for day, path in Layout(data_dir).day_files():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for provider, *quote in connection.execute(
                "SELECT provider, ts, bid, ask FROM ticks JOIN providers USING (provider_id)"
            ):
                days[provider, day][quote[0], quote[1], quote[2]] += 1
    return days


def order_within_a_ms(data_dir: Path) -> int:
    """Instants in which a provider's quote goes from A to B and back to A, in the order of seq."""
    found = 0
    for _, path in Layout(data_dir).day_files():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                "SELECT provider_id, ts, bid, ask FROM ticks ORDER BY symbol_id, provider_id, ts, seq"
            ).fetchall()
        found += sum(
            first[:2] == third[:2] and first == third and second[:2] == first[:2] and second != first
            for first, second, third in zip(rows, rows[1:], rows[2:], strict=False)
        )
    return found


def expected_order_within_a_ms() -> int:
    found = 0
    for vendor, _, hours_behind in VENDORS.values():
        rows = [quote for zipped in sorted(folder_of(vendor).glob("*_quote.zip")) for quote in quotes_in(zipped, hours_behind)]
        found += sum(
            first == third and second[0] == first[0] and second != first
            for first, second, third in zip(rows, rows[1:], rows[2:], strict=False)
        )
    return found


def test_every_real_tick_is_in_its_day_file_value_for_value(tmp_path: Path) -> None:
    providers = [
        Provider(name, ("--replay", str(folder_of(vendor)), "--timezone", zone, "--speed", "max", "--exit-when-done"))
        for name, (vendor, zone, _) in VENDORS.items()
    ]
    with Pipeline(tmp_path, *providers, TICKVAULT_GATEWAY_SEGMENT_BYTES=str(32 * 2**20)) as pipeline:
        pipeline.start("persistence", "gateway")
        for name in VENDORS:
            process = pipeline.stack.processes[name].popen
            assert process is not None
            assert process.wait(REPLAY_TIMEOUT_S) == 0
        pipeline.drain()
        assert numbering_errors(pipeline.stack.data_dir) == []
        stored = stored_days(pipeline.stack.data_dir)
        expected = vendors_files()
        assert {
            name: sum(count.total() for (provider, _), count in stored.items() if provider == name) for name in VENDORS
        } == TICKS
        assert stored.keys() == expected.keys()
        different = [day for day in expected if stored[day] != expected[day]]
        assert not different
        assert order_within_a_ms(pipeline.stack.data_dir) == expected_order_within_a_ms() > 0
