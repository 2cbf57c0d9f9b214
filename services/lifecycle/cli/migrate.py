"""migrate: legacy JSON into the store. A file is archived once every tick of it was read back from there, and deleted only then.

some files ─▶ staged ─▶ days ─▶ read back and compared ─▶ archived ─▶ deleted, one by one; then the next
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_day
from libs.common.imports import ImportFile, Options, Source, find_sources, open_all
from libs.common.ingest import Compared, Migrated, Staging, Target, compare, stamp_of
from libs.common.store.columnar import SealedReader
from libs.common.store.history import HistoryReader
from libs.common.store.layout import legacy_json_dir
from libs.common.store.tiers import ColdStorage
from services.lifecycle.cli.imports import bring_in_all, confirmed, preview, report_files, stage, target_of
from services.lifecycle.cli.output import refuse, say
from services.lifecycle.cli.parser import Commands
from services.lifecycle.settings import LifecycleSettings

PROVIDER = "legacy"
PART_BYTES = 500_000_000  # of files at a time: a folder of years does not pass through the disk at once


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser("migrate", help="legacy JSON into the store, compared, then archived", parents=[shared])
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    command.add_argument("--provider", metavar="NAME", help=f"whose ticks these are; default: {PROVIDER}; --compare: of all")
    command.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    command.add_argument("--compare", action="store_true", help="only say whether store and files are equal; change nothing")
    command.add_argument("--dry-run", action="store_true", help="say what would be new, and what would be archived and deleted")
    command.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    if options.compare:
        return _compare(options, settings)
    copies = legacy_json_dir(settings.data_dir).absolute()
    if any(path.absolute().is_relative_to(copies) for path in options.paths):
        return refuse(f"{copies} holds copies of what is stored: see --compare, and delete them when nobody reads them any more")
    target = target_of(options.provider or PROVIDER, settings, dry_run=options.dry_run)
    archive = Migrated(settings.data_dir)
    archived = ticks = left = 0
    for done in archive.finish() if not options.dry_run else ():
        say({"finished": done.file}, f"{done.file}: was archived before, and is deleted now", as_json=options.json)
    for number, files in enumerate(_parts(options.paths)):
        stamps = {source.path: stamp_of(source.path) for source in files}
        found, refused = open_all(files, Options(format="json", now_ns=target.now))
        for _, error in refused:
            print(f"tickvault: {error}", file=sys.stderr)
        left += len(refused)
        with Staging(settings.data_dir, settings.lifecycle_disk_reserve_bytes) as staging:
            stage(found, staging)
            if number == 0:
                preview(found, staging, as_json=options.json)
                if not options.dry_run and (answer := confirmed(found, options)) is not None:
                    return answer
            if options.dry_run:
                left += _would(found, staging, target, as_json=options.json)
                continue
            differing = _bring_in(staging, target, as_json=options.json)
            report_files(staging, as_json=options.json)
            for file, outcome in zip(found, staging.files, strict=True):
                if outcome.error or outcome.rejected or differing & _days(file):
                    problem = "not all of it is in the store"
                else:
                    try:
                        done = archive.archive(file.source.path, stamps[file.source.path], outcome.rows, time.time_ns())
                        archived, ticks = archived + 1, ticks + done.ticks
                        say(done, f"{done.file}: {done.ticks:,} ticks, archived as {done.archive}", as_json=options.json)
                        continue
                    except Rejected as error:
                        problem = str(error)
                left += 1
                say({"left": outcome.file, "problem": problem}, f"{outcome.file} stays: {problem}", as_json=options.json)
    if options.dry_run:
        return 1 if left else 0
    text = f"{archived} files with {ticks:,} ticks migrated, {left} left where they are"
    say({"migrated": archived, "ticks": ticks, "left": left}, text, as_json=options.json)
    return 1 if left else 0


def _would(files: list[ImportFile], staging: Staging, target: Target, *, as_json: bool) -> int:
    """Say what a migration would do; how many files would stay where they are, as far as can be told without it."""
    failed = bring_in_all(staging, target, as_json=as_json)
    report_files(staging, as_json=as_json)
    stay = {file.source.path for file, outcome in zip(files, staging.files, strict=True) if outcome.error or outcome.rejected}
    for file in files:
        if file.source.path not in stay:
            text = f"{file.source.name}: would be archived and deleted, once all of it was read back from the store"
            say({"would_archive": file.source.name}, text, as_json=as_json)
    return len(stay) + len(failed)


def _parts(paths: list[Path]) -> Iterator[list[Source]]:
    """Files in their order, as many at a time as PART_BYTES allow. Rejected: one of them is a zip."""
    found = [path for path in paths if not path.is_dir() or any(map(Path.is_file, path.rglob("*")))]  # or all of it was migrated
    part: list[Source] = []
    size = 0
    for source in find_sources(found).sources if found else ():
        if source.member is not None:
            raise Rejected(f"{source.path} is a zip: unpack it to migrate it")
        if part and size + source.path.stat().st_size > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(source)
        size += source.path.stat().st_size
    if part:
        yield part


def _bring_in(staging: Staging, target: Target, *, as_json: bool) -> set[tuple[int, str]]:
    """(day, symbol) of all that is not in the store as it is in the files."""
    failed = bring_in_all(staging, target, as_json=as_json)
    differing = {(parse_day(one.date), one.symbol) for one in failed}
    with SealedReader(target.data_dir) as reader:
        found = [one for one in compare(staging, reader, target.provider) if (parse_day(one.date), one.symbol) not in differing]
    _report(found, as_json=as_json)
    return differing | {(parse_day(one.date), one.symbol) for one in found if one.only_files}


def _days(file: ImportFile) -> set[tuple[int, str]]:
    return {(day, symbol) for symbol, day in file.summary.days}


def _compare(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    files, refused = open_all(find_sources(options.paths).sources, Options(format="json"))
    for _, error in refused:
        print(f"tickvault: {error}", file=sys.stderr)
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    with (
        Staging(settings.data_dir, settings.lifecycle_disk_reserve_bytes) as staging,
        HistoryReader(settings.data_dir, cold=cold) as reader,
    ):
        stage(files, staging)
        found = list(compare(staging, reader, options.provider))
        _report(found, as_json=options.json)
        report_files(staging, as_json=options.json)
        unread = len(refused) + sum(bool(file.error or file.rejected) for file in staging.files)
    differing = sum(not one.equal for one in found)
    ticks = sum(one.files for one in found)
    result = {"ticks": ticks, "days": len(found), "differing": differing, "files_not_read": unread}
    verdict = (
        "equal" if not (differing or unread) else f"NOT equal: {differing} days differ, {unread} files were not read in full"
    )
    say(result, f"{ticks:,} ticks in {len(found)} days of symbols: files and store are {verdict}", as_json=options.json)
    return 1 if differing or unread else 0


def _report(compared: Iterable[Compared], *, as_json: bool) -> None:
    for one in compared:
        text = f"{one.date} {one.symbol}: {one.files:,} in the files, {one.store:,} in the store"
        if not one.equal:
            text += f"; only in the files {one.only_files:,}, only in the store {one.only_store:,}"
        say(asdict(one) | {"equal": one.equal}, "\n".join([text, *(f"  {example}" for example in one.examples)]), as_json=as_json)
