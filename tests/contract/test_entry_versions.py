"""Entries as earlier versions wrote them must decode for ever: these bytes are never edited, only added to."""

from collections.abc import Callable

import pytest

from libs.common.bus import Entry, Poison, decode_payload, encode_payload, read_entry
from libs.common.domain.errors import Rejected
from libs.common.domain.record import Book, Gap, Quarantined, Trade

TICKS_V1 = {
    b"v": b"1", b"k": b"ticks", b"n": b"1", b"src": b"LP1", b"from": b"17", b"to": b"42",
    b"d": bytes.fromhex(
        "919aa74555522f555344a34c5031cf17979cfe362a000000cf17979cfe362a03e8ce40ad5c00c0cb412e848000000000c040"
    ),
}  # fmt: skip
GAPS_V1 = {
    b"v": b"1", b"k": b"gaps", b"n": b"1", b"src": b"LP1", b"from": b"0", b"to": b"9",
    b"d": bytes.fromhex("9197a34c50310a0ccf17979cfe362a0000c0a86761705f66696c6cc0"),
}  # fmt: skip
QUARANTINE_V1 = {
    b"v": b"1", b"k": b"quarantine", b"n": b"1", b"src": b"LP1", b"from": b"0", b"to": b"9", b"traceparent": b"00-ab-cd-01",
    b"d": bytes.fromhex("9197cf17979cfe362a0000a34c5031a34c5031a0a7676172626c6564c402ff0003"),
}  # fmt: skip
TRADES_V1 = {
    b"v": b"1", b"k": b"trades", b"n": b"2", b"src": b"LP1", b"from": b"17", b"to": b"42",
    b"d": bytes.fromhex(
        "9299a74555522f555344a34c5031cf17979cfe362a000000cf17979cfe362a03e8ce40ad9e00cb412e848000000000a3627579a3"
        "542d3199a74555522f555344a34c5031cf17979cfe362a000001cf17979cfe362a03e8fbc0c0c0"
    ),
}  # fmt: skip
BOOKS_V1 = {
    b"v": b"1", b"k": b"books", b"n": b"1", b"src": b"LP1", b"from": b"17", b"to": b"42",
    b"d": bytes.fromhex(
        "9197a74555522f555344a34c5031cf17979cfe362a000000cf17979cfe362a03e89292ce40ad9e00cb412e84800000000092ce40"
        "ad76f0c090"
    ),
}  # fmt: skip
TS = 1_700_000_000_000_000_000


def decoded(fields: dict[bytes, bytes]) -> list:
    entry = read_entry(fields)
    assert isinstance(entry, Entry)
    return decode_payload(entry)


def test_ticks_of_version_1_decode() -> None:
    ts = 1_700_000_000_000_000_000
    assert decoded(TICKS_V1) == [("EUR/USD", "LP1", ts, 0, ts + 1000, 1_085_103_104, None, 1e6, None, 64)]


def test_gaps_of_version_1_decode() -> None:
    assert decoded(GAPS_V1) == [Gap("LP1", 10, 12, 1_700_000_000_000_000_000, None, "gap_fill", None)]


def test_quarantine_of_version_1_decodes() -> None:
    assert decoded(QUARANTINE_V1) == [Quarantined(1_700_000_000_000_000_000, "LP1", "LP1", "", "garbled", b"\xff\x00", 3)]


def test_trades_of_version_1_decode() -> None:
    assert decoded(TRADES_V1) == [
        Trade("EUR/USD", "LP1", TS, 0, TS + 1000, 1_085_120_000, 1e6, "buy", "T-1"),
        Trade("EUR/USD", "LP1", TS, 1, TS + 1000, -5, None, None, None),
    ]


def test_books_of_version_1_decode() -> None:
    bids = [(1_085_120_000, 1e6), (1_085_110_000, None)]
    assert decoded(BOOKS_V1) == [Book("EUR/USD", "LP1", TS, 0, TS + 1000, bids, [])]


def test_fields_a_later_version_adds_are_ignored() -> None:
    assert decoded({**TICKS_V1, b"compression": b"zstd"}) == decoded(TICKS_V1)


@pytest.mark.parametrize("name", [b"k", b"n", b"src", b"from", b"to", b"d", b"v"])
def test_an_entry_without_one_of_its_fields_is_poison(name: bytes) -> None:
    fields = {key: value for key, value in TICKS_V1.items() if key != name}
    assert isinstance(read_entry(fields), Poison)


@pytest.mark.parametrize(
    "change", [{b"v": b"2"}, {b"k": b"orders"}, {b"n": b"-1"}, {b"from": b"x"}, {b"to": b"9" * 30}, {b"src": b""}]
)
def test_an_entry_with_a_wrong_field_is_poison_with_its_bytes(change: dict[bytes, bytes]) -> None:
    found = read_entry(TICKS_V1 | change)
    assert isinstance(found, Poison)
    assert b"ticks" in found.raw or b"orders" in found.raw


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x90", TICKS_V1[b"d"][:-1], TICKS_V1[b"d"] + b"\x00", GAPS_V1[b"d"]])
def test_a_payload_that_is_not_ticks_is_rejected(payload: bytes) -> None:
    entry = read_entry(TICKS_V1 | {b"d": payload})
    assert isinstance(entry, Entry)
    with pytest.raises(Rejected):
        decode_payload(entry)


@pytest.mark.parametrize("good", [TRADES_V1, BOOKS_V1])
@pytest.mark.parametrize("change", [lambda payload: payload[:-1], lambda payload: payload + b"\x00", lambda _: TICKS_V1[b"d"]])
def test_a_payload_that_is_not_trades_or_books_is_rejected(good: dict[bytes, bytes], change: Callable[[bytes], bytes]) -> None:
    entry = read_entry(good | {b"d": change(good[b"d"])})
    assert isinstance(entry, Entry)
    with pytest.raises(Rejected, match=f"payload of kind {entry.kind} does not decode"):
        decode_payload(entry)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("ticks", ("EUR/USD", "LP1", 2**63, 0, TS, 1, 2, None, None, 0)),
        ("ticks", ("EUR/USD", "LP1", TS, 0, TS, 1, 2**64 - 1, None, None, 0)),
        ("trades", ("EUR/USD", "LP1", TS, 0, TS, 2**63, None, None, None)),
        ("books", ("EUR/USD", "LP1", TS, 2**63, TS, [], [])),
        ("books", ("EUR/USD", "LP1", TS, 0, TS, [(2**63, None)], [])),
        ("gaps", ("LP1", 2**63, None, TS, None, "reset", None)),
        ("quarantine", (2**63, "LP1", "LP1", "", "garbled", b"", 0)),
    ],
)
def test_a_number_that_the_store_cannot_hold_is_rejected(kind: str, record: tuple) -> None:
    with pytest.raises(Rejected, match="9223372036854775807"):
        decode_payload(Entry(kind, "LP1", 0, 1, 1, encode_payload([record])))


def test_a_payload_with_another_count_than_the_entry_says_is_rejected() -> None:
    entry = read_entry(TICKS_V1 | {b"n": b"2"})
    assert isinstance(entry, Entry)
    with pytest.raises(Rejected, match="holds 1 records"):
        decode_payload(entry)
