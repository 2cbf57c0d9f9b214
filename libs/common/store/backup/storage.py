"""Where backups are: a folder or an S3 endpoint, of objects by their sha256 and manifests that are written once."""

import tempfile
from pathlib import Path

import obstore

from libs.common.domain.errors import Rejected
from libs.common.store.backup.manifest import Backup, BackupName, decode, encode
from libs.common.store.columnar import Damaged
from libs.common.store.tiers import ColdStorage, Sum
from libs.common.store.tiers.cold import make_durable


class BackupStorage(ColdStorage):
    """For one thread at a time. Every failure of the storage is Retryable."""

    called = "backup storage"

    def backups(self) -> list[BackupName]:
        """Of every kind, oldest first."""
        return sorted(name for path in self.sizes("manifests/") if (name := BackupName.of(path)) is not None)

    def newest(self, at: int | None = None) -> BackupName:
        """At or before `at` (ns). Rejected: there is none."""
        found = [name for name in self.backups() if at is None or name.at <= at]
        if not found:
            raise Rejected(f"{self.url} has no backup{'' if at is None else ' of that time or before'}")
        return found[-1]

    def read(self, name: BackupName) -> Backup:
        """Damaged: it is gone, or not what was written."""
        with tempfile.TemporaryDirectory(prefix="tickvault-") as folder, self._failures(name.path):
            path = Path(folder) / "manifest.json"
            try:
                path.write_bytes(bytes(obstore.get(self._store, name.path).bytes()))
                return decode(path)
            except FileNotFoundError:
                raise Damaged(self.at(name.path), "it is gone") from None
            except Damaged as damage:
                raise Damaged(self.at(name.path), damage.problem) from None

    def write(self, backup: Backup) -> None:
        """From here on the backup exists. Rejected: the name is taken."""
        with tempfile.TemporaryDirectory(prefix="tickvault-") as folder:
            path = Path(folder) / "manifest.json"
            path.write_bytes(encode(backup))
            self.put(backup.name.path, path, Sum.of(path))

    def send(self, name: str, path: Path, expected: Sum) -> None:
        """Durable and read back when it returns; in pieces, whatever its size. Damaged: the file is not what is expected."""
        if Sum.of(path) != expected:
            raise Damaged(path, "its sha256 is not what was written down when it was written")
        with self._failures(name):
            obstore.put(self._store, name, path)
        if self._folder is not None:
            make_durable(self._folder, self._folder / name)
        self.check(name, expected)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name → bytes of everything below `prefix`."""
        with self._failures(prefix):
            return {item["path"]: item["size"] for page in obstore.list(self._store, prefix=prefix) for item in page}
