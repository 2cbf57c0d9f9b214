"""Files that appear whole and are on the disk, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import sync_folder

PARTIAL = ".partial"  # what a killed step leaves behind ends in this, and is written over
DAMAGED = ".damaged"  # what a repair has set aside for people to look at ends in this


@contextlib.contextmanager
def disk_may_refuse(what: Path | str) -> Iterator[None]:
    """A full disk, or one that fails, is Retryable; a file that should be there, Rejected."""
    try:
        yield
    except FileNotFoundError as error:
        raise Rejected(f"{error.filename} is gone: restore it") from error
    except OSError as error:
        raise Retryable(f"{what}: {error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def move(source: Path, target: Path) -> None:
    """Rename within the file system, so that the new name outlives a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_file(source)
    source.replace(target)
    sync_folder(target.parent)


def move_to_free(source: Path, target: Path) -> None:
    """As `move`, to a name that nobody has; Retryable where somebody has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_file(source)
    try:
        target.hardlink_to(source)
    except FileExistsError as error:
        raise Retryable(f"{target} has been begun meanwhile: once it is closed, it is made part of the day too") from error
    source.unlink()
    sync_folder(target.parent)


def set_aside(path: Path) -> None:
    """Rename what is damaged, so that the name is free; fine where it is gone."""
    if path.exists():
        path.replace(path.with_name(path.name + DAMAGED))
        sync_folder(path.parent)


def remove(*paths: Path) -> list[Path]:
    """Delete those that exist; those that did."""
    removed = [path for path in paths if path.exists()]
    for path in removed:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in removed}:
        sync_folder(folder)
    return removed
