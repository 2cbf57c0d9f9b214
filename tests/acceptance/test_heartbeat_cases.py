"""Cases 4, 5 and 6: heartbeats, and what is done about a silence. HeartBtInt(108) is a second, as the LP's logon says."""

import time

from lp import scenario

from tests.integration.test_connection import until
from tests.unit.gateway.gateway_lp import quote

X = quote("EUR/USD", "1.1", "1.2")


@scenario()
async def test_4a_a_heartbeat_is_sent_when_nothing_else_was_for_the_interval(lp, gateway):
    await lp.logs_on(heartbeat_s=1)
    began = time.monotonic()
    await lp.expect("0", {112: None})
    assert time.monotonic() - began > 0.9


@scenario()
async def test_4b_a_test_request_is_answered_with_its_id_whatever_its_bytes(lp, gateway):
    await lp.logs_on()
    for text in (b"are you there?", b"caf\xe9 \xff", b"=|=", b"8=FIX.4.4"):
        lp.send("1", [(112, text)])
        await lp.expect("0", {112: text})
    await lp.settled()


@scenario()
async def test_4b_a_test_request_without_an_id_is_rejected(lp, gateway):
    await lp.logs_on()
    lp.send("1")
    await lp.expect("3", {45: 2, 371: 112, 372: 1, 373: 1})
    await lp.settled()


@scenario()
async def test_5_a_heartbeat_is_accepted(lp, gateway):
    await lp.logs_on()
    lp.send("0")
    lp.send("0", [(112, "an answer to nothing")])
    await lp.settled()


@scenario()
async def test_6_a_silence_is_met_with_a_test_request_and_its_answer_keeps_the_session(lp, gateway):
    await lp.logs_on(heartbeat_s=1)
    asked = await lp.expect("1", passing_over="0")
    lp.send("X", X)  # the answer may not be the next message
    lp.send("0", [(112, asked.text(112))])
    await lp.expect("1", passing_over="0")  # for the next silence
    assert gateway.link.connection.heartbeat_rtt_s is not None
    assert await gateway.bids() == [1.1]


@scenario()
async def test_6_a_test_request_without_an_answer_ends_the_connection_and_begins_another(lp, gateway):
    await lp.logs_on(heartbeat_s=1)
    await lp.expect("1", passing_over="0")
    await lp.expect("0")
    await lp.expect_disconnect()
    assert gateway.session.disconnect_reason is None or "TestRequest unanswered" in gateway.session.disconnect_reason
    await lp.logs_on()
    await lp.settled()
    assert await gateway.gaps() == [("disconnect", 2, None)]


@scenario()
async def test_4_6_an_lp_that_wants_no_heartbeats_gets_none_and_owes_none(lp, gateway):
    await lp.logs_on(heartbeat_s=0)
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > 1.5)  # a whole interval of the other tests, and its silence
    await lp.settled()
