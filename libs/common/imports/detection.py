"""What is known of a file once its beginning has been seen, and the reader that follows from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from libs.common.imports.option import Format, Options
from libs.common.imports.source import Source
from libs.common.imports.table import Block


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a source; `whole` where that is all of it."""

    source: Source
    data: bytes
    whole: bool

    @property
    def path(self) -> str:
        """Absolute, with the member of a zip behind it: some formats keep symbol and day there."""
        path = self.source.path.absolute().as_posix()
        return path if self.source.member is None else f"{path}/{self.source.member}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Detection:
    """`text`: what was found and why, in one line. `certain`: stated by the file, its layout or an option.

    Not certain is what follows from the numbers alone: show the preview and have it confirmed. `symbols`: as far as seen.
    """

    format: Format
    text: str
    symbols: tuple[str, ...]
    certain: bool = True
    warnings: tuple[str, ...] = ()


class Reading(Protocol):
    """One file's reader; it remembers where it is, so each serves one pass."""

    @property
    def detection(self) -> Detection: ...
    def read(self, blocks: Iterator[bytes]) -> Iterator[Block]: ...


class Detect(Protocol):
    """None: not this format. Rejected: this format, and it cannot be read."""

    def __call__(self, head: Head, options: Options) -> Reading | None: ...
