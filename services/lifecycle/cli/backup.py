"""backup, restore, drill, repair: the store's way out of a disaster, and the proof that it is one."""

import argparse
import sys
import time
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_day, parse_moment
from libs.common.store.backup import (
    BackupName,
    BackupStorage,
    Kind,
    back_up,
    drill,
    forget,
    problems_of,
    repair_day,
    restore,
    restore_day,
)
from libs.common.store.columnar import Damaged
from libs.common.store.tiers import ColdStorage, alone, tier_days
from services.lifecycle.cli.output import refuse, say
from services.lifecycle.cli.parser import Commands
from services.lifecycle.settings import LifecycleSettings

KIND_OPTIONS: dict[str, Kind] = {"incremental": "incremental", "full": "weekly", "weekly": "weekly", "quarterly": "quarterly"}
_NOT_SET = "TICKVAULT_BACKUP_URL is not set: write file:///folder or s3://bucket/prefix"


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    backup = commands.add_parser("backup", help="copy what is new to TICKVAULT_BACKUP_URL", parents=[shared])
    backup.add_argument("--kind", choices=KIND_OPTIONS, default="incremental", help="full: all of it, as this week's full backup")
    backup.add_argument("--dry-run", action="store_true", help="say what would be sent")
    backup.set_defaults(run=_backup)
    back = commands.add_parser("restore", help="a backup into an empty folder, or one day into this store", parents=[shared])
    where = back.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER", help="an empty folder, the new data folder")
    where.add_argument("--day", metavar="DATE", help="this day (YYYY-MM-DD), into this store, where it is missing")
    back.set_defaults(run=_restore, needs_data=False)
    proof = commands.add_parser("drill", help="restore into a temporary folder and prove it equal", parents=[shared])
    proof.set_defaults(run=_drill, needs_data=False)
    for command in (back, proof):
        command.add_argument("--at", metavar="TIME", help="the newest backup of this time or before; default: of now")
    mend = commands.add_parser("repair", help="bring damaged files back from what else there is of their day", parents=[shared])
    mend.add_argument("--day", metavar="DATE", help="this day only (YYYY-MM-DD)")
    mend.add_argument("--dry-run", action="store_true", help="say what is damaged")
    mend.set_defaults(run=_repair)


def _backup(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    if not settings.backup_url:
        return refuse(_NOT_SET)
    storage = BackupStorage(settings.backup_url)
    kind, reserve_bytes = KIND_OPTIONS[options.kind], settings.lifecycle_disk_reserve_bytes
    made = back_up(settings.data_dir, storage, kind, dry_run=options.dry_run, reserve_bytes=reserve_bytes)
    for file, problem in made.problems.items():
        say({"file": file, "problem": problem}, f"{file}: {problem}", as_json=options.json)
    backup = made.backup
    result = {
        "backup": str(backup.name),
        "kind": backup.kind,
        "began_at": backup.began_at,
        "at": backup.at,
        "files": len(backup.files),
        "bytes": sum(found.bytes for found in backup.files.values()),
        "sent": made.sent,
        "sent_bytes": made.sent_bytes,
        "problems": len(made.problems),
        "dry_run": options.dry_run,
    }
    verb = "would be sent" if options.dry_run else "sent"
    text = (
        f"{backup.name}: {len(backup.files)} files, {result['bytes']} bytes; {made.sent} objects, {made.sent_bytes} bytes {verb}"
    )
    say(result, f"{text}, {len(made.problems)} problems", as_json=options.json)
    for name in forget(settings.data_dir, storage) if not options.dry_run else ():
        say({"deleted": name}, f"{name} deleted: it is too old, or nothing names it any more", as_json=options.json)
    return 1 if made.problems else 0


def _chosen(options: argparse.Namespace, settings: LifecycleSettings) -> tuple[BackupStorage, BackupName]:
    if not settings.backup_url:
        raise Rejected(_NOT_SET)
    storage = BackupStorage(settings.backup_url)
    return storage, storage.newest(parse_moment(options.at) if options.at else None)


def _restore(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    storage, name = _chosen(options, settings)
    begun = time.monotonic()
    try:
        backup = storage.read(name)
        if options.day:
            problems = restore_day(storage, backup, settings.data_dir, parse_day(options.day))
        else:
            problems = restore(storage, backup, options.to)
    except Damaged as damage:
        problems = [damage]
    if problems:
        return _damaged(problems, as_json=options.json)
    elapsed_s = round(time.monotonic() - begun, 1)
    result = {"backup": str(name), "at": backup.at, "elapsed_s": elapsed_s, "watermark": backup.watermark}
    what = options.day or f"{len(backup.files)} files"
    say(result, f"{what} of {name} restored and verified in {elapsed_s} s", as_json=options.json)
    return 0


def _drill(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    storage, name = _chosen(options, settings)
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    try:
        found = drill(storage, name, settings.data_dir, cold, time.time_ns())
    except Damaged as damage:
        return _damaged([damage], as_json=options.json)
    _damaged(found.problems, as_json=options.json)
    result = {
        "backup": str(name),
        "age_s": round(found.age_s, 1),
        "restore_s": round(found.restore_s, 1),
        "verify_s": round(found.verify_s, 1),
        "files": found.files,
        "bytes": found.bytes,
        "days": found.days,
        "ticks": found.ticks,
        "compared": found.compared,
        "problems": len(found.problems),
    }
    text = (
        f"{name}, {found.age_s / 3600:.1f} h old: {found.days} days, {found.ticks} ticks restored in {found.restore_s:.1f} s "
        f"and verified in {found.verify_s:.1f} s; {found.compared} sealed days held against the live store; "
        f"{len(found.problems)} problems"
    )
    say(result, text, as_json=options.json)
    return 1 if found.problems else 0


def _damaged(problems: list[Damaged], *, as_json: bool) -> int:
    for one in problems:
        say({"file": str(one.path), "problem": one.problem}, f"{one.path}: {one.problem}", as_json=as_json)
    return 1


def _repair(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    storage = BackupStorage(settings.backup_url) if settings.backup_url else None
    chosen = parse_day(options.day) if options.day else None
    repaired = remaining = 0
    with alone(settings.data_dir, on_wait=lambda: print("tickvault: another process is at work; waiting", file=sys.stderr)):
        for day in tier_days(settings.data_dir):
            if chosen not in (None, day.day):
                continue
            done, problems = ([], problems_of(day, cold)) if options.dry_run else repair_day(day, cold, storage, time.time_ns())
            for one in done:
                say({"file": str(one.path), "repaired": one.how}, f"{one.path} repaired {one.how}", as_json=options.json)
            _damaged(problems, as_json=options.json)
            repaired += len(done)
            remaining += len(problems)
    text = f"{repaired} files repaired, {remaining} problems {'found' if options.dry_run else 'left'}"
    nothing = not repaired and not remaining
    say({"repaired": repaired, "problems": remaining}, "nothing to repair" if nothing else text, as_json=options.json)
    return 1 if remaining else 0
