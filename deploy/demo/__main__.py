"""python -m deploy.demo: arguments in, exit code out. 0 nothing lost, 1 lost or failed, 2 cannot start as things are."""

import argparse
import math
import os
import sys
from pathlib import Path

from deploy.demo.run import run


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser("python -m deploy.demo", description="TickVault on this machine, with simulated providers.")
    parser.add_argument("--folder", type=Path, default=Path("data/demo"), help="data, ledgers and logs (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=os.environ.get("DEMO_SECONDS") or None,
        help="end by itself after this long (DEMO_SECONDS); else Ctrl-C ends it",
    )
    arguments = parser.parse_args()
    return run(arguments.folder, arguments.seconds)


sys.exit(main())
