"""Backups: what a store needs to come back, in a folder or an S3 bucket of its own, and the proof that it does.

    lock of lifecycle, briefly ─▶ positions ─▶ copies of what is open, links to what is closed ─▶ lock released
    ─▶ objects that are not there yet, each read back ─▶ manifest, last

    objects/SHA256                 of every incremental backup: what is there already is not sent again
    full/2026-W47/SHA256           the weekly full backup of that week, every object sent or read back; it relies on no other
    full/2026-Q4/SHA256            the quarterly one
    manifests/TIME.KIND.json       {"sha256":"<64 hex>",<the rest>: the files by path and sum; written once, after its objects

An open day or late file is copied by SQLite's online backup, in one read transaction, while its writer goes on. The copies are
not of one instant, so their watermarks are set down to what was durable when the first was made; the journals, copied last, hold
the rest.
A closed file never changes in place: a hard link keeps it while it is sent, whatever lifecycle does meanwhile.
What is in cold storage only is referenced by its receipt; the Parquet of such a day, which has every row of it, is in the backup.
"""

from libs.common.store.backup.content import Series, series_of
from libs.common.store.backup.drill import Drilled, drill
from libs.common.store.backup.keep import KEPT, forget
from libs.common.store.backup.make import Made, back_up
from libs.common.store.backup.manifest import KINDS, Backup, BackupName, Kind
from libs.common.store.backup.repair import Repaired, problems_of, repair_day
from libs.common.store.backup.restore import restore, restore_day
from libs.common.store.backup.storage import BackupStorage

__all__ = [
    "KEPT",
    "KINDS",
    "Backup",
    "BackupName",
    "BackupStorage",
    "Drilled",
    "Kind",
    "Made",
    "Repaired",
    "Series",
    "back_up",
    "drill",
    "forget",
    "problems_of",
    "repair_day",
    "restore",
    "restore_day",
    "series_of",
]
