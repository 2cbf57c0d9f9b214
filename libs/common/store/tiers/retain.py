"""Retention: how long each symbol is kept, what must not be deleted, and the deletion itself.

    retention.toml                  [symbols]                     # days, where they differ from TICKVAULT_RETAIN_DAYS
                                    "EUR/USD" = 2557              # at most 7 years
                                    [[hold]]                      # nothing of this is deleted, at any age
                                    reason = "case 2026-17"
                                    from = "2026-03-01"           # both days included; absent: no limit
                                    to = "2026-03-31"
                                    symbols = ["XAU/USD"]         # absent: all

A day with no symbol left is deleted from every tier; one with some left is rebuilt with those, as a new generation.
"""

import shutil
import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated

import msgspec
import pyarrow.parquet as pq

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_day
from libs.common.domain.symbol import normalise_symbol
from libs.common.store.columnar import Manifest, read_manifest
from libs.common.store.columnar.checks import finding_damage
from libs.common.store.tiers.amend import plain_day, replace
from libs.common.store.tiers.cold import ColdStorage, generation_of
from libs.common.store.tiers.database import keep_symbols
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import disk_may_refuse, remove
from libs.common.store.tiers.receipt import Receipt, read_receipt, write_receipt
from libs.common.store.tiers.step import Done, SeriesChange, changes, ticks_in
from libs.common.telemetry.chaos import point

RETAIN_DAYS_MAX = 7 * 365 + 2  # 7 years with their leap days

Days = Annotated[int, msgspec.Meta(ge=1, le=RETAIN_DAYS_MAX)]


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"first": "from", "last": "to"}):
    """A legal hold. Dates are YYYY-MM-DD."""

    reason: str
    first: str | None = None
    last: str | None = None
    symbols: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for date in (self.first, self.last):
            if date is not None:
                try:
                    parse_day(date)
                except Rejected as error:
                    raise ValueError(str(error)) from error
        if self.first and self.last and self.last < self.first:
            raise ValueError(f"a hold from {self.first} to {self.last} holds nothing")

    def covers(self, day: int) -> bool:
        return (self.first is None or parse_day(self.first) <= day) and (self.last is None or day <= parse_day(self.last))


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept. `symbols`: days, where they differ from `days`."""

    days: Days
    symbols: dict[str, Days] = {}
    hold: tuple[Hold, ...] = ()

    def __post_init__(self) -> None:
        named = {*self.symbols, *(symbol for hold in self.hold for symbol in hold.symbols or ())}
        if wrong := sorted(symbol for symbol in named if normalise_symbol(symbol) != symbol):
            raise ValueError(f"{', '.join(wrong)}: no symbol is spelt like this")

    def kept(self, day: int, age: int, symbols: AbstractSet[str]) -> set[str]:
        """Those of the symbols that must not be deleted from a day of this age."""
        held: set[str] = set()
        for hold in self.hold:
            if hold.covers(day):
                held |= symbols if hold.symbols is None else symbols & set(hold.symbols)
        return held | {symbol for symbol in symbols if age <= self.symbols.get(symbol, self.days)}

    def all_kept(self, age: int) -> bool:
        """Whether that is so of every symbol there could be."""
        return age <= min([self.days, *self.symbols.values()])


def read_retention(path: Path | None, days: int) -> Retention:
    """Of a TOML or JSON file; Rejected where it cannot be read as a whole: nothing is deleted for a misspelling."""
    if path is None:
        return Retention(days=days)
    try:
        content = path.read_bytes()
        found = msgspec.json.decode(content) if path.suffix == ".json" else tomllib.loads(content.decode())
        return msgspec.convert({"days": days, **found}, Retention)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError, ValueError, TypeError) as error:
        raise Rejected(f"retention file {path}: {error}: nothing is deleted until it is corrected") from error


def retain_day(
    day: TierDay, retention: Retention, age: int, now: int, cold: ColdStorage | None, *, dry_run: bool = False
) -> Done | None:
    """Delete what is too old of a sealed day; None where all of it is kept. `age` in days, `now` in ns.

    Rejected: the day is not sealed, damaged, or cold storage is needed and not named: nothing is deleted then.
    """
    if retention.all_kept(age):
        return None
    with disk_may_refuse(day.manifest):
        receipt = read_receipt(day.receipt)
        if receipt is None:
            raise Rejected(f"{day.name} has no receipt: it is not sealed, so nothing says what would be deleted")
        if receipt.cold and cold is None:
            raise Rejected(f"{day.name} is in cold storage too: set TICKVAULT_COLD_URL to where it is")
        if receipt.deleting:
            return _go_on(day, receipt, retention, cold, dry_run=dry_run)
        manifest = read_manifest(day.manifest)
        symbols = _symbols(day, manifest)
        kept = retention.kept(day.day, age, symbols)
        if not kept:
            return _delete(day, receipt, cold, ticks_in(manifest), dry_run=dry_run)
        if kept == symbols:
            return _delete_earlier(day, receipt, cold, dry_run=dry_run)
        if dry_run:
            return Done("retain", day, manifest.generation, ticks_in(manifest), changed=_without(manifest, symbols - kept))
        rebuilt = day.scratch("next")
        rebuilt.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plain_day(day, cold), rebuilt)
        keep_symbols(rebuilt, kept)
        point("filtered_not_replaced")
        after = replace(day, rebuilt, now)
        return Done("retain", day, after.generation, ticks_in(after), changed=changes(manifest, after))


def _symbols(day: TierDay, manifest: Manifest) -> set[str]:
    """All that rows of the day are of. Empty: of what was refused before its symbol could be read."""
    symbols = set(manifest.series)
    for kind in manifest.files.keys() & {"trades", "books", "quarantine", "account"}:
        path = day.manifest.with_name(manifest.files[kind].name)
        with finding_damage(path):
            symbols |= set(pq.read_table(path, columns=["symbol"]).column("symbol").unique().to_pylist())
    return symbols or {""}


def _without(manifest: Manifest, symbols: AbstractSet[str]) -> tuple[SeriesChange, ...]:
    return tuple(
        SeriesChange(symbol, one.provider, one.ticks, 0) for symbol in sorted(symbols) for one in manifest.series.get(symbol, ())
    )


def _delete(day: TierDay, receipt: Receipt, cold: ColdStorage | None, ticks: int, *, dry_run: bool) -> Done:
    """All of it: the decision into the receipt, then what readers look for, and last the receipt."""
    names = cold.names(day) if cold is not None else []
    local = [path for path in day.files() if path != day.receipt]
    size = sum(path.stat().st_size for path in local)
    if not dry_run:
        write_receipt(day.receipt, msgspec.structs.replace(receipt, deleting=True))
        point("decided_not_deleted")
        remove(day.manifest)
        point("manifest_deleted")
        for name in names:
            assert cold is not None
            cold.delete(name)
            point("deleted_from_cold")
        remove(*local)
        point("files_deleted")
        remove(day.receipt)
    deleted = (*(path.name for path in local), *names)
    return Done("retain", day, receipt.generation, ticks, bytes_before=size, bytes_after=0, deleted=deleted)


def _go_on(day: TierDay, receipt: Receipt, retention: Retention, cold: ColdStorage | None, *, dry_run: bool) -> Done:
    """With a deletion that was killed, unless the day has come under a hold since."""
    if any(hold.covers(day.day) for hold in retention.hold):
        raise Rejected(f"{day.name} came under a hold while it was being deleted: look at what is left of it")
    return _delete(day, receipt, cold, 0, dry_run=dry_run)


def _delete_earlier(day: TierDay, receipt: Receipt, cold: ColdStorage | None, *, dry_run: bool) -> Done | None:
    """The generations in cold storage that still hold what was to be deleted, once the new one is there."""
    newest = receipt.generation
    if cold is None or all(generation_of(name) < newest for name in receipt.cold):
        return None
    earlier = sorted(name for name in {*receipt.cold, *cold.names(day)} if generation_of(name) < newest)
    if not earlier:
        return None
    if not dry_run:
        for name in earlier:
            cold.delete(name)
            point("earlier_deleted_from_cold")
        kept = {name: found for name, found in receipt.cold.items() if generation_of(name) >= newest}
        write_receipt(day.receipt, msgspec.structs.replace(receipt, cold=kept))
    return Done("retain", day, newest, 0, deleted=tuple(earlier))
