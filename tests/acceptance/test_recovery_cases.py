"""Cases 7, 8, 10, 11 and 20: rejects, resends, gap fills and resets; and what engines are known to do besides."""

import pytest
from lp import bid, scenario

from libs.common.domain.record import Flag
from tests.unit.gateway.gateway_lp import entry, fields_of, frame_of, increment, quote

X = quote("EUR/USD", "1.1", "1.2")


# ---- 7: Reject


@pytest.mark.parametrize("msg_type", ["3", "j"])
@scenario()
async def test_7_a_reject_is_counted_and_surfaced_and_not_answered(lp, gateway, msg_type):
    await lp.logs_on()
    lp.send(msg_type, [(45, 2), (372, "V"), *([(380, 3)] if msg_type == "j" else []), (58, "what?")])
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert gateway.session.alarm == "LP rejected our message 2 (V): what?"
    assert gateway.session.counts.rejects_received == 1


# ---- 8: ResendRequest


@pytest.mark.parametrize(("first", "last", "new"), [(1, 0, 3), (1, 1, 2), (2, 2, 3), (1, 2, 3), (1, 99, 3), (2, 0, 3)])
@scenario()
async def test_8_a_resend_request_is_answered_by_one_gap_fill_for_all_of_our_messages_are_requests(lp, gateway, first, last, new):
    await lp.logs_on()
    lp.send("X", X)  # our request is answered: it need not be made again
    lp.send("2", [(7, first), (16, last)])
    await lp.expect("4", {34: first, 43: "Y", 123: "Y", 36: new})
    await lp.settled()


@scenario()
async def test_8_a_request_that_the_lp_never_saw_is_made_again(lp, gateway):
    await lp.logs_on()
    lp.send("2", [(7, 2), (16, 0)])
    await lp.expect("4", {34: 2, 36: 3})
    await lp.resubscribed()
    await lp.settled()


@pytest.mark.parametrize("asked", [[(7, 50), (16, 0)], [(7, 0), (16, 0)], [(7, 2), (16, 1)]])
@scenario()
async def test_8_a_resend_request_for_what_we_never_sent_is_not_answered(lp, gateway, asked):
    await lp.logs_on()
    lp.send("2", asked)
    await lp.settled()


@pytest.mark.parametrize(("asked", "tag", "reason"), [([(16, 0)], 7, 1), ([(7, 1)], 16, 1), ([(7, "x"), (16, 0)], 7, 6)])
@scenario()
async def test_8_a_resend_request_without_its_range_is_rejected(lp, gateway, asked, tag, reason):
    await lp.logs_on()
    lp.send("2", asked)
    await lp.expect("3", {45: 2, 371: tag, 372: 2, 373: reason})
    await lp.settled()


# ---- 10: SequenceReset-GapFill


@scenario()
async def test_10_a_a_gap_fill_too_high_is_met_with_a_resend_request_and_not_applied(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("4", [(123, "Y"), (36, 6)])
    await lp.expect("2", {7: 2, 16: 0})
    assert gateway.session.state.next_in == 2
    lp.resend("X", 2, bid("1.1"))
    lp.fill(3, 6)
    lp.next_out = 6
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert await gateway.gaps() == [("gap_fill", 3, 5)]


@scenario()
async def test_10_b_a_gap_fill_of_the_expected_number_moves_on_and_is_a_gap(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    lp.send("4", [(123, "Y"), (36, 8)])
    lp.next_out = 8
    await lp.resubscribed()
    lp.send("X", bid("1.15"))
    await lp.settled()
    first, second = await gateway.all_ticks()
    assert (first.ask, second.ask) == (1_200_000_000, None), "no price from before the gap is shown behind it"
    assert await gateway.gaps() == [("gap_fill", 3, 7)]


@scenario()
async def test_10_c_a_gap_fill_too_low_that_is_a_possible_duplicate_is_ignored(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    lp.fill(2, 9)
    await lp.settled()
    assert await gateway.gaps() == []


@scenario()
async def test_10_d_a_gap_fill_too_low_ends_the_session(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    lp.send("4", [(123, "Y"), (36, 9)], seq=2)
    await lp.expect("5", {58: "MsgSeqNum too low, expecting 3 but received 2"})
    await lp.expect_disconnect()
    await gateway.gave_up(3, "MsgSeqNum too low, expecting 3 but received 2")


@pytest.mark.parametrize("new", [1, 2])
@scenario()
async def test_10_e_a_gap_fill_that_does_not_move_on_is_rejected(lp, gateway, new):
    await lp.logs_on()
    lp.send("4", [(123, "Y"), (36, new)])
    rejected = await lp.expect("3", {45: 2, 372: 4})
    assert rejected.text(58).startswith("Attempt to lower sequence number, invalid value NewSeqNo")
    await lp.settled()


@scenario()
async def test_10_a_gap_fill_past_what_is_held_keeps_what_is_held(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    lp.lose()
    lp.send("X", bid("1.4"))
    lp.lose()
    lp.send("X", bid("1.6"))
    await lp.expect("2", {7: 3, 16: 0})
    lp.fill(3, 7)
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.4, 1.6]
    assert await gateway.gaps() == [("gap_fill", 3, 3), ("gap_fill", 5, 5)]


@scenario()
async def test_10_a_gap_fill_beyond_the_range_asked_for_is_taken_as_far_as_it_goes(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", bid("1.3"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.fill(2, 20)
    lp.next_out = 20
    await lp.resubscribed()
    lp.send("X", bid("1.5"))
    await lp.settled()
    assert await gateway.bids() == [1.3, 1.5]
    assert await gateway.gaps() == [("gap_fill", 2, 2), ("gap_fill", 4, 19)]


# ---- 11: SequenceReset-Reset

RESETS = pytest.mark.parametrize("flag", [[], [(123, "N")]], ids=["no flag", "N"])


@RESETS
@pytest.mark.parametrize("seq", [1, 2, 77])
@scenario()
async def test_11_a_a_reset_to_a_higher_number_is_accepted_whatever_its_own(lp, gateway, seq, flag):
    await lp.logs_on()
    lp.send("4", [*flag, (36, 50)], seq=seq)
    lp.next_out = 50
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.gaps() == [("reset", 2, 49)]


@scenario()
async def test_11_a_a_reset_past_what_is_held_keeps_what_is_held(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", bid("1.3"))
    await lp.expect("2", {7: 2})
    lp.send("4", [(123, "N"), (36, 10)], seq=4)
    lp.next_out = 10
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.3]
    assert await gateway.gaps() == [("reset", 2, 2), ("reset", 4, 9)]


@RESETS
@pytest.mark.parametrize("seq", [1, 2, 77])
@scenario()
async def test_11_b_a_reset_to_the_expected_number_changes_nothing(lp, gateway, seq, flag):
    await lp.logs_on()
    lp.send("4", [*flag, (36, 2)], seq=seq)
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert await gateway.gaps() == []


@RESETS
@scenario()
async def test_11_c_a_reset_to_a_lower_number_is_rejected_and_changes_nothing(lp, gateway, flag):
    await lp.logs_on()
    lp.send("X", X)
    lp.send("4", [*flag, (36, 2)], seq=9)
    await lp.expect("3", {45: 9, 372: 4, 373: 5})
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize(("fields", "reason"), [([(36, "x")], 6), ([], 1)])
@scenario()
async def test_11_a_reset_to_no_number_is_rejected(lp, gateway, fields, reason):
    await lp.logs_on()
    lp.send("4", [(123, "N"), *fields], seq=2)
    await lp.expect("3", {45: 2, 371: 36, 372: 4, 373: reason})
    await lp.settled()


# ---- 20: simultaneous ResendRequests


@scenario()
async def test_20_a_resend_request_while_we_wait_for_a_resend_is_answered_and_ours_is_not_repeated(lp, gateway):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.lose()
    lp.send("X", bid("1.3"))
    await lp.expect("2", {7: 3, 16: 0})
    lp.send("2", [(7, 1), (16, 0)])
    await lp.expect("4", {34: 1, 43: "Y", 123: "Y", 36: 4})
    lp.resend("X", 3, bid("1.2"))
    lp.resend("X", 4, bid("1.3"))
    lp.fill(5, 6)
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2, 1.3]


@scenario()
async def test_20_a_resend_request_with_a_number_too_high_is_answered_before_we_ask(lp, gateway):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.lose()
    lp.send("2", [(7, 1), (16, 0)])
    await lp.expect("4", {34: 1, 36: 3})
    await lp.expect("2", {7: 3, 16: 0})
    lp.resend("X", 3, bid("1.2"))
    lp.fill(4, 5)
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]


# ---- what a resend must stand


@scenario()
async def test_a_gap_is_asked_for_once_however_much_follows(lp, gateway):
    await lp.logs_on()
    lp.lose()
    for number in range(3, 9):
        lp.send("X", bid(f"1.{number}"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]


@scenario()
async def test_a_second_gap_behind_the_first_is_asked_for_when_the_first_is_filled(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", bid("1.3"))
    lp.lose()
    lp.send("X", bid("1.5"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.2"))
    await lp.expect("2", {7: 4, 16: 0})
    lp.resend("X", 4, bid("1.4"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.4, 1.5]


@scenario()
async def test_live_messages_between_resent_ones_are_put_in_order(lp, gateway):
    await lp.logs_on()
    lp.lose(3)
    lp.send("X", bid("1.5"))
    await lp.expect("2", {7: 2, 16: 0})
    for number in (2, 3, 4):
        lp.resend("X", number, bid(f"1.{number}"))
        lp.send("X", bid(f"1.{number + 4}"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert [bool(tick.flags & Flag.RESENT) for tick in await gateway.all_ticks()] == [True] * 3 + [False] * 4


@scenario()
async def test_a_resend_of_what_is_held_or_was_taken_is_dropped(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", bid("1.3"))
    lp.send("X", bid("1.4"))
    await lp.expect("2", {7: 2})
    for number in (3, 2, 3, 4):
        lp.resend("X", number, bid(f"1.{number}"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.4]
    assert gateway.session.counts.dropped_duplicates == 3


@scenario()
async def test_a_message_that_is_rejected_when_it_is_resent_uses_its_number_once(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("0", [(58, "not of a heartbeat"), (58, "twice")])
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.2"))
    rejected = await lp.expect("3", {45: 3, 372: 0})
    assert rejected.text(371) == "58"
    lp.resend("0", 3, [(58, "not of a heartbeat"), (58, "twice")])
    lp.send("X", bid("1.4"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.4]


@scenario()
async def test_a_resent_message_that_does_not_parse_is_rejected_and_the_resend_goes_on(lp, gateway):
    await lp.logs_on()
    lp.lose(2)
    lp.send("X", bid("1.4"))
    await lp.expect("2", {7: 2, 16: 0})
    broken = fields_of((35, "X"), (34, 2), (43, "Y"), (49, "LP1"), (56, "TICKVAULT")) + b"270=\x01"
    lp.send_bytes(frame_of(broken, lp.begin))
    await lp.expect("3", {45: 2, 371: 270, 373: 4})
    lp.resend("X", 3, bid("1.3"))
    await lp.settled()
    assert await gateway.bids() == [1.3, 1.4]
    assert await gateway.reasons() == ["undecodable: Tag specified without a value"]


@scenario(resend_chunk=2)
async def test_a_resend_is_asked_for_in_chunks_also_where_a_gap_fill_jumps_past_the_end_of_one(lp, gateway):
    await lp.logs_on()
    lp.lose(7)
    lp.send("X", bid("1.9"))
    await lp.expect("2", {7: 2, 16: 3})
    lp.resend("X", 2, bid("1.2"))
    lp.resend("X", 3, bid("1.3"))
    await lp.expect("2", {7: 4, 16: 5})
    lp.fill(4, 8)
    await lp.expect("2", {7: 8, 16: 8})
    lp.resend("X", 8, bid("1.8"))
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.8, 1.9]
    assert await gateway.gaps() == [("gap_fill", 4, 7)]


@scenario(reset_on_logon=False)
async def test_a_resend_that_the_end_of_the_connection_interrupts_is_asked_for_on_the_next(lp, gateway):
    await lp.logs_on()
    lp.lose(2)
    lp.send("X", bid("1.4"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.2"))
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 4, 141: None})
    lp.logon()
    await lp.expect("2", {7: 3, 16: 0})
    await lp.expect("V")
    lp.resend("X", 3, bid("1.3"))
    lp.resend("X", 4, bid("1.4"))
    await lp.settled()
    assert await gateway.bids() == [1.2, 1.3, 1.4]


@scenario()
async def test_changes_that_were_resent_build_on_each_other_in_the_order_of_their_numbers(lp, gateway):
    await lp.logs_on()

    def size(seconds):
        return increment(entry("0", None, seconds, action="1", symbol="EUR/USD"))

    lp.send("X", X)
    lp.lose(2)
    lp.send("X", size("30"))
    await lp.expect("2", {7: 3})
    lp.resend("X", 3, bid("1.15"))
    lp.resend("X", 4, size("20"))
    await lp.settled()
    ticks = await gateway.all_ticks()
    assert [(tick.bid, tick.bid_size) for tick in ticks[1:]] == [(1_150_000_000, size) for size in (1000.0, 20.0, 30.0)]
