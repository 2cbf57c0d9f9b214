"""The bus: Redis Streams as the one ordered way from the gateway to everyone else, and the watermark back."""

from libs.common.bus.entry import ENTRY_TICKS_MAX, Entry, Poison, decode_payload, encode_payload, read_entry
from libs.common.bus.keys import partition_of, persisted_key, ticks_key
from libs.common.bus.redis import Backlog, Bus, BusRefused, Delivery, RedisBus

__all__ = [
    "ENTRY_TICKS_MAX",
    "Backlog",
    "Bus",
    "BusRefused",
    "Delivery",
    "Entry",
    "Poison",
    "RedisBus",
    "decode_payload",
    "encode_payload",
    "partition_of",
    "persisted_key",
    "read_entry",
    "ticks_key",
]
