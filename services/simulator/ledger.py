"""The ledger: one line a quote that was given a number, in the file before the message is in the socket."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from services.simulator.quote import Quote

HEADER = b"session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size\n"


class Ledger:
    """Appends to `path`, so that a restarted simulator goes on with it; without a path it keeps nothing."""

    def __init__(self, path: Path | None, session: str) -> None:
        self._session = session.encode()
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if self._file is not None and os.fstat(self._file).st_size == 0:
            self._write(HEADER)

    def append(self, entries: list[tuple[int, Quote]]) -> None:
        """(MsgSeqNum, quote) in the order of sending. It survives the death of the process, not that of the machine."""
        if self._file is not None:
            session = self._session
            self._write(b"".join([b"%b,%d,%b,%d,%b,%b,%b,%b\n" % (session, seq, *quote) for seq, quote in entries]))

    def _write(self, lines: bytes) -> None:
        assert self._file is not None
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
