"""Cases 1B, 9, 16 and 17, and what a logon says besides: resets, refusals, NextExpectedMsgSeqNum, the list of symbols."""

import time

import pytest
from lp import VERSIONS, bid, scenario

from libs.common.domain.moment import NS_PER_S
from services.gateway.fix.connection import Patience
from tests.integration.test_connection import until
from tests.unit.gateway.gateway_lp import frame_of, quote

X = quote("EUR/USD", "1.1", "1.2")


# ---- 1B: connect and send Logon


@scenario()
async def test_1b_a_the_connection_is_opened(lp, gateway):
    await lp.accept()
    await until(lambda: gateway.link.connection)


@scenario()
async def test_1b_b_the_logon_is_sent_and_nothing_else_before_its_answer(lp, gateway):
    await lp.accept()
    version = VERSIONS[lp.version].get("default_appl_ver_id")
    await lp.expect("A", {34: 1, 98: 0, 108: 30, 141: "Y", 1137: version, 553: None})
    lp.logon((141, "Y"))
    await lp.expect("V", {34: 2})
    await lp.settled()


@scenario(username="me", password="open sesame", password_env="PASSWORD")
async def test_1b_b_the_logon_has_the_credentials_and_the_journal_has_not(lp, gateway):
    asked = await lp.logs_on()
    assert [asked.text(tag) for tag in (553, 554)] == ["me", "open sesame"]
    await lp.settled()
    written = b"".join(path.read_bytes() for path in gateway.journal.folder.iterdir())
    assert b"553=***" in written
    assert b"sesame" not in written


@scenario()
async def test_1b_c_a_valid_logon_establishes_the_session(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    await lp.settled()
    assert gateway.session.state.status == "established"
    assert await gateway.bids() == [1.1]


@scenario(reset_on_logon=False)
async def test_1b_c_a_logon_with_a_number_too_high_is_accepted_and_what_is_missing_asked_for(lp, gateway):
    await lp.accept()
    await lp.expect("A", {34: 1, 141: None})
    lp.lose(3)
    lp.logon()
    await lp.expect("2", {7: 1, 16: 0})
    await lp.expect("V")
    lp.send("X", bid("1.4"))
    lp.resend("X", 1, bid("1.1"))
    lp.fill(2, 5)
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.4]
    assert await gateway.gaps() == [("gap_fill", 2, 3)]


def logon(lp, *fields, **overrides):
    version = [(1137, 9)] if lp.version == "5.0SP2" else []
    return lp.message("A", [(98, 0), *fields, *version], seq=1, **overrides)


INVALID_LOGONS = {
    "no interval": (logon, {371: 108, 373: 1}, "Invalid logon: field 108 is missing"),
    "negative interval": (lambda lp: logon(lp, (108, -1)), {371: 108, 373: 5}, "Invalid logon: Value is incorrect"),
    "interval no number": (lambda lp: logon(lp, (108, "x")), {371: 108, 373: 6}, "Invalid logon: field 108 is not a number"),
    "sender": (lambda lp: logon(lp, (108, 30), sender="LP2"), {373: 9}, "CompID problem"),
    "target": (lambda lp: logon(lp, (108, 30), target="OTHER"), {373: 9}, "CompID problem"),
    "time": (lambda lp: logon(lp, (108, 30), at=time.time_ns() - 121 * NS_PER_S), {373: 10}, "SendingTime accuracy"),
    "BeginString": (lambda lp: logon(lp, (108, 30), begin=b"FIX.4.3"), None, "Incorrect BeginString"),
    "empty field": (lambda _: frame_of(b"35=A\x0134=1\x0198=\x01"), None, "Invalid message: Tag specified without a value"),
}


@pytest.mark.parametrize("invalid", INVALID_LOGONS)
@scenario()
async def test_1b_d_an_invalid_logon_is_rejected_and_the_session_ended(lp, gateway, invalid):
    make, rejected, text = INVALID_LOGONS[invalid]
    await lp.accept()
    await lp.expect("A")
    lp.send_bytes(make(lp))
    if rejected:
        await lp.expect("3", {45: 1, 372: "A", **rejected})
    logout = await lp.expect("5")
    assert logout.text(58).startswith(text)
    await lp.expect_disconnect()
    await gateway.gave_up(1, logout.text(58))


@scenario(versions=["5.0SP2"])
async def test_1b_d_a_logon_without_its_application_version_is_rejected(lp, gateway):
    await lp.accept()
    await lp.expect("A", {1137: 9})
    lp.send("A", [(98, 0), (108, 30), (141, "Y")])
    await lp.expect("3", {45: 1, 371: 1137, 373: 1})
    await lp.expect("5", {58: "Invalid logon: Required tag missing"})
    await lp.expect_disconnect()


@pytest.mark.parametrize("msg_type", ["0", "1", "X", "3", "*"])
@scenario()
async def test_1b_e_a_first_message_that_is_no_logon_ends_the_session(lp, gateway, msg_type):
    await lp.accept()
    await lp.expect("A")
    lp.send(msg_type, X if msg_type == "X" else [(112, "hello")])
    await lp.expect("5", {58: "First message not a logon"})
    await lp.expect_disconnect()
    await gateway.gave_up(1, "First message not a logon")
    assert await gateway.bids() == []
    assert await gateway.reasons() == (["arrived before the logon was answered"] if msg_type == "X" else [])


@scenario()
async def test_a_logout_instead_of_a_logon_surfaces_its_text_and_is_tried_again(lp, gateway):
    await lp.accept()
    await lp.expect("A")
    lp.send("5", [(58, "invalid password")])
    await lp.expect_disconnect()
    assert gateway.session.alarm == "logon rejected: invalid password"
    lp.next_out = 1
    await lp.logs_on()
    await lp.settled()
    assert gateway.session.alarm is None


@scenario(patience=Patience(logon_s=0.3, reconnect_first_s=0.02))
async def test_a_logon_that_nobody_answers_is_given_up_and_tried_again(lp, gateway):
    for _ in range(2):
        await lp.accept()
        await lp.expect("A", {34: 1})
        await lp.expect_disconnect()


@scenario()
async def test_1b_d_a_garbled_logon_is_an_invalid_one(lp, gateway):
    await lp.accept()
    await lp.expect("A")
    lp.send_bytes(logon(lp, (108, 30))[:-4] + b"xxx\x01")
    await lp.expect("5", {58: "Invalid logon: garbled"})
    await lp.expect_disconnect()
    assert len(await gateway.reasons()) == 1


@scenario()
async def test_1b_d_noise_before_the_logon_is_ignored(lp, gateway):
    await lp.accept()
    await lp.expect("A")
    lp.send_bytes(b"220 ready\r\n")
    lp.logon((141, "Y"))
    await lp.expect("V")
    await lp.settled()
    assert len(await gateway.reasons()) == 1


# ---- resets


@scenario()
async def test_a_reset_takes_effect_with_the_answer_only(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    await lp.settled()
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 1, 141: "Y"})
    assert gateway.session.state.next_in == 4
    lp.disconnect()
    await lp.logs_on()
    assert gateway.session.state.next_in == 2
    await lp.settled()


@pytest.mark.parametrize("flag", [[], [(141, "Y")]])
@scenario()
async def test_the_answer_to_a_reset_is_number_1_with_or_without_the_flag(lp, gateway, flag):
    await lp.accept()
    await lp.expect("A", {141: "Y"})
    lp.logon(*flag)
    await lp.expect("V")
    await lp.settled()


@scenario()
async def test_the_answer_to_a_reset_with_another_number_ends_the_session(lp, gateway):
    await lp.accept()
    await lp.expect("A", {141: "Y"})
    lp.logon((141, "Y"), seq=2)
    await lp.expect("5", {58: "Logon with ResetSeqNumFlag must have MsgSeqNum 1, received 2"})
    await lp.expect_disconnect()


@scenario()
async def test_the_lp_resets_both_directions_in_mid_session(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    await lp.settled()
    lp.next_out = 1
    lp.logon((141, "Y"))
    await lp.expect("A", {34: 1, 141: "Y", 108: 30})
    await lp.resubscribed()
    lp.send("X", bid("1.15"))
    await lp.settled()
    assert (lp.next_in, lp.next_out) == (5, 4)
    first, second = await gateway.all_ticks()
    assert (first.ask, second.ask) == (1_200_000_000, None), "what stood before the reset is no price any more"
    assert await gateway.gaps() == [("reset", None, None)]


@scenario()
async def test_what_was_held_before_a_reset_in_mid_session_is_kept(lp, gateway):
    await lp.logs_on()
    lp.lose()
    lp.send("X", bid("1.3"))
    await lp.expect("2", {7: 2, 16: 0})
    lp.next_out = 1
    lp.logon((141, "Y"))
    await lp.expect("A", {34: 1, 141: "Y"})
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.3]
    assert await gateway.gaps() == [("reset", 2, 2), ("reset", None, None)]


@scenario()
async def test_an_lp_that_answers_our_answer_to_its_reset_keeps_the_session(lp, gateway):
    await lp.logs_on()
    await lp.settled()
    lp.next_out = 1
    lp.logon((141, "Y"))
    await lp.expect("A", {34: 1, 141: "Y"})
    lp.logon((141, "Y"))
    await lp.resubscribed()
    await lp.settled()
    assert lp.next_out == 4


# ---- 9: synchronize sequence numbers


@scenario(reset_on_logon=False)
async def test_9_an_lp_that_lost_its_state_begins_at_1_with_a_reset_in_its_logon(lp, gateway):
    await lp.logs_on()
    lp.send("X", X)
    await lp.settled()
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 4, 141: None})
    lp.next_out, lp.next_in = 1, 2
    lp.logon((141, "Y"))
    await lp.expect("V", {34: 2})
    await lp.settled()


@scenario(reset_on_logon=False)
async def test_9_an_lp_that_lost_its_state_and_goes_on_with_a_low_number_is_left_and_never_reset(lp, gateway):
    await lp.logs_on()
    await lp.settled()
    lp.disconnect()
    await lp.accept()
    await lp.expect("A")
    lp.next_out = 1
    lp.logon()
    await lp.expect("5", {58: "MsgSeqNum too low, expecting 3 but received 1"})
    await lp.expect_disconnect()
    await lp.accept()
    await lp.expect("A", {34: 6, 141: None})
    assert gateway.session.state.next_in == 3


@scenario(reset_on_logon=False)
async def test_9_an_lp_that_lost_its_state_may_go_far_ahead_with_a_sequence_reset(lp, gateway):
    await lp.logs_on()
    lp.send("4", [(123, "N"), (36, 10_000)], seq=10_000)
    lp.next_out = 10_000
    await lp.resubscribed()
    await lp.settled()
    assert await gateway.gaps() == [("reset", 2, 9_999)]


# ---- 16: queue outgoing messages


@scenario(reset_on_logon=False)
async def test_16_a_what_is_asked_for_while_disconnected_waits_for_the_logon_and_gets_a_new_number(lp, gateway):
    await lp.logs_on()
    await lp.settled()
    lp.disconnect()
    await lp.accept()
    asked = await lp.expect("A", {34: 4})
    lp.logon()
    subscription = await lp.expect("V", {34: 5, 263: 1, 43: None})
    assert subscription.text(52) >= asked.text(52), "the time it was sent"
    await lp.settled()


@scenario(reset_on_logon=False)
async def test_16_b_after_a_reconnect_numbers_go_on_and_nothing_is_lost(lp, gateway):
    await lp.logs_on()
    lp.send("X", bid("1.1"))
    lp.lose(2)
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 3, 141: None})
    lp.logon()
    await lp.expect("2", {7: 3, 16: 0})
    await lp.expect("V", {263: 1})
    lp.resend("X", 3, bid("1.2"))
    lp.fill(4, 5)
    await lp.resubscribed()
    lp.send("X", bid("1.3"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2, 1.3]
    assert await gateway.gaps() == [("disconnect", 3, None), ("gap_fill", 4, 4)]


# ---- 789: NextExpectedMsgSeqNum, from FIX 4.4 on

AWARE = {"versions": ["4.4", "5.0SP2"], "reset_on_logon": False, "next_expected_seq_num": True}


@scenario(**AWARE)
async def test_789_what_we_missed_comes_without_a_resend_request(lp, gateway):
    asked = await lp.logs_on((789, 2))
    assert asked.text(789) == "1"
    lp.send("X", bid("1.1"))
    lp.lose()
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 3, 789: 3})
    lp.logon((789, lp.next_in))
    await lp.expect("V")
    lp.resend("X", 3, bid("1.2"))
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2]


@scenario(**AWARE)
async def test_789_what_the_lp_missed_is_filled_over_our_logon(lp, gateway):
    await lp.logs_on((789, 2))
    await lp.settled()
    lp.disconnect()
    await lp.accept()
    await lp.expect("A", {34: 4})
    lp.logon((789, 2))
    await lp.expect("4", {34: 2, 43: "Y", 123: "Y", 36: 5})
    await lp.expect("V", {34: 5})
    await lp.settled()


@scenario(**AWARE)
async def test_789_a_number_too_high_ends_the_session(lp, gateway):
    await lp.accept()
    await lp.expect("A", {789: 1})
    lp.logon((789, 9))
    await lp.expect("5", {58: "NextExpectedMsgSeqNum(789) is too high, expecting 2 but received 9"})
    await lp.expect_disconnect()


@scenario(**AWARE)
async def test_789_an_lp_that_does_not_know_it_is_asked_as_usual(lp, gateway):
    await lp.accept()
    await lp.expect("A", {789: 1})
    lp.lose()
    lp.logon()
    await lp.expect("2", {7: 1, 16: 0})
    await lp.expect("V")
    lp.resend("X", 1, bid("1.1"))
    await lp.settled()


@scenario(**AWARE | {"reset_on_logon": True})
async def test_789_with_a_reset_both_expect_1(lp, gateway):
    asked = await lp.logs_on((789, 2))
    assert asked.text(789) == "1"
    await lp.settled()


# ---- the list of symbols


def lists(lp, asked, *symbols):
    """The LP's answer, in the words of its version."""
    if lp.version == "4.2":
        for number, symbol in enumerate(symbols):
            lp.send("d", [(320, asked.text(320)), (322, number), (323, 4), (393, len(symbols)), (55, symbol)])
    else:
        named = [(55, symbol) for symbol in symbols]
        lp.send("y", [(320, asked.text(320)), (322, 1), (560, 0), (146, len(named)), *named])


async def asked_for_list(lp):
    await lp.accept()
    await lp.expect("A")
    lp.logon((141, "Y"))
    if lp.version == "4.2":
        return await lp.expect("c", {321: 3})
    return await lp.expect("x", {559: 4})


@scenario(symbols="all")
async def test_every_symbol_of_the_list_is_subscribed_to_once(lp, gateway):
    lists(lp, await asked_for_list(lp), "EUR/USD", "XAU/USD", "EUR/USD")
    for symbol in ("EUR/USD", "XAU/USD"):
        await lp.expect("V", {55: symbol, 263: 1, 264: 1, 265: 1, 267: 2, 146: 1})
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize("refusal", ["j", "3", "list"])
@scenario(symbols="all")
async def test_an_lp_that_lists_nothing_makes_an_alarm_that_says_what_to_do(lp, gateway, refusal):
    asked = await asked_for_list(lp)
    if refusal == "list":
        number = [(323, 5)] if lp.version == "4.2" else [(560, 1)]
        lp.send("d" if lp.version == "4.2" else "y", [(320, asked.text(320)), (322, 1), *number, (58, "not supported")])
    else:
        lp.send(refusal, [(45, 2), (372, asked.text(35)), *([(380, 3)] if refusal == "j" else []), (58, "not supported")])
    await lp.settled()
    assert "name them in the feed's `symbols`" in gateway.session.alarms["no_list"]


# ---- 17: support encryption


@scenario()
async def test_17_we_ask_for_none(lp, gateway):
    asked = await lp.logs_on()
    assert asked.text(98) == "0"
