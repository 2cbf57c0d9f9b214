"""The ledger: what was given a number, in the files before the message is in the socket.

    FILE          one line a quote:  session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size
    FILE.depth    one line a level:  session,msg_seq_num,kind,symbol,ts_ns,action,side,entry_id,position,price,size
    FILE.trades   one line a trade:  session,msg_seq_num,symbol,ts_ns,price,size,side,trade_id

kind W or X, action 279, side 269; what the message does not say is empty. A trade's side is buy, sell or empty.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from services.simulator.market.quote import Quote

HEADER = b"session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size\n"
DEPTH_HEADER = b"session,msg_seq_num,kind,symbol,ts_ns,action,side,entry_id,position,price,size\n"
TRADES_HEADER = b"session,msg_seq_num,symbol,ts_ns,price,size,side,trade_id\n"


class LevelLine(NamedTuple):
    msg_seq_num: int
    kind: bytes
    symbol: bytes
    ts: int
    action: bytes
    side: bytes
    entry_id: bytes
    position: bytes
    price: bytes
    size: bytes


class TradeLine(NamedTuple):
    msg_seq_num: int
    symbol: bytes
    ts: int
    price: bytes
    size: bytes
    side: bytes
    trade_id: bytes


@dataclass(slots=True)
class Lines:
    """What some messages say, in the order of sending; a quote with its MsgSeqNum."""

    quotes: list[tuple[int, Quote]] = field(default_factory=list)
    levels: list[LevelLine] = field(default_factory=list)
    trades: list[TradeLine] = field(default_factory=list)


class Ledger:
    """Appends to its files, so that a restarted simulator goes on with them; without a path it keeps nothing."""

    def __init__(self, path: Path | None, session: str, *, depth: bool = False, trades: bool = False) -> None:
        self._session = session.encode()
        self._quotes = None if path is None else _open(path, HEADER)
        self._depth = None if path is None or not depth else _open(Path(f"{path}.depth"), DEPTH_HEADER)
        self._trades = None if path is None or not trades else _open(Path(f"{path}.trades"), TRADES_HEADER)

    def append(self, lines: Lines) -> None:
        """What is in the files survives the death of the process, not that of the machine."""
        session = self._session
        if self._depth is not None and lines.levels:
            _write(self._depth, b"".join([b"%b,%d,%b,%b,%d,%b,%b,%b,%b,%b,%b\n" % (session, *line) for line in lines.levels]))
        if self._trades is not None and lines.trades:
            _write(self._trades, b"".join([b"%b,%d,%b,%d,%b,%b,%b,%b\n" % (session, *line) for line in lines.trades]))
        if self._quotes is not None:
            _write(self._quotes, b"".join([b"%b,%d,%b,%d,%b,%b,%b,%b\n" % (session, seq, *quote) for seq, quote in lines.quotes]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._quotes, self._depth, self._trades):
            if file is not None:
                os.close(file)
        self._quotes = self._depth = self._trades = None


def _open(path: Path, header: bytes) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    if os.fstat(file).st_size == 0:
        _write(file, header)
    return file


def _write(file: int, lines: bytes) -> None:
    while lines:
        lines = lines[os.write(file, lines) :]
