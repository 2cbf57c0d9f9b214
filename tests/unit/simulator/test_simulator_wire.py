"""Frames in, frames out."""

from hypothesis import given
from hypothesis import strategies as st
from simulator_desk import NOW_NS, read_all

from services.simulator import wire

FRAMES = [
    wire.encode(b"FIX.4.4", "0", [(34, number), (49, "C"), (56, "LP1"), (52, "20261118-00:00:00")], [(112, "x" * number)])
    for number in range(1, 30)
]
JUNK = [b"", b"8=FI", b"GET / HTTP/1.1\r\n", FRAMES[3][:40], FRAMES[4][:-3] + b"00\x01", b"8=FIX.4.4\x019=abc\x01"]


@given(st.lists(st.integers(1, 80), max_size=60))
def test_frames_do_not_depend_on_how_the_stream_is_split(sizes):
    stream = b"".join(FRAMES)
    framer, found, position = wire.Framer(), [], 0
    for size in [*sizes, len(stream)]:
        found += framer.feed(stream[position : position + size])
        position += size
    assert found == FRAMES


@given(st.lists(st.sampled_from(JUNK), min_size=5, max_size=5))
def test_what_is_no_frame_does_not_hide_the_frames_after_it(junk):
    stream = b"".join(piece + frame for piece, frame in zip(junk, FRAMES[10:15], strict=True)) + FRAMES[20] * 3
    found = wire.Framer().feed(stream)
    assert [frame for frame in found if frame in FRAMES[10:15]] == FRAMES[10:15]


def test_fields_that_are_no_fields_are_not_parsed():
    assert wire.parse(b"8=FIX.4.4\x019=7\x01hello=x\x0110=000\x01") is None


@given(st.binary(max_size=1200))
def test_the_sum_of_bytes_is_exact(data):
    assert wire.byte_sum(data) == sum(data) % 256


@given(st.text("ABC123=|", min_size=1, max_size=900))
def test_a_sealed_frame_is_what_simplefix_would_have_sent(value):
    body = f"35=X\x0134=7\x0158={value}\x01".encode()
    expected = wire.encode(b"FIX.4.4", "X", [(34, 7)], [(58, value)])
    assert wire.seal(b"FIX.4.4", body) == expected


def test_a_resent_frame_says_when_it_was_first_sent():
    frame = FRAMES[6]
    (message,) = read_all(wire.resent(frame, b"20261119-00:00:00.000"))
    assert [message.get(tag) for tag in (34, 43, 52, 122, 112)] == [
        b"7", b"Y", b"20261119-00:00:00.000", b"20261118-00:00:00", b"x" * 7,
    ]  # fmt: skip
    assert wire.Framer().feed(wire.resent(frame, b"20261119-00:00:00.000"))


def test_times_have_as_many_decimals_as_they_need():
    assert wire.entry_time(NOW_NS) == b"272=20261118\x01273=11:06:40.123\x01"
    assert wire.entry_time(NOW_NS + 1_000) == b"272=20261118\x01273=11:06:40.123001\x01"
    assert wire.entry_time(NOW_NS + 1) == b"272=20261118\x01273=11:06:40.123000001\x01"
    assert wire.sending_time(NOW_NS + 999_999) == b"20261118-11:06:40.123"
