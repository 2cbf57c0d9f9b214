"""Arguments and settings in, exit code out."""

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TypeVar, get_args

from libs.common.runtime import start
from libs.common.settings import load
from services.simulator.provider import DepthBy, Fix, Resend, StreamKind
from services.simulator.service import Options, main
from services.simulator.settings import SimulatorSettings

T = TypeVar("T")


def parse_arguments(arguments: list[str] | None = None) -> Options:
    """The options; exits with 2 and a usage message where they cannot be."""
    default = Options()
    parser = argparse.ArgumentParser("python -m services.simulator", description="A liquidity provider as a FIX acceptor.")
    line = parser.add_argument_group("session")
    line.add_argument("--port", type=_port, default=default.port, help="FIX port, 0 takes a free one (%(default)s)")
    line.add_argument("--http-port", type=_port, help="faults, health, metrics; 0 takes a free one; overrides the setting")
    line.add_argument("--provider", type=_provider, default=default.provider, help="our CompID (%(default)s)")
    line.add_argument("--fix", choices=get_args(Fix), default=default.fix, help="the version spoken (%(default)s)")
    line.add_argument("--ledger", type=Path, metavar="FILE", help="every quote as csv, before it goes; FILE.depth, FILE.trades")
    line.add_argument("--resend", choices=get_args(Resend), default=default.resend, help="how to answer (%(default)s)")
    line.add_argument("--no-listing", dest="listing", action="store_false", help="do not tell which symbols there are")
    line.add_argument("--refuse", action="append", metavar="SYMBOL", default=[], help="no permission for it; may be repeated")
    line.add_argument("--stream", choices=get_args(StreamKind), default=default.stream, help="what is sent (%(default)s)")
    line.add_argument("--trades", type=_share, default=default.trades, metavar="SHARE", help="of quotes with one (%(default)g)")
    market = parser.add_argument_group("synthetic market")
    market.add_argument("--seed", type=int, default=default.seed, help="the same seed, the same market (%(default)s)")
    market.add_argument("--symbols", type=_positive_int, default=default.symbols, help="how many (%(default)s)")
    market.add_argument("--rate", type=_rate, default=default.rate, help="quotes/s of all symbols; 0: only W (%(default)g)")
    market.add_argument("--entries", type=_entries, default=default.entries, help="of an X message, two a symbol (%(default)s)")
    market.add_argument("--depth", type=_positive_int, default=default.depth, metavar="LEVELS", help="of a book (%(default)s)")
    market.add_argument("--depth-by", choices=get_args(DepthBy), default=default.depth_by, help="names a level (%(default)s)")
    recording = parser.add_argument_group("recorded market")
    recording.add_argument("--replay", type=Path, nargs="+", metavar="PATH", default=(), help="Lean zips, csv, folders of them")
    recording.add_argument("--timezone", metavar="ZONE", default=default.timezone, help="of the files (%(default)s)")
    recording.add_argument("--speed", type=_speed, default=default.speed, metavar="1|N|max", help="(%(default)g)")
    end = parser.add_argument_group("end")
    end.add_argument("--count", type=_positive_int, metavar="N", help="stop quoting after N quotes")
    end.add_argument("--duration-s", type=_positive_float, metavar="N", help="stop quoting after N seconds")
    end.add_argument("--exit-when-done", action="store_true", help="log out and exit then; else the sessions stay up")
    given = vars(parser.parse_args(arguments))
    options = Options(**given | {"replay": tuple(given["replay"]), "refuse": tuple(given["refuse"])})
    if problem := _contradiction(options):
        parser.error(problem)
    return options


def _contradiction(options: Options) -> str | None:
    if options.depth > 1 and options.replay:
        return "--depth: a recording has no book"
    if options.depth > 1 and options.entries != Options().entries:
        return "--depth: a message of a book has one symbol, leave --entries out"
    if options.stream != "market_data" and (options.depth > 1 or options.trades):
        return f"--stream {options.stream}: only market_data has --depth and --trades"
    return None


def _port(text: str) -> int:
    return _checked(int(text), 0 <= int(text) <= 65_535, "a port is 0 to 65535")


def _positive_int(text: str) -> int:
    return _checked(int(text), int(text) > 0, "must be above 0")


def _positive_float(text: str) -> float:
    return _checked(float(text), 0 < float(text) < math.inf, "must be above 0")


def _rate(text: str) -> float:
    return _checked(float(text), 0 <= float(text) < math.inf, "must be 0 or above")


def _share(text: str) -> float:
    return _checked(float(text), 0 <= float(text) <= 1, "must be 0 to 1")


def _entries(text: str) -> int:
    return _checked(int(text), int(text) > 0 and int(text) % 2 == 0, "two a symbol: write an even number")


def _speed(text: str) -> float:
    return math.inf if text == "max" else _positive_float(text)


def _provider(text: str) -> str:
    return _checked(text, re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text) is not None, "letters, digits, _ and -, up to 32")


def _checked(value: T, valid: bool, rule: str) -> T:
    if not valid:
        raise argparse.ArgumentTypeError(rule)
    return value


if __name__ == "__main__":
    options = parse_arguments()

    sys.exit(start("simulator", lambda: load(SimulatorSettings), lambda settings: main(settings, options)))
