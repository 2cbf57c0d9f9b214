"""seal, compress, archive, retain: what the schedule does, asked for."""

import argparse
import sys
import time

from libs.common.domain.moment import day_of, parse_day
from libs.common.store.tiers import Step, alone
from services.lifecycle.cli.output import refuse, say
from services.lifecycle.cli.parser import Commands
from services.lifecycle.message import Event, event_of
from services.lifecycle.schedule import Order, Schedule
from services.lifecycle.settings import LifecycleSettings

STEP_HELP: dict[Step, str] = {
    "seal": "seal closed days, and make late ticks part of theirs",
    "compress": "sealed days to .db.zst, from TICKVAULT_COMPRESS_AFTER_DAYS on",
    "archive": "compressed days to cold storage, from TICKVAULT_ARCHIVE_AFTER_DAYS on",
    "retain": "delete what is older than TICKVAULT_RETAIN_DAYS, or than its symbol is kept",
}


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    for step, text in STEP_HELP.items():
        command = commands.add_parser(step, help=text, parents=[shared])
        command.add_argument("--as-of", metavar="DATE", help="as if it were this day (YYYY-MM-DD); default: today, UTC")
        command.add_argument("--day", metavar="DATE", help="this day only" + ("" if step == "retain" else ", whatever its age"))
        if step != "seal":
            command.add_argument("--dry-run", action="store_true", help="say what would be done")
        command.set_defaults(run=_step, step=step, dry_run=False)


def _step(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    schedule = Schedule(settings)
    schedule.check()
    if options.step == "archive" and not settings.cold_url:
        return refuse("TICKVAULT_COLD_URL is not set: write file:///folder or s3://bucket/prefix")
    today = parse_day(options.as_of) if options.as_of else day_of(time.time_ns())
    day = parse_day(options.day) if options.day else None
    order = Order((options.step,), today, day, dry_run=options.dry_run, asked=True)
    days = failures = 0
    with alone(settings.data_dir, on_wait=lambda: print("tickvault: another process is at work; waiting", file=sys.stderr)):
        for outcome in schedule.run(order):
            event = event_of(outcome, time.time_ns(), dry_run=options.dry_run)
            failures += event.event == "failed"
            days += event.event != "failed"
            say(event, _line(event), as_json=options.json)
    if not options.json:
        print(f"{days} {'would be done' if options.dry_run else 'done'}, {failures} failed")
    return 1 if failures else 0


def _line(event: Event) -> str:
    name = event.day + (f".p{event.partition:02d}" if event.partition is not None else "")
    if event.event == "failed":
        return f"{name} {event.step} failed: {event.error}"
    parts = [
        f"{name} {'would be ' if event.dry_run else ''}{_verb(event)}",
        f"generation {event.generation}",
        f"{event.ticks} ticks",
    ]
    if event.bytes_before:
        parts.append(f"{event.bytes_before} to {event.bytes_after} bytes here")
    parts += [f"{one.symbol} {one.provider} {one.before} to {one.after}" for one in event.changed if one.before]
    if event.step == "retain":
        parts += [f"deleted {name}" for name in event.deleted]
    return ", ".join(parts)


def _verb(event: Event) -> str:
    """`retained` says that retention was at work: to people, what is gone."""
    if event.event != "retained":
        return event.event
    if event.changed:
        return "deleted in part"
    return "deleted" if event.bytes_before else "deleted in earlier generations"
