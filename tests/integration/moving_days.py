"""A process that writes days at full rate and moves each through all tiers, and says on stdout what is durable.

python -m tests.integration.moving_days FOLDER DAYS TICKS        {"day": …, "own": …, "late": …, "durable": bool, "stage": …}
"""

import json
import shutil
import sys
import time
from pathlib import Path

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, DayFile
from libs.common.store.tiers import ColdStorage, TierDay, amend_day, archive_day, compress_day, extras, seal_day

DAY = 20_000
SYMBOL = "EUR/USD"
BATCH = 2_500
LATE = 10**6  # the first seq of what comes late
STEP_NS = 1_000_000


def tick(day: int, number: int) -> tuple:
    """By its seq: everything else of a tick follows from day and number. Late ones stand between the others."""
    late, at = divmod(number, LATE)
    ts = day * NS_PER_DAY + at * STEP_NS + late * 7
    provider = ("LP2", "LP1")[at % 2]
    bid, size = 1_085_000_000 + number, None if at % 3 else 1e6
    return (SYMBOL, provider, ts, number, ts // 1000 * 1000 + 5_000, bid, bid + 100_000, size, 0.5, at % 2)


class Days:
    def __init__(self, folder: Path, ticks: int) -> None:
        self.folder = folder
        self.cold = ColdStorage((folder / "cold").as_uri())
        self.ticks = ticks

    def write(self, file: DayFile, day: int, first: int, count: int, **known: int) -> None:
        for at in range(0, count, BATCH):
            say(day, {**known, "late" if first else "own": at + BATCH}, durable=False)
            file.write(Batch(ticks=[tick(day, first + number) for number in range(at, at + BATCH)]))
            say(day, {**known, "late" if first else "own": at + BATCH}, durable=True)

    def close(self, file: DayFile) -> None:
        began = time.monotonic()
        while True:
            try:
                file.close_day(time.time_ns())
            except Retryable:
                assert time.monotonic() - began < 20, "readers never let go of the file"
                time.sleep(0.005)
            else:
                return

    def live(self, day: int) -> None:
        one = TierDay(day, "", self.folder)
        file = DayFile(one.db)
        self.write(file, day, 0, self.ticks, late=0)
        self.close(file)
        late = DayFile(one.late, closed=one.db)
        self.write(late, day, LATE, self.ticks // 4 // BATCH * BATCH, own=self.ticks)
        seal_day(one, time.time_ns())
        amend_day(one, one.late, time.time_ns(), self.cold)  # while its writer has it open: it stays beside the day
        self.write(late, day, LATE, self.ticks // 2 // BATCH * BATCH, own=self.ticks)
        late.close()
        while found := extras(one):  # a reader may hold the late file for a moment
            amend_day(one, found[0], time.time_ns(), self.cold)
        compress_day(one)
        archive_day(one, self.cold)
        for path in one.parquet():
            path.unlink()
        say(day, {"own": self.ticks, "late": self.ticks // 2 // BATCH * BATCH}, durable=True, stage="archived")


def say(day: int, known: dict[str, int], *, durable: bool, stage: str = "") -> None:
    print(json.dumps({"day": day, **known, "durable": durable, "stage": stage}), flush=True)


def main(folder: str, days: str, ticks: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    life = Days(Path(folder), int(ticks))
    for day in range(DAY, DAY + int(days)):
        life.live(day)


if __name__ == "__main__":
    main(*sys.argv[1:])
