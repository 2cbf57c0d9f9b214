"""What Linux and Windows do in different ways: locks of files, what is durable, signals, priority. Nobody else asks which it is.

On Windows an open file cannot be renamed or deleted: whoever tries gets PermissionError, an OSError like that of any disk that
refuses, and comes again.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_LOCKED_BYTE = 2**30  # Windows locks bytes, and refuses to read them: one that no lock file has

if sys.platform == "win32":
    import ctypes
    import msvcrt

    _BELOW_NORMAL_PRIORITY_CLASS = 0x4000

    def try_lock(descriptor: int) -> bool:
        """Whether this process holds the lock of an open file now; it ends with the descriptor, or with the process."""
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, at, os.SEEK_SET)
        return True

    def sync_data(descriptor: int) -> None:
        """Make the bytes of an open file durable."""
        os.fsync(descriptor)

    def sync_folder(folder: Path) -> None:
        """NTFS writes names into its own log, in order; there is nothing to ask for."""

    def lower_priority() -> None:
        """Leave the processor to those who capture."""
        ctypes.windll.kernel32.SetPriorityClass(ctypes.windll.kernel32.GetCurrentProcess(), _BELOW_NORMAL_PRIORITY_CLASS)

    def kill_self() -> None:
        """As the power cut does: nothing is tidied up."""
        os.kill(os.getpid(), signal.SIGTERM)  # TerminateProcess

    def on_stop(stop: Callable[[], object]) -> None:
        """Call `stop` in the running event loop when the process is asked to end."""
        events = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
            signal.signal(number, lambda *_: events.call_soon_threadsafe(stop))

    def ignore_stop() -> None:
        """From now on, since the process ends anyway."""
        for number in (signal.SIGTERM, signal.SIGBREAK):
            signal.signal(number, signal.SIG_IGN)

else:
    import fcntl

    _NICENESS = 10

    def try_lock(descriptor: int) -> bool:
        """Whether this process holds the lock of an open file now; it ends with the descriptor, or with the process."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def sync_data(descriptor: int) -> None:
        """Make the bytes of an open file durable, and its length, but not its times."""
        os.fdatasync(descriptor)

    def sync_folder(folder: Path) -> None:
        """Make the names in a folder durable: a new file's own fsync does not."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lower_priority() -> None:
        """Leave the processor to those who capture."""
        os.nice(_NICENESS)

    def kill_self() -> None:
        """As the power cut does: nothing is tidied up."""
        os.kill(os.getpid(), signal.SIGKILL)

    def on_stop(stop: Callable[[], object]) -> None:
        """Call `stop` in the running event loop when the process is asked to end."""
        events = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            events.add_signal_handler(number, stop)

    def ignore_stop() -> None:
        """From now on, since the process ends anyway."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
