"""Books and trades as stored, against those of the LP's ledger: every level change of every message, folded by a plain model."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.domain.price import parse_price
from libs.common.store import Layout
from libs.common.testing.stack import STOP_TIMEOUT_S
from tests.chaos.pipeline import Pipeline, Provider

LEVELS = 20
UPDATES = 15_000
UPDATES_PER_S = 5_000
VERSIONS = {
    "id": ("FIX.4.4", {}),
    "position": ("FIX.5.0SP2", {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"}),
    "price": ("FIX.4.2", {"begin_string": "FIX.4.2"}),
}

Level = tuple[int, float | None]
Side = list[tuple[str, int, float | None]]  # entry id, price, size; the best first


class Model:
    """A symbol's book by the words of the standard, one entry after the other."""

    def __init__(self) -> None:
        self.sides: dict[str, Side] = {"0": [], "1": []}

    def apply(self, line: dict[str, str]) -> None:
        side = self.sides[line["side"]]
        found = self._find(side, line)
        if line["action"] == "2":
            del side[found]
            return
        size = float(line["size"]) if line["size"] else None
        level = (line["entry_id"], parse_price(line["price"].encode()), size)
        if line["position"]:
            at = int(line["position"]) - 1
            if line["action"] == "0":
                side.insert(at, level)
                del side[LEVELS:]
            else:
                side[at] = level
            return
        if found is not None:
            del side[found]
        side.append(level)
        side.sort(key=lambda level: -level[1] if line["side"] == "0" else level[1])

    def _find(self, side: Side, line: dict[str, str]) -> Any:
        if line["position"]:
            return int(line["position"]) - 1
        if line["entry_id"]:
            return next((at for at, (name, _, _) in enumerate(side) if name == line["entry_id"]), None)
        price = parse_price(line["price"].encode())
        return next((at for at, (_, known, _) in enumerate(side) if known == price), None)

    def levels(self) -> tuple[list[Level], list[Level]]:
        bids, asks = ([(price, size) for _, price, size in self.sides[side]] for side in "01")
        return bids, asks


def books_of_ledger(path: Path) -> dict[tuple[str, int], tuple[list[Level], list[Level]]]:
    """(symbol, ts) of every message → its book then."""
    models: dict[str, Model] = {}
    books = {}
    for (symbol, ts, kind), lines in messages(path):
        if kind == "W":
            models[symbol] = Model()
        for line in lines:
            models[symbol].apply(line)
        books[symbol, ts] = models[symbol].levels()
    return books


def messages(path: Path) -> Iterator[tuple[tuple[str, int, str], list[dict[str, str]]]]:
    """The lines of each message and symbol."""
    key: tuple[str, int, str] | None = None
    number, lines = "", list[dict[str, str]]()
    with path.open(encoding="ascii", newline="") as file:
        for line in csv.DictReader(file):
            this = line["symbol"], int(line["ts_ns"]), line["kind"]
            if key is not None and (this, line["msg_seq_num"]) != (key, number):
                yield key, lines
                lines = []
            key, number = this, line["msg_seq_num"]
            lines.append(line)
    if key is not None:
        yield key, lines


def stored(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    rows = []
    for _, path in Layout(data_dir).day_files():
        with sqlite3.connect(path) as connection:
            rows += connection.execute(sql).fetchall()
        connection.close()
    return rows


@pytest.mark.parametrize("mode", VERSIONS)
def test_books_and_trades_are_those_of_the_ledger(mode: str, tmp_path: Path) -> None:
    fix, version = VERSIONS[mode]
    market = ("--symbols", "8", "--depth", str(LEVELS), "--depth-by", mode, "--trades", "0.1")
    pace = ("--rate", str(UPDATES_PER_S), "--count", str(UPDATES), "--exit-when-done")
    feed = {"market_depth": LEVELS, "book_interval_s": 0, "trades": True, **version}
    provider = Provider("LP1", (*market, *pace, "--fix", fix), keeps_numbers=True, feed=feed)
    with Pipeline(tmp_path, provider) as pipeline:
        pipeline.start("gateway", "persistence")
        simulator = pipeline.stack.processes["LP1"].popen
        assert simulator is not None
        assert simulator.wait(60 + STOP_TIMEOUT_S) == 0
        result, errors = pipeline.finish()
        data_dir, ledger = pipeline.stack.data_dir, pipeline.ledgers["LP1"].path
    assert (result.lost, result.duplicates, result.in_gaps, errors) == (0, 0, 0, []), result.examples
    assert result.received >= UPDATES

    expected = books_of_ledger(Path(f"{ledger}.depth"))
    books = stored(data_dir, "SELECT symbol, ts, seq, bids, asks FROM books JOIN symbols USING (symbol_id) ORDER BY symbol, seq")
    assert len(books) == len(expected) >= UPDATES
    for symbol, ts, _, bids, asks in books:
        assert (levels(bids), levels(asks)) == expected[symbol, ts], f"{symbol} at {ts}"
    assert max(len(levels(bids)) for *_, bids, _ in books) == LEVELS

    with Path(f"{ledger}.trades").open(encoding="ascii", newline="") as file:
        dealt = sorted(
            (line["symbol"], int(line["ts_ns"]), parse_price(line["price"].encode()), float(line["size"]), line["side"] or None,
             line["trade_id"])
            for line in csv.DictReader(file)
        )  # fmt: skip
    trades = stored(data_dir, "SELECT symbol, ts, price, size, side, trade_id FROM trades JOIN symbols USING (symbol_id)")
    assert sorted(trades) == dealt
    assert len(dealt) > UPDATES // 20
    assert not stored(data_dir, "SELECT reason FROM quarantine")


def levels(text: str) -> list[Level]:
    return [(price, size) for price, size in json.loads(text)]
