"""`tickvault`: the store from the command line. Settings come from the environment, as for the services.

Exit code 0: done. 1: something is wrong, and named. 2: the arguments or the environment have to be corrected.
"""

import argparse
import sys
from collections.abc import Sequence

from libs.common.domain.errors import Rejected, Retryable
from libs.common.settings import SettingsError, load
from libs.common.telemetry import configure_logs
from services.lifecycle.cli import backup, export, imports, look, migrate, steps
from services.lifecycle.cli.output import refuse
from services.lifecycle.cli.parser import Run, shared_options
from services.lifecycle.settings import LifecycleSettings

MODULES = (steps, look, imports, export, migrate, backup)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    configure_logs("tickvault")
    try:
        settings = load(LifecycleSettings)
        if options.data_dir is not None:
            settings = settings.model_copy(update={"data_dir": options.data_dir})
        if options.needs_data and not settings.data_dir.is_dir():
            return refuse(f"{settings.data_dir} is no data folder: set TICKVAULT_DATA_DIR or --data-dir")
        run: Run = options.run
        return run(options, settings)
    except (SettingsError, Rejected) as error:
        return refuse(str(error))
    except Retryable as error:
        print(f"tickvault: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tickvault", description="The store of TickVault from the command line.")
    parser.set_defaults(needs_data=True)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = shared_options()
    for module in MODULES:
        module.add(commands, shared)
    return parser
