"""Where the files of sealed days lie, and which there are.

data/ticks/columnar/YYYY/MM/ticks_YYYY-MM-DD[.pNN].manifest.json       the one name readers look for
                         …/KIND_YYYY-MM-DD[.pNN][.gN].parquet          ticks, bars, trades, books, gaps, quarantine, account
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.moment import day_name, parse_day

_DAY_FILE = re.compile(r"ticks_(\d{4}-\d{2}-\d{2})((?:\.p\d{2})?)\.db")
_MANIFEST = re.compile(r"ticks_(\d{4}-\d{2}-\d{2})((?:\.p\d{2})?)\.manifest\.json")
PARTIAL = ".partial"  # what a killed seal leaves behind ends in this, and is written over


def columnar_dir(data_dir: Path) -> Path:
    """The folder of all sealed days."""
    return data_dir / "ticks" / "columnar"


@dataclass(frozen=True, slots=True, order=True)
class SealedPaths:
    """The files of one sealed day of one partition; `infix` is `.pNN` or empty, as in the name of the day file."""

    folder: Path
    day: int
    infix: str = ""

    @classmethod
    def of(cls, data_dir: Path, day_file: Path) -> "SealedPaths":
        """Where the day file's sealed form belongs; ValueError where the name is not that of a day file."""
        match = _DAY_FILE.fullmatch(day_file.name)
        if match is None:
            raise ValueError(f"{day_file.name} is not the name of a day file")
        return cls(month_dir(data_dir, parse_day(match[1])), parse_day(match[1]), match[2])

    @classmethod
    def of_manifest(cls, manifest: Path) -> "SealedPaths | None":
        """None where the name is not that of a manifest."""
        match = _MANIFEST.fullmatch(manifest.name)
        return cls(manifest.parent, parse_day(match[1]), match[2]) if match else None

    @property
    def manifest(self) -> Path:
        return self._named("ticks", ".manifest.json")

    def parquet(self, kind: str, generation: int) -> Path:
        return self._named(kind, f".g{generation}.parquet" if generation > 1 else ".parquet")

    def _named(self, kind: str, suffix: str) -> Path:
        return self.folder / f"{kind}_{day_name(self.day)}{self.infix}{suffix}"


def month_dir(data_dir: Path, day: int) -> Path:
    name = day_name(day)
    return columnar_dir(data_dir) / name[:4] / name[5:7]


def sealed_days(data_dir: Path) -> list[SealedPaths]:
    """Every sealed day of every partition, oldest first."""
    return sorted(_find(data_dir), key=lambda paths: (paths.day, paths.infix))


def _find(data_dir: Path) -> Iterator[SealedPaths]:
    for path in columnar_dir(data_dir).glob("*/*/*.manifest.json"):
        if paths := SealedPaths.of_manifest(path):
            yield paths
