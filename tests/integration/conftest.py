"""What several tests over real sockets need."""

import subprocess
from contextlib import suppress

import pytest


class SmallDisk:
    """A tmpfs of so many KB."""

    def __init__(self, folder, kilobytes):
        self.folder = folder
        folder.mkdir()
        self.call("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))

    def call(self, *command):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk can be had here: {error}")

    def fill(self):
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def grow(self):
        (self.folder / "filler").unlink(missing_ok=True)
        self.call("mount", "-o", "remount,size=64m", str(self.folder))


@pytest.fixture
def disk(tmp_path):
    found = SmallDisk(tmp_path / "disk", 512)
    yield found
    subprocess.run(["umount", "-l", str(found.folder)], check=False)
