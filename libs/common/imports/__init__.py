"""Importers: the files that users have ticks in, to rows that the store can take. Shared by the command line and admin.

    found = find_sources([Path("ticks/")])                       files, folders, zips; standard_input() for a pipe
    files, refused = open_all(found.sources, Options(timezone="EET"))
    for file in files:                                           ImportFile(source, options) opens a single one
        file.detection.text, .certain, .warnings                 what it is and why; not certain: have it confirmed
        file.preview(10)                                         rows and rejected lines of the beginning
        file.content_digest()                                    known already? then nothing of it is new
        for batch in file.batches():                             rows (symbol, ts, bid, ask, bid_size, ask_size, flags)
            …                                                    and rejected lines, with line, reason and bytes
        file.summary.days, .reasons, file.digest                 complete behind the last batch
        merge(existing, rows_of_a_day, provider=…, next_seq=…)   what one symbol's day does not have yet, numbered

Times are int64 ns UTC, prices int64 in 1e-9, sizes float64 in units; what is absent is None. Rows are flagged as captured
ticks are, a file (a zip's member) for itself: its first tick has none before it. Everything is read in blocks: memory does
not grow with the file. Rejected says why a file cannot be read; Ambiguous, one of them, which option would settle it: a
zone, the order of day and month, or a column is never guessed. A Rejected out of `batches` means that the file is damaged
from there on; what came before it may stand, for importing it again adds nothing twice.

    source    files, zips, packed files, streams → blocks of bytes     text      blocks → lines
    detection Head, Detection, Reading: what formats have in common   importing detection, preview, flags, summary, digest
    csv_file  delimited text and Lean      json_file  forms of JSON    dukascopy .bi5 and their JSON
    column    which column is what         tabular, table  layouts → rows       times, zone, number  text → values
    merge     multisets per instant        option     what a person may say

Not read, and said so: bars, trades, Parquet, DBN, xz.
"""

from libs.common.imports.detection import Detection
from libs.common.imports.importing import Batch, DaySummary, ImportFile, Row, Summary, open_all
from libs.common.imports.merge import Content, StoredRow, merge
from libs.common.imports.option import ROLES, Ambiguous, Options, Role, parse_columns
from libs.common.imports.source import Found, Source, find_sources, standard_input
from libs.common.imports.table import RejectedLine

__all__ = [
    "ROLES", "Ambiguous", "Batch", "Content", "DaySummary", "Detection", "Found", "ImportFile", "Options", "RejectedLine",
    "Role", "Row", "Source", "StoredRow", "Summary", "find_sources", "merge", "open_all", "parse_columns", "standard_input",
]  # fmt: skip
