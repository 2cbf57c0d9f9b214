"""Cases 2, 3, 18 and 19: the standard header and trailer of what is received."""

import re
import time

import pytest
from lp import bid, scenario

from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Flag
from services.gateway.fix.wire import format_sending_time
from tests.unit.gateway.gateway_lp import fields_of, frame_of, quote

X = quote("EUR/USD", "1.1", "1.2")


# ---- 2: MsgSeqNum


@scenario()
async def test_2a_the_expected_number_is_accepted(lp, gateway):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.send("0")
    lp.send("X", bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]


@scenario()
async def test_2b_a_number_too_high_is_met_with_a_resend_request_and_nothing_is_lost_or_doubled(lp, gateway):
    await lp.logs_on()
    lp.lose(2)
    lp.send("X", bid("1.3"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.1"))
    lp.resend("X", 3, bid("1.2"))
    lp.resend("X", 4, bid("1.3"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2, 1.3]
    assert await gateway.gaps() == []


@pytest.mark.parametrize("msg_type", ["X", "0", "1", "A", "3"])
@scenario()
async def test_2c_a_number_too_low_ends_the_session(lp, gateway, msg_type):
    await lp.logs_on()
    lp.send("0")
    bodies = {"X": X, "1": [(112, "hello")], "A": [(98, 0), (108, 30)], "3": [(45, 1)]}
    lp.send(msg_type, bodies.get(msg_type, []), seq=2)
    await lp.expect("5", {58: "MsgSeqNum too low, expecting 3 but received 2"})
    await lp.expect_disconnect()
    await gateway.gave_up(3, "MsgSeqNum too low, expecting 3 but received 2")
    assert await gateway.bids() == []
    assert await gateway.reasons() == (["sequence number was seen before"] if msg_type == "X" else [])


@scenario()
async def test_2c_a_resend_request_or_a_logout_is_answered_whatever_its_number(lp, gateway):
    """As QuickFIX has it: an LP that asks for what it missed, or leaves, is not helped by another reproach."""
    await lp.logs_on()
    lp.send("0")
    lp.send("2", [(7, 1), (16, 0)], seq=1)
    await lp.expect("4", {34: 1, 43: "Y", 123: "Y", 36: 3})
    await lp.resubscribed()
    await lp.settled()
    lp.send("5", seq=1)
    await lp.expect("5")


@scenario()
async def test_2c_market_data_behind_a_number_too_low_is_kept_in_quarantine(lp, gateway):
    await lp.logs_on()
    lp.send_bytes(lp.message("0", seq=1) + lp.message("X", X))
    await lp.expect("5")
    await lp.expect_disconnect()
    assert await gateway.reasons() == ["arrived after the session was given up"]
    assert await gateway.bids() == []


# ---- 2, 3: what is garbled


async def garbled_then_resent(lp, gateway, damage):
    """It changes no number and is kept; its number is asked for when the next message comes, and nothing is lost."""
    await lp.logs_on()
    garbled = damage(lp.message("X", bid("1.1")))
    lp.send_bytes(garbled)
    lp.send("X", bid("1.2"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.resend("X", 2, bid("1.1"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]
    assert await gateway.gaps() == []
    kept = await gateway.quarantined()
    assert b"".join(raw for _, raw in kept) == garbled
    assert {reason for reason, _ in kept} == {"garbled: not a FIX frame, or its length or checksum is wrong"}


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"8=FIX" * 20, b"=\x01=\x01", "größer".encode("latin-1")]
)
@scenario()
async def test_2d_garbled_bytes_between_messages_are_ignored(lp, gateway, noise):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.send_bytes(noise)
    lp.send("X", bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]
    assert b"".join(raw for _, raw in await gateway.quarantined()) == noise


def with_length(frame, length):
    return re.sub(rb"\x019=[0-9]+", b"\x019=" + length, frame, count=1)


@scenario()
async def test_2l_the_right_body_length_is_accepted_with_zeros_before_it_too(lp, gateway):
    await lp.logs_on()
    frame = lp.message("X", X)
    longer = with_length(frame, b"0" + re.search(rb"\x019=([0-9]+)", frame)[1])
    lp.send_bytes(longer[:-7] + b"10=%03d\x01" % (sum(longer[:-7]) % 256))
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize("length", [b"20", b"0", b"170", b"999999999", b"abc"])
@scenario()
async def test_2m_a_wrong_body_length_is_garbled(lp, gateway, length):
    await garbled_then_resent(lp, gateway, lambda frame: with_length(frame, length))


@pytest.mark.parametrize(
    "disorder",
    [
        lambda frame: re.sub(rb"(8=[^\x01]+\x01)(9=[^\x01]+\x01)", rb"\2\1", frame),
        lambda frame: re.sub(rb"(35=X\x01)(34=[0-9]+\x01)", rb"\2\1", frame),
        lambda frame: re.sub(rb"(9=[^\x01]+\x01)(35=X\x01)", rb"\2\1", frame),
    ],
    ids=["9 first", "34 before 35", "35 before 9"],
)
@scenario()
async def test_2t_begin_string_length_and_type_that_are_not_the_first_three_are_garbled(lp, gateway, disorder):
    await garbled_then_resent(lp, gateway, disorder)


@scenario()
async def test_3a_the_right_checksum_is_accepted_whatever_bytes_it_is_of(lp, gateway):
    await lp.logs_on()
    lp.send("X", [*X, (58, b"caf\xe9 \xff \x80")])
    await lp.settled()
    assert await gateway.bids() == [1.1]


@scenario()
async def test_3b_a_wrong_checksum_is_garbled(lp, gateway):
    await garbled_then_resent(lp, gateway, lambda frame: frame[:-4] + b"%03d\x01" % ((int(frame[-4:-1]) + 1) % 256))


@pytest.mark.parametrize(
    "damage",
    [lambda frame: frame[:-20], lambda frame: frame.replace(b"\x01269=", b"269=", 1), lambda frame: frame[: len(frame) // 2]],
    ids=["cut", "separator lost", "half"],
)
@scenario()
async def test_3c_a_damaged_message_is_garbled(lp, gateway, damage):
    await garbled_then_resent(lp, gateway, damage)


@pytest.mark.parametrize(
    "trailer",
    [
        lambda frame: frame[:-7] + b"10=%d\x01" % (sum(frame[:-7]) % 256 + 1000),
        lambda frame: frame[:-7] + b"10=1\x01",
        lambda frame: frame[:-1] + b" ",
        lambda frame: frame[:-7] + frame[-7:] + b"58=x\x01",
    ],
    ids=["four digits", "one digit", "not delimited", "not last"],
)
@scenario()
async def test_3e_a_checksum_that_is_not_last_of_three_digits_and_delimited_is_garbled(lp, gateway, trailer):
    await lp.logs_on()
    garbled = trailer(lp.message("X", bid("1.1")))
    lp.send_bytes(garbled)
    lp.send("X", bid("1.2"))
    if garbled.endswith(b"58=x\x01"):  # what follows a whole message is garbled by itself
        garbled = b"58=x\x01"
    else:
        await lp.expect("2", {7: 2, 16: 0})
        lp.resend("X", 2, bid("1.1"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]
    assert b"".join(raw for _, raw in await gateway.quarantined()) == garbled


@scenario(reset_on_logon=False)
async def test_a_message_that_the_end_of_the_connection_cuts_is_kept_and_not_put_before_the_next(lp, gateway):
    await lp.logs_on()
    cut = lp.message("X", bid("1.1"))[:50]
    lp.send_bytes(cut)
    lp.disconnect()
    await lp.accept()
    await lp.expect("A")
    lp.logon()
    await lp.expect("2", {7: 2, 16: 0})
    await lp.expect("V")
    lp.resend("X", 2, bid("1.1"))
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert await gateway.quarantined() == [("cut by the end of the connection", cut)]


# ---- 2: PossDupFlag


@scenario()
async def test_2e_a_possible_duplicate_that_was_seen_is_ignored(lp, gateway):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.resend("X", 2, bid("1.1"))
    lp.resend("0", 2)
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert gateway.session.counts.dropped_duplicates == 2


@scenario()
async def test_2e_a_possible_duplicate_that_was_not_seen_is_processed_once_and_does_not_touch_the_book(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", X)
    await lp.expect("2", {7: 2})
    lp.fill(2, 3)
    await lp.resubscribed()
    lp.send("X", X)
    for _ in range(2):
        lp.resend("X", 2, bid("9.9"))
    lp.send("X", bid("1.15"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.1, 9.9, 1.15]
    ticks = await gateway.all_ticks()
    assert [(bool(tick.flags & Flag.RESENT), tick.ask is None) for tick in ticks[2:]] == [(True, True), (False, False)]


@scenario()
async def test_2e_a_possible_duplicate_first_sent_within_the_same_moment_is_accepted(lp, gateway):
    await lp.logs_on()
    now = time.time_ns()
    lp.send("X", X, header=((43, "Y"), (122, format_sending_time(now))), at=now)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@scenario()
async def test_2f_a_possible_duplicate_first_sent_after_it_was_sent_ends_the_session(lp, gateway):
    await lp.logs_on()
    later = format_sending_time(time.time_ns() + 2 * NS_PER_S)
    lp.send("X", X, header=((43, "Y"), (122, later)))
    await lp.expect("3", {45: 2, 372: "X", 373: 10})
    await lp.expect("5", {58: "SendingTime accuracy problem"})
    await lp.expect_disconnect()
    await gateway.gave_up(3, "SendingTime accuracy problem")
    assert await gateway.bids() == []
    assert await gateway.reasons() == ["OrigSendingTime is missing or after SendingTime"]


@scenario()
async def test_2g_a_possible_duplicate_without_its_first_sending_time_is_rejected_and_the_session_goes_on(lp, gateway):
    await lp.logs_on()
    lp.send("X", X, header=((43, "Y"),))
    await lp.expect("3", {45: 2, 371: 122, 373: 1, 58: "Required tag missing"})
    lp.send("X", bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.2]
    assert await gateway.reasons() == ["OrigSendingTime is missing or after SendingTime"]


@scenario()
async def test_2g_held_or_not_it_uses_one_number(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", X, header=((43, "Y"),))
    await lp.expect("2", {7: 2})
    lp.resend("X", 2, bid("1.1"))
    await lp.expect("3", {45: 3, 371: 122, 373: 1})
    await lp.settled()
    assert await gateway.bids() == [1.1]


# ---- 2: BeginString, CompIDs, SendingTime, MsgType


@scenario()
async def test_2h_2j_2n_2s_the_header_of_the_session_is_accepted(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@scenario()
async def test_2i_another_begin_string_ends_the_session(lp, gateway):
    await lp.logs_on()
    other = b"FIX.4.2" if lp.version == "4.4" else b"FIX.4.4"
    lp.send("X", X, begin=other)
    await lp.expect("5", {58: "Incorrect BeginString"})
    await lp.expect_disconnect()
    await gateway.gave_up(2, "Incorrect BeginString")
    assert await gateway.reasons() == ["wrong BeginString"]


@pytest.mark.parametrize("ids", [{"sender": "LP2"}, {"target": "OTHER"}], ids=["sender", "target"])
@scenario()
async def test_2k_another_comp_id_is_rejected_and_ends_the_session(lp, gateway, ids):
    await lp.logs_on()
    lp.send("X", X, **ids)
    await lp.expect("3", {45: 2, 372: "X", 373: 9})
    await lp.expect("5", {58: "CompID problem"})
    await lp.expect_disconnect()
    await gateway.gave_up(2, "CompID problem")
    assert await gateway.reasons() == ["wrong CompID"]


@pytest.mark.parametrize("digits", ["", ".1", ".123", ".123456", ".123456789"])
@scenario(symbols=("EUR/USD",))
async def test_2n_a_sending_time_of_any_precision_is_accepted_and_exact(lp, gateway, digits):
    await lp.logs_on()
    second = time.strftime("%Y%m%d-%H:%M:%S", time.gmtime())
    body = fields_of((35, "X"), (34, lp.next_out), (49, "LP1"), (56, "TICKVAULT"), (52, second + digits), *X)
    lp.next_out += 1
    lp.send_bytes(frame_of(body, lp.begin))
    await lp.settled()
    (tick,) = await gateway.all_ticks()
    assert tick.ts % NS_PER_S == int(digits[1:].ljust(9, "0"))


@pytest.mark.parametrize("seconds", [-125, 125])
@scenario()
async def test_2o_a_sending_time_too_far_off_is_rejected_and_ends_the_session(lp, gateway, seconds):
    await lp.logs_on()
    lp.send("X", X, at=time.time_ns() + seconds * NS_PER_S)
    await lp.expect("3", {45: 2, 372: "X", 373: 10})
    await lp.expect("5", {58: "SendingTime accuracy problem"})
    await lp.expect_disconnect()
    await gateway.gave_up(2, "SendingTime accuracy problem")
    assert await gateway.bids() == []
    assert await gateway.reasons() == ["SendingTime accuracy problem"]


@scenario(sending_time_tolerance_s=0)
async def test_2o_the_tolerance_can_be_switched_off_for_an_lp_with_a_bad_clock(lp, gateway):
    await lp.logs_on()
    lp.send("X", X, at=time.time_ns() - 3600 * NS_PER_S)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@scenario()
async def test_2o_a_sending_time_that_is_none_ends_the_session(lp, gateway):
    await lp.logs_on()
    body = fields_of((35, "X"), (34, 2), (49, "LP1"), (56, "TICKVAULT"), (52, "yesterday"), *X)
    lp.send_bytes(frame_of(body, lp.begin))
    await lp.expect("3", {45: 2, 371: 52, 373: 6})
    await lp.expect("5", {58: "SendingTime is missing or no time"})
    await lp.expect_disconnect()


@pytest.mark.parametrize("msg_type", ["*", "ZZZ", "1 "])
@scenario()
async def test_2q_a_message_type_that_does_not_exist_is_rejected_and_the_session_goes_on(lp, gateway, msg_type):
    await lp.logs_on()
    lp.send(msg_type)
    await lp.expect("3", {45: 2, 372: msg_type, 373: 11, 58: "Invalid MsgType"})
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize(
    ("msg_type", "fields"), [("B", [(148, "headline"), (33, 1), (58, "text")]), ("h", [(336, "1"), (340, 2)])]
)
@scenario()
async def test_2r_a_message_type_we_do_not_support_is_met_with_a_business_reject(lp, gateway, msg_type, fields):
    await lp.logs_on()
    lp.send(msg_type, fields)
    await lp.expect("j", {45: 2, 372: msg_type, 380: 3, 58: "Unsupported Message Type"})
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize("number", [[], [(34, "x")], [(34, "-1")]])
@scenario()
async def test_a_message_without_a_number_ends_the_session(lp, gateway, number):
    await lp.logs_on()
    sent = format_sending_time(time.time_ns())
    lp.send_bytes(frame_of(fields_of((35, "X"), *number, (49, "LP1"), (56, "TICKVAULT"), (52, sent), *X), lp.begin))
    logout = await lp.expect("5")
    assert "34" in logout.text(58) or "MsgSeqNum" in logout.text(58)
    await lp.expect_disconnect()
    assert len(await gateway.quarantined()) == 1


# ---- 18: third party addressing


@scenario()
async def test_18_a_answers_go_back_the_way_their_question_came(lp, gateway):
    await lp.logs_on()
    lp.send("X", X, header=((115, "DESK"), (128, "HUB")))
    lp.send("B", [(148, "news"), (33, 1), (58, "text")], header=((115, "DESK"), (116, "trader"), (128, "HUB")))
    await lp.expect("j", {45: 3, 128: "DESK", 129: "trader", 115: "HUB"})
    lp.send("1", [], header=((115, "DESK"), (128, "HUB")))
    await lp.expect("3", {45: 4, 128: "DESK", 115: "HUB"})
    await lp.settled()
    assert await gateway.bids() == [1.1]


# ---- 19: PossResend


@scenario()
async def test_19_a_a_possible_resend_of_what_was_seen_is_a_fact_of_its_own_and_marked(lp, gateway):
    """Two equal quotes are two facts: quotes have no id by which one could be told from the other."""
    await lp.logs_on()
    lp.send("X", X)
    lp.send("X", X, header=((97, "Y"),))
    await lp.settled()
    assert [tick.flags for tick in await gateway.all_ticks()] == [0, Flag.RESENT]


@scenario()
async def test_19_b_a_possible_resend_that_was_not_seen_is_processed(lp, gateway):
    await lp.logs_on()
    lp.send("X", X, header=((97, "Y"),))
    lp.send("X", bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]
