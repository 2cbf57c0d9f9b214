"""`tickvault` in this process, and in one that is killed; files to import, and what the store holds then."""

import io
import json
import multiprocessing
import os
import sys
from collections import Counter
from pathlib import Path

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, format_moment
from libs.common.domain.price import format_price
from libs.common.store.columnar import Query, SealedReader
from libs.common.telemetry import chaos
from services.lifecycle import cli
from tests.unit.lifecycle.days import DAY

EVER = (0, 2**62)
Value = tuple[int, int | None, int | None]  # ts, bid, ask

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["services.lifecycle.cli"])


def values(count: int, first: int = 0, day: int = DAY) -> list[Value]:
    """As many ticks, one a second, in which a price comes back and two stand in one instant."""
    at = day * NS_PER_DAY
    return [
        (at + number // 2 * 2 * NS_PER_S, 1_085_000_000 + number % 7 * 10_000, 1_085_100_000)
        for number in range(first, first + count)
    ]


def csv_of(rows: list[Value]) -> str:
    def side(price: int | None) -> str:
        return "" if price is None else format_price(price)

    return "time,bid,ask\n" + "".join(f"{format_moment(ts)},{side(bid)},{side(ask)}\n" for ts, bid, ask in rows)


def stored(data: Path, symbol: str = "EURUSD", provider: str = "V") -> Counter[Value]:
    """All that the sealed days have."""
    found: Counter[Value] = Counter()
    with SealedReader(data) as reader:
        for batch in reader.read(Query((symbol,), *EVER, (provider,), ("ts", "bid", "ask"))):
            columns = batch.to_pydict()
            found.update((ts.value, bid, ask) for ts, bid, ask in zip(columns["ts"], columns["bid"], columns["ask"], strict=True))
    return found


def numbers(data: Path, symbol: str = "EURUSD", provider: str = "V") -> list[int]:
    with SealedReader(data) as reader:
        return sorted(
            seq for batch in reader.read(Query((symbol,), *EVER, (provider,), ("seq",))) for seq in batch.to_pydict()["seq"]
        )


def _obey(environment: dict[str, str], arguments: list[str], point: str, passes: int) -> None:
    os.environ.update(environment)
    sys.stdout = io.StringIO()
    chaos._NAME, chaos._passes_left = point, passes
    sys.exit(cli.main(arguments))


def killed_at(data: Path, arguments: list[str], point: str, passes: int = 1, **environment: str) -> bool:
    """Whether the point was passed, and the process killed there; otherwise it has done all."""
    environment |= {"TICKVAULT_DATA_DIR": str(data), "TICKVAULT_LIFECYCLE_DISK_RESERVE_BYTES": "0"}
    process = forkserver.Process(target=_obey, args=(environment, arguments, point, passes))
    process.start()
    process.join()
    assert process.exitcode in {0, -9}
    return process.exitcode == -9


def objects(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]
