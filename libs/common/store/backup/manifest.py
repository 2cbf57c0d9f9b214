"""What a backup holds: its manifest, its name, and where its objects are."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from libs.common.domain.moment import NS_PER_US
from libs.common.store.backup.content import Series
from libs.common.store.columnar.manifest import decode_checked
from libs.common.store.tiers import Sum

Kind = Literal["incremental", "weekly", "quarterly"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = "%Y-%m-%dT%H%M%S.%fZ"  # no colons: Windows has none in names
_NAME = re.compile(rf"manifests/([\dT.-]+Z)\.({'|'.join(KINDS)})\.json")


class BackupName(NamedTuple):
    """`at` in ns, whole µs: nothing that became durable later is in the backup."""

    at: int
    kind: Kind

    @property
    def path(self) -> str:
        return f"manifests/{self}.json"

    @property
    def period(self) -> str:
        """The UTC day, ISO week or quarter that the backup is for."""
        moment = _moment(self.at)
        year, week, _ = moment.isocalendar()
        weekly, quarterly = f"{year}-W{week:02d}", f"{moment.year}-Q{(moment.month + 2) // 3}"
        return {"incremental": f"{moment:%Y-%m-%d}", "weekly": weekly, "quarterly": quarterly}[self.kind]

    @property
    def objects(self) -> str:
        """What the names of its objects begin with."""
        return "objects/" if self.kind == "incremental" else f"full/{self.period}/"

    def __str__(self) -> str:
        return f"{_moment(self.at).strftime(_TIME)}.{self.kind}"

    @classmethod
    def of(cls, path: str) -> "BackupName | None":
        """None where it is not that of a manifest."""
        match = _NAME.fullmatch(path)
        if match is None:
            return None
        since = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC) - _EPOCH
        return cls(since // timedelta(microseconds=1) * NS_PER_US, next(kind for kind in KINDS if kind == match[2]))


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """`files`: by path below the data folder. Times in ns; all that was durable at `began_at` is in it.

    `series`: the ticks of each SQLite file that no manifest of a sealed day speaks for. `watermark`: partition's infix → session
    → the journal position that the restored store goes on from. `left_out`: damaged files, and what is wrong with each.
    """

    format: int = 1
    kind: Kind
    began_at: int
    at: int
    files: dict[str, Sum]
    series: dict[str, list[Series]]
    watermark: dict[str, dict[str, int]]
    left_out: dict[str, str] = {}

    @property
    def name(self) -> BackupName:
        return BackupName(self.at, self.kind)


def encode(backup: Backup) -> bytes:
    rest = msgspec.json.encode(backup)[1:]
    return b'{"sha256":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def decode(path: Path) -> Backup:
    """Damaged: a bit flipped or the tail is cut. Rejected: of a newer program."""
    return decode_checked(path, Backup)


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at // NS_PER_US)
