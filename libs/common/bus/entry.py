"""One stream entry: a batch of records of one kind from one session, and the stretch of its journal they come from.

v     schema version                      n        records in d, at most 5,000
k     ticks | trades | books |            src      session
      gaps | quarantine
d     msgpack of array-like structs       from, to journal positions: this entry continues where an entry ended at `from`
traceparent  W3C trace context, optional
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.record import Book, Gap, Int64, Quarantined, Tick, Trade

ENTRY_VERSION = 1
ENTRY_TICKS_MAX = 5_000

_ENCODER = msgspec.msgpack.Encoder()
TickRow = tuple[  # the fields of Tick
    str, str, Int64, Int64, Int64, Int64 | None, Int64 | None, float | None, float | None, Int64
]  # fmt: skip
assert len(Tick.__struct_fields__) == len(TickRow.__args__)  # type: ignore[attr-defined]

_DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "ticks": msgspec.msgpack.Decoder(list[TickRow]),
    "trades": msgspec.msgpack.Decoder(list[Trade]),
    "books": msgspec.msgpack.Decoder(list[Book]),
    "gaps": msgspec.msgpack.Decoder(list[Gap]),
    "quarantine": msgspec.msgpack.Decoder(list[Quarantined]),
}


@dataclass(frozen=True, slots=True)
class Entry:
    kind: str
    session: str
    start: int
    end: int
    count: int
    payload: bytes
    traceparent: str | None = None

    def fields(self) -> dict[str | bytes, str | bytes | int]:
        """As XADD takes them."""
        fields: dict[str | bytes, str | bytes | int] = {
            "v": ENTRY_VERSION, "k": self.kind, "n": self.count, "src": self.session,
            "from": self.start, "to": self.end, "d": self.payload,
        }  # fmt: skip
        if self.traceparent:
            fields["traceparent"] = self.traceparent
        return fields


@dataclass(frozen=True, slots=True)
class Poison:
    """An entry that cannot be decoded: what could be read of it, the reason, and its bytes."""

    session: str
    start: int | None
    end: int | None
    reason: str
    raw: bytes


def encode_payload(records: Sequence[object]) -> bytes:
    """Records, or plain tuples of their fields, to the bytes of `d`."""
    return _ENCODER.encode(records)


def read_entry(fields: Mapping[bytes, bytes]) -> Entry | Poison:
    """The envelope of an entry; its payload is decoded by `decode_payload`."""
    session = fields.get(b"src", b"").decode("utf-8", "replace")
    start, end = _integer(fields.get(b"from")), _integer(fields.get(b"to"))
    raw = msgspec.msgpack.encode({bytes(name): bytes(value) for name, value in fields.items()})
    version, kind, count = (
        _integer(fields.get(b"v")),
        fields.get(b"k", b"").decode("utf-8", "replace"),
        _integer(fields.get(b"n")),
    )
    payload = fields.get(b"d")
    if not session or start is None or end is None or count is None or payload is None:
        return Poison(session, start, end, "a field of src, from, to, n, d is missing or not a number", raw)
    if version is None or version > ENTRY_VERSION:
        return Poison(
            session,
            start,
            end,
            f"schema version {fields.get(b'v')!r} is newer than {ENTRY_VERSION}: upgrade this service",
            raw,
        )
    if kind not in _DECODERS:
        return Poison(session, start, end, f"kind {kind!r} is unknown", raw)
    traceparent = fields.get(b"traceparent")
    return Entry(kind, session, start, end, count, payload, traceparent.decode("ascii", "replace") if traceparent else None)


def decode_payload(entry: Entry) -> list[Any]:
    """TickRow tuples, or Trades, Books, Gaps or Quarantined, by the entry's kind; Rejected where the bytes are not that."""
    try:
        records: list[Any] = _DECODERS[entry.kind].decode(entry.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(f"payload of kind {entry.kind} does not decode: {error}") from error
    if len(records) != entry.count:
        raise Rejected(f"payload holds {len(records)} records, the entry says {entry.count}")
    return records


def poison(entry: Entry, reason: str) -> Poison:
    """An entry whose payload was rejected."""
    return Poison(entry.session, entry.start, entry.end, reason, msgspec.msgpack.encode(replace(entry).fields()))


def _integer(text: bytes | None) -> int | None:
    if text is None or not text.isdigit() or len(text) > 19:
        return None
    return int(text)
