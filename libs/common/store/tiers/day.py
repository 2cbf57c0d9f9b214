"""One UTC day of one partition in all its tiers, and the state it is in by its files alone.

open ─▶ closed ─▶ sealed ─▶ compressed ─▶ archived
.db     .db       .db + manifest   .db.zst + manifest   manifest, the rest in cold storage
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name
from libs.common.store.columnar import SealedPaths, sealed_days
from libs.common.store.layout import Layout
from libs.common.store.tiers.database import is_closed

State = Literal["open", "closed", "sealed", "compressed", "archived"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, order=True)
class TierDay:
    """`infix`: `.pNN` in the names of the files, or empty where there was one partition."""

    day: int
    infix: str
    data_dir: Path = field(compare=False)

    @property
    def partition(self) -> int | None:
        return int(self.infix[2:]) if self.infix else None

    @cached_property
    def _layout(self) -> Layout:
        return Layout.of(self.data_dir, self.partition)

    @property
    def name(self) -> str:
        """YYYY-MM-DD[.pNN]."""
        return f"{day_name(self.day)}{self.infix}"

    @property
    def db(self) -> Path:
        return self._layout.day(self.day)

    @property
    def late(self) -> Path:
        return self._layout.late(self.day)

    @property
    def taken(self) -> Path:
        return self._layout.taken(self.day)

    @property
    def imported(self) -> Path:
        return self._layout.imported(self.day)

    @property
    def zst(self) -> Path:
        return self._layout.archive(self.day)

    @property
    def receipt(self) -> Path:
        return self._layout.receipt(self.day)

    @cached_property
    def sealed(self) -> SealedPaths:
        return SealedPaths.of(self.data_dir, self.db)

    @property
    def manifest(self) -> Path:
        return self.sealed.manifest

    def scratch(self, purpose: str) -> Path:
        """A day file of the same name that nobody reads."""
        return self._layout.scratch() / purpose / self.db.name

    def parquet(self) -> list[Path]:
        """The sealed files of every generation that is there."""
        return sorted(
            path
            for path in self.sealed.folder.glob(f"*_{self.name}.*parquet")
            if path.name.split("_", 1)[1].removeprefix(self.name).startswith((".parquet", ".g"))
        )

    def files(self) -> list[Path]:
        """All that is there in every tier, what is only half written included."""
        own = (self.db, self.late, self.taken, self.imported, self.zst, self.receipt, self.manifest)
        return [path for path in own if path.exists()] + self.parquet()

    def state(self) -> State | None:
        """None: there is no such day. Damaged: the day file is neither open nor closed. While it is moved on, either state."""
        try:
            return self._state()
        except (FileNotFoundError, Retryable):
            if self.db.exists():
                raise
            return self._state()

    def _state(self) -> State | None:
        if self.db.exists():
            if not is_closed(self.db):
                return "open"
            return "sealed" if self.manifest.exists() else "closed"
        if self.zst.exists():
            return "compressed"
        return "archived" if self.manifest.exists() else None


def tier_days(data_dir: Path) -> list[TierDay]:
    """Every day of every partition that has a file in any tier, oldest first."""
    layout = Layout(data_dir)
    found = {(day, layout.partition_of_file(path)) for day, path in layout.day_files()}
    found |= set(layout.archive_files())
    days = {TierDay(day, "" if partition is None else f".p{partition:02d}", data_dir) for day, partition in found}
    days |= {TierDay(paths.day, paths.infix, data_dir) for paths in sealed_days(data_dir)}
    return sorted(days)


def state_of(data_dir: Path, day: int) -> State | None:
    """Of a UTC day: that of its partition which is least far. None: there is no such day."""
    found = [state for one in tier_days(data_dir) if one.day == day and (state := one.state()) is not None]
    return min(found, key=STATES.index, default=None)
