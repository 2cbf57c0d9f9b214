"""Where every file lies below the data directory, written once."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.moment import day_name, parse_day

_DAY_FILE = re.compile(r"ticks_(\d{4}-\d{2}-\d{2})(?:\.p(\d{2}))?(?:\.late)?\.db")
_ARCHIVE_FILE = re.compile(r"ticks_(\d{4}-\d{2}-\d{2})(?:\.p(\d{2}))?\.(?:db\.zst|receipt\.json|late\.db\.taken|import\.db)")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths for one partition's writer; its files are named `.pNN` where there is more than one partition."""

    data_dir: Path
    partition: int = 0
    partitions: int = 1

    @classmethod
    def of(cls, data_dir: Path, partition: int | None) -> "Layout":
        """Of the files of a partition, however many there are; None: of the one partition there was."""
        return cls(data_dir) if partition is None else cls(data_dir, partition, partition + 2)

    @property
    def _infix(self) -> str:
        return f".p{self.partition:02d}" if self.partitions > 1 else ""

    def day(self, day: int) -> Path:
        """The open or closed day file."""
        name = day_name(day)
        return self.data_dir / "ticks" / "db" / name[:4] / name[5:7] / f"ticks_{name}{self._infix}.db"

    def late(self, day: int) -> Path:
        """Ticks for a day that was closed before they came."""
        return self.data_dir / "ticks" / "late" / f"ticks_{day_name(day)}{self._infix}.late.db"

    def taken(self, day: int) -> Path:
        """A late file that its writer has let go of, while it is amended in."""
        return self.late(day).with_name(self.late(day).name + ".taken")

    def imported(self, day: int) -> Path:
        """Ticks of an import for a day that is sealed, until they are amended in; whole where it exists, and nobody's."""
        return self.late(day).with_name(self.late(day).name.replace(".late.", ".import."))

    def legacy_json(self, day: int) -> Path:
        """The day's ticks for tools that read what was there before this store; no tier."""
        name = day_name(day)
        return legacy_json_dir(self.data_dir) / name[:4] / name[5:7] / f"ticks_{name}{self._infix}.json"

    def archive(self, day: int) -> Path:
        """The compressed day file, until it is in cold storage only."""
        name = day_name(day)
        return self.data_dir / "ticks" / "archive" / name[:4] / name[5:7] / f"ticks_{name}{self._infix}.db.zst"

    def receipt(self, day: int) -> Path:
        """What became of the day file since the day was sealed: where it exists, the day is closed for ever."""
        path = self.archive(day)
        return path.with_name(path.name.replace(".db.zst", ".receipt.json"))

    def scratch(self) -> Path:
        """Day files that are being rebuilt; deleted by whoever holds the lock of lifecycle."""
        return self.data_dir / "ticks" / "scratch"

    def snapshot(self) -> Path:
        """What a backup is being made of; deleted by whoever holds its lock."""
        return self.data_dir / "ticks" / "snapshot"

    def snapshot_lock(self) -> Path:
        """Held by the one process that makes a backup."""
        return self.data_dir / "ticks" / "snapshot.lock"

    def lifecycle_lock(self) -> Path:
        """Held by the one process that moves closed days on."""
        return self.data_dir / "ticks" / "lifecycle.lock"

    def lock(self) -> Path:
        """Held by the one process that writes this partition."""
        return self.data_dir / "ticks" / "db" / f"writer{self._infix}.lock"

    def partitions_file(self) -> Path:
        """How many partitions the store is written in."""
        return self.data_dir / "ticks" / "db" / "partitions"

    def own_files(self) -> list[Path]:
        """The day and late files of this partition."""
        return [path for day, path in self.day_files() if path in (self.day(day), self.late(day))]

    @staticmethod
    def partition_of_file(path: Path) -> int | None:
        """None for a file of the one partition there was."""
        match = _DAY_FILE.fullmatch(path.name)
        return int(match[2]) if match and match[2] else None

    @staticmethod
    def parse(name: str) -> tuple[int, int | None] | None:
        """(day, partition) of a day file, a late file, one that is taken, or an import; None: the name is not that of one."""
        match = _DAY_FILE.fullmatch(name.removesuffix(".taken").replace(".import.", ".late."))
        return (parse_day(match[1]), int(match[2]) if match[2] else None) if match else None

    @staticmethod
    def is_late(path: Path) -> bool:
        return path.name.endswith(".late.db")

    def day_files(self) -> list[tuple[int, Path]]:
        """(day, path) of every day and late file of every partition, oldest first."""
        return sorted(self._find())

    def archive_files(self) -> Iterator[tuple[int, int | None]]:
        """(day, partition) of every compressed day file, receipt, taken late file and import, in no order."""
        ticks = self.data_dir / "ticks"
        for path in (*ticks.glob("archive/*/*/ticks_*"), *ticks.glob("late/*.taken"), *ticks.glob("late/*.import.db")):
            if match := _ARCHIVE_FILE.fullmatch(path.name):
                yield parse_day(match[1]), int(match[2]) if match[2] else None

    def _find(self) -> Iterator[tuple[int, Path]]:
        ticks = self.data_dir / "ticks"
        for path in (*ticks.glob("db/*/*/*.db"), *ticks.glob("late/*.db")):
            if match := _DAY_FILE.fullmatch(path.name):
                yield parse_day(match[1]), path


def journal_dir(data_dir: Path) -> Path:
    """The folder that holds one folder a session."""
    return data_dir / "journal"


def legacy_json_dir(data_dir: Path) -> Path:
    """The folder of what persistence writes for old tools."""
    return data_dir / "json"


def staging_path(data_dir: Path, process: int) -> Path:
    """Rows of files that a process is importing."""
    return data_dir / "imports" / f"staged-{process}.db"


def rejected_path(data_dir: Path, source: Path) -> Path:
    """Lines of an imported file that cannot be ticks; for the same path the same name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:80]
    return data_dir / "imports" / f"{name}-{zlib.crc32(source.as_posix().encode()):08x}.rejected.ndjson"


def migrated_path(data_dir: Path, source: Path, sha256: str) -> Path:
    """The archive of a file that was migrated; other content has another name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:80]
    return data_dir / "migrated" / f"{name}-{sha256[:16]}.zst"


def migration_journal(data_dir: Path) -> Path:
    """A line for each file that was migrated."""
    return data_dir / "migrated" / "journal.ndjson"
