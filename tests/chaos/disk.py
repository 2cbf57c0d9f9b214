"""A disk of one's own that can be filled to the last byte: a tmpfs, which needs root."""

import subprocess
from pathlib import Path

_STEPS = (4 << 20, 64 << 10, 4096)


class NoDisk(Exception):
    """No tmpfs can be mounted here; the text says why."""


class Disk:
    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._filler = folder / "filler"

    def mount(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._call("mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs", str(self.folder))

    def fill(self) -> None:
        """Nothing more can be written; what runs goes on trying meanwhile, and may get the last pages."""
        used = sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*") if path.is_file())
        megabytes = (used + 2 * _STEPS[0]) >> 20
        self._call("mount", "-o", f"remount,size={megabytes}m", str(self.folder))  # so that there is little to fill
        with self._filler.open("wb", buffering=0) as file:
            for step in _STEPS:
                try:
                    while True:
                        file.write(bytes(step))
                except OSError:
                    continue

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)
        if self.folder.is_mount():
            self._call("mount", "-o", f"remount,size={self._megabytes}m", str(self.folder))

    def unmount(self) -> None:
        if self.folder.is_mount():
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)

    def _call(self, *command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise NoDisk(f"{command[0]}: {error}") from error
        if done.returncode:
            raise NoDisk(f"`{' '.join(command)}` failed ({done.stderr.strip()}): full disks need root and a kernel with tmpfs")
