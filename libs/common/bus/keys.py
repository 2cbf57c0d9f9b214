"""Every name on the bus, written once. Braces are a Redis Cluster hash tag: a partition's keys share a node."""

import zlib

PERSISTENCE_GROUP = "persistence"  # the group that holds the trim
PERSISTENCE_CONSUMER = "writer"  # one fixed name, so that a successor finds its predecessor's pending entries
WATERMARKS_SPOKEN = "*"  # a field of the hash, no session's name: persistence has written all it knows
PARTITIONS_KEY = "tickvault_partitions"
FEED_HEALTH_KEY = "feed_health"  # hash session → JSON, written by the gateway once a second
LIFECYCLE_EVENTS_KEY = "lifecycle.events"  # stream: what became of closed days
COMMANDS_KEY = "admin.commands"  # stream: what people ask of the services, each of which reads all of it in a group of its own
LIFECYCLE_GROUP = "lifecycle"
COMMANDS_CONSUMER = "service"  # one fixed name, as for persistence
ALERTS_KEY = "alerts"  # stream, a log for people: the one stream that is trimmed by length


def ticks_key(partition: int) -> str:
    """The stream of one partition."""
    return f"ticks:{{{partition}}}"


def persisted_key(partition: int) -> str:
    """The hash session → last journal position that is durable without a hole."""
    return f"persisted:{{{partition}}}"


def partition_of(symbol: str, partitions: int) -> int:
    """crc32 of the symbol modulo the number of partitions; what has no symbol travels in partition 0."""
    return zlib.crc32(symbol.encode()) % partitions if partitions > 1 else 0
