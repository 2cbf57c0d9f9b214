"""The proof that nothing is lost: what a simulated LP wrote into its ledger against what the store holds.

every ledger line = a stored tick, value for value │ a line inside a recorded gap │ a line whose message is in quarantine
every stored tick = a ledger line, once
"""

import contextlib
import csv
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.domain.price import parse_price
from libs.common.domain.record import Gap
from libs.common.store import Layout

Key = tuple[str, str, int, int | None, int | None, float | None, float | None]  # provider, symbol, ts, bid, ask, sizes

EXAMPLES_MAX = 5


@dataclass(slots=True)
class Reckoning:
    """In ticks. `received` counts ledger lines, never our own outcome."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0  # rows beyond the number of equal ledger lines
    quarantined: int = 0
    in_gaps: int = 0  # ledger lines that are not stored and lie in a recorded gap or in quarantine
    lost: int = 0  # ledger lines that are nowhere
    examples: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"received={self.received} stored={self.stored} duplicates={self.duplicates} "
            f"quarantined={self.quarantined} lost={self.lost}"
        )


def reckon(ledgers: Iterable[Path], data_dir: Path) -> Reckoning:
    """Compare ledgers (CSV: session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size) with all day and late files."""
    result = Reckoning()
    stored: Counter[Key] = Counter()
    gaps: list[Gap] = []
    quarantined: set[tuple[str, int]] = set()
    for _, path in Layout(data_dir).day_files():
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT provider, symbol, ts, bid, ask, bid_size, ask_size"
                " FROM ticks JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)"
            )
            stored.update(rows)
            gaps += [Gap(*row) for row in connection.execute("SELECT * FROM gaps")]
            for session, raw in connection.execute("SELECT session, raw FROM quarantine"):
                result.quarantined += 1
                if (seq := _sequence_number(raw)) is not None:
                    quarantined.add((session, seq))
    result.stored = stored.total()
    for ledger in ledgers:
        with ledger.open(newline="", encoding="ascii") as file:
            for row in csv.DictReader(file):
                result.received += 1
                key = _key(row)
                if stored.get(key):
                    stored[key] -= 1
                elif (key[0], int(row["msg_seq_num"])) in quarantined or _in_gap(row, gaps):
                    result.in_gaps += 1
                else:
                    result.lost += 1
                    if len(result.examples) < EXAMPLES_MAX:
                        result.examples.append(str(row))
    result.duplicates = stored.total()
    return result


def _key(row: dict[str, str]) -> Key:
    return (
        row["session"],
        row["symbol"],
        int(row["ts_ns"]),
        parse_price(row["bid"].encode()) if row["bid"] else None,
        parse_price(row["ask"].encode()) if row["ask"] else None,
        float(row["bid_size"]) if row["bid_size"] else None,
        float(row["ask_size"]) if row["ask_size"] else None,
    )


def _in_gap(row: dict[str, str], gaps: list[Gap]) -> bool:
    seq, ts = int(row["msg_seq_num"]), int(row["ts_ns"])
    for gap in gaps:
        if gap.session != row["session"]:
            continue
        if gap.first_seq is not None and gap.last_seq is not None:
            if gap.first_seq <= seq <= gap.last_seq:
                return True
        elif gap.from_ts <= ts and (gap.to_ts is None or ts <= gap.to_ts):
            return True
    return False


def _sequence_number(raw: bytes) -> int | None:
    at = raw.find(b"\x0134=")
    value = raw[at + 4 : raw.find(b"\x01", at + 4)] if at > 0 else b""
    return int(value) if value.isdigit() and len(value) < 19 else None
