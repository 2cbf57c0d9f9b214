"""The proof that nothing is lost: what a simulated LP wrote into its ledger against what the store holds.

every ledger line = a stored tick, value for value │ a line inside a recorded gap │ a line whose message is in quarantine
every stored tick = a ledger line, once
every (provider, symbol, day): seq is 0 … n − 1, and the account says n

A gap excuses a line only where number and time both fit, and a quarantined message only where it shows the line's own content:
sequence numbers begin again at every logon, so a number alone would excuse lines of other connections too.
"""

import contextlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.domain.price import parse_price
from libs.common.domain.record import Gap
from libs.common.store import Layout

EXAMPLES_MAX = 5
ALWAYS = (-(2**63), 2**63 - 1)

_ROWS = """SELECT p.provider, s.symbol, t.ts, t.bid, t.ask, t.bid_size, t.ask_size
    FROM symbols s CROSS JOIN ticks t ON t.symbol_id = s.symbol_id AND t.ts >= ? AND t.ts < ?
    CROSS JOIN providers p ON p.provider_id = t.provider_id"""
_ACCOUNT = "SELECT provider, symbol, numbered, stored, duplicates FROM account"
_NUMBERS = """SELECT provider, symbol, count(*), count(DISTINCT seq), max(seq)
    FROM ticks JOIN symbols USING (symbol_id) JOIN providers USING (provider_id) GROUP BY symbol_id, provider_id"""


class Line(NamedTuple):
    """One line of a ledger, as it stands there."""

    session: str
    msg_seq_num: str
    symbol: str
    ts_ns: str
    bid: str
    ask: str
    bid_size: str
    ask_size: str


Key = tuple[str, str, int, int | None, int | None, float | None, float | None]  # provider, symbol, ts, bid, ask, sizes


@dataclass(slots=True)
class Reckoning:
    """In ticks. `received` counts ledger lines, never our own outcome."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0  # rows beyond the number of equal ledger lines
    quarantined: int = 0
    in_gaps: int = 0  # ledger lines that are not stored and lie in a recorded gap or in quarantine
    lost: int = 0  # ledger lines that are nowhere
    gaps_by_session: Counter[str] = field(default_factory=Counter)  # in_gaps
    examples: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.lost and not self.duplicates

    @property
    def gap_share(self) -> float:
        """The part of the ledger that gaps excuse: what this reckoning does not prove."""
        return self.in_gaps / self.received if self.received else 0.0

    def line(self) -> str:
        return (
            f"received={self.received} stored={self.stored} duplicates={self.duplicates} "
            f"quarantined={self.quarantined} lost={self.lost}"
        )


class LedgerTail:
    """A ledger that is still being written, read as far as its lines are whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0  # whole ones so far
        self._offset: int | None = None
        self._ahead: list[Line] = []  # read, and not yet asked for

    def read(self) -> None:
        """Take up what has been written since."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset or 0)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.decode("ascii").splitlines()[0 if self._offset else 1 :]
        self._offset = (self._offset or 0) + len(whole)
        self._ahead += [Line(*line.split(",")) for line in lines]
        self.lines += len(lines)

    def until(self, end: int) -> list[Line]:
        """The lines before `end` (ns) that were not given before; event times never fall in a live ledger."""
        self.read()
        count = next((at for at, line in enumerate(self._ahead) if int(line.ts_ns) >= end), len(self._ahead))
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return taken


def read_ledger(path: Path) -> Iterator[Line]:
    """CSV: session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size."""
    with path.open(encoding="ascii") as file:
        next(file, None)
        for line in file:
            yield Line(*line.rstrip("\n").split(","))


def reckon(ledgers: Iterable[Path], data_dir: Path) -> Reckoning:
    """Compare whole ledgers with all day and late files."""
    return compare(chain.from_iterable(map(read_ledger, ledgers)), data_dir)


def compare(lines: Iterable[Line], data_dir: Path, window: tuple[int, int] = ALWAYS) -> Reckoning:
    """Compare ledger lines with the stored ticks whose event time (ns) is in the window, end exclusive. Lines are all in it."""
    result = Reckoning()
    stored: Counter[Key] = Counter()
    gaps: defaultdict[str, list[Gap]] = defaultdict(list)
    quarantined: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
    for day, path in Layout(data_dir).day_files():
        with _opened(path) as connection:
            if window[0] < (day + 1) * NS_PER_DAY and window[1] > day * NS_PER_DAY:
                stored.update(connection.execute(_ROWS, window))
            for row in connection.execute("SELECT * FROM gaps"):
                gaps[row[0]].append(Gap(*row))
            for session, raw in connection.execute("SELECT session, raw FROM quarantine"):
                result.quarantined += 1
                if (seq := _sequence_number(raw)) is not None:
                    quarantined[session, seq].append(raw)
    result.stored = stored.total()
    key_of = _Keys()
    for line in lines:
        result.received += 1
        key = key_of(line)
        if stored.get(key):
            stored[key] -= 1
        elif _shown(line, quarantined.get((line.session, int(line.msg_seq_num)), ())) or _in_gap(line, gaps[line.session]):
            result.in_gaps += 1
            result.gaps_by_session[line.session] += 1
        else:
            result.lost += 1
            if len(result.examples) < EXAMPLES_MAX:
                result.examples.append(f"lost: {','.join(line)}")
    result.duplicates = stored.total()
    beyond = islice((key for key, count in stored.items() if count), EXAMPLES_MAX)
    result.examples += [f"stored, but not in a ledger this often: {key}" for key in beyond]
    return result


def numbering_errors(data_dir: Path) -> list[str]:
    """What is wrong with seq and account of any (day, provider, symbol), late files included; empty where all is well.

    Duplicates are wrong here: a simulated LP sends nothing twice but what was asked for again.
    """
    numbered: defaultdict[tuple[int, str, str], int] = defaultdict(int)
    accounted: Counter[tuple[int, str, str]] = Counter()
    duplicates: Counter[tuple[int, str, str]] = Counter()
    counted: Counter[tuple[int, str, str]] = Counter()
    highest: defaultdict[tuple[int, str, str], int] = defaultdict(int)
    for day, path in Layout(data_dir).day_files():
        with _opened(path) as connection:
            for provider, symbol, number, stored, again in connection.execute(_ACCOUNT):
                line = (day, provider, symbol)
                duplicates[line] += again
                numbered[line] = max(number, numbered[line])
                accounted[line] += stored
            for provider, symbol, count, different, last in connection.execute(_NUMBERS):
                line = (day, provider, symbol)
                counted[line] += count if count == different else -1
                highest[line] = max(last + 1, highest[line])
    return [
        f"{day_name(line[0])} {line[1]} {line[2]}: numbered {numbered[line]}, highest seq + 1 {highest[line]}, "
        f"account {accounted[line]} and {duplicates[line]} duplicates, rows {counted[line]}"
        for line in sorted({*numbered, *counted})
        if duplicates[line] or not numbered[line] == highest[line] == accounted[line] == counted[line]
    ]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        yield connection


class _Keys:
    """Ledger lines as the store has them; texts repeat, so each is converted once."""

    def __init__(self) -> None:
        self._prices: dict[str, int | None] = {"": None}
        self._sizes: dict[str, float | None] = {"": None}

    def __call__(self, line: Line) -> Key:
        prices, sizes = self._prices, self._sizes
        session, _, symbol, ts, bid, ask, bid_size, ask_size = line
        for text in (bid, ask):
            if text not in prices:
                prices[text] = parse_price(text.encode())
        for text in (bid_size, ask_size):
            if text not in sizes:
                sizes[text] = float(text)
        return (session, symbol, int(ts), prices[bid], prices[ask], sizes[bid_size], sizes[ask_size])


def _shown(line: Line, messages: Iterable[bytes]) -> bool:
    """Whether one of the quarantined messages is the line's own; a damaged byte may have hit one of its fields."""
    texts = [text.encode() for text in (line.symbol, line.bid, line.ask)]
    return any(sum(text in raw for text in texts) >= len(texts) - 1 for raw in messages)


def _in_gap(line: Line, gaps: Iterable[Gap]) -> bool:
    seq, ts = int(line.msg_seq_num), int(line.ts_ns)
    for gap in gaps:
        numbers_fit = gap.first_seq is None or gap.last_seq is None or gap.first_seq <= seq <= gap.last_seq
        if numbers_fit and gap.from_ts <= ts and (gap.to_ts is None or ts <= gap.to_ts):
            return True
    return False


def _sequence_number(raw: bytes) -> int | None:
    at = raw.find(b"\x0134=")
    value = raw[at + 4 : raw.find(b"\x01", at + 4)] if at > 0 else b""
    return int(value) if value.isdigit() and len(value) < 19 else None
