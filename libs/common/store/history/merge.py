"""Sources of one day as one: each gives coded tables in order, and so does what comes out."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from libs.common.store.columnar.order import Order, words


def merged(sources: Sequence[Iterator[pa.Table]], order: Order, *, descending: bool) -> Iterator[pa.Table]:
    """A tick that several sources have counts once, as the first of them has it. In memory: a table or two of each."""
    if len(sources) == 1:
        yield from sources[0]
        return
    waiting = dict(enumerate(sources))
    heads = [pa.table({}) for _ in sources]
    behind = set(waiting)  # of their last instant there may be more
    while True:
        for number in behind:
            more = next(waiting[number], None)
            if more is None:
                del waiting[number]
            else:
                heads[number] = pa.concat_tables([heads[number], more]) if len(heads[number]) else more
        lasts = {number: int(words(heads[number], "ts")[-1]) for number in waiting}
        if not lasts:
            break
        edge = (max if descending else min)(lasts.values())
        behind = {number for number, last in lasts.items() if last == edge}
        ready = [order.ready(head, edge) for head in heads]
        if any(ready):
            yield order.merge([head.slice(0, rows) for head, rows in zip(heads, ready, strict=True)], distinct=True)
        heads = [head.slice(rows) for head, rows in zip(heads, ready, strict=True)]
    rest = order.merge(heads, distinct=True)
    if len(rest):
        yield rest
