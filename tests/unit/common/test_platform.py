"""Both branches: the one of this system for real, the one of Windows on stand-ins for its two libraries."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from libs.common import platform

WINDOWS = sys.platform == "win32"


class Msvcrt(types.ModuleType):
    """Locks of bytes as Windows has them: of the open file, from its position on, refused at once to any other."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, size: int) -> None:
        assert (mode, size) == (self.LK_NBLCK, 1)
        key = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if self.held.setdefault(key, descriptor) != descriptor:
            raise PermissionError(13, "Permission denied")


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module as Windows would import it."""
    if WINDOWS:
        return platform
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    spec = importlib.util.spec_from_file_location("platform_on_windows", platform.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lock_is_one_process_s_until_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = """
        import os, sys
        from libs.common.platform import try_lock
        descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        print(try_lock(descriptor), flush=True)
        sys.stdin.read()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(holder), str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        descriptor = os.open(path, os.O_RDWR)
        try:
            assert not platform.try_lock(descriptor)
            other.kill()
            other.wait()
            assert platform.try_lock(descriptor)
        finally:
            os.close(descriptor)


def test_windows_locks_a_byte_that_nobody_reads_and_leaves_the_position(on_windows: types.ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"4711")
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    os.lseek(first, 2, os.SEEK_SET)
    assert on_windows.try_lock(first)
    assert not on_windows.try_lock(second)
    assert (os.read(first, 4), os.read(second, 4)) == (b"11", b"4711")
    os.close(first)
    os.close(second)


def test_windows_has_no_folders_to_sync_and_syncs_data(on_windows: types.ModuleType, tmp_path: Path) -> None:
    on_windows.sync_folder(tmp_path / "missing")
    with (tmp_path / "file").open("wb") as file:
        on_windows.sync_data(file.fileno())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGBREAK"])
def test_windows_is_asked_to_stop_by_each_of_its_signals(on_windows: types.ModuleType, name: str) -> None:
    number = getattr(signal, name)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)}

    async def stopped() -> None:
        stopping = asyncio.Event()
        on_windows.on_stop(stopping.set)
        signal.raise_signal(number)
        await asyncio.wait_for(stopping.wait(), 5)
        on_windows.ignore_stop()
        signal.raise_signal(signal.SIGTERM)

    try:
        asyncio.run(stopped())
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.skipif(WINDOWS, reason="folders are synced elsewhere only")
def test_a_folder_that_is_gone_cannot_be_synced(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        platform.sync_folder(tmp_path / "missing")
