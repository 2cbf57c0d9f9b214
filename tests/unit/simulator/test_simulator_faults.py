"""What goes wrong on request: what arrives, and that it can be had whole afterwards."""

import re

import pytest
import simplefix
from simulator_desk import make_quote, read_all, seqs, types

from services.simulator import fault
from services.simulator.fault import KINDS, PRICE_FAULTS
from services.simulator.wire import Framer


@pytest.fixture
def quotes():
    return [make_quote(bid=b"1.085%02d" % number) for number in range(8)]


@pytest.fixture
def client(desk):
    """Subscribed: its next market data is number 2."""
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.line.written = b""
    return desk


def strike(desk, kind, quotes):
    """The bytes that arrive when a fault meets these quotes."""
    desk.session.inject(kind, 5)
    desk.line.written = b""
    desk.session.publish(quotes)
    return desk.line.written


def framed(data):
    """As a right client reads: what is damaged is left out."""
    messages = []
    for frame in Framer().feed(data):
        parser = simplefix.FixParser(allow_empty_values=True)
        parser.append_buffer(frame)
        messages.append(parser.get_message())
    return messages


def test_there_are_enough_of_them_and_each_has_a_line_in_the_table():
    table = fault.__doc__
    assert len(KINDS) == len(set(KINDS)) >= 25
    assert [kind for kind in KINDS if not re.search(rf"^{kind} +\S.{{20,}}", table, re.MULTILINE)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_touches_what_is_numbered_or_what_the_ledger_says(new_desk, quotes, kind):
    desk = new_desk()
    desk.log_on()
    desk.subscribe("EUR/USD")
    strike(desk, kind, quotes)
    lines = desk.ledger_lines()
    numbered = [int(line.split(",")[1]) for line in lines]
    assert [line.split(",")[4] for line in lines] == [quote.bid.decode() for quote in quotes[: len(lines)]]
    desk.connect()
    desk.seq = 500
    desk.log_on()
    resent = desk.say("2", (7, 1), (16, 0))
    found = {int(message.get(34)): message.get(270) for message in resent if message.message_type == b"X"}
    assert found == {seq: quote.bid for seq, quote in zip(numbered, quotes, strict=False)}


@pytest.mark.parametrize(
    "kind", ["garble", "checksum", "length_short", "length_long", "length_text", "length_huge", "no_msg_type"]
)
def test_a_damaged_message_is_no_frame_and_the_others_are_whole(client, quotes, kind):
    data = strike(client, kind, quotes)
    arrived = [message for message in framed(data) if message.get(35)]
    assert seqs(arrived) == list(range(3, 10))
    assert data.count(b"8=FIX.4.4\x01") == 8


def test_each_damage_is_what_its_name_says(client, quotes):
    client.publish(quotes[0])
    length = int(re.search(rb"\x019=(\d+)", strike(client, "http", quotes[:1]))[1])
    lengths = {
        "length_short": b"%d" % (length - 5), "length_long": b"%d" % (length + 5), "length_text": b"abc",
        "length_huge": b"999999999",
    }  # fmt: skip
    for kind, text in lengths.items():
        data = strike(client, kind, quotes[:1])
        assert data.split(b"\x01")[1] == b"9=" + text
        assert int(data[-4:-1]) == sum(data[:-7]) % 256
    data = strike(client, "checksum", quotes[:1])
    assert int(data[-4:-1]) == (sum(data[:-7]) + 1) % 256
    assert b"\x0135=" not in strike(client, "no_msg_type", quotes[:1])


HEADER_FAULTS = {
    "low_sequence": (34, b"1"),
    "no_sequence": (34, None),
    "wrong_begin_string": (8, b"FIX.4.1"),
    "wrong_sender": (49, b"NOBODY"),
    "wrong_target": (56, b"NOBODY"),
    "old_sending_time": (52, b"20261118-10:06:40.123"),
    "no_sending_time": (52, None),
    "unknown_msg_type": (35, b"*"),
    "empty_value": (270, b""),
    "bad_price": (270, b"NaN"),
    "bad_group": (268, b"3"),
}


@pytest.mark.parametrize("kind", HEADER_FAULTS)
def test_a_wrong_field_comes_in_a_right_frame(client, quotes, kind):
    tag, value = HEADER_FAULTS[kind]
    wrong, *others = framed(strike(client, kind, quotes))
    assert wrong.get(tag) == value
    assert wrong.get(279) == b"0"
    assert seqs(others) == list(range(3, 10))


def test_dropped_messages_stand_in_the_ledger(client, quotes):
    assert strike(client, "drop", quotes) == b""
    assert (client.line.ended, len(client.ledger_lines())) == ("aborted", 8)


def test_a_cut_ends_in_the_middle_of_a_message(client, quotes):
    data = strike(client, "cut", quotes)
    assert (len(framed(data)), data.endswith(b"\x01"), client.line.ended) == (4, False, "closed")


def test_a_gap_is_numbered_but_not_sent_until_it_is_asked_for(client, quotes):
    assert seqs(framed(strike(client, "gap", quotes))) == [7, 8, 9]
    assert seqs(client.say("2", (7, 2), (16, 6))) == [2, 3, 4, 5, 6]


def test_split_messages_are_whole_once_they_are_put_together(client, quotes):
    client.session.inject("split", 0)
    parts = []
    client.line.write = parts.append
    client.session.publish(quotes)
    assert {len(part) for part in parts[:20]} == {1}
    assert len(parts) > 100
    assert seqs(framed(b"".join(parts))) == list(range(2, 10))


@pytest.mark.parametrize(("kind", "begin"), [("garbage", b""), ("http", b"HTTP/1.1 400 ")])
def test_foreign_bytes_stand_before_messages_that_are_whole(client, quotes, kind, begin):
    data = strike(client, kind, quotes)
    assert not data.startswith(b"8=FIX")
    assert data.startswith(begin)
    assert seqs(framed(data)) == list(range(2, 10))


def test_two_messages_change_places(client, quotes):
    assert seqs(framed(strike(client, "reorder", quotes))) == [3, 2, *range(4, 10)]


def test_a_message_alone_changes_places_with_whatever_comes_next(client, quotes):
    assert strike(client, "reorder", quotes[:1]) == b""
    assert seqs(client.say("1", (112, "x"))) == [3, 2]


@pytest.mark.parametrize(
    ("kind", "duplicate", "original"),
    [
        ("duplicate", b"Y", b"20261118-11:06:40.123"),
        ("duplicate_plain", None, None),
        ("no_orig_sending_time", b"Y", None),
        ("late_orig_sending_time", b"Y", b"20261118-11:06:41.123"),
    ],
)
def test_a_message_comes_twice(client, quotes, kind, duplicate, original):
    first, second, *others = framed(strike(client, kind, quotes))
    assert [(int(message.get(34)), message.get(43), message.get(122)) for message in (first, second)] == [
        (2, None, None), (2, duplicate, original),
    ]  # fmt: skip
    assert seqs(others) == list(range(3, 10))


def test_an_older_message_comes_again_unasked(client, quotes):
    client.publish(*quotes[:4])
    *live, late = framed(strike(client, "poss_dup_late", quotes[4:]))
    assert (seqs(live), int(late.get(34)), late.get(43), late.get(270)) == ([6, 7, 8, 9], 2, b"Y", b"1.08500")


def test_numbered_messages_are_filled_over(client, quotes):
    fill, *others = framed(strike(client, "gap_fill", quotes))
    assert [fill.get(tag) for tag in (35, 34, 43, 123, 36)] == [b"4", b"2", None, b"Y", b"7"]
    assert seqs(others) == [7, 8, 9]


def test_a_reset_leaps_to_a_higher_number_and_what_was_before_is_gap_filled(client, quotes):
    client.publish(quotes[0])
    client.line.written = b""
    client.session.inject("reset", 0)
    assert b"\x01123=N\x0136=103\x01" in client.line.written
    assert seqs(client.publish(quotes[1])) == [103]
    resent = client.say("2", (7, 2), (16, 0))
    assert list(zip(types(resent), seqs(resent), strict=True)) == [(b"4", 2), (b"X", 103)]


def test_a_reset_to_a_lower_number_changes_nothing(client, quotes):
    client.session.inject("reset_lower", 0)
    (reset,) = client_hears(client)
    assert [reset.get(tag) for tag in (34, 123, 36)] == [b"2", b"N", b"1"]
    assert seqs(client.publish(quotes[0])) == [2]


def client_hears(client):
    return read_all(client.line.written)


def test_a_logon_in_the_session_resets_both_sides_once_it_is_answered(client, quotes):
    client.publish(*quotes)
    client.line.written = b""
    client.session.inject("logon_reset", 0)
    (logon,) = client_hears(client)
    assert [logon.get(tag) for tag in (35, 34, 108, 141)] == [b"A", b"1", b"30", b"Y"]
    assert client.publish(quotes[0]) == []
    assert client.say("0") == []  # was under way, with a number from before
    client.seq = 1
    assert client.log_on((141, "Y")) == []
    assert seqs(client.publish(quotes[0])) == [2]
    assert types(client.say("1", (112, "x"))) == [b"0"]
    assert client.line.ended is None


def test_a_logon_that_is_not_answered_ends_the_connection(client):
    client.session.inject("logon_reset", 0)
    client.now_s += 11
    client.session.on_timer()
    assert client.line.ended == "aborted"


def test_a_logout_waits_for_its_answer(client, quotes):
    client.session.inject("logout", 0)
    (logout,) = client_hears(client)
    assert (logout.get(35), logout.get(58)) == (b"5", b"fault: logout")
    assert client.publish(*quotes) == []
    assert client.say("5") == []
    assert client.line.ended == "closed"


def test_a_logout_that_is_not_answered_ends_the_connection(client):
    client.session.inject("logout", 0)
    client.now_s += 11
    client.session.on_timer()
    assert client.line.ended == "aborted"


def test_a_flood_of_test_requests_has_different_ids(client):
    client.session.inject("test_request_flood", 0)
    assert len({message.get(112) for message in client_hears(client) if message.message_type == b"1"}) == 100


def test_all_of_the_clients_messages_are_asked_for(client):
    client.session.inject("resend_request", 0)
    (request,) = client_hears(client)
    assert [request.get(tag) for tag in (35, 7, 16)] == [b"2", b"1", b"0"]
    assert client.say("4", (43, "Y"), (122, "20261118-00:00:00"), (123, "Y"), (36, 3), seq=1) == []
    assert types(client.say("1", (112, "x"))) == [b"0"]


def test_a_stalled_line_says_nothing_until_it_is_over(client):
    client.session.inject("stall", 40)
    client.now_s += 35
    client.session.on_timer()
    assert (client.line.written, client.session.stalled_s) == (b"", 5)
    client.now_s += 6
    assert client.session.stalled_s == 0


@pytest.mark.parametrize("kind", ["stall", "heartbeat_silence"])
def test_a_client_is_not_taken_for_silent_because_of_our_own_silence(client, kind):
    client.session.inject(kind, 200)
    client.now_s += 201
    client.session.on_timer()
    assert client.line.ended is None


def test_a_silent_lp_answers_nothing_and_does_not_hold_the_market(client, quotes):
    client.session.inject("heartbeat_silence", 60)
    assert client.session.stalled_s == 0
    assert client.publish(*quotes) == []
    assert client.say("1", (112, "x")) == []
    client.now_s += 59
    client.session.on_timer()
    assert client.line.written == b""
    client.now_s += 2
    assert seqs(client.publish(quotes[0])) == [2]
    assert types(client.say("1", (112, "x"))) == [b"0"]


def test_a_black_hole_takes_connections_and_answers_nothing_until_it_closes_them(client):
    client.session.inject("blackhole", 20)
    assert client.line.ended == "aborted"
    client.connect()
    assert client.log_on() == []
    client.now_s += 15
    client.session.on_timer()
    assert client.line.ended is None
    client.now_s += 6
    client.session.on_timer()
    assert client.line.ended == "aborted"
    client.connect()
    assert types(client.log_on())[0] == b"A"


def test_logons_are_refused_for_a_while(client):
    client.session.inject("refuse_logon", 20)
    client.connect()
    (logout,) = client.log_on()
    assert [logout.get(tag) for tag in (35, 34, 58)] == [b"5", b"2", b"fault: refuse_logon"]
    assert client.line.ended == "closed"
    client.now_s += 21
    client.connect()
    assert types(client.log_on()) == [b"A"]


def test_a_fault_without_market_data_takes_a_heartbeat(client):
    client.session.inject("drop", 0)
    client.session.on_timer()
    assert client.line.ended is None
    client.now_s += 1
    client.session.on_timer()
    assert client.line.ended == "aborted"


@pytest.mark.parametrize("kind", sorted(PRICE_FAULTS))
def test_a_fault_in_a_price_waits_for_a_price(client, quotes, kind):
    client.session.inject(kind, 0)
    client.now_s += 5
    client.session.on_timer()
    assert client.line.written == b""
    client.session.publish(quotes[:1])
    assert framed(client.line.written)[0].get(270) != b"1.08500" or kind == "bad_group"


@pytest.mark.parametrize(
    ("stream", "kind", "tag", "value"),
    [
        ("quote", "bad_price", 132, b"NaN"), ("quote", "bad_group", 453, b"1"),
        ("mass_quote", "empty_value", 132, b""), ("mass_quote", "bad_group", 295, b"2"),
    ],
)  # fmt: skip
def test_quotes_are_damaged_as_well(new_desk, quotes, stream, kind, tag, value):
    desk = new_desk(stream=stream)
    desk.log_on()
    desk.ask_quotes("EUR/USD")
    (wrong,) = framed(strike(desk, kind, quotes[:1]))
    assert wrong.get(tag) == value


def test_a_second_fault_does_not_end_up_inside_a_split_message(client, quotes):
    strike(client, "reorder", quotes[:1])
    assert seqs(framed(strike(client, "split", quotes[1:3]))) == [3, 4, 2]
