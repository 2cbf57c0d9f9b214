"""Days on their way through the tiers while processes are killed, disks fill up and two of them are at work."""

import asyncio
import contextlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.bus import Entry, RedisBus, encode_payload
from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name
from libs.common.store import Batch
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import ColdStorage, TierDay, plain_day, state_of, tier_days, verify_all
from libs.common.telemetry import chaos
from libs.common.testing.stack import Stack
from services.lifecycle import cli
from services.lifecycle.schedule import STEPS, Failed, Order, Schedule
from services.lifecycle.settings import LifecycleSettings
from tests.chaos.disk import Disk, NoDisk
from tests.chaos.pipeline import wait_until
from tests.unit.lifecycle.days import DAY, EUR, closed_day, late_ticks, rows_of, tick, ticks_of

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
PASSES_MAX = 2  # a point that is passed for each of many files is killed at the first ones


def command(step: str, age: int) -> list[str]:
    return [step, "--as-of", day_name(DAY + age)]


# a day with late ticks down to cold storage; then more late ticks for it, and the deletion of a symbol; then of the day
DOWN = [command("seal", 1), command("compress", 8), command("archive", 40)]
AGAIN = [command("seal", 40), command("compress", 40), command("archive", 40), command("retain", 200)]
OUT = [command("retain", 3_000)]

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["services.lifecycle.cli"])


def obey(environment: dict[str, str], commands: list[list[str]], point: str, passes: int) -> None:
    """In a process of its own: the commands, one after the other, killed at the given pass of a point."""
    os.environ.update(environment)
    chaos._NAME, chaos._passes_left = point, passes
    sys.exit(max(cli.main(one) for one in commands))


def count(environment: dict[str, str], commands: list[list[str]], passes: "multiprocessing.Queue[Counter[str]]") -> None:
    """How often the commands pass each point."""
    found: Counter[str] = Counter()
    point = chaos.point
    for module in list(sys.modules.values()):
        if getattr(module, "point", None) is point:
            module.point = lambda name: found.update([name])
    os.environ.update(environment)
    code = max(cli.main(one) for one in commands)
    passes.put(found)
    sys.exit(code)


class Store:
    """A data folder, its cold storage, and `tickvault` on them."""

    def __init__(self, folder: Path) -> None:
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

    def run(self, commands: list[list[str]], point: str = "", passes: int = 0) -> int:
        process = forkserver.Process(target=obey, args=(self.environment, commands, point, passes))
        process.start()
        process.join()
        return process.exitcode or 0

    def run_counting(self, commands: list[list[str]]) -> "Counter[str]":
        queue: multiprocessing.Queue[Counter[str]] = forkserver.Queue()
        process = forkserver.Process(target=count, args=(self.environment, commands, queue))
        process.start()
        found = queue.get(timeout=120)
        process.join()
        assert process.exitcode == 0
        return found

    def prepare(self) -> None:
        closed_day(self.data)
        closed_day(self.data, DAY + 5_000, rows=Batch(ticks=[]))  # the newest file is the one persistence goes on from
        late_ticks(self.day)

    def prepare_again(self) -> None:
        late_ticks(self.day, Batch(ticks=[tick(5_000), tick(1_001, bid=1_085_121_001)]))

    def rows(self) -> dict[str, list[tuple]]:
        return rows_of(plain_day(self.day, self.cold))


@dataclass
class Part:
    """Of the way: the store before it, and what it must hold after it, sealed ticks and the rows of the day file."""

    before: Store
    commands: list[list[str]]
    passes: Counter[str]
    ticks: int
    rows: dict[str, list[tuple]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    store = Store(tmp_path_factory.mktemp("stages"))
    store.prepare()
    found = {}
    for name, commands in (("down", DOWN), ("again", AGAIN), ("out", OUT)):
        if name == "again":
            store.prepare_again()
        before = tmp_path_factory.mktemp(name)
        shutil.copytree(store.data, before / "data")
        shutil.copytree(before.parent / store.data.parent.name / "cold", before / "cold", dirs_exist_ok=True)
        passes = store.run_counting(commands)
        rows = store.rows() if name != "out" else {}
        found[name] = Part(Store(before), commands, passes, len(ticks_of(store.data)), rows)
    return found


def test_unkilled_every_row_gets_where_it_belongs(parts: dict[str, Part]) -> None:
    down, again, out = parts.values()
    assert down.ticks == len(down.rows["ticks"]) == 110
    assert again.ticks == len(again.rows["ticks"]) == 56, "of EUR/USD, 55 and the one that came for the archived day"
    assert {row[0] for row in again.rows["ticks"]} == {EUR}
    assert out.ticks == 0


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_of_any_step_the_same_again_leads_to_the_same_end(
    parts: dict[str, Part], tmp_path: Path, point: str
) -> None:
    assert any(part.passes[point] for part in parts.values()), "no step passes this point"
    for name, part in parts.items():
        for passes in range(1, min(part.passes[point], PASSES_MAX) + 1):
            folder = tmp_path / f"{name}{passes}"
            shutil.copytree(part.before.data.parent, folder)
            store = Store(folder)
            assert store.run(part.commands, point, passes) == -9
            assert len(ticks_of(store.data)) in {0, 100, 110, 111, 55, 56}, "readers see a whole generation, or no day"
            assert store.run(part.commands) == 0
            assert len(ticks_of(store.data)) == part.ticks
            assert verify_all(store.data, store.cold).problems == []
            left = [path for path in folder.rglob("*") if path.is_file() and DAY_NAME in path.name]
            if name == "out":
                assert left == []
            else:
                assert store.rows() == part.rows
                assert state_of(store.data, DAY) == "archived"
                named = {file.name for file in read_manifest(store.day.manifest).files.values()}
                assert {path.name for path in store.day.parquet()} == named
                assert not [path for path in left if path.suffix in {".db", ".taken", ".partial"}]


DAY_NAME = day_name(DAY)


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


@pytest.mark.parametrize(("before", "step"), [((), "seal"), (("seal",), "compress"), (("seal",), "retain")])
def test_on_a_full_disk_a_step_fails_readers_see_what_they_saw_and_it_goes_on_when_there_is_room(
    disk: Disk, tmp_path: Path, before: tuple, step: str
) -> None:
    data = disk.folder / "data"
    data.mkdir()
    rules = tmp_path / "retention.toml"
    rules.write_text(f'[symbols]\n"{EUR}" = 2557\n')
    settings = LifecycleSettings(data_dir=data, lifecycle_disk_reserve_bytes=0, lifecycle_retention_file=rules)
    day = closed_day(data, rows=Batch(ticks=[tick(n, symbol) for symbol in (EUR, "XAU/USD") for n in range(20_000)]))
    closed_day(data, DAY + 5_000, rows=Batch(ticks=[]))
    list(Schedule(settings).run(Order(before or ("compress",), DAY + 200)))
    seen = len(ticks_of(data))
    plain = day.db.read_bytes()
    # the space that is asked for first is there, and somebody else takes it
    schedule = Schedule(settings)
    schedule._require_space = lambda *_: disk.fill()  # type: ignore[method-assign]
    if step == "retain":
        disk.fill()
    (failed, *_) = [one for one in schedule.run(Order((step,), DAY + 200)) if isinstance(one, Failed)]
    assert not failed.damaged, failed.error
    assert "No space left" in failed.error or "full" in failed.error
    assert day.db.read_bytes() == plain
    assert len(ticks_of(data)) == seen
    assert verify_all(data, None).problems == []
    disk.free()
    done = list(Schedule(settings).run(Order((step,), DAY + 200)))
    assert [one for one in done if isinstance(one, Failed)] == []
    assert done
    assert verify_all(data, None).problems == []
    assert len(ticks_of(data)) == (20_000 if step == "retain" else 40_000)


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
        client.xadd("admin.commands", {"d": '{"command": "seal", "id": "now"}'})
        wait_until(lambda: b'"command":"now"' in client.xrevrange("lifecycle.events", count=1)[0][1][b"d"], lambda: "not done")
        told = [fields[b"d"].decode() for _, fields in client.xrange("lifecycle.events")]
    assert len([text for text in told if '"event":"amended"' in text]) == 1
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


def test_two_at_once_take_turns_and_one_goes_on_when_the_other_is_killed(stack: Stack) -> None:
    for day in range(DAY, DAY + 12):
        closed_day(stack.data_dir, day)
    spawn(stack, "first", TICKVAULT_RETAIN_DAYS="2557")
    spawn(stack, "second", TICKVAULT_RETAIN_DAYS="2557")
    days = tier_days(stack.data_dir)

    def archived() -> int:
        return sum(day.state() == "archived" for day in days)

    wait_until(lambda: archived() > 0, lambda: str(archived()))
    stack.processes["first"].kill()
    wait_until(lambda: archived() == 11, lambda: str(archived()))
    stack.wait_ready("second")
    assert stack.processes["second"].stop() == 0
    cold = ColdStorage((stack.folder / "cold").as_uri())
    assert verify_all(stack.data_dir, cold).problems == []
    assert len(cold.names(days[0])) == len(cold.names(days[10]))


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


def read_while(data: Path, work: Callable[[], object]) -> set[int]:
    """How many ticks readers saw while the work was done."""
    import threading

    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with contextlib.suppress(Retryable):  # swapped while it was read: asked again
                seen.add(len(ticks_of(data, symbols=(EUR,))))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        work()
    finally:
        done.set()
        reader.join()
    return seen


def test_readers_see_one_generation_or_the_other_while_a_day_is_amended_and_moved_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.prepare()
    settings = LifecycleSettings(
        data_dir=store.data, cold_url=store.cold.url, lifecycle_disk_reserve_bytes=0, lifecycle_linger_s=3_600, retain_days=2_557
    )
    schedule = Schedule(settings)
    list(schedule.run(Order(("seal",), DAY + 1)))
    store.prepare_again()
    seen = read_while(store.data, lambda: list(schedule.run(Order(STEPS, DAY + 40, asked=True))))
    assert seen <= {50, 55, 56}
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
