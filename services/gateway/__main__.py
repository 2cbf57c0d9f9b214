"""python -m services.gateway [--decode PATH [--tick SYMBOL TS [SEQ]]]"""

import argparse
import sys
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_moment
from libs.common.runtime import start
from libs.common.settings import SettingsError, load
from services.gateway import decode
from services.gateway.build import new_fold
from services.gateway.feeds import load_feeds
from services.gateway.service import main
from services.gateway.settings import GatewaySettings


def run(arguments: list[str] | None = None) -> int:
    """The service; or, with --decode, a journal in readable lines. 1: nothing was found, 2: it cannot be done."""
    parser = argparse.ArgumentParser("python -m services.gateway", description="Captures what liquidity providers quote.")
    parser.add_argument("--decode", type=Path, metavar="PATH", help="print a journal segment, or all of a session's folder")
    parser.add_argument(
        "--tick",
        nargs="+",
        metavar="WORD",
        help="SYMBOL TS [SEQ]: only what gave this stored tick (TS: RFC 3339 or ns)",
    )
    given = parser.parse_args(arguments)
    if given.decode is None:
        if given.tick:
            parser.error("--tick needs --decode PATH")
        return start("gateway", lambda: load(GatewaySettings), main)
    if given.tick and len(given.tick) not in {2, 3}:
        parser.error("--tick takes SYMBOL TS [SEQ]")
    try:
        found = 0
        for line in _found(given.decode, given.tick) if given.tick else decode.lines(given.decode):
            print(line)
            found += 1
    except (Rejected, SettingsError, OSError) as error:
        print(f"tickvault gateway: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    return 0 if found else 1


def _found(path: Path, words: list[str]) -> list[str]:
    symbol, moment, *seq = words
    if seq and not seq[0].isdigit():
        raise Rejected(f"{seq[0]!r} is not a tick's seq")
    wanted = decode.Wanted(symbol.upper(), parse_moment(moment), int(seq[0]) if seq else None)
    folder = path if path.is_dir() else path.parent
    feeds = load_feeds(load(GatewaySettings).feeds_file)
    feed = next((feed for feed in feeds.all if feed.name == folder.resolve().name), None)
    if feed is None:
        raise Rejected(f"{path}: lies in no folder of a session of the feeds file; its aliases are needed to find a tick")
    return list(decode.find(path, wanted, lambda: new_fold(feed)))


sys.exit(run())
