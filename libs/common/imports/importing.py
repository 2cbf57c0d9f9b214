"""A source from its first bytes to flagged rows: what it is, a preview, batches, the summary of each day, and its digest.

Source ─▶ head ─▶ Detection ─┬▶ preview(n)
                             └▶ batches(): blocks ─▶ quotes ─▶ flags ─▶ Batch(rows, rejected) … ─▶ summary, digest
"""

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Flag
from libs.common.imports.csv_file import detect_csv, detect_lean
from libs.common.imports.detection import Detect, Detection, Head, Reading
from libs.common.imports.dukascopy import detect_bi5
from libs.common.imports.json_file import detect_json
from libs.common.imports.option import Format, Options
from libs.common.imports.source import Source, read_blocks
from libs.common.imports.table import Quote, RejectedLine

SPIKE_RATIO = 10  # a side that moved by more than a tenth of its last price, as for captured ticks
DAYS_MAX = 250_000  # of all symbols of one file: 30 years of 20 symbols; a file of noise must not fill the memory

_DETECTS: dict[Format, tuple[Detect, ...]] = {
    "auto": (detect_bi5, detect_lean, detect_json, detect_csv),
    "lean": (detect_lean,),
    "csv": (detect_csv,),
    "json": (detect_json,),
    "bi5": (detect_bi5,),
}
_NOT_READ = {
    b"PAR1": "Parquet", b"DBN": "Databento's DBN", b"SQLite format 3": "SQLite", b"\xfd7zXZ": "xz", b"BZh": "bzip2",
    b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR", b"%PDF": "PDF", b"\x7fELF": "a program", b"\xd0\xcf\x11\xe0": "an old Excel sheet",
}  # fmt: skip
_CROSSED, _LOCKED, _SPIKE, _OUT_OF_ORDER = int(Flag.CROSSED), int(Flag.LOCKED), int(Flag.SPIKE), int(Flag.OUT_OF_ORDER)
_ONE_SIDED, _IMPORTED = int(Flag.ONE_SIDED), int(Flag.IMPORTED)
_NEVER = -(2**63)

Row = tuple[str, int, int | None, int | None, float | None, float | None, int]  # symbol, ts, bid, ask, bid_size, ask_size, flags


class Batch(NamedTuple):
    """Rows in the order of the file, and what of the same stretch was rejected."""

    rows: list[Row]
    rejected: list[RejectedLine]


@dataclass(slots=True)
class DaySummary:
    """One symbol's UTC day, times in ns. `rejected` counts the lines of which symbol and time could be read."""

    count: int = 0
    first: int | None = None
    last: int | None = None
    crossed: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Summary:
    """`reasons` counts all rejected lines, those too of which neither symbol nor day could be read."""

    days: dict[tuple[str, int], DaySummary] = field(default_factory=dict)  # (symbol, days since the epoch)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return sum(day.count for day in self.days.values())

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    def day(self, symbol: str, number: int) -> DaySummary:
        found = self.days.get((symbol, number))
        if found is None:
            if len(self.days) >= DAYS_MAX:
                raise Rejected(f"more than {DAYS_MAX} days of symbols in one file: these are no ticks")
            found = self.days[symbol, number] = DaySummary()
        return found


@dataclass(slots=True)
class _Top:
    """What the next tick of a symbol is compared with. A file's first tick has nothing before it."""

    bid: int | None = None
    ask: int | None = None
    ts: int = _NEVER
    day: DaySummary = field(default_factory=DaySummary)
    begin: int = 0  # of `day`, and the end of it, in ns
    end: int = 0


class ImportFile:
    """One source, recognised. `summary` and `digest` are complete once `batches` has ended; a stream can be read once."""

    def __init__(self, source: Source, options: Options) -> None:
        """Rejected where it cannot be read, Ambiguous where an option has to say how; nothing is guessed."""
        self.source = source
        self.summary = Summary()
        self.digest: str | None = None
        self._options = options
        self._kept: list[bytes] = []  # of a stream: what the head and the preview have taken out of it
        self._stream = read_blocks(source) if source.stream else None
        blocks = self._blocks()
        data = next(blocks, b"")
        whole = next(blocks, None) is None
        blocks.close()
        self._head = Head(source, data, whole)
        with self._named():
            self.detection: Detection = self._detect().detection

    def preview(self, rows: int) -> Batch:
        """The first rows, and the lines rejected before them."""
        found = Batch([], [])
        for batch in self._batches(self._blocks(), Summary()):
            found.rows.extend(batch.rows)
            found.rejected.extend(batch.rejected)
            if len(found.rows) >= rows:
                break
        return Batch(found.rows[:rows], found.rejected[:rows])

    def batches(self) -> Iterator[Batch]:
        """All rows. Rejected, in the middle, where the file turns out to be damaged: what came before it stands."""
        self.summary, self.digest = Summary(), None
        digest = self._new_digest()

        def hashed(blocks: Iterator[bytes]) -> Iterator[bytes]:
            for block in blocks:
                digest.update(block)
                yield block

        yield from self._batches(hashed(self._blocks(last=True)), self.summary)
        self.digest = digest.hexdigest()

    def content_digest(self) -> str:
        """`digest` without reading rows, to know a file that was imported before. Not of a stream, which can be read once."""
        if self._stream is not None:
            raise Rejected("a stream is read once: its digest is known when it has been imported")
        digest = self._new_digest()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def _new_digest(self) -> "hashlib._Hash":
        """Begun with how the file is read: the same digest imports the same rows."""
        return hashlib.sha256(f"{self.detection.text} {replace(self._options, now_ns=None)}".encode())

    def _blocks(self, *, last: bool = False) -> Generator[bytes, None, None]:
        if self._stream is None:
            yield from read_blocks(self.source)
            return
        kept = self._kept
        if last:
            self._kept = []
        yield from kept
        for block in self._stream:
            if not last:
                kept.append(block)
            yield block

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors say which file they are about."""
        try:
            yield
        except Rejected as error:
            if not str(error).startswith(self.source.name):
                error.args = (f"{self.source.name}: {error}",)
            raise

    def _detect(self) -> Reading:
        """A new reader, at the beginning."""
        data = self._head.data
        for magic, what in _NOT_READ.items():
            if data.startswith(magic):
                raise Rejected(f"{what} is not read: write it as CSV or JSON, packed as .zip, .gz or .zst if need be")
        for detect in _DETECTS[self._options.format]:
            if (reading := detect(self._head, self._options)) is not None:
                return reading
        raise Rejected(f"not {self._options.format}")

    def _batches(self, blocks: Iterator[bytes], summary: Summary) -> Iterator[Batch]:
        tops: dict[str, _Top] = {}
        with self._named():
            for quotes, rejected in self._detect().read(blocks):
                for line in rejected:
                    summary.reasons[line.reason] += 1
                    if line.symbol is not None and line.ts is not None:
                        summary.day(line.symbol, line.ts // NS_PER_DAY).rejected += 1
                yield Batch(_flagged(quotes, tops, summary), rejected)


def _flagged(quotes: Sequence[Quote], tops: dict[str, _Top], summary: Summary) -> list[Row]:
    """The flags that the gateway gives (services/gateway/market/top.py), as far as an import can tell; late is none of them."""
    rows: list[Row] = []
    for symbol, ts, bid, ask, bid_size, ask_size in quotes:
        top = tops.get(symbol)
        if top is None:
            top = tops[symbol] = _Top()
        flags = _IMPORTED
        if bid is None or ask is None:
            flags |= _ONE_SIDED
        elif bid >= ask:
            flags |= _CROSSED if bid > ask else _LOCKED
        last = top.bid
        if last is not None and bid is not None and abs(bid - last) * SPIKE_RATIO > last:
            flags |= _SPIKE
        last = top.ask
        if last is not None and ask is not None and abs(ask - last) * SPIKE_RATIO > last:
            flags |= _SPIKE
        top.bid, top.ask = bid, ask
        if ts < top.ts:
            flags |= _OUT_OF_ORDER
        else:
            top.ts = ts
        if not top.begin <= ts < top.end:
            number = ts // NS_PER_DAY
            top.day, top.begin, top.end = summary.day(symbol, number), number * NS_PER_DAY, (number + 1) * NS_PER_DAY
        day = top.day
        day.count += 1
        if day.first is None or day.last is None:
            day.first = day.last = ts
        elif ts > day.last:
            day.last = ts
        elif ts < day.first:
            day.first = ts
        day.crossed += flags & _CROSSED
        rows.append((symbol, ts, bid, ask, bid_size, ask_size, flags))
    return rows


def open_all(sources: Sequence[Source], options: Options) -> tuple[list[ImportFile], list[tuple[Source, Rejected]]]:
    """Every source that can be read, and the others with the reason. Rejected where --symbol would make several symbols one."""
    files: list[ImportFile] = []
    refused: list[tuple[Source, Rejected]] = []
    for source in sources:
        try:
            files.append(ImportFile(source, options))
        except Rejected as error:
            refused.append((source, error))
    named = sorted(set(chain.from_iterable(file.detection.symbols for file in files)))
    if options.symbol is not None and len(named) > 1:
        raise Rejected(f"--symbol names one, and the files have {', '.join(named[:5])}: import them one by one, or leave it out")
    return files, refused
