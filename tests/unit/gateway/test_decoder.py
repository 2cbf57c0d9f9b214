"""Market data two ways, by learned shape and field by field, against a third: simplefix."""

import contextlib

import pytest
import simplefix
from gateway_lp import T0, build, entry, fields_of, frame_of, increment, market_data, quote, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_moment
from services.gateway.fix.decoder import (
    DEPTH_TAGS,
    ENTRY_TAGS,
    FORGET_AFTER,
    SHAPES_MAX,
    SHAPES_PER_SIZE_MAX,
    Decoder,
    decode,
    decode_quotes,
)
from services.gateway.fix.framer import Framer
from services.gateway.fix.quotes import QuoteMatcher, as_market_data
from services.gateway.fix.wire import Clock, FieldError, encode, mask_secrets, parse

STAMP = "20261120-10:00:00.123"
QUICKFIX = (35, 34, 49, 52, 56)
JSPUREFIX = (35, 49, 56, 34, 52)


def new_decoder(tags=ENTRY_TAGS):
    return Decoder("FIX.4.4", "LP1", "TICKVAULT", tags)


def learned(*frames, tags=ENTRY_TAGS):
    decoder = new_decoder(tags)
    for frame in frames:
        message = parse(frame)
        decode(message, tags)
        decoder.learn(message)
    return decoder


def plain(found):
    """Comparable: whatever sequences it is made of."""
    return None if found is None else (*found[:5], [tuple(fields) for fields in found.entries])


def by_simplefix(frame, tags):
    """An independent reading: walk the pairs of simplefix's parser."""
    parser = simplefix.FixParser()
    parser.append_buffer(frame)
    pairs = [(int(tag), value) for tag, value in parser.get_message().pairs if int(tag) != 10]
    at = [tag for tag, _ in pairs].index(268)
    head, group = dict(pairs[:at]), pairs[at + 1 :]
    entries = []
    for tag, value in group:
        if tag == group[0][0]:
            entries.append({})
        entries[-1][tag] = value
    rows = [tuple(found.get(tag, head.get(55) if tag == 55 else None) for tag in tags) for found in entries]
    return (int(head[34]), head[52], head.get(60), head.get(55), head[35] == b"W", rows)


SYMBOLS = st.sampled_from(["EUR/USD", "XAU/USD", "BTCUSD", "EURUSD.r"])
DEPTH_ONLY = DEPTH_TAGS[len(ENTRY_TAGS) :]
TAGS = st.sampled_from([ENTRY_TAGS, DEPTH_TAGS])
NUMBERS = st.decimals(0, 100_000, places=5).map(str)


@st.composite
def market_messages(draw):
    """A W or an X of 1, 2 or 20 entries, as some engine would order it; the same optional fields in every entry."""
    whole = draw(st.booleans())
    header = draw(st.sampled_from([QUICKFIX, JSPUREFIX]))
    seq = draw(st.integers(1, 10**9))
    optional = draw(st.sets(st.sampled_from([278, 271, 272, 273])) | st.sets(st.sampled_from([278, 271, 273, *DEPTH_ONLY])))
    with_symbol = not whole and draw(st.booleans())
    wanted = [269, 270, *sorted(optional), *([55] if with_symbol else [])]
    delimiter = 269 if whole else 279
    behind = draw(st.permutations([tag for tag in wanted if tag != delimiter]))
    values = {
        279: st.sampled_from(["0", "1", "2"]),
        269: st.sampled_from(["0", "1"]),
        278: st.text("abc019", min_size=1, max_size=6),
        55: SYMBOLS,
        270: NUMBERS,
        271: NUMBERS,
        272: st.just("20261120"),
        273: st.sampled_from(["10:00:00", "10:00:00.123456789"]),
        **{tag: st.text("12ab", min_size=1, max_size=3) for tag in DEPTH_ONLY},
    }
    body = [(262, draw(st.text("xyz=", min_size=1, max_size=5)))]
    body += [(60, STAMP)] if draw(st.booleans()) else []
    body += [(55, draw(SYMBOLS))] if whole or draw(st.booleans()) else []
    body = draw(st.permutations(body))
    count = draw(st.sampled_from([1, 2, 20]))
    tags = [delimiter, *behind]
    group = [(tag, draw(values[tag])) for _ in range(count) for tag in tags]
    head = {35: "W" if whole else "X", 34: seq, 49: "LP1", 52: STAMP, 56: "TICKVAULT"}
    return frame_of(fields_of(*((tag, head[tag]) for tag in header), *body, (268, count), *group))


@settings(deadline=None, max_examples=150)
@given(market_messages(), TAGS)
def test_the_learned_shape_the_parser_and_simplefix_read_the_same(frame, tags):
    parsed = plain(decode(parse(frame), tags))
    assert parsed == by_simplefix(frame, tags)
    assert plain(learned(frame, tags=tags).match(frame)) == parsed


@settings(deadline=None, max_examples=100)
@given(st.lists(market_messages(), min_size=1, max_size=6), TAGS)
def test_a_decoder_that_knows_many_shapes_reads_each_message_right_or_leaves_it_to_the_parser(frames, tags):
    decoder = learned(*frames, tags=tags)
    for frame in frames:
        assert plain(decoder.match(frame)) in (None, plain(decode(parse(frame), tags)))


def reading(frame, tags=ENTRY_TAGS):
    """What the slow way makes of it, or None; it fails in no other way than it may."""
    try:
        return plain(decode(parse(frame), tags))
    except Rejected:
        return None


SPLINTERS = st.sampled_from(
    [
        b"\x01",
        b"=",
        b"\x01270=",
        b"\x0110=123\x01",
        b"\x0195=3\x0196=a\x01b\x01",
        b"0",
        b"-",
        b"\xff",
        b"\x0155=X\x01",
        b"\x0154=1\x01",
    ]
)


@settings(deadline=None, max_examples=400)
@given(
    market_messages(),
    st.lists(st.tuples(st.floats(0, 1), SPLINTERS | st.binary(max_size=2), st.integers(0, 3)), min_size=1, max_size=4),
    TAGS,
)
def test_no_damage_makes_the_learned_shape_read_what_the_parser_would_not(frame, damage, tags):
    decoder = learned(frame, tags=tags)
    body = frame[frame.index(b"\x0135=") + 1 : -7]
    for place, put, cut in damage:
        at = 3 + int(place * (len(body) - 3))
        body = body[:at] + put + body[at + cut :]
    damaged = frame_of(body.removesuffix(b"\x01") + b"\x01")
    frames, _ = Framer().feed(damaged, T0)
    assert frames == [damaged]
    found = plain(decoder.match(damaged))
    assert found is None or found == reading(damaged, tags)
    reading(damaged, tags)


@st.composite
def quote_messages(draw):
    """An X of whole quotes, or nearly: now and then an ask of another symbol, time, side or action."""
    usual = {"action": "0", "date": "20261120", "time": "10:00:00"}
    unusual = st.sampled_from(
        [{}] * 12 + [{"action": "2"}, {"time": "10:00:01"}, {"date": None}, {"symbol": "GBP/USD"}, {"symbol": None}]
    )
    entries = []
    with_id = draw(st.sampled_from(["a", None]))
    for _ in range(draw(st.integers(1, 3))):
        symbol = draw(st.sampled_from(["EUR/USD", "XAU/USD", "eur/usd"]))
        for side in "01" if draw(st.integers(0, 9)) else "10":
            stated = {"symbol": symbol, "entry_id": with_id, **usual, **draw(unusual)}
            entries.append(entry(side, draw(NUMBERS), draw(NUMBERS | st.none()) if with_id else "5", **stated))
    return build("X", draw(st.integers(1, 99)), increment(*entries))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(quote_messages(), min_size=1, max_size=3),
    st.floats(0, 1),
    SPLINTERS | st.just(b""),
    st.sampled_from([0, 0, 1]),
)
def test_what_is_taken_for_whole_quotes_is_what_the_decoder_reads(frames, place, put, cut):
    matcher = QuoteMatcher("FIX.4.4", "LP1", "TICKVAULT")
    for frame in frames:
        matcher.learn(parse(frame))
    for frame in frames:
        body = frame[frame.index(b"\x0135=") + 1 : -7]
        at = 3 + int(place * (len(body) - 3))
        damaged = frame_of((body[:at] + put + body[at + cut :]).removesuffix(b"\x01") + b"\x01")
        for candidate in (frame, damaged):
            found = matcher.match(candidate)
            if found is not None:
                entries = [fields for each in found.quotes for fields in as_market_data(found, each).entries]
                expected = reading(candidate)
                assert expected is not None
                assert (found.seq, found.sending_time, [fields[1:] for fields in entries]) == (
                    *expected[:2],
                    [fields[1:] for fields in expected[5]],
                )
                assert {fields[0] for fields in expected[5]} <= {b"0", b"1"}


def test_a_data_field_that_hides_a_price_is_read_by_its_length_however_familiar_the_message_looks():
    def message(length):
        start = fields_of(
            (35, "X"), (34, 5), (49, "LP1"), (52, STAMP), (56, "TICKVAULT"), (268, 1), (279, 0), (269, 0), (55, "A")
        )
        return frame_of(start + fields_of((95, length), (96, "abc"), (270, "1.1")))

    decoder = learned(message(3))
    assert decode(parse(message(3))).entries[0][4] == b"1.1"
    assert decode(parse(message(11))).entries[0][4] is None
    assert decoder.match(message(11)) is None


@pytest.mark.parametrize(
    "change",
    [(b"34=1\x01", b"34=-1\x01"), (b"49=LP1", b"49=LP2"), (b"56=TICKVAULT", b"56=TICKVAULt"), (b"8=FIX.4.4", b"8=FIX.4.2"),
     (b"268=2", b"268=3"), (b"270=1.1", b"270="), (b"262=r1", b"43=Y")],
)  # fmt: skip
def test_what_differs_from_the_shape_is_left_to_the_parser(change):
    frame = build("X", 1, quote("EUR/USD", "1.1", "1.2"))
    decoder = learned(frame)
    assert decoder.match(frame) is not None
    assert change[0] in frame
    assert decoder.match(frame.replace(*change)) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(268, 2), *entry("0", "1.1", action="0")], 16),
        ([(268, 0), *entry("0", "1.1", action="0")], 16),
        ([(268, -1)], 16),
        ([(268, "x")], 6),
        ([(262, "r")], 1),
        ([(268, 1), (279, 0), (269, 0), (269, 1), (270, 1)], 13),
        ([(60, STAMP), (60, STAMP), (268, 1), *entry("0", "1.1", action="0")], 13),
        ([(268, 2), *entry("0", "1.1", action="0"), (10, "000"), *entry("1", "1.2", action="0")], 13),
    ],
)
def test_a_group_that_is_not_what_its_count_says_or_repeats_a_field_is_an_error(fields, reason):
    with pytest.raises(FieldError) as error:
        decode(parse(build("X", 1, fields)))
    assert error.value.reason == reason


def test_the_symbol_of_a_snapshot_may_stand_before_the_count_behind_it_or_behind_the_entries():
    sides = [*entry("0", "1.1"), *entry("1", "1.2")]
    orders = [[(55, "A"), (268, 2), *sides], [(268, 2), *sides, (55, "A")], [(268, 2), *sides[:3], (55, "A"), *sides[3:]]]
    for fields in orders:
        found = market_data("W", fields)
        assert (found.symbol, [row[2] for row in found.entries]) == (b"A", [b"A", b"A"])
    assert market_data("W", [(268, 0), (55, "A")]).symbol == b"A"


def test_a_snapshot_that_repeats_its_symbol_in_every_entry_is_read():
    fields = [(55, "A"), (268, 2), (269, 0), (55, "A"), (270, 1), (269, 1), (55, "A"), (270, 2)]
    assert [row[2] for row in market_data("W", fields).entries] == [b"A", b"A"]


def test_a_decoder_stays_bounded_and_learns_the_frequent_shapes_when_its_room_is_used_up():
    decoder = new_decoder()

    def other(number):
        return parse(build("X", 1, [(262, "r"), (5000 + number, "x"), (268, 1), *entry("0", "1.1", action="0", symbol="A")]))

    for number in range(SHAPES_PER_SIZE_MAX):
        decoder.learn(other(number))
    frequent = build("X", 1, [(262, "r"), (9999, "x"), (268, 1), *entry("0", "1.1", action="0", symbol="A")])
    for _ in range(FORGET_AFTER - 1):
        decoder.learn(parse(frequent))
    assert decoder.match(frequent) is None
    decoder.learn(parse(frequent))
    assert decoder.match(frequent) is not None
    for number in range(SHAPES_MAX + FORGET_AFTER):
        decoder.learn(
            parse(build("X", 1, [(5000 + number, "x"), *increment(*[entry("0", "1.1", action="0")] * (number % 20 + 1))]))
        )
        assert len(decoder._learnt) <= SHAPES_MAX


def test_an_increment_that_looks_like_a_learned_snapshot_is_learned_too():
    fields = [(55, "A"), (268, 1), *entry("0", "1.1")]
    decoder = learned(build("W", 1, fields), build("X", 2, fields))
    assert [decoder.match(build(kind, 3, fields)).snapshot for kind in "WX"] == [True, False]


# ---- quotes: S, i, Z


def quoted(msg_type, fields, asked_for=None):
    """By symbol: (TransactTime, [(side, price, size)])"""
    found = decode_quotes(parse(build(msg_type, 7, fields)), asked_for)
    for one in found:
        assert (one.seq, one.sending_time, one.snapshot) == (7, b"20261120-10:00:00.000", True)
        assert all((row[0], row[2], row[3], *row[6:]) == (None, one.symbol, None, None, None) for row in one.entries)
    return {one.symbol: (one.transact_time, [(row[1], row[4], row[5]) for row in one.entries]) for one in found}


def quote_set(*entries, underlying=None, **more):
    count = more.get("count", len(entries))
    named = [(311, underlying)] if underlying else []
    return [(302, "s"), *named, (304, count), (295, count), *(pair for fields in entries for pair in fields)]


def test_a_quote_states_both_sides():
    fields = [(131, "r"), (117, "q"), (55, "EUR/USD"), (132, "1.1"), (133, "1.2"), (134, 5), (135, 6), (60, STAMP)]
    sides = [(b"0", b"1.1", b"5"), (b"1", b"1.2", b"6")]
    assert quoted("S", fields) == {b"EUR/USD": (STAMP.encode(), sides)}


def test_a_side_that_a_quote_leaves_out_is_withdrawn():
    assert quoted("S", [(117, "q"), (55, "A"), (133, "1.2")]) == {b"A": (None, [(b"1", b"1.2", None)])}
    assert quoted("S", [(117, "q"), (55, "A")]) == {b"A": (None, [])}


def test_a_quote_that_names_no_symbol_is_of_the_one_that_was_asked_for():
    assert list(quoted("S", [(117, "q"), (132, "1.1")], asked_for="EUR/USD")) == [b"EUR/USD"]
    with pytest.raises(FieldError) as error:
        quoted("S", [(117, "q"), (132, "1.1")])
    assert (error.value.tag, error.value.reason) == (55, 1)


def test_a_mass_quote_gives_each_symbol_with_all_its_tiers():
    later = "20261120-10:00:01"
    eur = quote_set([(299, 1), (132, "1.1"), (134, 5), (60, STAMP)], [(299, 2), (132, "1.0"), (133, "1.2"), (60, later)],
                    underlying="EUR/USD")  # fmt: skip
    other = quote_set([(299, 1), (55, "GBP/USD"), (188, "2.1"), (190, "2.2"), (135, 7)], underlying="EUR/USD")
    assert quoted("i", [(117, "q"), (60, STAMP), (293, 9), (296, 2), *eur, *other]) == {
        b"EUR/USD": (later.encode(), [(b"0", b"1.1", b"5"), (b"0", b"1.0", b"9"), (b"1", b"1.2", None)]),
        b"GBP/USD": (STAMP.encode(), [(b"0", b"2.1", b"9"), (b"1", b"2.2", b"7")]),
    }


def test_a_mass_quote_of_no_sets_or_no_entries_says_nothing():
    assert quoted("i", [(117, "q"), (296, 0)]) == {}
    assert quoted("i", [(117, "q"), (296, 1), *quote_set()]) == {}


@pytest.mark.parametrize(
    ("fields", "tag", "reason"),
    [
        ([(117, "q")], 296, 1),
        ([(296, 1), (302, "s")], 295, 1),
        ([(296, 2), *quote_set([(299, 1), (55, "A")])], 296, 16),
        ([(296, 1), *quote_set([(299, 1), (55, "A")]), *quote_set([(299, 1), (55, "A")])], 296, 16),
        ([(296, -1)], 296, 16),
        ([(296, 1), *quote_set([(299, 1), (55, "A")], count=2)], 295, 16),
        ([(296, 1), *quote_set([(299, 1), (55, "A")], count="x")], 295, 6),
        ([(296, 1), *quote_set([(299, 1), (55, "A"), (132, 1), (132, 2)])], 132, 13),
        ([(296, 1), *quote_set([(299, 1), (132, 1)])], 55, 1),
    ],
)
def test_a_mass_quote_that_is_not_what_its_counts_say_is_an_error(fields, tag, reason):
    with pytest.raises(FieldError) as error:
        quoted("i", fields)
    assert (error.value.tag, error.value.reason) == (tag, reason)


def test_a_field_of_a_quote_that_appears_twice_is_an_error():
    with pytest.raises(FieldError) as error:
        quoted("S", [(55, "A"), (132, 1), (132, 2)])
    assert error.value.reason == 13


def test_a_cancel_withdraws_the_symbols_it_names_or_the_one_that_was_asked_for():
    withdrawn = {b"A": (None, []), b"B": (None, [])}
    assert quoted("Z", [(117, "q"), (298, 1), (295, 2), (55, "A"), (55, "B"), (132, "1.1")]) == withdrawn
    assert quoted("Z", [(117, "q"), (298, 1), (55, "A")]) == {b"A": (None, [])}
    assert quoted("Z", [(131, "r"), (117, "*"), (298, 4)], asked_for="B") == {b"B": (None, [])}
    with pytest.raises(FieldError):
        quoted("Z", [(117, "q"), (298, 1)])


def test_a_cancel_of_all_quotes_names_none():
    assert quoted("Z", [(117, "*"), (298, 4)]) == {}


TIERS = st.lists(
    st.tuples(st.sampled_from(["A", "B", None]), NUMBERS | st.none(), NUMBERS | st.none(), st.none() | st.just(STAMP)), max_size=4
)


@settings(deadline=None, max_examples=100)
@given(st.lists(TIERS, max_size=3), st.lists(st.tuples(st.floats(0, 1), SPLINTERS, st.integers(0, 3)), max_size=2))
def test_a_mass_quote_reads_back_and_damage_is_an_error_or_a_reading(sets, damage):
    expected = {}
    body = []
    for number, tiers in enumerate(sets):
        entries = []
        for symbol, bid, offer, time in tiers:
            pairs = [(299, len(entries)), (55, symbol), (132, bid), (133, offer), (60, time)]
            entries.append([(tag, value) for tag, value in pairs if value is not None])
            sides = [(side, price.encode(), None) for side, price in ((b"0", bid), (b"1", offer)) if price is not None]
            name = (symbol or f"U{number}").encode()
            time_before, before = expected.get(name, (None, []))
            expected[name] = (time.encode() if time else time_before, before + sides)
        body += quote_set(*entries, underlying=f"U{number}")
    frame = build("i", 7, [(117, "q"), (296, len(sets)), *body])
    assert quoted("i", [(117, "q"), (296, len(sets)), *body]) == expected
    text = frame[frame.index(b"\x0135=") + 1 : -7]
    for place, put, cut in damage:
        at = 5 + int(place * (len(text) - 5))
        text = text[:at] + put + text[at + cut :]
    with contextlib.suppress(Rejected):
        decode_quotes(parse(frame_of(text.removesuffix(b"\x01") + b"\x01")), None)


# ---- fields and times


@pytest.mark.parametrize(
    ("body", "tag", "reason"),
    [(b"35=0\x0158=\x01", 58, 4), (b"35=0\x01x=1\x01", None, 0), (b"35=0\x0158\x01", None, 0), (b"35=0\x01\x01", None, 0),
     (b"35=0\x01034=1\x01", None, 0), (b"35=0\x010=1\x01", 0, 0), (b"35=0\x01-7=1\x01", -7, 0),
     (b"35=0\x011234567890=1\x01", None, 0)],
)  # fmt: skip
def test_a_field_without_a_number_or_a_value_is_an_error_with_its_reason(body, tag, reason):
    with pytest.raises(FieldError) as error:
        parse(frame_of(body))
    assert (error.value.tag, error.value.reason) == (tag, reason)


def test_a_data_field_may_hold_separators_and_a_lying_length_falls_back_to_the_next_one():
    message = parse(build("B", 1, [(95, 9), (96, b"a\x0158=x\x01=b"), (58, "text")]))
    assert (message.get(96), message.get(58)) == (b"a\x0158=x\x01=b", b"text")
    message = parse(build("B", 1, [(95, 900), (96, b"abc"), (58, "text")]))
    assert (message.get(96), message.get(58)) == (b"abc", b"text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"20261120-10:00:00", "2026-11-20T10:00:00Z"),
        (b"20261120-10:00:00.1", "2026-11-20T10:00:00.1Z"),
        (b"20261120-10:00:00.123", "2026-11-20T10:00:00.123Z"),
        (b"20261120-10:00:00.123456", "2026-11-20T10:00:00.123456Z"),
        (b"20261120-10:00:00.123456789", "2026-11-20T10:00:00.123456789Z"),
        (b"20261120-10:00:00.123456789012", "2026-11-20T10:00:00.123456789Z"),
        (b"20261231-23:59:60.5", "2027-01-01T00:00:00.5Z"),
        (b"20240229-23:59:59.999999999", "2024-02-29T23:59:59.999999999Z"),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text, expected):
    clock = Clock()
    assert clock.moment(text) == clock.moment(text) == parse_moment(expected)


@pytest.mark.parametrize(
    "text",
    [b"", b"20261120", b"20261120-10:00", b"20261320-10:00:00", b"20260229-10:00:00", b"20261120-24:00:00", b"20261120-10:60:00",
     b"20261120-10:00:61", b"20261120 10:00:00", b"20261120-10:00:00Z", b"20261120-10:00:00.", b"20261120-10:00:00.12x",
     b"2026112\xb2-10:00:00", b"00010101-00:00:00", b"99991231-23:59:59", b"20261120-10:00:00.1234567890123"],
)  # fmt: skip
def test_what_is_no_time_or_does_not_fit_64_bits_is_rejected(text):
    with pytest.raises(Rejected):
        Clock().moment(text)


def test_what_we_send_reads_back_and_cannot_carry_a_separator():
    sent = encode("FIX.4.4", "US", "LP", 7, "0", [(112, b"\xff\xe4")], now_ns=T0 + 1_999_999)
    message = parse(sent)
    assert [tag for tag, _ in message.fields][:3] == [8, 9, 35]
    assert (message.get(112), message.number(34), message.get(52)) == (b"\xff\xe4", 7, b"20261120-10:00:00.001")
    assert Framer().feed(sent, T0) == ([sent], [])
    for value in ("", "a\x0135=D", b"a\x01", b""):
        with pytest.raises(ValueError, match="cannot be sent"):
            encode("FIX.4.4", "US", "LP", 7, "0", [(112, value)], now_ns=T0)


def test_secrets_are_masked_wherever_they_stand():
    sent = encode("FIX.4.4", "US", "LP", 1, "A", [(108, 30), (553, "me"), (554, "pass=word"), (925, "new")], now_ns=T0)
    kept = mask_secrets(sent)
    assert [parse(kept).get(tag) for tag in (108, 553, 554, 925)] == [b"30", b"***", b"***", b"***"]
    assert mask_secrets(build("W", 1, snapshot("554=A", entry("0", "1.1")))).count(b"***") == 0
