"""verify and stats: what there is, and whether it still is what was written."""

import argparse

from libs.common.store.tiers import ColdStorage, verify_all, watch
from services.lifecycle.cli.output import say
from services.lifecycle.cli.parser import Commands
from services.lifecycle.settings import LifecycleSettings
from services.lifecycle.stats import DayStats, day_stats


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    verify = commands.add_parser("verify", help="look at every file of every tier, cold storage included", parents=[shared])
    verify.set_defaults(run=_verify)
    stats = commands.add_parser("stats", help="days, their state and size, and how long the disk lasts", parents=[shared])
    stats.set_defaults(run=_stats)


def _verify(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    found = verify_all(settings.data_dir, cold)
    for problem in found.problems:
        say({"file": str(problem.path), "problem": problem.problem}, f"{problem.path}: {problem.problem}", as_json=options.json)
    result = {"files": found.files, "problems": len(found.problems), "open_days": found.open_days}
    text = f"{found.files} files verified, {len(found.problems)} problems, {found.open_days} open days not looked at"
    say(result, text, as_json=options.json)
    return 1 if found.problems else 0


def _stats(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    days = day_stats(settings.data_dir)
    for found in days:
        say(found, _stats_line(found), as_json=options.json)
    disk = watch(settings.data_dir, settings.lifecycle_disk_reserve_bytes)
    total = {
        "days": len(days),
        "ticks": sum(found.ticks or 0 for found in days),
        "local_bytes": sum(found.local_bytes for found in days),
        "cold_bytes": sum(found.cold_bytes for found in days),
        "free_bytes": disk.free_bytes,
        "bytes_per_day": round(disk.bytes_per_day),
        "days_left": round(disk.days_left, 1) if disk.days_left is not None else None,
    }
    left = "no day is sealed yet" if disk.days_left is None else f"the disk lasts {disk.days_left:.0f} days at the present growth"
    sizes = f"{total['local_bytes']} bytes here, {total['cold_bytes']} in cold storage"
    say(total, f"{len(days)} days, {total['ticks']} ticks, {sizes}; {left}", as_json=options.json)
    return 0


def _stats_line(found: DayStats) -> str:
    partition = f".p{found.partition:02d}" if found.partition is not None else ""
    ticks = "" if found.ticks is None else f"{found.ticks} ticks, generation {found.generation}, "
    return f"{found.date}{partition} {found.state}: {ticks}{found.local_bytes} bytes here, {found.cold_bytes} in cold storage"
