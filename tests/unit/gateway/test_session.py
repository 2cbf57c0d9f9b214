"""The session's checklist (docs/fix.md), a test a number; the timer-driven ones are the connection's."""

import re

import pytest
from gateway_lp import T0, Lp, both_sides, build, entry, established, fields_of, frame_of, increment, quote, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Flag
from services.gateway.fix.session import HELD_BYTES_MAX, RESEND_TIMEOUT_NS
from services.gateway.fix.wire import format_sending_time, parse
from services.gateway.journal import Direction, Record
from services.gateway.market.top import SYMBOLS_MAX

X = quote("EUR/USD", "1.1", "1.2")
W = both_sides("EUR/USD", "1.1", "1.2")


def bid(price):
    """The body of an X that states the bid only."""
    return increment(entry("0", price, "1000", action="0", symbol="EUR/USD"))


def with_length(frame, length):
    return re.sub(rb"\x019=[0-9]+", b"\x019=" + length, frame, count=1)


def given_up(lp):
    return (lp.state.status, lp.session.disconnect_reason is not None)


GIVEN_UP = ("rejected", True)


# ---- logon and logout


def test_1_nothing_but_the_logon_is_sent_before_its_answer():
    lp = Lp().connect()
    assert lp.types() == ["A"]
    assert [(lp.got[0].get(tag)) for tag in (34, 98, 108, 141)] == [b"1", b"0", b"30", b"Y"]
    lp.logon()
    assert lp.types() == ["A", "V"]
    assert lp.state.status == "established"


def test_1_with_all_symbols_the_security_list_is_asked_for_and_each_symbol_of_it_subscribed_once():
    lp = Lp(symbols="all").connect().logon()
    assert lp.types() == ["A", "x"]
    assert lp.last("x").get(559) == b"4"
    listed = [(320, 1), (322, 1), (560, 0), (146, 3), (55, "EUR/USD"), (55, "XAU/USD"), (55, "K\u00f6nig")]
    lp.send("y", listed).send("y", [*listed, (55, "BTC/USD")])
    assert [message.text(55) for message in lp.got if message.text(35) == "V"] == ["EUR/USD", "XAU/USD", "BTC/USD"]
    assert list(lp.session.subscriptions.refused) == ["K\u00f6nig"]


def test_2_a_logon_with_a_number_too_high_is_accepted_and_what_was_missed_is_asked_for():
    lp = Lp(reset_on_logon=False).connect()
    lp.next_out = 5
    lp.logon(reset=False)
    assert lp.state.status == "established"
    assert [lp.last("2").get(tag) for tag in (7, 16)] == [b"1", b"0"]
    lp.send("X", X)
    assert lp.ticks == []
    lp.resend("4", 1, [(123, "Y"), (36, 5)])
    assert (lp.state.next_in, len(lp.ticks)) == (7, 1)


def test_3_a_logon_with_a_number_too_low_ends_in_logout_and_never_in_a_reset():
    lp = established(reset_on_logon=False)
    lp.send("0").send("0").drop().connect()
    lp.next_out = 1
    lp.logon(reset=False)
    assert lp.last("5").text(58) == "MsgSeqNum too low, expecting 4 but received 1"
    assert given_up(lp) == GIVEN_UP
    assert lp.session.alarm == "MsgSeqNum too low, expecting 4 but received 1"
    assert lp.state.next_in == 4


@pytest.mark.parametrize("msg_type", ["0", "X", "3", "*"])
def test_4_a_first_message_that_is_no_logon_ends_the_connection(msg_type):
    lp = Lp().connect().send(msg_type, X if msg_type == "X" else [(58, "x")])
    assert lp.types() == ["A", "5"]
    assert given_up(lp) == GIVEN_UP
    assert (lp.ticks, len(lp.quarantined)) == ([], msg_type == "X")


@pytest.mark.parametrize(
    ("fields", "more", "reason"),
    [
        ([(98, 0), (141, "Y")], {}, b"1"),
        ([(98, 0), (108, -1), (141, "Y")], {}, b"5"),
        ([(98, 0), (108, "x"), (141, "Y")], {}, b"6"),
        ([(98, 0), (108, 30)], {"sender": "LP2"}, b"9"),
        ([(98, 0), (108, 30)], {"target": "YOU"}, b"9"),
        ([(98, 0), (108, 30)], {"at": T0 - 121 * NS_PER_S}, b"10"),
        ([(98, 0), (108, 30)], {"at": T0 + 121 * NS_PER_S}, b"10"),
    ],
)
def test_5_an_invalid_logon_is_rejected_and_ended_with_a_reason(fields, more, reason):
    lp = Lp().connect().send("A", fields, **more)
    assert lp.types() == ["A", "3", "5"]
    assert lp.last("3").get(373) == reason
    assert lp.last("5").text(58)
    assert given_up(lp) == GIVEN_UP


def test_5_a_logon_with_a_broken_field_or_another_begin_string_is_ended():
    assert given_up(Lp().connect().receive(frame_of(b"35=A\x0134=1\x0198=\x01"))) == GIVEN_UP
    assert given_up(Lp().connect().send("A", [(98, 0), (108, 30)], begin=b"FIX.4.2")) == GIVEN_UP


@pytest.mark.parametrize("cut", [False, True])
def test_5_a_garbled_logon_behind_the_right_one_is_only_garbled(cut):
    lp = Lp().connect()
    pieces = [lp.message("A", [(98, 0), (108, 30)]), with_length(lp.message("A", [(98, 0), (108, 30)]), b"20")]
    for data in pieces if cut else [b"".join(pieces)]:
        lp.receive(data)
    assert (lp.state.status, lp.session.counts.garbled) == ("established", 1)


@pytest.mark.parametrize("cut", [False, True])
def test_5_a_garbled_logon_ends_the_connection_and_other_noise_does_not(cut):
    lp = Lp().connect()
    logon = lp.message("A", [(98, 0), (108, 30), (141, "Y")])
    noise = [b"noise", logon] if cut else [b"noise" + logon]
    for data in noise:
        lp.receive(data)
    assert (lp.state.status, lp.session.counts.garbled) == ("established", 1)
    lp = Lp().connect().receive(with_length(logon, b"20"))
    for data in noise:
        lp.receive(data)
    assert (lp.session.disconnect_reason, lp.types()) == ("Invalid logon: garbled", ["A", "5"])


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("seq", [1, 4, 9])
def test_7_a_logout_instead_of_a_logon_surfaces_its_text_whatever_its_number(reset, seq):
    lp = established(reset_on_logon=reset)
    lp.send("0").send("0").drop().connect().send("5", [(58, "invalid password")], seq=seq)
    assert lp.session.alarm == "logon rejected: invalid password"
    assert given_up(lp) == GIVEN_UP
    assert lp.types()[-1] == "A"


def test_8_a_reset_takes_effect_with_the_answer_only():
    lp = established().send("X", X).send("X", X).drop().connect()
    assert (lp.state.next_in, lp.last("A").get(34)) == (4, b"1")
    lp.drop().connect().logon()
    assert (lp.state.next_in, lp.state.next_out) == (2, 3)


def test_8_the_answer_to_a_reset_is_number_1_with_or_without_the_flag():
    lp = Lp().connect().send("A", [(98, 0), (108, 30)])
    assert (lp.state.status, lp.state.next_in) == ("established", 2)
    assert given_up(Lp().connect().send("A", [(98, 0), (108, 30), (141, "Y")], seq=2)) == GIVEN_UP


def test_9_the_lp_resets_both_directions_in_mid_session():
    lp = established().send("X", X)
    lp.logon()
    assert lp.types()[0] == "A"
    assert [lp.got[0].get(tag) for tag in (34, 141)] == [b"1", b"Y"]
    assert (lp.state.next_in, lp.state.next_out, lp.state.status) == (2, 1 + len(lp.got), "established")
    assert (lp.gaps[0].cause, lp.gaps[0].first_seq, lp.gaps[0].resolved_by) == ("reset", None, None)
    assert lp.types() == ["A", "V", "V"]
    lp.send("X", bid("1.15"))
    assert lp.ticks[-1].ask is None


def test_9_nothing_that_was_about_to_be_sent_takes_the_number_of_the_reset_logon():
    lp = established()
    request = lp.message("1", [(112, "hello")])
    lp.next_out = 1
    lp.receive(request + lp.message("A", [(98, 0), (108, 30), (141, "Y")]))
    assert (lp.types()[0], lp.got[0].get(34)) == ("A", b"1")


def test_9_what_was_held_before_the_reset_is_stored():
    lp = established().lose().send("X", X)
    lp.logon()
    assert (len(lp.ticks), lp.state.held) == (1, {})
    assert [(gap.cause, gap.first_seq, gap.last_seq) for gap in lp.gaps if gap.to_ts is None] == [
        ("reset", 2, 2),
        ("reset", None, None),
    ]


def test_9_a_resent_logon_is_no_reset():
    lp = established().send("X", X).resend("A", 1, [(98, 0), (108, 30), (141, "Y")])
    assert (lp.state.next_in, lp.got, lp.session.counts.dropped_duplicates) == (3, [], 1)


def test_11_after_our_logout_messages_still_count_until_the_answer():
    lp = established()
    lp.session.logout("bye")
    lp.flush()
    assert lp.state.status == "logging_out"
    lp.send("X", X).send("2", [(7, 1), (16, 0)])
    assert (len(lp.ticks), lp.types()) == (1, ["5", "4"])
    assert lp.session.disconnect_reason is None
    lp.send("5")
    assert (lp.session.disconnect_reason, lp.types()) == ("logged out", ["5", "4"])


def test_12_an_unsolicited_logout_is_answered_and_the_lp_closes():
    lp = established().send("5", [(58, "end of day")])
    assert (lp.types(), lp.state.status, lp.session.disconnect_reason) == (["5"], "logging_out", None)
    assert lp.session.alarm == "LP logged out: end of day"
    lp.send("X", X)
    assert len(lp.ticks) == 1


def test_13_a_disconnect_keeps_both_numbers_and_what_was_held():
    lp = established(reset_on_logon=False).send("X", X).lose("X", bid("1.15")).send("X", bid("1.16"))
    out = lp.state.next_out
    lp.drop().connect()
    assert (lp.last("A").number(34), lp.last("A").get(141)) == (out, None)
    lp.logon(reset=False)
    assert [lp.last("2").get(tag) for tag in (7, 16)] == [b"3", b"0"]
    lp.resend("X", 3, bid("1.15"))
    assert (lp.bids(), lp.state.held) == ([1.1, 1.15, 1.16], {})


# ---- header and sequence


def test_15_a_message_of_the_expected_number_is_accepted():
    lp = established().send("X", X).send("0").send("X", X)
    assert (lp.state.next_in, len(lp.ticks)) == (5, 2)


def test_16_a_gap_is_asked_for_once_and_applied_in_order():
    lp = established().lose().lose().send("X", bid("1.4")).send("X", bid("1.5"))
    assert lp.ticks == []
    lp.resend("X", 2, bid("1.2")).send("X", bid("1.6")).resend("X", 3, bid("1.3"))
    assert lp.types() == ["2"]
    assert [lp.got[0].get(tag) for tag in (7, 16)] == [b"2", b"0"]
    assert lp.bids() == [1.2, 1.3, 1.4, 1.5, 1.6]
    assert (lp.gaps, lp.state.resend_deadline, lp.state.next_in) == ([], 0, 7)


def test_16_a_second_gap_beyond_the_first_is_asked_for_when_the_first_is_filled():
    lp = established().lose().send("X", bid("1.3")).lose().send("X", bid("1.5"))
    lp.resend("X", 2, bid("1.2"))
    assert [message.get(7) for message in lp.got] == [b"2", b"4"]
    lp.resend("X", 4, bid("1.4"))
    assert (lp.bids(), lp.gaps) == ([1.2, 1.3, 1.4, 1.5], [])


def test_16_what_is_held_keeps_the_time_it_was_read():
    lp = established().lose()
    read = lp.wait(1).now
    lp.send("X", bid("1.3")).wait(2).resend("X", 2, bid("1.2"))
    assert [tick.recv_ts for tick in lp.ticks] == [lp.now, read]


def test_16_a_resend_of_what_is_held_or_was_taken_is_dropped():
    lp = established().lose().send("X", bid("1.3")).send("X", bid("1.4"))
    lp.resend("X", 3, bid("1.3")).resend("X", 2, bid("1.2")).resend("X", 3, bid("1.3")).resend("X", 4, bid("1.4"))
    assert (lp.bids(), lp.session.counts.dropped_duplicates) == ([1.2, 1.3, 1.4], 3)
    assert [tick.flags & Flag.RESENT for tick in lp.ticks] == [Flag.RESENT, 0, 0]


def test_16_a_gap_that_is_not_filled_in_time_is_recorded_and_the_session_goes_on():
    lp = established().send("X", X).lose().lose().wait(1).send("X", bid("1.4"))
    lp.now += RESEND_TIMEOUT_NS
    lp.send("0")
    assert len(lp.ticks) == 1
    lp.wait(1).send("0")
    assert (lp.bids(), lp.state.held, lp.state.next_in) == ([1.1, 1.4], {}, 8)
    assert [(gap.cause, gap.first_seq, gap.last_seq, gap.from_ts) for gap in lp.gaps] == [("gap_fill", 3, 4, T0)]
    assert lp.ticks[-1].ask is None
    assert lp.types() == ["2", "V", "V"]


def test_16_each_hole_is_a_gap_of_its_own_and_no_message_between_is_lost():
    lp = established().lose().send("X", bid("1.3")).lose().lose().send("X", bid("1.6")).wait(31).send("X", bid("1.7"))
    assert lp.bids() == [1.3, 1.6, 1.7]
    assert [(gap.first_seq, gap.last_seq) for gap in lp.gaps] == [(2, 2), (4, 5)]


def test_16_too_much_held_is_not_waited_for():
    lp = established().lose()
    for _ in range(HELD_BYTES_MAX // 900_000 + 1):
        lp.send("X", [*X, (58, "x" * 900_000)])
    assert (len(lp.ticks), lp.state.held, lp.state.held_bytes) == (36, {}, 0)
    assert [(gap.first_seq, gap.last_seq) for gap in lp.gaps[:1]] == [(2, 2)]


@pytest.mark.parametrize("msg_type", ["X", "0", "A"])
def test_18_a_number_too_low_ends_the_session(msg_type):
    lp = established().send("0").send(msg_type, X if msg_type == "X" else [(108, 30)], seq=2)
    assert lp.types() == ["5"]
    assert lp.got[0].text(58) == "MsgSeqNum too low, expecting 3 but received 2"
    assert given_up(lp) == GIVEN_UP
    assert lp.reasons() == (["sequence number was seen before"] if msg_type == "X" else [])


def test_16_a_number_that_cannot_be_true_is_kept_in_quarantine_and_costs_nothing():
    lp = established(reset_on_logon=False).send("X", X).send("X", bid("1.3"), seq=999_999_999).lose("X", X).send("X", X)
    assert (lp.reasons(), lp.last("2").text(7)) == (["MsgSeqNum 999999999 is too far beyond 2 to be true"], "3")
    lp.resend("X", 3, bid("1.3"))
    assert (lp.bids(), lp.state.next_in, lp.state.held, lp.gaps) == ([1.1, 1.3, 1.1], 5, {}, [])


def test_16_a_hole_below_a_number_that_was_not_true_is_asked_for_all_the_same():
    lp = established(reset_on_logon=False).send("X", X).send("X", X, seq=3_000)
    assert [lp.last("2").text(tag) for tag in (7, 16)] == ["3", "0"]
    lp.send("X", bid("1.2")).lose("X", X).send("X", bid("1.4"))
    assert [lp.last("2").text(tag) for tag in (7, 16)] == ["4", "0"]
    lp.resend("X", 4, bid("1.3"))
    assert (lp.bids(), lp.state.next_in) == ([1.1, 1.2, 1.3, 1.4], 6)


def test_16_a_message_whose_number_was_not_true_is_not_stored_as_another():
    lp = established(reset_on_logon=False).send("X", X).send("X", bid("1.3"), seq=9).lose().send("X", bid("1.4"))
    assert lp.reasons() == ["MsgSeqNum 9 was not true: a message that was sent after it has 4"]
    lp.resend("X", 3, bid("1.3"))
    for price in ("1.5", "1.6", "1.7", "1.8", "1.9", "2"):
        lp.send("X", bid(price))
    assert lp.bids() == [1.1, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2]
    assert (lp.state.next_in, lp.state.held, lp.gaps) == (11, {}, [])


def test_37_a_gap_fill_that_fills_nothing_uses_no_number():
    lp = established().resend("4", 2, [(123, "Y"), (36, 2)]).send("X", X)
    assert (lp.types(), len(lp.ticks), lp.state.next_in) == ([], 1, 3)


def test_16_a_request_that_nothing_waits_for_ends_with_the_next_message_of_a_known_shape_too():
    lp = established().send("X", X)
    lp.resend("4", 99, [(123, "Y"), (36, 100)])
    assert lp.send("X", X).state.resend_deadline == 0


def test_38_a_gap_fill_too_high_with_no_number_to_go_to_is_asked_about():
    lp = established().resend("4", 18, [(123, "Y"), (36, "x")])
    assert (lp.state.status, lp.types()) == ("established", ["2"])


def test_a_symbol_before_the_group_and_in_its_first_entry_only():
    lp = established(symbols="all")
    bid_entry = entry("0", "1.1", "1", action="0", symbol="EUR/USD", date="20261120", time="10:00:00")
    ask_entry = entry("1", "1.2", "1", action="0", date="20261120", time="10:00:00")
    for _ in range(3):
        lp.send("X", [(55, "EUR/USD"), *increment(bid_entry, ask_entry)])
    assert [(tick.bid, tick.ask) for tick in lp.ticks] == [(1_100_000_000, 1_200_000_000)] * 3


def test_a_fault_of_ours_costs_one_message_and_not_the_gateway(monkeypatch):
    lp = established()
    monkeypatch.setattr(lp.session.capture, "keep", lambda *_: {}["nothing"])
    frame = lp.message("X", X)
    lp.session.apply(Record(0, lp.now, Direction.IN, frame))
    monkeypatch.undo()
    assert (lp.session.counts.faults, lp.session.alarms["fault"]) == (1, "a fault of the gateway: KeyError('nothing')")
    lp.session.counts.faults = 0
    lp.send("X", bid("1.5"))
    assert (lp.state.next_in, lp.bids()) == (4, [1.5])
    assert [item.raw for item in lp.quarantined] == [frame]


def test_an_lp_cannot_fill_the_memory_with_names_or_with_requests():
    lp = Lp(symbols="all").connect().logon()
    lp.send("y", [(320, 1), (322, 1), (560, 0), *((55, f"\xe9{number}") for number in range(SYMBOLS_MAX + 5))])
    assert len(lp.session.subscriptions.refused) == SYMBOLS_MAX
    lp.lose().send("2", [(7, 1), (16, 0)])
    assert lp.state.held_bytes >= 100


def test_42_quotes_of_a_known_shape_answer_our_requests_too():
    lp = Lp().connect()
    lp.next_out = 1
    logon = lp.message("A", [(98, 0), (108, 30), (141, "Y")])
    lp.receive(logon + lp.message("X", X) + lp.message("X", X)).send("X", X)
    lp.got.clear()
    assert lp.send("2", [(7, 1), (16, 0)]).types() == ["4"]


def test_18_a_resend_request_or_logout_with_a_number_too_low_is_answered_and_moves_nothing():
    lp = established().send("0").send("2", [(7, 1), (16, 0)], seq=2)
    assert (lp.types(), lp.state.next_in, lp.state.status) == (["4", "V", "V"], 3, "established")
    lp.send("5", seq=2)
    assert (lp.types()[-1], lp.state.next_in, lp.session.disconnect_reason) == ("5", 3, None)


def test_19_a_possible_duplicate_is_ignored_if_seen_and_processed_if_not():
    lp = established().send("X", bid("1.2")).resend("X", 2, bid("1.2"))
    assert (len(lp.ticks), lp.session.counts.dropped_duplicates) == (1, 1)
    lp.lose().send("X", bid("1.4")).wait(31).send("0")
    lp.resend("X", 3, bid("1.3"))
    assert (lp.bids(), lp.ticks[-1].flags & Flag.RESENT) == ([1.2, 1.4, 1.3], Flag.RESENT)
    lp.resend("X", 3, bid("1.3"))
    assert len(lp.ticks) == 3


def test_19_what_is_resent_too_late_is_stored_and_does_not_touch_the_book():
    lp = established().lose().send("X", X).wait(31).send("X", X)
    lp.resend("X", 2, bid("9.9"))
    lp.send("X", increment(entry("1", "1.21", action="0", symbol="EUR/USD")))
    assert lp.bids() == [1.1, 1.1, 9.9, 1.1]
    assert [tick.ask is None for tick in lp.ticks] == [False, False, True, False]


def test_20_a_possible_duplicate_first_sent_after_it_was_sent_ends_the_session():
    later = format_sending_time(T0 + NS_PER_S)
    lp = established().send("X", X, header=((43, "Y"), (122, later)))
    assert [lp.last("3").get(tag) for tag in (45, 371, 373)] == [b"2", None, b"10"]
    assert (lp.types(), given_up(lp)) == (["3", "5"], GIVEN_UP)
    assert (lp.ticks, len(lp.quarantined)) == ([], 1)


def test_21_a_possible_duplicate_without_its_first_sending_time_is_rejected_and_kept():
    lp = established().send("X", X, header=((43, "Y"),)).send("X", X)
    assert [lp.last("3").get(tag) for tag in (371, 373)] == [b"122", b"1"]
    assert (lp.state.next_in, len(lp.ticks), len(lp.quarantined)) == (4, 1, 1)


def test_21_held_or_not_it_uses_one_number():
    lp = established().lose("0").send("X", X, header=((43, "Y"),)).send("X", X).resend("4", 2, [(123, "Y"), (36, 3)])
    assert (lp.state.next_in, len(lp.ticks), len(lp.quarantined)) == (5, 1, 1)


def test_22_another_begin_string_ends_the_session():
    lp = established().send("X", X, begin=b"FIX.4.2")
    assert (lp.last("5").text(58), given_up(lp)) == ("Incorrect BeginString", GIVEN_UP)
    assert lp.reasons() == ["wrong BeginString"]


@pytest.mark.parametrize("more", [{"sender": "LP2"}, {"target": "OTHER"}])
def test_23_another_comp_id_is_rejected_and_ends_the_session(more):
    lp = established().send("X", X, **more)
    assert [lp.last("3").get(field) for field in (45, 371, 372, 373)] == [b"2", None, b"X", b"9"]
    assert (lp.types(), given_up(lp), lp.reasons()) == (["3", "5"], GIVEN_UP, ["wrong CompID"])


@pytest.mark.parametrize("seconds", [-121, 121])
def test_24_a_sending_time_too_far_off_is_rejected_and_ends_the_session(seconds):
    lp = established().send("X", X).send("X", X, at=T0 + seconds * NS_PER_S)
    assert (lp.last("3").get(373), lp.types(), given_up(lp)) == (b"10", ["3", "5"], GIVEN_UP)
    assert (len(lp.ticks), lp.reasons()) == (1, ["SendingTime accuracy problem"])


def test_24_the_tolerance_is_configured_and_can_be_switched_off():
    far = T0 - 3600 * 24 * NS_PER_S
    assert len(established(sending_time_tolerance_s=0).send("X", X, at=far).ticks) == 1
    assert established(sending_time_tolerance_s=1).send("X", X, at=T0 + NS_PER_S).state.status == "established"
    assert given_up(established(sending_time_tolerance_s=1).send("X", X, at=T0 + NS_PER_S + 1_000_000)) == GIVEN_UP


@pytest.mark.parametrize(("kind", "stamp"), [(b"0", b"52=yesterday\x01"), (b"X", b"")])
def test_24_a_sending_time_that_is_none_ends_the_session(kind, stamp):
    frame = frame_of(b"35=%s\x0134=2\x0149=LP1\x01%s56=TICKVAULT\x01" % (kind, stamp))
    lp = established().receive(frame)
    assert (lp.last("3").get(371), lp.types(), given_up(lp)) == (b"52", ["3", "5"], GIVEN_UP)


def test_25_a_message_type_that_does_not_exist_is_rejected_and_the_session_stays():
    lp = established().send("*").send("X", X)
    assert [lp.got[0].get(tag) for tag in (35, 45, 373)] == [b"3", b"2", b"11"]
    assert len(lp.ticks) == 1


def test_25_a_message_type_we_do_not_support_is_a_business_reject():
    lp = established().send("B", [(148, "headline"), (33, 1), (58, "text")]).send("X", X)
    assert [lp.got[0].get(tag) for tag in (35, 45, 372, 380)] == [b"j", b"2", b"B", b"3"]
    assert len(lp.ticks) == 1


@pytest.mark.parametrize("number", [b"", b"34=x\x01"])
def test_26_a_message_without_a_number_ends_the_session(number):
    body = b"35=X\x01%s49=LP1\x0152=20261120-10:00:00\x0156=TICKVAULT\x01" % number + fields_of(*X)
    lp = established().receive(frame_of(body))
    assert (lp.types(), given_up(lp), len(lp.quarantined)) == (["5"], GIVEN_UP, 1)


# ---- garbled


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: with_length(frame, b"20"),
        lambda frame: with_length(frame, b"999999999"),
        lambda frame: with_length(frame, b"abc"),
        lambda frame: frame[:-2] + b"x\x01",
        lambda frame: frame[:-7] + b"\x0110=1\x01",
        lambda frame: frame.replace(b"35=X\x0134=2\x01", b"34=2\x0135=X\x01"),
        lambda frame: frame.replace(b"\x01269=", b"269=", 1),
        lambda frame: frame[:-20],
    ],
)
def test_27_to_30_a_garbled_message_raises_nothing_and_is_kept(damage):
    lp = established()
    garbled = damage(lp.message("X", X))
    lp.receive(garbled + lp.message("0", seq=2))
    assert (lp.state.next_in, lp.types(), lp.ticks) == (3, [], [])
    assert b"".join(item.raw for item in lp.quarantined) == garbled
    assert lp.session.counts.garbled == len(lp.quarantined)


def test_31_a_cut_frame_is_kept_for_people_and_not_put_before_the_next_connection():
    lp = established()
    cut = lp.message("X", X)[:50]
    lp.receive(cut).drop().connect()
    lp.receive(lp.message("A", [(98, 0), (108, 30), (141, "Y")], seq=1))
    assert (lp.state.status, lp.session.counts.garbled) == ("established", 0)
    assert [(item.reason, item.raw) for item in lp.quarantined] == [("cut by the end of the connection", cut)]


def test_31_whole_messages_behind_a_lying_length_are_not_lost_with_the_connection():
    lp = established()
    lying = with_length(lp.message("0", seq=99), b"5000")
    lp.receive(lying + lp.message("X", X) + lp.message("X", X))
    assert lp.ticks == []
    lp.drop()
    assert (len(lp.ticks), len(lp.quarantined)) == (2, 1)


def test_32_the_number_of_a_garbled_message_is_asked_for_when_the_next_one_comes():
    lp = established()
    lp.receive(lp.message("X", bid("1.2"))[:-2] + b"x\x01").send("X", bid("1.3"))
    assert [lp.got[0].get(tag) for tag in (35, 7, 16)] == [b"2", b"2", b"0"]
    lp.resend("X", 2, bid("1.2"))
    assert (lp.bids(), lp.gaps) == ([1.2, 1.3], [])


def test_32_a_gap_is_called_garbled_only_if_that_is_what_it_may_have_been():
    lp = established()
    lp.receive(lp.message("X", X)[:-2] + b"x\x01").send("X", X).resend("4", 2, [(123, "Y"), (36, 3)])
    lp.send("X", X).lose().send("X", X).resend("4", 5, [(123, "Y"), (36, 6)])
    assert [(gap.cause, gap.first_seq) for gap in lp.gaps if gap.to_ts is None] == [("garbled", 2), ("gap_fill", 5)]


# ---- heartbeats


def test_34_a_test_request_is_answered_with_its_id_whatever_its_bytes():
    lp = established().send("1", [(112, b"caf\xe9 \xff")])
    assert [(message.text(35), message.get(112)) for message in lp.got] == [("0", b"caf\xe9 \xff")]
    lp.send("1")
    assert [lp.last("3").get(tag) for tag in (371, 373)] == [b"112", b"1"]


# ---- sequence reset and resend request


def test_37_a_gap_fill_of_the_expected_number_moves_on_and_is_a_gap():
    lp = established().send("X", X).wait(1).send("4", [(123, "Y"), (36, 8)], seq=3)
    assert (lp.state.next_in, lp.types()) == (8, ["V", "V"])
    assert [(gap.cause, gap.first_seq, gap.last_seq, gap.from_ts, gap.resolved_by) for gap in lp.gaps] == [
        ("gap_fill", 3, 7, T0, None)
    ]


@pytest.mark.parametrize(("new", "reason"), [([(36, 2)], b"5"), ([(36, "x")], b"6"), ([], b"1")])
def test_37_a_gap_fill_that_does_not_move_on_is_rejected(new, reason):
    lp = established().send("4", [(123, "Y"), *new])
    assert (lp.state.next_in, lp.types(), lp.got[0].get(373)) == (3, ["3"], reason)


def test_38_a_gap_fill_beyond_a_gap_is_not_applied():
    lp = established().lose("X", X).send("4", [(123, "Y"), (36, 9)])
    assert (lp.state.next_in, lp.types()) == (2, ["2"])
    lp.resend("X", 2, X).resend("4", 3, [(123, "Y"), (36, 9)])
    assert (lp.state.next_in, len(lp.ticks)) == (9, 1)
    lp.next_out = 9
    assert len(lp.send("X", X).ticks) == 2


def test_39_a_gap_fill_too_low_is_ignored_if_a_possible_duplicate_and_fatal_if_not():
    lp = established().send("0").send("0").resend("4", 2, [(123, "Y"), (36, 9)])
    assert (lp.state.next_in, lp.state.status, lp.got) == (4, "established", [])
    lp.send("4", [(123, "Y"), (36, 9)], seq=2)
    assert (lp.last("5").text(58), given_up(lp)) == ("MsgSeqNum too low, expecting 4 but received 2", GIVEN_UP)


def test_40_messages_held_inside_a_gap_fill_are_stored():
    lp = established().send("X", X).lose().send("X", bid("1.4")).lose().send("X", bid("1.6")).send("X", bid("1.7"))
    lp.resend("4", 3, [(123, "Y"), (36, 7)])
    assert lp.bids() == [1.1, 1.4, 1.6, 1.7]
    assert [tick.ask for tick in lp.ticks[1:]] == [None] * 3
    assert (lp.state.next_in, lp.state.held) == (8, {})
    assert [(gap.first_seq, gap.last_seq) for gap in lp.gaps] == [(3, 3), (5, 5)]
    assert lp.types() == ["2", "V", "V"]


def test_41_a_reset_to_a_higher_number_is_accepted_whatever_its_own():
    for seq in (1, 2, 77):
        lp = established().send("4", [(36, 50)], seq=seq)
        assert (lp.state.next_in, lp.state.status) == (50, "established")
        assert [(gap.cause, gap.first_seq, gap.last_seq) for gap in lp.gaps] == [("reset", 2, 49)]


def test_41_a_reset_past_held_messages_stores_them():
    lp = established().lose().send("X", bid("1.3")).send("4", [(123, "N"), (36, 10)])
    assert (lp.bids(), lp.state.next_in) == ([1.3], 10)
    assert [(gap.cause, gap.first_seq, gap.last_seq) for gap in lp.gaps] == [("reset", 2, 2), ("reset", 4, 9)]


def test_41_a_reset_to_the_expected_number_changes_nothing():
    lp = established().send("4", [(36, 2)], seq=9)
    assert (lp.state.next_in, lp.got, lp.gaps) == (2, [], [])


@pytest.mark.parametrize(("fields", "reason"), [([(36, 2)], b"5"), ([(36, "x")], b"6"), ([(58, "x")], b"1")])
def test_41_a_reset_to_a_lower_number_or_to_none_is_rejected(fields, reason):
    lp = established().send("0").send("0").send("4", fields, seq=1)
    assert [lp.got[0].get(tag) for tag in (35, 373)] == [b"3", reason]
    assert (lp.state.next_in, lp.state.status) == (4, "established")


@pytest.mark.parametrize(("first", "last", "new"), [(1, 0, 6), (3, 4, 5), (2, 99, 6), (5, 5, 6)])
def test_42_a_resend_request_is_answered_by_one_gap_fill(first, last, new):
    lp = established(symbols=("A", "B", "C", "D")).send("X", X).send("2", [(7, first), (16, last)])
    assert [lp.got[0].get(tag) for tag in (35, 34, 43, 123, 36)] == [b"4", b"%d" % first, b"Y", b"Y", b"%d" % new]
    assert lp.got[0].get(122) is not None
    assert (len(lp.got), lp.state.next_out) == (1, 6)


@pytest.mark.parametrize("asked", [[(7, 50), (16, 0)], [(7, 0), (16, 0)], [(7, 4), (16, 2)]])
def test_42_a_resend_request_for_what_we_never_sent_is_not_answered(asked):
    assert established().send("2", asked).got == []


@pytest.mark.parametrize("fields", [[(16, 0)], [(7, 1)], [(7, "x"), (16, 0)]])
@pytest.mark.parametrize("seq", [2, 9])
def test_42_a_resend_request_without_its_range_is_rejected_due_or_not(fields, seq):
    lp = established().send("2", fields, seq=seq)
    assert lp.types() == (["3"] if seq == 2 else ["3", "2"])
    assert lp.state.status == "established"


def test_43_simultaneous_resend_requests_are_answered_before_we_ask():
    lp = established().send("X", X).lose().send("2", [(7, 1), (16, 0)])
    assert lp.types() == ["4", "2"]
    lp.send("X", X).resend("4", 3, [(123, "Y"), (36, 4)]).resend("4", 4, [(123, "Y"), (36, 6)])
    assert (lp.state.next_in, len(lp.ticks), lp.types().count("2")) == (6, 2, 1)


def test_42_requests_the_lp_has_not_answered_are_made_anew_when_a_gap_fill_covers_them():
    lp = established(symbols=("A", "B")).send("2", [(7, 1), (16, 0)])
    assert lp.types()[0] == "4"
    assert [message.text(55) for message in lp.got if message.get(263) == b"1"] == ["A", "B"]
    lp.got.clear()
    assert lp.send("X", X).send("2", [(7, 1), (16, 0)]).types() == ["4"]


def test_42_a_gap_fill_goes_out_before_messages_that_have_no_number_yet():
    lp = Lp(reset_on_logon=False).connect()
    lp.receive(build("A", 5, [(98, 0), (108, 30)]) + build("2", 6, [(7, 1), (16, 0)]))
    assert [message.get(35) for message in lp.got][:3] == [b"A", b"4", b"2"]


def test_16_a_resend_that_moves_is_waited_for_however_long_it_takes():
    lp = established().send("X", X)
    for _ in range(40):
        lp.lose()
    lp.send("X", X)
    for number in range(3, 43):
        lp.now += 5 * NS_PER_S
        lp.resend("X", number, X)
    assert (len(lp.ticks), lp.gaps) == (42, [])


def test_09_an_lp_that_answers_our_answer_to_its_reset_keeps_the_session():
    lp = established().send("X", X)
    lp.next_out = 1
    lp.send("A", [(98, 0), (108, 30), (141, "Y")]).send("A", [(98, 0), (108, 30), (141, "Y")]).send("X", X)
    assert (lp.state.status, lp.state.next_in, len(lp.ticks)) == ("established", 4, 2)


@pytest.mark.parametrize("msg_type", ["3", "j"])
def test_44_a_reject_is_counted_and_surfaced_and_not_answered(msg_type):
    lp = established().send(msg_type, [(45, 2), (58, "what?")]).send("X", X)
    assert (lp.got, lp.session.counts.rejects_received, len(lp.ticks)) == ([], 1, 1)
    assert lp.session.alarm == "LP rejected our message 2 (): what?"


def test_45_a_possible_resend_is_stored_and_marked():
    lp = established().send("X", X).send("X", X, header=((97, "Y"),))
    assert [tick.flags for tick in lp.ticks] == [0, Flag.RESENT]


# ---- fields


@pytest.mark.parametrize("broken", [b"270=\x01", b"x=1\x01", b"270\x01"])
def test_46_a_message_with_a_broken_field_uses_its_number_is_rejected_and_kept(broken):
    frame = frame_of(b"35=X\x0134=2\x0149=LP1\x0152=20261120-10:00:00\x0156=TICKVAULT\x01268=1\x01279=0\x01269=0\x01" + broken)
    lp = established().receive(frame)
    lp.next_out = 3
    lp.send("X", X)
    assert (lp.types(), lp.state.next_in, len(lp.ticks)) == (["3"], 4, 1)
    assert [item.raw for item in lp.quarantined] == [frame]


def test_46_a_broken_field_beyond_a_gap_holds_its_place():
    lp = established().lose("X", X)
    lp.receive(lp.message("0", [(58, "")])).send("X", X).resend("X", 2, X)
    assert (lp.state.next_in, len(lp.ticks), lp.types()) == (5, 2, ["2"])


def test_46_market_data_that_does_not_decode_is_kept_and_the_session_goes_on():
    lp = established().send("X", [(268, 3), *X[2:]]).send("X", X)
    assert (lp.got, len(lp.ticks), lp.state.next_in) == ([], 1, 4)
    assert lp.reasons() == ["undecodable: NoMDEntries(268) says 3, there are 2"]


def test_46_a_broken_message_before_the_logon_is_kept_too():
    lp = Lp().connect().receive(frame_of(b"35=X\x0134=1\x01270=\x01"))
    assert (given_up(lp), len(lp.quarantined)) == (GIVEN_UP, 1)


# ---- market data


def test_49_a_refused_subscription_is_not_tried_again_on_this_connection():
    lp = Lp(symbols=("EUR/USD", "XAU/USD")).connect().logon()
    refused = next(message.text(262) for message in lp.got if message.text(55) == "XAU/USD")
    lp.got.clear()
    lp.send("Y", [(262, refused), (281, "0"), (58, "unknown symbol")]).send("4", [(123, "Y"), (36, 9)])
    assert lp.session.subscriptions.refused == {"XAU/USD": "281=0 unknown symbol"}
    assert [(message.text(55), message.get(263)) for message in lp.got] == [("EUR/USD", b"2"), ("EUR/USD", b"1")]
    lp.drop().connect().logon()
    assert lp.session.subscriptions.refused == {}
    assert lp.last("V").text(55) == "XAU/USD"


def test_50_a_request_id_is_never_used_twice():
    lp = Lp(symbols=("A", "B")).connect().logon()
    for _ in range(3):
        lp.wait(ms=1).drop().connect().logon().send("4", [(123, "Y"), (36, 9)])
    ids = [message.text(262) for message in lp.got if message.text(35) == "V" and message.get(263) == b"1"]
    assert len(ids) == len(set(ids)) == 14


def test_51_after_a_gap_the_old_requests_are_ended_and_new_ones_made():
    lp = Lp().connect().logon()
    first = lp.last("V").text(262)
    lp.send("X", X).send("4", [(123, "Y"), (36, 9)])
    asked = [(message.get(263), message.text(262)) for message in lp.got[2:]]
    assert asked[0] == (b"2", first)
    assert asked[1][0] == b"1"
    assert asked[1][1] != first


def test_51_gap_fills_in_one_chunk_or_while_a_resend_is_under_way_cause_one_resubscription():
    lp = established()
    lp.receive(b"".join(lp.message("4", [(123, "Y"), (36, seq + 1)]) for seq in range(2, 6)))
    assert lp.types() == ["V", "V"]
    lp = established().lose().lose().lose().send("X", X)
    for seq in range(2, 5):
        lp.resend("4", seq, [(123, "Y"), (36, seq + 1)])
    assert lp.types() == ["2", "V", "V"]


@pytest.mark.parametrize("cause", ["disconnect", "restart"])
def test_51_a_lost_connection_is_a_gap_until_the_first_snapshot(cause):
    lp = established().send("X", X).wait(1)
    if cause == "disconnect":
        lp.drop()
    lp.wait(60).connect().logon().wait(1).send("0").send("W", W).send("X", bid("1.15"))
    opened, ended = lp.gaps
    assert (opened.cause, opened.first_seq, opened.last_seq, opened.from_ts) == (cause, 3, None, T0)
    assert (opened.to_ts, opened.resolved_by) == (None, None)
    assert (ended.from_ts, ended.to_ts, ended.resolved_by) == (T0, lp.now, "snapshot")
    assert (lp.state.open_gaps, lp.bids()) == ([], [1.1, 1.1, 1.15])


def test_51_until_a_fresh_quote_no_old_price_is_shown():
    lp = established().send("X", X).drop().connect().logon().send("X", bid("1.15"))
    assert (lp.ticks[-1].ask, lp.ticks[-1].flags) == (None, Flag.ONE_SIDED)
    assert len(lp.state.open_gaps) == 1
    lp.send("X", X)
    assert lp.state.open_gaps == []


def test_51_what_is_resent_does_not_end_a_gap():
    lp = established(reset_on_logon=False).send("X", X).lose("X", X).drop().connect().logon(reset=False)
    lp.resend("X", 3, X)
    assert (len(lp.ticks), len(lp.state.open_gaps)) == (2, 1)
    lp.send("W", W)
    assert lp.gaps[-1].resolved_by == "snapshot"


def test_51_a_connection_that_never_was_established_is_no_gap():
    lp = Lp().connect().drop().connect().send("5", [(58, "not today")]).drop().connect().send("0").drop()
    assert lp.gaps == []


def test_51_connections_that_fail_one_after_another_are_one_gap():
    lp = established().send("X", X).drop()
    for _ in range(3):
        lp.wait(5).connect().wait(1).drop()
    lp.connect().logon().drop().connect().logon().send("W", W)
    assert [(gap.cause, gap.resolved_by) for gap in lp.gaps] == [("disconnect", None), ("disconnect", "snapshot")]
    assert lp.gaps[0].first_seq == 3


def test_51_a_gap_before_the_first_quote_begins_now_and_not_in_1970():
    lp = established().wait(5).send("4", [(123, "Y"), (36, 9)])
    lp.lose()
    assert [gap.from_ts for gap in lp.gaps] == [T0 + 5 * NS_PER_S]


def test_51_messages_held_when_the_connection_ends_are_stored():
    lp = established().lose().send("X", bid("1.3")).send("1", [(112, "too late to answer")]).drop()
    assert (lp.bids(), lp.session.sends, lp.types()) == ([1.3], [], ["2"])
    assert [(gap.cause, gap.first_seq, gap.last_seq) for gap in lp.gaps] == [("disconnect", 2, 2), ("disconnect", 5, None)]
    assert lp.connect().types() == ["2", "A"]


def test_52_an_entry_we_cannot_place_asks_for_fresh_snapshots_but_not_every_time():
    lp = established()
    unknown = increment(entry("0", "1.5", action="1", entry_id="never seen"))
    lp.send("X", unknown).send("X", unknown).wait(59).send("X", unknown)
    assert (lp.types(), len(lp.quarantined)) == (["V", "V"], 3)
    lp.wait(2).send("X", unknown)
    assert lp.types() == ["V"] * 4


def test_53_on_shutdown_every_standing_request_is_ended():
    lp = Lp(symbols=("A", "B")).connect().logon()
    asked = [message.text(262) for message in lp.got if message.text(35) == "V"]
    lp.got.clear()
    lp.session.subscriptions.unsubscribe()
    lp.session.logout()
    lp.flush()
    assert [(message.text(35), message.text(263), message.text(262)) for message in lp.got] == [
        ("V", "2", asked[0]), ("V", "2", asked[1]), ("5", "", ""),
    ]  # fmt: skip


def test_54_two_symbols_deletes_and_no_entries_at_all():
    lp = established(symbols="all").send(
        "X", increment(entry("0", "1.1", action="0", symbol="A"), entry("1", "2.2", action="0", symbol="B"))
    )
    lp.send("X", increment(entry("0", action="2", symbol="A"), entry("0", "2.1", action="0", symbol="B")))
    lp.send("X", [(268, 0)]).send("W", snapshot("B"))
    assert [(tick.symbol, tick.seq) for tick in lp.ticks] == [("A", 0), ("B", 0), ("B", 1)]
    assert [(item.symbol, item.reason) for item in lp.quarantined] == [
        ("A", "no price on either side"),
        ("B", "no price on either side"),
    ]


def test_54_two_spellings_of_a_symbol_in_one_message_are_one_tick_however_often_it_comes():
    lp = established(symbols="all", aliases={"EURUSD.r": "EUR/USD"})
    both = [
        entry(side, price, "1", action="0", symbol=symbol, date="20261120", time="10:00:00")
        for symbol, prices in (("EURUSD.r", "12"), ("EUR/USD", "34"))
        for side, price in zip("01", prices, strict=True)
    ]
    for _ in range(4):
        lp.send("X", increment(*both))
    assert [(tick.seq, tick.bid // 10**9) for tick in lp.ticks] == [(0, 3), (1, 3), (2, 3), (3, 3)]


# ---- a session that was given up


def test_later_market_data_of_a_session_that_was_given_up_is_kept_in_quarantine():
    lp = established()
    low = lp.message("X", X, seq=1)
    lp.receive(low + lp.message("X", X) + lp.message("0") + lp.message("W", W)).send("X", X)
    assert lp.ticks == []
    assert lp.reasons() == ["sequence number was seen before", *["arrived after the session was given up"] * 3]


def test_the_account_holds_for_any_order_of_arrival():
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(2, 12), max_size=25), st.booleans())
    def whatever_arrives(arriving, resent):
        lp = established()
        for seq in arriving:
            lp.wait(ms=1).resend("X", seq, bid("1.1")) if resent else lp.wait(ms=1).send("X", bid("1.1"), seq=seq)
        lp.drop()
        duplicates = lp.session.counts.dropped_duplicates
        assert len(arriving) == len(lp.ticks) + duplicates + len(lp.quarantined)
        if resent:
            assert len(lp.ticks) == len(set(arriving))

    whatever_arrives()


def test_secrets_are_no_part_of_what_the_session_asks_to_be_sent():
    lp = Lp(username="me", password_env="X").connect()
    assert {tag for tag, _ in parse(build("A", 1, [(tag, value) for tag, value in lp.got[0].fields if tag > 90])).fields} & {
        553,
        554,
    } == set()
