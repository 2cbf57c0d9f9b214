"""Legacy JSON, for tools that read what was there before the store: an array of {symbol, timestamp, bid, ask} for each UTC day.

    batch ─▶ SQLite commits ─▶ the ticks that were new are appended, fsynced ─▶ watermark, acknowledgement
    start, or an append that failed ─▶ the day is written again from its SQLite files, under another name, and renamed

So a kill between the two writes costs nothing, and what is delivered again is recognised by SQLite and is not new. Milliseconds,
no provider, no sizes: it cannot say itself what it holds already. A file ends in `]` at any moment but that of a power cut.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_MS, day_name
from libs.common.domain.price import format_price
from libs.common.platform import sync_folder
from libs.common.store import Layout
from libs.common.store.day import Row, quotes_by_time
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point

PARTIAL = ".partial"
_BATCH = 10_000

Quote = tuple[str, int, int | None, int | None]  # symbol, ts in ns, bid, ask


class LegacyJson:
    """Of one partition; used by one thread at a time. Retryable: the disk refuses.

    `beat` is called while a day is written again, which takes 2 s a million ticks.
    """

    def __init__(self, layout: Layout, beat: Callable[[], None] = lambda: None) -> None:
        self._layout = layout
        self._beat = beat
        self._stale: set[int] = set()  # days whose file may lack what SQLite has

    def recover(self, open_days: Iterable[int]) -> None:
        """Write the open days again, and those with late ticks: a former process may have been killed between the two writes."""
        late = {
            day for day, path in self._layout.day_files() if path == self._layout.late(day) and self._layout.day(day).exists()
        }
        for day in sorted({*open_days, *late}):
            try:
                self._write_again(day)
            except Rejected as error:
                logger().error("a day's legacy JSON is left as it is", day=day_name(day), error=str(error))

    def append(self, day: int, ticks: list[Row]) -> None:
        """Durable when it returns. `ticks`: those that SQLite did not have before."""
        if day in self._stale:
            self._write_again(day)
        elif ticks:
            self._stale.add(day)
            path = self._layout.legacy_json(day)
            try:
                if path.exists():
                    _append(path, _text((row[0], row[2], row[5], row[6]) for row in ticks))
                else:
                    self._write(path, ((row[0], row[2], row[5], row[6]) for row in ticks))
            except OSError as error:
                raise Retryable(f"{path}: {error}") from error
            self._stale.discard(day)

    def _write_again(self, day: int) -> None:
        self._stale.add(day)
        path = self._layout.legacy_json(day)
        files = [path for path in (self._layout.day(day), self._layout.taken(day), self._layout.late(day)) if path.exists()]
        try:
            self._write(path, chain.from_iterable(map(quotes_by_time, files)))
        except OSError as error:
            raise Retryable(f"{path}: {error}") from error
        self._stale.discard(day)

    def _write(self, path: Path, quotes: Iterable[Quote]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
        with partial.open("wb") as file:
            before = b"["
            for text in _texts(quotes):
                file.write(before + text)
                before = b", "
                self._beat()
            file.write(b"[]" if before == b"[" else b"]")
            file.flush()
            os.fsync(file.fileno())
        point("legacy_not_renamed")
        partial.replace(path)
        sync_folder(path.parent)


def _append(path: Path, text: bytes) -> None:
    """In one call of the system, which a kill does not cut in two."""
    with path.open("r+b", buffering=0) as file:
        end = file.seek(-1, os.SEEK_END)
        added = (b"" if end == 1 else b", ") + text + b"]"
        if file.write(added) != len(added):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())


def _texts(quotes: Iterable[Quote]) -> Iterator[bytes]:
    rest = iter(quotes)
    while some := list(islice(rest, _BATCH)):
        yield _text(some)


def _text(quotes: Iterable[Quote]) -> bytes:
    """As `json.dumps` would write them, but for prices, which keep their exact decimals. An absent side is null."""
    return ", ".join(
        f'{{"symbol": "{symbol}", "timestamp": {ts // NS_PER_MS}, "bid": {_price(bid)}, "ask": {_price(ask)}}}'
        for symbol, ts, bid, ask in quotes
    ).encode()


def _price(price: int | None) -> str:
    return "null" if price is None else format_price(price)
