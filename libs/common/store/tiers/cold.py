"""Cold storage: a folder or an S3 endpoint that takes every name once and gives back what was put.

file:///mnt/archive            a folder; it is made where it is missing
s3://bucket/prefix             any S3 endpoint; AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL … in the environment

YYYY/MM/ticks_YYYY-MM-DD[.pNN][.gN].db.zst  .manifest.json  and the Parquet files under the names they have
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import day_name
from libs.common.platform import sync_folder
from libs.common.store.columnar import Damaged
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import DAMAGED, sync_file
from libs.common.store.tiers.receipt import Sum

if TYPE_CHECKING:
    from obstore.store import ClientConfig

OBJECT_BYTES_MAX = 5 * 10**9  # of one S3 PUT; a conditional one cannot be in parts
_GENERATION = re.compile(r"\.g(\d+)\.")


class ColdStorage:
    """For one thread at a time. Every failure of the storage is Retryable: nothing local was deleted for it."""

    called: ClassVar[str] = "cold storage"

    def __init__(self, url: str) -> None:
        self.url = url
        self._store, self._folder = _open(url, self.called)

    def put(self, name: str, path: Path, expected: Sum) -> None:
        """Durable and read back when it returns. Rejected: the name is taken by other content. The same again is fine.

        Damaged: the file is not what is expected, or does not come back as it was put.
        """
        if expected.bytes > OBJECT_BYTES_MAX:
            raise Rejected(f"{path} has {expected.bytes} bytes, {self.called} takes {OBJECT_BYTES_MAX} at once")
        content = path.read_bytes()
        if (len(content), hashlib.sha256(content).hexdigest()) != (expected.bytes, expected.sha256):
            raise Damaged(path, "its sha256 is not what was written down when it was written")
        with self._failures(name):
            try:
                obstore.put(self._store, name, content, mode="create")
            except AlreadyExistsError:
                if self.sum(name) != expected:
                    raise Rejected(f"{name} exists in {self.url} with other content: it is written once, look at it") from None
        if self._folder is not None:
            make_durable(self._folder, self._folder / name)
        self.check(name, expected)

    def check(self, name: str, expected: Sum) -> None:
        """Damaged: it is not there, or its sha256 is another."""
        try:
            found = self.sum(name)
        except FileNotFoundError:
            raise Damaged(self.at(name), f"it is gone from {self.called}, {self.url}") from None
        if found != expected:
            raise Damaged(self.at(name), f"its sha256 is not what was put into {self.called}, {self.url}")

    def sum(self, name: str) -> Sum:
        """FileNotFoundError where there is no such name."""
        digest = hashlib.sha256()
        size = 0
        with self._failures(name):
            for piece in obstore.get(self._store, name).stream():
                digest.update(piece)
                size += len(piece)
        return Sum(size, digest.hexdigest())

    def fetch(self, name: str, target: Path, expected: Sum) -> None:
        """Write `target`, durable; Damaged as in `check`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._failures(name), target.open("wb") as out:
                for piece in obstore.get(self._store, name).stream():
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
        except FileNotFoundError:
            raise Damaged(self.at(name), f"it is gone from {self.called}, {self.url}") from None
        if Sum.of(target) != expected:
            raise Damaged(self.at(name), f"its sha256 is not what was put into {self.called}, {self.url}")

    def names(self, day: TierDay) -> list[str]:
        """Everything of the day, of every generation."""
        belongs = re.compile(rf"\w+_{re.escape(day.name)}(\.g\d+)?\.(db\.zst|parquet|manifest\.json)")
        with self._failures(month(day)):
            found = [item["path"] for page in obstore.list(self._store, prefix=month(day)) for item in page]
        return sorted(name for name in found if belongs.fullmatch(name.rsplit("/", 1)[-1]))

    def set_aside(self, name: str) -> None:
        """Rename what is not what was put, so that the name is free; fine where it is gone."""
        with self._failures(name), contextlib.suppress(FileNotFoundError):
            obstore.rename(self._store, name, name + DAMAGED, overwrite=True)

    def delete(self, name: str) -> None:
        """By retention alone."""
        with self._failures(name), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def at(self, name: str) -> Path:
        """The object's name for people."""
        return self._folder / name if self._folder is not None else Path(name)

    @contextlib.contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise Retryable(f"{self.called} {self.url}, {name}: {str(error).partition(chr(10))[0]}") from error


def month(day: TierDay) -> str:
    """The folder of a day's objects."""
    name = day_name(day.day)
    return f"{name[:4]}/{name[5:7]}"


def object_name(day: TierDay, kind: str, generation: int) -> str:
    """`kind`: db.zst or manifest.json."""
    return f"{month(day)}/{day.db.stem}{f'.g{generation}' if generation > 1 else ''}.{kind}"


def generation_of(name: str) -> int:
    match = _GENERATION.search(name)
    return int(match[1]) if match else 1


def _open(url: str, called: str) -> tuple[ObjectStore, Path | None]:
    parts = urlsplit(url)
    try:
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            folder = Path(unquote(parts.path))
            return LocalStore(folder, mkdir=True), folder
        if parts.scheme == "s3" and parts.netloc:
            endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
            options: ClientConfig = {"allow_http": True} if endpoint.startswith("http://") else {}
            return S3Store.from_url(url, client_options=options), None
    except (BaseError, OSError) as error:
        raise Retryable(f"{called} {url}: {error}") from error
    raise Rejected(f"{url!r} is no place for {called}: write file:///folder or s3://bucket/prefix")


def make_durable(root: Path, path: Path) -> None:
    """The library leaves its files in the page cache: here they are what the only other copy is deleted for."""
    sync_file(path)
    folder = path.parent
    while True:
        sync_folder(folder)
        if folder == root:
            break
        folder = folder.parent
