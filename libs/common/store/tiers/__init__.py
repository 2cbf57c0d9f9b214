"""The tiers of a day that is over: steps from .db to cold storage, each idempotent and safe to kill.

closed ─▶ seal_day ─▶ compress_day ─▶ archive_day ─▶ retain_day
             ▲  amend_day: what came late, from whichever tier

One process at a time works on a data folder (`alone`). Nothing is deleted before its successor was read back and compared.
"""

from libs.common.store.tiers.alone import alone
from libs.common.store.tiers.amend import amend_day, clear_scratch, extras, finish, plain_day, seal_day
from libs.common.store.tiers.archive import archive_day
from libs.common.store.tiers.cold import ColdStorage
from libs.common.store.tiers.compress import compress_day, keeps_position
from libs.common.store.tiers.day import STATES, State, TierDay, state_of, tier_days
from libs.common.store.tiers.receipt import Receipt, Sum, read_receipt
from libs.common.store.tiers.retain import Retention, read_retention, retain_day
from libs.common.store.tiers.step import Done, SeriesChange, Step, changes, ticks_in
from libs.common.store.tiers.sweep import sweep
from libs.common.store.tiers.verify import Verified, verify_all, verify_day
from libs.common.store.tiers.watch import RESERVE_BYTES, Disk, DiskReserve, require_space, watch

__all__ = [
    "RESERVE_BYTES",
    "STATES",
    "ColdStorage",
    "Disk",
    "DiskReserve",
    "Done",
    "Receipt",
    "Retention",
    "SeriesChange",
    "State",
    "Step",
    "Sum",
    "TierDay",
    "Verified",
    "alone",
    "amend_day",
    "archive_day",
    "changes",
    "clear_scratch",
    "compress_day",
    "extras",
    "finish",
    "keeps_position",
    "plain_day",
    "read_receipt",
    "read_retention",
    "require_space",
    "retain_day",
    "seal_day",
    "state_of",
    "sweep",
    "ticks_in",
    "tier_days",
    "verify_all",
    "verify_day",
    "watch",
]
