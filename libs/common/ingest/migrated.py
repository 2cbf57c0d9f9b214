"""Files whose ticks are in the store: archived, and only then deleted. What was done stands in a journal, a line a file.

file ─▶ zstd under a partial name, read back ─▶ name by its content ─▶ line in the journal ─▶ the file is deleted
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.platform import sync_folder
from libs.common.store.columnar import Damaged
from libs.common.store.layout import migrated_path, migration_journal
from libs.common.store.tiers import frame
from libs.common.store.tiers.disk import PARTIAL, disk_may_refuse, move, remove
from libs.common.store.tiers.receipt import Sum
from libs.common.telemetry.chaos import point

LEVEL = 9  # of zstd: 4 times faster than what days are compressed with, and JSON is large

Stamp = tuple[int, int, int]  # inode, mtime in ns, bytes


class Archived(msgspec.Struct, frozen=True):
    """A file that was compared with the store and found equal: its ticks, and where its bytes are now."""

    file: str
    ticks: int
    archive: str
    plain: Sum
    packed: Sum
    at: int


def stamp_of(path: Path) -> Stamp:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True, slots=True)
class Migrated:
    """The archive of one data folder."""

    data_dir: Path

    def archive(self, path: Path, stamp: Stamp, ticks: int, now: int) -> Archived:
        """Of a file as it was when its stamp was taken. Rejected: it is another one now. Retryable: the disk refuses."""
        with disk_may_refuse(path):
            journal = migration_journal(self.data_dir)
            journal.parent.mkdir(parents=True, exist_ok=True)
            partial = journal.with_name(f"archiving{PARTIAL}")
            plain, packed = frame.pack(path, partial, LEVEL)
            archive = migrated_path(self.data_dir, path, plain.sha256)
            point("migrated_not_named")
            _require_same(path, stamp)
            move(partial, archive)
            done = Archived(str(path.absolute()), ticks, archive.name, plain, packed, now)
            point("migrated_not_noted")
            self._note(done)
            point("migrated_not_deleted")
            _require_same(path, stamp)
            remove(path)
            return done

    def finish(self) -> list[Archived]:
        """Delete what a killed process had archived and noted; those files. Damaged: their archive is not as written."""
        finished = []
        for done in self.journal():
            path = Path(done.file)
            if not path.exists() or Sum.of(path) != done.plain:
                continue  # gone, or another one under the same name
            archive = migration_journal(self.data_dir).with_name(done.archive)
            if not archive.exists() or Sum.of(archive) != done.packed or frame.check(archive) != done.plain:
                raise Damaged(archive, f"it is not as written; {path} stays")
            with disk_may_refuse(path):
                remove(path)
            finished.append(done)
        return finished

    def journal(self) -> list[Archived]:
        """Oldest first; a line that a power cut tore counts as not written."""
        path = migration_journal(self.data_dir)
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Archived))
            except msgspec.DecodeError:
                continue
        return found

    def _note(self, done: Archived) -> None:
        path = migration_journal(self.data_dir)
        with path.open("ab") as file:
            file.write(b"\n" + msgspec.json.encode(done) + b"\n")  # what a torn line ends in is a line of its own
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)


def _require_same(path: Path, stamp: Stamp) -> None:
    if stamp_of(path) != stamp:
        raise Rejected(f"{path} was written to meanwhile: stop what writes it, and migrate it again")
