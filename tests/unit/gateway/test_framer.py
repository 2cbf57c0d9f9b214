"""Bytes to frames: what is garbled is told from what is merely not there yet."""

from itertools import pairwise

import pytest
from gateway_lp import T0, build, fields_of, frame_of
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_S
from services.gateway.fix.framer import FRAME_BYTES_MAX, FRAME_TIMEOUT_NS, Framer, byte_sum

GOOD = build("0", 7)
NEXT = build("1", 8, [(112, "hello")])


def damaged_checksum(frame):
    return frame[:-4] + b"%03d\x01" % ((int(frame[-4:-1]) + 1) % 256)


def with_length(frame, length):
    """The frame with another BodyLength and a checksum that is right for it."""
    body = frame[frame.index(b"\x0135=") + 1 : -7]
    head = b"8=FIX.4.4\x019=%s\x01%s" % (length, body)
    return head + b"10=%03d\x01" % (sum(head) % 256)


def feed(*chunks):
    framer = Framer()
    frames, garbled = [], []
    for chunk in chunks:
        some, pieces = framer.feed(chunk, T0)
        frames += some
        garbled += pieces
    return frames, garbled, framer.rest


GARBLED = {
    "BodyLength is too short": with_length(GOOD, b"%d" % (len(GOOD) - 30)),
    "BodyLength is no number": with_length(GOOD, b"abc"),
    "BodyLength is negative": with_length(GOOD, b"-5"),
    "BodyLength is huge": with_length(GOOD, b"999999999"),
    "BodyLength is beyond the limit": with_length(GOOD, b"1000001"),
    "BodyLength is missing": GOOD.replace(b"9=%d\x01" % (len(GOOD) - 22), b""),
    "CheckSum is wrong": damaged_checksum(GOOD),
    "CheckSum has two digits": GOOD[:-4] + b"12\x01",
    "CheckSum has four digits": GOOD[:-4] + b"0123\x01",
    "CheckSum is no number": GOOD[:-4] + b"abc\x01",
    "a byte was damaged": GOOD.replace(b"LP1", b"LP2"),
    "BeginString is not first": GOOD.replace(b"8=FIX.4.4\x01", b"") + b"8=FIX.4.4\x01",
    "MsgType is not third": frame_of(fields_of((34, 7), (35, "0"), (49, "LP1"))),
    "BeginString and BodyLength changed places": b"9=5\x018=FIX.4.4\x0135=0\x0110=161\x01",
    "the trailer is cut": GOOD[:-3],
    "the trailer is missing": GOOD[:-7],
    "the last separator is lost": GOOD[:-1],
    "the separator before the trailer is lost": GOOD[:-8] + GOOD[-7:],
    "the separator behind BodyLength is lost": GOOD.replace(b"\x0135=", b"35="),
    "BeginString is empty": GOOD.replace(b"8=FIX.4.4", b"8="),
    "BeginString is endless": GOOD.replace(b"8=FIX.4.4", b"8=FIX.4.4.4.4.4.4"),
    "it is HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBLED.values(), ids=GARBLED.keys())
def test_a_garbled_message_is_set_aside_and_the_next_ones_are_found(garbage):
    frames, garbled, rest = feed(GOOD, garbage + NEXT + GOOD)
    assert frames == [GOOD, NEXT, GOOD]
    assert b"".join(garbled) == garbage
    assert rest == b""


def test_a_body_length_that_is_too_long_costs_no_other_message():
    lying = with_length(GOOD, b"%d" % (len(GOOD) + 40))
    frames, garbled, rest = feed(lying + NEXT, NEXT, GOOD)
    assert (frames, garbled, rest) == ([NEXT, NEXT, GOOD], [lying], b"")


def test_garbage_before_and_between_frames_is_set_aside():
    frames, garbled, rest = feed(b"noise" + GOOD + b"8=FIX" + NEXT + b"\x00\xff\x01" + GOOD)
    assert (frames, garbled, rest) == ([GOOD, NEXT, GOOD], [b"noise", b"8=FIX", b"\x00\xff\x01"], b"")


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_a_frame_cut_anywhere_is_resumed(cut):
    frames, garbled, rest = feed(NEXT + GOOD[:cut], GOOD[cut:] + NEXT)
    assert (frames, garbled, rest) == ([NEXT, GOOD, NEXT], [], b"")


def test_the_beginning_of_a_frame_behind_garbage_is_kept():
    framer = Framer()
    assert framer.feed(b"noise8=FI", T0) == ([], [b"noise"])
    assert framer.rest == b"8=FI"
    assert framer.feed(GOOD[4:], T0) == ([GOOD], [])


def test_a_frame_still_incomplete_after_the_timeout_is_garbled_and_what_stands_behind_it_is_found():
    framer = Framer()
    lying = with_length(GOOD, b"99999")
    assert framer.feed(lying + NEXT, T0) == ([], [])
    assert framer.feed(GOOD, T0 + FRAME_TIMEOUT_NS) == ([], [])
    assert framer.feed(GOOD, T0 + FRAME_TIMEOUT_NS + 1) == ([NEXT, GOOD, GOOD], [lying])
    assert framer.rest == b""


def test_patience_begins_anew_with_every_frame():
    framer = Framer()
    framer.feed(GOOD + NEXT[:9], T0)
    framer.feed(NEXT[9:] + GOOD[:9], T0 + 4 * NS_PER_S)
    assert framer.feed(GOOD[9:], T0 + 8 * NS_PER_S) == ([GOOD], [])


def test_nothing_is_waited_for_behind_the_last_bytes():
    framer = Framer()
    lying = with_length(GOOD, b"99999")
    framer.feed(lying + NEXT + GOOD[:20], T0)
    assert framer.feed(b"", T0, last=True) == ([NEXT], [lying, GOOD[:20]])
    assert framer.rest == b""


def test_a_rest_that_ends_as_a_frame_begins_is_one_piece_where_nothing_follows():
    cut = GOOD[:20] + b"8=F"
    assert Framer().feed(cut, T0, last=True) == ([], [cut])


def test_what_waits_is_bounded():
    framer = Framer()
    framer.feed(b"8=FIX.4.4\x019=999990\x0135=0\x01", T0)
    for _ in range(12):
        framer.feed(b"x" * 100_000, T0)
        assert len(framer.rest) <= FRAME_BYTES_MAX
    for noise in (b"x" * 100_000, b"8=FIX" * 20_000, b"8=FIX.4.4\x019=" + b"1" * 100_000):
        framer.feed(noise, T0)
        assert len(framer.rest) < 32


def test_a_frame_beyond_the_limit_is_garbled_in_one_piece_or_in_many():
    big = frame_of(fields_of((35, "0"), (58, b"x" * FRAME_BYTES_MAX)))
    assert feed(big + GOOD)[0] == [GOOD]
    assert feed(*(big[at : at + 65_536] for at in range(0, len(big), 65_536)), GOOD)[0] == [GOOD]


def test_an_embedded_message_in_a_data_field_stays_inside_its_frame_however_it_arrives():
    outer = build("B", 9, [(95, len(GOOD)), (96, GOOD)])
    for cut in range(1, len(outer)):
        assert feed(outer[:cut], outer[cut:] + NEXT) == ([outer, NEXT], [], b"")


@pytest.mark.parametrize(
    "text", [b"\xc3\xa4" * 20, b"\xff" * 600, b"~" * 509, b"~" * 510, b"x" * 5_000, bytes(range(2, 256)) * 9]
)
def test_frames_of_any_bytes_and_size_are_checked_right(text):
    frame = frame_of(fields_of((35, "B"), (34, 1), (58, text)))
    assert feed(frame) == ([frame], [], b"")
    frames, garbled, _ = feed(damaged_checksum(frame))
    assert (frames, b"".join(garbled)) == ([], damaged_checksum(frame))


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(st.binary(max_size=2_000), st.builds(lambda byte, n: bytes([byte]) * n, st.integers(0, 255), st.integers(0, 3_000)))
)
def test_the_byte_sum_is_the_sum_of_all_bytes_modulo_256(data):
    assert byte_sum(data) == sum(data) % 256


PIECES = st.one_of(
    st.sampled_from(
        [GOOD, NEXT, build("B", 3, [(95, len(GOOD)), (96, GOOD)]), frame_of(b"35=B\x0158=" + b"\xe4" * 700 + b"\x01")]
    ),
    st.sampled_from(
        [*GARBLED.values(), with_length(GOOD, b"%d" % len(GOOD)), GOOD[:30], b"8=FI", b"8=FIX.4.4\x01", b"8=FIX.4.4\x019=12"]
    ),
    st.binary(max_size=12),
    st.lists(st.sampled_from([b"8=FIX", b".4.4", b"\x01", b"9=", b"5", b"35=", b"10=", b"123"]), max_size=8).map(b"".join),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.data())
def test_any_split_of_the_stream_gives_the_same_frames_and_garbled_bytes(stream, data):
    """Garbage is handed over as it comes, so that only its sum in each place is the same, not its pieces."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    whole = feed(stream)
    split = feed(*(stream[start:end] for start, end in pairwise(bounds)))
    assert split[0] == whole[0]
    assert b"".join(split[1]) == b"".join(whole[1])
    assert split[2] == whole[2]
    assert sum(map(len, (*whole[0], *whole[1], whole[2]))) == len(stream)


def test_heads_that_promise_huge_bodies_are_not_summed_up_again_and_again(monkeypatch):
    summed = []
    monkeypatch.setattr("services.gateway.fix.framer.byte_sum", lambda data: summed.append(len(data)) or -1)
    hostile = b"8=FIX.4.4\x019=0090000\x0135=" * 8_000
    frames, garbled = Framer().feed(hostile, 0)
    assert (frames, summed) == ([], [])
    assert sum(map(len, garbled)) > len(hostile) // 3
