"""import: files that users have, to ticks of the store. What is read is shown before anything is written."""

import argparse
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import day_name, format_moment
from libs.common.domain.price import format_price
from libs.common.domain.symbol import normalise_symbol
from libs.common.imports import Ambiguous, ImportFile, Options, find_sources, open_all, parse_columns, standard_input
from libs.common.imports.option import DateOrder, Fold, SizeUnit
from libs.common.ingest import DayOutcome, Staging, Target, bring_in
from libs.common.ingest.staging import StagedRow
from libs.common.store.partitions import settled_partitions
from libs.common.store.tiers import ColdStorage, alone
from services.lifecycle.cli.output import refuse, say
from services.lifecycle.cli.parser import Commands
from services.lifecycle.cli.progress import Progress
from services.lifecycle.settings import LifecycleSettings

PREVIEW_ROWS = 5
PREVIEW_SYMBOLS = 3
PREVIEW_DAYS = 31
PREVIEW_REASONS = 10
_PROVIDER = re.compile(r"[A-Za-z0-9_-]{1,32}")  # as sessions, whose names are those of captured ticks' providers
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser("import", help="ticks from files: Lean, CSV, JSON, bi5, also packed", parents=[shared])
    command.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, zips; - is standard input")
    command.add_argument("--provider", required=True, metavar="NAME", help="whose ticks these are")
    command.add_argument("--format", choices=("auto", "lean", "csv", "json", "bi5"), default="auto", help="default: auto")
    command.add_argument("--symbol", metavar="NAME", help="for files that name none, or instead of the name they have")
    command.add_argument(
        "--timezone", metavar="ZONE", help="of times that name none: UTC, UTC-5, Europe/Athens, America/New_York+7"
    )
    command.add_argument("--fold", choices=get_args(Fold), help="the hour that comes twice when the clocks go back")
    command.add_argument("--dates", choices=get_args(DateOrder), help="what 04.02.2019 begins with")
    command.add_argument("--columns", metavar="LIST", help="the role of every column: time,bid,ask,- …")
    command.add_argument("--size-unit", choices=get_args(SizeUnit), help="of the volumes")
    command.add_argument("--decimals", type=int, metavar="N", help="of .bi5 prices, which are whole points")
    command.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    command.add_argument("--dry-run", action="store_true", help="say what would be new")
    command.set_defaults(run=_import)


def _import(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    if options.paths != ["-"] and "-" in options.paths:
        return refuse("- stands alone")
    found = find_sources([Path(path) for path in options.paths]) if options.paths != ["-"] else None
    for name, reason in found.skipped if found else ():
        say({"skipped": name, "reason": reason}, f"{name} is left out: {reason}", as_json=options.json)
    files, refused = open_all(found.sources if found else [standard_input()], _reading(options))
    for _, error in refused:
        print(f"tickvault: {error}", file=sys.stderr)
    if not files or any(isinstance(error, Ambiguous) for _, error in refused):
        return refuse("nothing was imported")
    with Staging(settings.data_dir, settings.lifecycle_disk_reserve_bytes) as staging:
        stage(files, staging)
        preview(files, staging, as_json=options.json)
        if not staging.days:
            return refuse("there are no ticks in it")
        if not options.dry_run and (answer := confirmed(files, options)) is not None:
            return answer
        target = target_of(options.provider, settings, dry_run=options.dry_run)
        failed = bring_in_all(staging, target, as_json=options.json)
        report_files(staging, as_json=options.json)
    return 1 if refused or failed or any(file.error for file in staging.files) else 0


def _reading(options: argparse.Namespace) -> Options:
    symbol = normalise_symbol(options.symbol) if options.symbol is not None else None
    if options.symbol is not None and symbol is None:
        raise Rejected(f"--symbol {options.symbol!r} cannot be one")
    return Options(
        format=options.format,
        symbol=symbol,
        timezone=options.timezone,
        fold=options.fold,
        dates=options.dates,
        columns=parse_columns(options.columns) if options.columns is not None else None,
        size_unit=options.size_unit,
        decimals=options.decimals,
        now_ns=time.time_ns(),
    )


def target_of(provider: str, settings: LifecycleSettings, *, dry_run: bool = False) -> Target:
    """Rejected: that is no name of a provider."""
    if not _PROVIDER.fullmatch(provider):
        raise Rejected(f"--provider {provider!r}: write letters, digits, _ and -, 32 at most")
    return Target(
        data_dir=settings.data_dir,
        provider=provider,
        partitions=settled_partitions(settings.data_dir) or settings.partitions,
        now=time.time_ns(),
        cold=ColdStorage(settings.cold_url) if settings.cold_url else None,
        rotate_grace_s=settings.rotate_grace_s,
        disk_reserve_bytes=settings.lifecycle_disk_reserve_bytes,
        dry_run=dry_run,
    )


def stage(files: Sequence[ImportFile], staging: Staging) -> None:
    """Read all of them."""
    with Progress("reading files", len(files)) as progress:
        before = 0
        for done, file in enumerate(files):
            rows = 0
            for rows in staging.add(file):
                progress.show(done, f"{before + rows:,} ticks")
            before += rows


def preview(files: Sequence[ImportFile], staging: Staging, *, as_json: bool) -> None:
    """What was found and why, and the rows at both ends: a wrong zone or a swapped column shows there."""
    alike: defaultdict[tuple[object, ...], list[ImportFile]] = defaultdict(list)
    for file in files:
        detection = file.detection
        alike[_DATE.sub("", detection.text), detection.warnings, detection.certain].append(file)
    for some in alike.values():
        detection = some[0].detection
        found = {"files": [file.source.name for file in some], "format": detection.text, "warnings": detection.warnings}
        more = f" and {len(some) - 1} more like it" if len(some) > 1 else ""
        lines = [f"{some[0].source.name}{more}", f"  {detection.text}"]
        lines += [f"  warning: {warning}" for warning in detection.warnings]
        if not detection.certain:
            lines.append("  not certain: look at bid and ask below")
        say({**found, "certain": detection.certain}, "\n".join(lines), as_json=as_json)
    symbols = sorted({symbol for _, symbol in staging.days})
    for symbol in symbols[:PREVIEW_SYMBOLS]:
        first, last = ([_shown(row) for row in rows] for rows in staging.ends(symbol, PREVIEW_ROWS))
        between = ["  …"] if len(last) == PREVIEW_ROWS else []
        text = "\n".join([f"{symbol}: time (UTC), bid, ask, bid size, ask size", *map(_line, first), *between, *map(_line, last)])
        say({"symbol": symbol, "first": first, "last": last}, text, as_json=as_json)
    if len(symbols) > PREVIEW_SYMBOLS and not as_json:
        print(f"and {len(symbols) - PREVIEW_SYMBOLS} more symbols: {', '.join(symbols[PREVIEW_SYMBOLS:][:20])}")
    if not as_json:
        _print_days(staging)


def _print_days(staging: Staging) -> None:
    days = sorted(staging.days.items())
    shown = days if len(days) <= PREVIEW_DAYS else [*days[: PREVIEW_DAYS // 2], *days[-(PREVIEW_DAYS // 2) :]]
    print(f"{staging.days.total():,} ticks in {len(days)} days of symbols")
    for at, ((day, symbol), count) in enumerate(shown):
        if len(shown) < len(days) and at == PREVIEW_DAYS // 2:
            print("  …")
        print(f"  {day_name(day)} {symbol} {count:,}")


def _shown(row: StagedRow) -> dict[str, Any]:
    ts, bid, ask, bid_size, ask_size = row[:5]
    prices = {name: None if price is None else format_price(price) for name, price in (("bid", bid), ("ask", ask))}
    return {"ts": format_moment(ts), **prices, "bid_size": bid_size, "ask_size": ask_size}


def _line(shown: dict[str, Any]) -> str:
    return "  " + "  ".join("-" if value is None else f"{value}" for value in shown.values())


def confirmed(files: Sequence[ImportFile], options: argparse.Namespace) -> int | None:
    """None: go on."""
    unsure = [file.source.name for file in files if not file.detection.certain]
    if options.yes and not unsure:
        return None
    if not sys.stdin.isatty():
        if unsure:
            return refuse(f"{unsure[0]}: which column is what follows from the numbers alone: confirm it with --columns")
        return refuse("there is no terminal to ask: look at the preview, and add --yes")
    sys.stderr.write(f"Import this as {options.provider}? [y/N] ")
    sys.stderr.flush()
    return None if sys.stdin.readline().strip().lower() in ("y", "yes") else refuse("nothing was imported")


def bring_in_all(staging: Staging, target: Target, *, as_json: bool) -> list[DayOutcome]:
    """Say what becomes of every day; those that were not imported."""
    outcomes: list[DayOutcome] = []
    started = time.monotonic()
    with (
        alone(target.data_dir, on_wait=lambda: print("tickvault: another process is at work; waiting", file=sys.stderr)),
        Progress("days", len(staging.days)) as progress,
    ):
        for outcome in bring_in(staging, target):
            outcomes.append(outcome)
            progress.show(len(outcomes), outcome.date)
    report_days(outcomes, dry_run=target.dry_run, as_json=as_json)
    added, rows = sum(one.added for one in outcomes), sum(one.rows for one in outcomes)
    failed = [one for one in outcomes if one.error]
    missing = sum(one.rows for one in failed)
    seconds = time.monotonic() - started
    total = {"rows": rows, "added": added, "not_imported": missing, "seconds": round(seconds, 1), "dry_run": target.dry_run}
    would = "would be new" if target.dry_run else "new"
    text = f"{rows:,} ticks: {added:,} {would}, {rows - added - missing:,} there already"
    say(total, text + (f", {missing:,} NOT imported" if missing else "") + f"; {seconds:.1f} s", as_json=as_json)
    return failed


def report_days(outcomes: Iterable[DayOutcome], *, dry_run: bool, as_json: bool) -> None:
    would = "would be new" if dry_run else "new"
    for one in outcomes:
        counts = f"{one.added:,} {would}, {one.rows - one.added:,} there already"
        say(asdict(one), f"{one.date} {one.symbol}: {f'NOT imported: {one.error}' if one.error else counts}", as_json=as_json)


def report_files(staging: Staging, *, as_json: bool) -> None:
    """Those of which something was not read."""
    for file in staging.files:
        if not (file.error or file.rejected):
            continue
        lines = [f"{file.file}: {file.error}"] if file.error else []
        if file.rejected:
            lines.append(f"{file.file}: {file.rejected:,} lines are no ticks; they are in {file.rejected_file}")
            lines += [f"  {count:,} × {reason}" for reason, count in list(file.reasons.items())[:PREVIEW_REASONS]]
        say(asdict(file), "\n".join(lines), as_json=as_json)
