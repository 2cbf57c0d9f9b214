"""make demo as a new user meets it: real processes, a temporary folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.testing.redis_server import NoRedis, redis_binary

ROOT = Path(__file__).resolve().parents[2]
LAST_LINE = re.compile(r"received=(\d+) stored=(\d+) duplicates=(\d+) quarantined=(\d+) lost=(\d+)")
CHILDREN = {"LP1", "LP2", "gateway", "persistence", "distribution"}


@pytest.fixture
def demos(tmp_path) -> Iterator["Demos"]:
    demos = Demos(tmp_path / "demo")
    yield demos
    demos.end()


class Demos:
    """Runs of the demo in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port = 0
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("TICKVAULT_", "DEMO_"))}
        try:
            redis_binary()
        except NoRedis:
            if "TICKVAULT_REDIS_URL" not in os.environ:
                pytest.skip("there is no Redis here")
            self.environment["TICKVAULT_REDIS_URL"] = os.environ["TICKVAULT_REDIS_URL"]

    def start(self, seconds: str | None = None) -> subprocess.Popen[str]:
        demo = subprocess.Popen(
            [sys.executable, "-m", "deploy.demo", "--folder", str(self.folder)],
            cwd=ROOT, env=self.environment | ({"DEMO_SECONDS": seconds} if seconds else {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(demo)
        return demo

    def children(self, demo: subprocess.Popen[str]) -> dict[str, int]:
        """Pids by name, once the demo shows ticks."""
        assert demo.stdout is not None
        seen = []
        for line in demo.stdout:
            seen.append(line)
            if url := re.search(r"http://127\.0\.0\.1:(\d+)/openapi\.json", line):
                self.http_port = int(url[1])
            if re.search(r"[1-9][\d,]* ticks/s", line):
                noted = json.loads((self.folder / "running.json").read_text())
                return {name: pid for name, (pid, _) in noted.items()}
        raise AssertionError(f"no ticks: {''.join(seen)}{demo.communicate()[1]}")

    def end(self) -> None:
        for demo in self.running:
            if demo.poll() is None:
                demo.terminate()
                demo.communicate(timeout=60)


def last_line(output: str) -> list[int]:
    match = LAST_LINE.fullmatch(output.rstrip("\n").rpartition("\n")[2])
    assert match is not None, output
    return [int(number) for number in match.groups()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_all_end(pids: dict[str, int]) -> None:
    deadline = time.monotonic() + 10
    while left := {name for name, pid in pids.items() if alive(pid)}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def test_a_demo_ends_by_itself_with_nothing_lost_and_a_second_one_goes_on_with_its_data(demos):
    first, complaints = (demo := demos.start(seconds="5")).communicate(timeout=90)
    assert demo.returncode == 0, first + complaints
    received, stored, duplicates, quarantined, lost = last_line(first)
    assert received > 5_000
    assert (stored, duplicates, quarantined, lost) == (received, 0, 0, 0)
    assert re.search(r"http://127\.0\.0\.1:\d+/openapi\.json", first)

    second, complaints = (demo := demos.start(seconds="5")).communicate(timeout=90)
    assert demo.returncode == 0, second + complaints
    again, stored, duplicates, quarantined, lost = last_line(second)
    assert again > received + 5_000
    assert (stored, duplicates, quarantined, lost) == (again, 0, 0, 0)
    assert not (demos.folder / "running.json").exists()


def test_a_gateway_that_dies_ends_the_demo_with_its_name_its_log_and_no_process_left_behind(demos):
    demo = demos.start()
    pids = demos.children(demo)
    assert pids.keys() >= CHILDREN
    os.kill(pids["gateway"], signal.SIGKILL)
    output, complaints = demo.communicate(timeout=30)
    assert demo.returncode == 1, output
    assert "gateway has ended by SIGKILL" in complaints
    assert str(demos.folder / "gateway.log") in complaints
    assert LAST_LINE.search(output) is None
    assert_all_end(pids)


def test_an_interrupt_ends_in_order_and_a_second_one_at_once(demos):
    demo = demos.start()
    pids = demos.children(demo)
    demo.send_signal(signal.SIGINT)
    output, complaints = demo.communicate(timeout=60)
    assert demo.returncode == 0, output + complaints
    assert last_line(output)[4] == 0
    assert_all_end(pids)

    demo = demos.start()
    pids = demos.children(demo)
    demo.send_signal(signal.SIGINT)
    assert demo.stdout is not None
    demo.stdout.readline()  # it is ending
    demo.send_signal(signal.SIGTERM)
    output, _ = demo.communicate(timeout=30)
    assert demo.returncode in {130, 0}  # 0 where the end was quicker than the second signal
    assert_all_end(pids)


def test_a_demo_that_was_killed_leaves_nothing_that_stops_the_next_one(demos):
    killed = demos.start()
    pids = demos.children(killed)
    killed.kill()
    killed.communicate()
    output, complaints = (demo := demos.start(seconds="2")).communicate(timeout=90)
    assert demo.returncode == 0, output + complaints
    assert "ended what an earlier demo had left running" in output
    assert last_line(output)[4] == 0
    assert_all_end(pids)


def test_the_readme_s_examples_answer_while_the_demo_runs(demos):
    demo = demos.start()
    demos.children(demo)
    examples = re.findall(r"curl '(http://127\.0\.0\.1:)8080(/[^']*)'", (ROOT / "README.md").read_text("utf-8"))
    assert len(examples) >= 5
    for host, path in examples:
        with urllib.request.urlopen(f"{host}{demos.http_port}{path}", timeout=10) as answer:
            assert answer.status == 200, path
            assert answer.read(), path


def test_two_demos_do_not_share_a_folder(demos):
    demos.children(demos.start())
    _, complaints = (second := demos.start(seconds="2")).communicate(timeout=30)
    assert second.returncode == 2
    assert "another demo runs in" in complaints


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_that_are_no_time_are_refused(demos, seconds):
    demo = demos.start(seconds=seconds)
    _, complaints = demo.communicate(timeout=30)
    assert demo.returncode == 2
    assert "seconds above 0" in complaints
