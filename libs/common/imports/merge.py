"""Which ticks of an import a day does not have yet, and their numbers.

An import has no seq of its own. Within each instant both sides are multisets of ticks, told apart by prices and sizes, and the
result holds each tick as often as the side that has it more often: so the same file again, or files that overlap, in any order,
add nothing twice, and two equal quotes of one instant (it happens) stay two. Files are merged one by one: a tick that stands in
two files is one, a tick that stands twice in one file is two.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter

from libs.common.imports.importing import Row

Content = tuple[int, int | None, int | None, float | None, float | None]  # ts, bid, ask, bid_size, ask_size
StoredRow = tuple[  # symbol, provider, ts, seq, recv_ts (absent), bid, ask, bid_size, ask_size, flags
    str, str, int, int, None, int | None, int | None, float | None, float | None, int
]  # fmt: skip
_TS = itemgetter(1)


def merge(existing: Iterable[Content], imported: Sequence[Row], *, provider: str, next_seq: int) -> list[StoredRow]:
    """The rows to add to one symbol's, provider's and UTC day's, by time, numbered from `next_seq` on.

    `existing`: all that the day has, in any order; `imported`: one file's rows of that day. Ticks of one instant keep the
    order of the file. next_seq: one more than the highest seq the day has, 0 where it has none.
    """
    instants = {row[1] for row in imported}
    have = Counter(content for content in existing if content[0] in instants)
    added: list[StoredRow] = []
    for symbol, ts, bid, ask, bid_size, ask_size, flags in sorted(imported, key=_TS):
        content = (ts, bid, ask, bid_size, ask_size)
        if have[content] > 0:
            have[content] -= 1
        else:
            added.append((symbol, provider, ts, next_seq + len(added), None, bid, ask, bid_size, ask_size, flags))
    return added
