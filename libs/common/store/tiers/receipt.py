"""The receipt of a sealed day: which bytes hold its rows now, here and in cold storage, and how to know that they still do.

    data/ticks/archive/YYYY/MM/ticks_YYYY-MM-DD[.pNN].receipt.json      {"sha256":"<64 hex>",<the rest>  as a manifest

SQLite files carry no checksums: a bit that flips in a price is found by nothing but this.
"""

import hashlib
from pathlib import Path

import msgspec

from libs.common.store.columnar.manifest import decode_checked
from libs.common.store.tiers.disk import write_whole


class Sum(msgspec.Struct, frozen=True):
    """Of a file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Sum":
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """`generation`: of the manifest whose rows `db` holds. `next_db`: of a rebuilt file that is about to take its place, and
    `merged` the names of the files whose rows it holds too.

    `zst`: of the compressed `db`, once that has been read back; from then on `db` describes what it decompresses to. `cold`: by
    name, what was read back from cold storage, of earlier generations too. `deleting`: retention has decided, and has begun.
    """

    format: int = 1
    day: str
    generation: int
    db: Sum
    next_db: Sum | None = None
    merged: tuple[str, ...] = ()
    zst: Sum | None = None
    cold: dict[str, Sum] = {}
    deleting: bool = False


def read_receipt(path: Path) -> Receipt | None:
    """None where there is none. Damaged: a bit flipped or the tail is cut."""
    try:
        return decode_checked(path, Receipt)
    except FileNotFoundError:
        return None


def write_receipt(path: Path, receipt: Receipt) -> None:
    rest = msgspec.json.encode(receipt)[1:]
    write_whole(path, b'{"sha256":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest)
