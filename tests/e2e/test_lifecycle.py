"""Days on their way through the tiers while processes are killed, disks fill up and two of them are at work."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from libs.common.bus import Entry, RedisBus, encode_payload
from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.store import Batch
from libs.common.store.columnar import Damaged, Query, SealedReader, read_manifest
from libs.common.store.tiers import (
    ColdStorage,
    Step,
    TierDay,
    archive_day,
    compress_day,
    plain_day,
    state_of,
    tier_days,
    verify_all,
)
from libs.common.testing.stack import Stack
from services.lifecycle.schedule import STEPS, Failed, Order, Schedule
from services.lifecycle.settings import LifecycleSettings
from tests.chaos.disk import Disk, NoDisk
from tests.chaos.pipeline import wait_until
from tests.e2e.lifecycle_processes import View, run, run_watching
from tests.unit.lifecycle.days import DAY, EUR, NOW, XAU, batch, closed_day, flip, late_ticks, rows_of, tick, ticks_of

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "libs" / "common" / "store"
POINTS = sorted(
    {
        name
        for folder in ("tiers", "columnar")
        for path in (STORE / folder).glob("*.py")
        for name in re.findall(r'point\("(\w+)"\)', path.read_text())
    }
)


def command(step: str, age: int) -> list[str]:
    return [step, "--as-of", day_name(DAY + age)]


DOWN = [command("seal", 1), command("compress", 8), command("archive", 40)]
THIN = [*DOWN, command("retain", 200)]
OUT = [command("retain", 3_000)]


class Store:
    """A data folder, its cold storage, and `tickvault` on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.cold = ColdStorage((folder / "cold").as_uri())
        rules = folder / "retention.toml"
        rules.write_text(f'[symbols]\n"{EUR}" = 2557\n')
        self.environment = {
            "TICKVAULT_DATA_DIR": str(self.data),
            "TICKVAULT_COLD_URL": self.cold.url,
            "TICKVAULT_LIFECYCLE_DISK_RESERVE_BYTES": "0",
            "TICKVAULT_LIFECYCLE_LINGER_S": "0",
            "TICKVAULT_LIFECYCLE_RETENTION_FILE": str(rules),
        }
        self.day = TierDay(DAY, "", self.data)

    def schedule(self, **settings: Any) -> Schedule:
        """In this process."""
        return Schedule(
            LifecycleSettings(
                data_dir=self.data,
                cold_url=self.cold.url,
                lifecycle_disk_reserve_bytes=0,
                lifecycle_retention_file=self.folder / "retention.toml",
                **settings,
            )
        )

    def prepare(self) -> None:
        rows = batch(300)
        rows.ticks.sort(key=lambda row: (row[3] == 299, -row[3]))  # splits pages, so that they are worth compacting
        closed_day(self.data, rows=rows)
        closed_day(self.data, DAY + 5_000, rows=Batch(ticks=[]))  # the newest file is the one persistence goes on from
        late_ticks(self.day)

    def prepare_anew(self) -> None:
        """Persistence has begun another day file, 6 of its 10 ticks are known; and there is an import."""
        closed_day(self.data, rows=batch(3, first=2_000)).db.replace(self.day.imported)
        closed_day(self.data, rows=batch(5, first=297), closed_at=NOW)

    def prepare_again(self) -> None:
        """One tick, and one whose key is that of another."""
        late_ticks(self.day, Batch(ticks=[tick(5_000), tick(1_001, bid=7)]))

    def rows(self) -> dict[str, list[tuple]]:
        return rows_of(plain_day(self.day, self.cold))


WAY: list[tuple[Callable[[Store], None], list[list[str]]]] = [
    (Store.prepare, DOWN),
    (Store.prepare_anew, DOWN),
    (Store.prepare_again, THIN),
    (lambda _: None, OUT),
]


@dataclass
class Part:
    """Of the way of a day: the store before it, what readers see on the way, and the rows of the day file at its end."""

    before: Store
    commands: list[list[str]]
    views: list[View]
    ticks: list[tuple]
    rows: dict[str, list[tuple]]

    @property
    def generations(self) -> list[int]:
        """Ticks that readers see, one number for each time that it changes."""
        return [count for count, _ in groupby([*(len(ticks) for _, ticks in self.views), len(self.ticks)])]

    def kills(self, point: str) -> list[tuple[int, list[tuple]]]:
        """The first and the last pass, and what readers see there."""
        passes = list(enumerate((ticks for name, ticks in self.views if name == point), 1))
        return passes[:1] + passes[1:][-1:]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    store = Store(tmp_path_factory.mktemp("way"))
    found = []
    for prepare, commands in WAY:
        prepare(store)
        before = tmp_path_factory.mktemp("before")
        shutil.copytree(store.folder, before, dirs_exist_ok=True)
        views = run_watching(store.environment, commands)
        rows = store.rows() if commands != OUT else {}
        found.append(Part(Store(before), commands, views, ticks_of(store.data), rows))
    return found


def test_unkilled_every_row_gets_where_it_belongs_and_readers_see_whole_generations(parts: list[Part]) -> None:
    down, anew, again, out = parts
    assert down.generations == [0, 600, 610]
    assert anew.generations == [610, 616, 620], "3 of each symbol imported, 2 in the day file begun anew"
    assert again.generations == [620, 621, 311], "one for the archived day; and without the symbol that is deleted"
    assert out.generations == [311, 0]
    assert all(sorted(set(part.rows["ticks"])) == part.rows["ticks"] for part in parts[:3])
    assert [len(part.rows["ticks"]) for part in parts[:3]] == [610, 620, 311]
    assert [row[4] for row in anew.rows["account"]] == [3, 3], "duplicates"
    assert [row[4] for row in again.rows["quarantine"] if "conflict" in row[4]]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_of_any_step_the_same_again_leads_to_the_same_end(
    parts: list[Part], tmp_path: Path, point: str
) -> None:
    kills = [(part, *kill) for part in parts for kill in part.kills(point)]
    assert kills, "no step passes this point"
    stores = [Store(shutil.copytree(part.before.folder, tmp_path / str(at))) for at, (part, _, _) in enumerate(kills)]
    runs = [(store.environment, part.commands) for store, (part, _, _) in zip(stores, kills, strict=True)]
    codes = run((*one, point, passes) for one, (_, passes, _) in zip(runs, kills, strict=True))
    assert codes == [-9] * len(kills)
    for store, (_, _, view) in zip(stores, kills, strict=True):
        assert ticks_of(store.data) == view
    assert run((*one, "", 0) for one in runs) == [0] * len(kills)
    for store, (part, _, _) in zip(stores, kills, strict=True):
        assert ticks_of(store.data) == part.ticks
        assert verify_all(store.data, store.cold).problems == []
        left = [path for path in store.folder.rglob("*") if path.is_file() and DAY_NAME in path.name]
        if part.commands == OUT:
            assert left == []
        else:
            assert store.rows() == part.rows
            assert state_of(store.data, DAY) == "archived"
            named = {file.name for file in read_manifest(store.day.manifest).files.values()}
            assert {path.name for path in store.day.parquet()} == named
            assert not [path for path in left if path.suffix in {".db", ".taken", ".partial"}]


DAY_NAME = day_name(DAY)
HARMS: dict[str, Callable[[Path], object]] = {
    "flipped bit": flip,
    "cut tail": lambda path: os.truncate(path, path.stat().st_size * 2 // 3),
}


def tickvault(store: Store, *arguments: str) -> tuple[int, list[dict]]:
    """In a process of its own: exit code, and what it says."""
    command = [sys.executable, "-m", "services.lifecycle.cli", *arguments, "--json"]
    done = subprocess.run(command, env=os.environ | store.environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("harm", HARMS)
def test_damage_in_each_kind_of_file_is_named_its_day_is_set_aside_and_the_others_are_served(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path)
    kinds = ("ticks", "bars", "trades", "books", "gaps", "quarantine", "account")
    days = [closed_day(store.data, DAY + number) for number in range(2 * len(kinds) + 7)]
    list(store.schedule().run(Order(("seal",), DAY + 100)))
    sealed, late, *compressed = days[:-1]
    for day in compressed:
        compress_day(day)
    for day in compressed[-len(kinds) - 1 :]:
        archive_day(day, store.cold)
    late_ticks(late)
    seen = {day: ticks_of(store.data, day.day) for day in days}
    assert {len(ticks) for ticks in seen.values()} == {100}
    cold = [store.folder / "cold" / name for name in store.cold.names(compressed[-1])]
    assert len(cold) == len(kinds) + 2
    harmed = [sealed.db, late.late, compressed[0].zst, compressed[1].manifest, compressed[2].receipt]
    harmed += [day.sealed.parquet(kind, 1) for day, kind in zip(compressed[3:], kinds, strict=False)]
    for path in (*harmed, *cold):
        path.chmod(0o644)
        if path == late.late and harm == "flipped bit":
            flip(path, 0)  # of a price it would not be noticed: there is no sum of an open file
        else:
            HARMS[harm](path)

    code, said = tickvault(store, "verify")
    assert code == 1
    assert sorted(line["file"] for line in said if "file" in line) == sorted(map(str, (*harmed, *cold)))

    for day in days:
        if day == compressed[1]:
            with pytest.raises(Damaged, match="manifest"):
                ticks_of(store.data, day.day)
        else:
            with contextlib.suppress(Damaged) if day == compressed[3] else contextlib.nullcontext():
                assert ticks_of(store.data, day.day) == seen[day], "right, or not at all"

    named = {one: path for one in days for path in harmed if one.name in path.name}
    failed = [one for one in store.schedule().run(Order(STEPS[:-1], DAY + 100, asked=True)) if isinstance(one, Failed)]
    assert {one.day for one in failed} == set(named)
    assert all(one.damaged for one in failed)
    states = Counter(day.state() for day in days if day not in named)
    assert states == {"archived": len(days) - len(named) - 1, "sealed": 1}, "the newest file is where persistence goes on from"
    assert all(path.exists() for path in harmed)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk", 64)
    try:
        found.mount()
    except NoDisk as error:
        pytest.skip(str(error))
    yield found
    found.free()
    found.unmount()


def fill(disk: Disk, room: int) -> None:
    disk.fill()
    filler = disk.folder / "filler"
    os.truncate(filler, filler.stat().st_size - room)


@pytest.mark.parametrize(("before", "step"), [("", "seal"), ("seal", "compress"), ("seal", "retain")])
def test_on_a_full_disk_a_step_fails_readers_see_what_they_saw_and_it_goes_on_when_there_is_room(
    disk: Disk, before: str, step: Step
) -> None:
    store = Store(disk.folder)
    random = Random(1)
    ticks = [tick(seq, symbol, bid=random.randrange(10**9)) for symbol in (EUR, XAU) for seq in range(20_000)]
    day = closed_day(store.data, rows=Batch(ticks=ticks))
    closed_day(store.data, DAY + 5_000, rows=Batch(ticks=[]))
    order = Order((step,), DAY + 200)
    if before:
        list(store.schedule().run(Order((before,), DAY + 200)))
    seen, plain = ticks_of(store.data), day.db.read_bytes()
    # the space that is asked for first is there, and somebody else takes all of it, or all but some
    for room in (0, 30_000, 100_000):
        schedule = store.schedule()
        schedule._require_space = lambda *_, room=room: fill(disk, room)  # type: ignore[method-assign]
        if step == "retain":  # it asks for none
            fill(disk, room)
        (failed, *_) = [one for one in schedule.run(order) if isinstance(one, Failed)]
        assert not failed.damaged, failed.error
        assert "No space left" in failed.error or "full" in failed.error
        assert day.db.read_bytes() == plain
        assert ticks_of(store.data) == seen
        assert verify_all(store.data, store.cold).problems == []
        disk.free()
    done = list(store.schedule().run(order))
    assert [one for one in done if isinstance(one, Failed)] == []
    assert done
    assert verify_all(store.data, store.cold).problems == []
    assert len(ticks_of(store.data)) == (20_000 if step == "retain" else 40_000)


@pytest.fixture
def stack(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    found = Stack(tmp_path, redis_url=redis_url)
    yield found
    for process in found.processes.values():
        if process.running:
            process.kill()


def spawn(stack: Stack, name: str, **settings: str) -> None:
    stack.spawn(
        name, "lifecycle", TICKVAULT_LIFECYCLE_DISK_RESERVE_BYTES="0", TICKVAULT_LIFECYCLE_INTERVAL_S="0.1",
        TICKVAULT_COLD_URL=(stack.folder / "cold").as_uri(), **settings,
    )  # fmt: skip


def test_the_service_takes_days_all_the_way_and_ends_with_0_at_sigterm(stack: Stack) -> None:
    import redis

    for day in range(DAY, DAY + 4):
        closed_day(stack.data_dir, day)
    spawn(stack, "lifecycle", TICKVAULT_RETAIN_DAYS="2557")
    stack.wait_ready("lifecycle")
    days = tier_days(stack.data_dir)
    states = ["archived"] * 3 + ["sealed"]  # the newest file is the one persistence goes on from
    wait_until(lambda: [day.state() for day in days] == states, lambda: str([day.state() for day in days]))
    late_ticks(days[0])
    with redis.Redis.from_url(stack.redis_url) as client:
        for text in (
            '{"command": "reindex"}',
            "{",
            '{"command": "retain", "id": "look", "as_of": "2030-01-01", "dry_run": true}',
        ):
            client.xadd("admin.commands", {"d": text})
        client.xadd("admin.commands", {"d": '{"command": "seal", "id": "now"}'})

        def told() -> list[dict]:
            return [json.loads(fields[b"d"]) for _, fields in client.xrange("lifecycle.events")]

        def done() -> dict[str, int]:
            return {event["command"]: event.get("days", 0) for event in told() if event["event"] == "done"}

        wait_until(lambda: "now" in done(), lambda: str(told()[-5:]))
        wait_until(lambda: client.xpending("admin.commands", "lifecycle")["pending"] == 0, lambda: "not acknowledged")
        assert done() == {"look": 0, "now": 1}, "kept for 2557 days: nothing would be deleted"
        (refused,) = [event for event in told() if event["step"] == "command"]
        assert "is not a command" in refused["error"]
        (amended,) = [event for event in told() if event["event"] == "amended"]
        assert amended["day"] == DAY_NAME
        assert [(one["symbol"], one["before"], one["after"]) for one in amended["changed"]] == [(EUR, 50, 55), (XAU, 50, 55)]
        said = [(event["event"], event["day"]) for event in told() if event.get("day", DAY_NAME) != DAY_NAME]
        assert len(said) == len(set(said)) == 7, "everything is said once"
    wait_until(lambda: days[0].state() == "archived", lambda: str(days[0].state()))
    process = stack.processes["lifecycle"]
    wait_until(lambda: process.metrics().get('lifecycle_days{state="archived"}') == 3.0, lambda: str(process.metrics()))
    assert process.get("/readyz") == {"ready": True, "obstacles": {}}
    assert process.stop() == 0
    cold = ColdStorage((stack.folder / "cold").as_uri())
    assert verify_all(stack.data_dir, cold).problems == []
    assert len(ticks_of(stack.data_dir)) == 110


def test_a_damaged_day_is_named_and_the_others_go_on(stack: Stack) -> None:
    damaged = closed_day(stack.data_dir, DAY)
    closed_day(stack.data_dir, DAY + 1)
    damaged.db.write_bytes(damaged.db.read_bytes()[:9_000])
    spawn(stack, "lifecycle", TICKVAULT_RETAIN_DAYS="2557")
    process = stack.processes["lifecycle"]
    wait_until(lambda: DAY_NAME in str(process.get("/readyz")), lambda: str(process.get("/readyz")))
    assert "damaged" in process.get("/readyz")["obstacles"]["store"]
    assert process.get("/livez")["alive"]
    assert state_of(stack.data_dir, DAY + 1) == "sealed"


def test_two_at_once_take_turns_and_one_goes_on_when_the_other_is_killed_or_stopped(stack: Stack) -> None:
    for day in range(DAY, DAY + 12):
        closed_day(stack.data_dir, day)
    days = tier_days(stack.data_dir)

    def wait_archived(count: int) -> None:
        wait_until(lambda: sum(day.state() == "archived" for day in days) >= count, lambda: str([day.state() for day in days]))

    for name in ("first", "second", "third"):
        spawn(stack, name, TICKVAULT_RETAIN_DAYS="2557")
    wait_archived(1)
    stack.processes["first"].kill()
    assert stack.processes["second"].stop() == 0, "in the middle of its work, or waiting for its turn"
    wait_archived(11)
    stack.wait_ready("third")
    assert stack.processes["third"].stop() == 0
    cold = ColdStorage((stack.folder / "cold").as_uri())
    assert verify_all(stack.data_dir, cold).problems == []
    assert len(cold.names(days[0])) == len(cold.names(days[10]))
    assert all(len(ticks_of(stack.data_dir, day.day)) == 100 for day in days)


def test_the_command_line_waits_while_the_service_is_at_work(tmp_path: Path) -> None:
    from libs.common.store.tiers import alone

    store = Store(tmp_path)
    store.prepare()
    environment = os.environ | store.environment
    arguments = [sys.executable, "-m", "services.lifecycle.cli", "seal"]
    with alone(store.data):
        waiting = subprocess.Popen(
            arguments, env=environment, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        assert "another process is at work" in waiting.stderr.readline()
        assert store.day.state() == "closed"
    out, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert f"{DAY_NAME} sealed" in out


def test_readers_see_one_generation_or_the_other_while_a_day_is_sealed_amended_and_moved_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.environment["TICKVAULT_LIFECYCLE_LINGER_S"] = "3600"
    store.prepare()
    sealed = [tick(seq, bid=None if seq == 3 else 1_085_120_000 + seq) for seq in range(300)]
    amended = [*sealed, *(tick(seq, bid=1_085_120_000 + seq) for seq in range(1_000, 1_005))]
    generations = [[], sealed, amended, [*amended, tick(5_000)]]
    seen: list[int] = []
    done = threading.Event()
    query = Query((EUR,), DAY * NS_PER_DAY, (DAY + 1) * NS_PER_DAY)

    def read() -> None:
        with SealedReader(store.data) as reader:
            while not done.is_set():
                with contextlib.suppress(Retryable):  # swapped while it was read: asked again
                    table = pa.Table.from_batches(reader.read(query), query.schema)
                    columns = [pc.cast(column, "int64") if pa.types.is_timestamp(column.type) else column for column in table]
                    seen.append(generations.index(list(zip(*(column.to_pylist() for column in columns), strict=True))))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            assert run([(store.environment, DOWN, "", 0)]) == [0]
            store.prepare_again()
            assert run([(store.environment, THIN, "", 0)]) == [0]
            wait_until(lambda: seen[-1:] == [3] or reading.done(), lambda: str(seen))
        finally:
            done.set()
        reading.result()
    assert seen == sorted(seen), "never back to what was before"
    assert set(seen) >= {0, 2, 3}
    assert state_of(store.data, DAY) == "archived"


def publish(redis_url: str, start: int, end: int, ticks: list[tuple]) -> None:
    async def inside() -> None:
        bus = RedisBus(redis_url)
        await bus.publish([(0, Entry("ticks", "LP1", start, end, len(ticks), encode_payload(ticks)))])
        await bus.close()

    asyncio.run(inside())


def test_ticks_that_persistence_gets_for_an_archived_day_become_part_of_it(stack: Stack) -> None:
    """Persistence does not know where the day has gone, before and after a restart of its own."""
    stack.spawn("persistence", "persistence", TICKVAULT_ROTATE_GRACE_S="0")
    spawn(stack, "lifecycle", TICKVAULT_RETAIN_DAYS="2557", TICKVAULT_AMEND_QUIET_S="0")
    stack.wait_ready("persistence", "lifecycle")
    day = TierDay(DAY, "", stack.data_dir)
    cold = ColdStorage((stack.folder / "cold").as_uri())

    def settled(ticks: int) -> bool:
        try:
            return day.state() == "archived" and len(ticks_of(stack.data_dir)) == ticks
        except (Retryable, FileNotFoundError):  # while it is moved
            return False

    publish(stack.redis_url, 0, 10, [tick(seq) for seq in range(50)])
    publish(stack.redis_url, 10, 20, [tick(0, day=DAY + 1)])
    wait_until(lambda: settled(50), lambda: str(day.state()))
    publish(stack.redis_url, 20, 30, [tick(seq) for seq in range(45, 52)])  # five again
    wait_until(lambda: settled(52), lambda: f"{day.state()} {day.files()}")
    stack.processes["persistence"].kill()
    stack.processes["persistence"].start()
    stack.wait_ready("persistence")
    publish(stack.redis_url, 30, 40, [tick(52)])
    wait_until(lambda: settled(53), lambda: f"{day.state()} {day.files()}")
    assert stack.processes["lifecycle"].stop() == 0
    assert stack.processes["persistence"].stop() == 0
    assert verify_all(stack.data_dir, cold).problems == []
    rows = rows_of(plain_day(day, cold))
    assert [row[3] for row in rows["ticks"]] == list(range(53))
    assert rows["account"] == [("LP1", EUR, 53, 53, 5, 0)]
