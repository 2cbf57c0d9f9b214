"""What all commands share on the command line. A command's module adds its parser, with `run` as a default."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from services.lifecycle.settings import LifecycleSettings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001
else:
    Commands = object
Run = Callable[[argparse.Namespace, LifecycleSettings], int]


def shared_options() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON object a line")
    shared.add_argument("--data-dir", type=Path, help="instead of TICKVAULT_DATA_DIR")
    return shared
