"""Persistence: what is on the bus becomes rows on a disk, exactly once, before anyone is told that it is durable.

Consumes   ticks:{p} as the one consumer of group `persistence`
Produces   persisted:{p} (the watermark), data/ticks/db and data/ticks/late; data/json for old tools, if asked
Owns       the open day files of its partition, the account, the trim of its stream
Scales     one process a partition; a second one waits on the lock and takes over
On failure nothing is acknowledged that is not committed; what comes again is recognised by its key
"""
