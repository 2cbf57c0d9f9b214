"""What is between files that users have and the store: importing, for the command line and admin, and comparing the two.

    with Staging(data_dir, reserve_bytes) as staging:
        for file in files:                                as `imports.open_all` gives them
            for rows in staging.add(file): …              rows read so far
        staging.days, .files, .ends(symbol, 5)            what there is, to be confirmed
        with alone(data_dir):                             one process at a time works on closed days
            for outcome in bring_in(staging, target): …   a DayOutcome for each symbol and day

staging    rows of all files, by symbol and time, on the disk       days      a day in any tier and the rows it does not have
comparison what only one of files and store has                   migrated   files that are archived once they are in the store
rejected   lines that cannot be ticks, where people find them
"""

from libs.common.ingest.comparison import Compared, compare
from libs.common.ingest.days import DayOutcome, Target, bring_in
from libs.common.ingest.migrated import Archived, Migrated, stamp_of
from libs.common.ingest.staging import FileOutcome, Staging

__all__ = [
    "Archived", "Compared", "DayOutcome", "FileOutcome", "Migrated", "Staging", "Target", "bring_in", "compare", "stamp_of",
]  # fmt: skip
