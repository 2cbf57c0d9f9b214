"""Queries while days are written at full rate, closed, sealed, amended, compressed and archived by another process."""

import json
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest

from libs.common.domain.moment import NS_PER_DAY
from libs.common.store.columnar.arrays import int64s, one_chunk
from libs.common.store.history import HistoryReader, Query
from libs.common.store.tiers import ColdStorage
from tests.integration.moving_days import BATCH, DAY, LATE, STEP_NS, SYMBOL

DAYS = 3
TICKS = 40_000
EVER = Query((SYMBOL,), DAY * NS_PER_DAY, (DAY + DAYS) * NS_PER_DAY)


@dataclass
class Known:
    """What is durable, and what may be, of each day: how many of its own ticks, and how many late ones."""

    durable: dict[int, tuple[int, int]] = field(default_factory=dict)
    begun: dict[int, tuple[int, int]] = field(default_factory=dict)
    archived: set[int] = field(default_factory=set)

    def follow(self, lines) -> None:
        for line in lines:
            said = json.loads(line)
            counts = self.durable if said["durable"] else self.begun
            before = counts.get(said["day"], (0, 0))
            counts[said["day"]] = max(before[0], said["own"]), max(before[1], said["late"])
            if said["stage"]:
                self.archived.add(said["day"])


class Checked:
    """One answer held against what was durable before the question and what may have been after the answer."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.before = dict(known.durable)

    def of(self, table: pa.Table, *, descending: bool) -> int:
        ts, seq = (int64s(one_chunk(table, name)) for name in ("ts", "seq"))
        ts, seq = (ts[::-1], seq[::-1]) if descending else (ts, seq)
        assert np.all(np.diff(ts) > 0), "not in order, or a tick twice"
        bid, ask = (int64s(one_chunk(table, name)) for name in ("bid", "ask"))
        wrong = (bid != 1_085_000_000 + (seq[::-1] if descending else seq)) | (ask != bid + 100_000)
        assert not wrong.any(), "a wrong price"
        day, late, at = ts // NS_PER_DAY, seq // LATE, seq % LATE
        assert np.array_equal(ts, day * NS_PER_DAY + at * STEP_NS + late * 7), "a wrong time"
        for number, (own_least, late_least) in self.before.items():
            own_most, late_most = self.known.begun.get(number, (0, 0))
            own = at[(day == number) & (late == 0)]
            assert np.array_equal(own, np.arange(len(own))), "a hole"
            assert own_least <= len(own) <= own_most, (number, own_least, len(own), own_most)
            came_late = at[(day == number) & (late == 1)]
            assert np.isin(np.arange(late_least), came_late).all(), (number, late_least, len(came_late))
            assert len(came_late) <= late_most
        return len(ts)


@pytest.mark.timeout(300)
def test_no_tick_is_wrong_missing_or_there_twice(tmp_path):
    data = tmp_path / "data"
    command = [sys.executable, "-m", "tests.integration.moving_days", str(data), str(DAYS), str(TICKS)]
    known = Known()
    asked: defaultdict[str, int] = defaultdict(int)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        HistoryReader(data, cold=ColdStorage((data / "cold").as_uri()), cache_bytes_max=2_000_000) as reader,
    ):
        following = threading.Thread(target=known.follow, args=(process.stdout,))
        following.start()

        def whole(descending: bool) -> None:
            query = replace(EVER, descending=descending)
            checked = Checked(known)
            table = pa.Table.from_batches(reader.read(query, batch_rows=10_000), query.schema)
            checked.of(table, descending=descending)
            asked["whole"] += 1

        def pages() -> None:
            checked = Checked(known)
            after, found = None, []
            while True:
                page = reader.page(EVER, 20_000, after=after)
                found.append(page.ticks)
                if not page.more:
                    break
                after = tuple(page.ticks.column(name)[-1].as_py() for name in ("provider", "seq"))
                after = (page.ticks.column("ts")[-1].value, *after)
            checked.of(pa.concat_tables(found), descending=False)
            asked["pages"] += 1

        def newest() -> None:
            before = {day: own for day, (own, _) in known.durable.items()}
            if not before:
                return
            day = max(before)
            last = reader.last(EVER, 3)
            assert len(last) == min(3, before[day]) or len(last) == 3
            assert last.column("ts")[-1].value >= day * NS_PER_DAY + (before[day] - 1) * STEP_NS
            for of_day, own in before.items():
                at = of_day * NS_PER_DAY + (own // 2) * STEP_NS
                found = reader.as_of(SYMBOL, at)
                assert found.column("ts")[-1].value == at
                assert found.column("seq")[-1].as_py() == own // 2
            asked["newest"] += 1

        def again(ask, *how) -> None:
            while process.poll() is None:
                ask(*how)
            ask(*how)

        with ThreadPoolExecutor(4) as pool:
            for asking in [pool.submit(again, *how) for how in ((whole, False), (whole, True), (pages,), (newest,))]:
                asking.result()
        following.join()
        assert process.returncode == 0
        assert known.archived == set(range(DAY, DAY + DAYS))
        assert all(asked[name] > 5 for name in ("whole", "pages", "newest")), asked
        overview = reader.overview()
        assert {file.state for file in overview.files} == {"archived"}
        ticks = sum(line.stored for file in overview.files for line in file.account)
        assert ticks == Checked(known).of(pa.Table.from_batches(reader.read(EVER)), descending=False)
        assert ticks == DAYS * (TICKS + TICKS // 2 // BATCH * BATCH)
