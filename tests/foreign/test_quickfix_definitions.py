"""The gateway against QuickFIX's acceptance definitions. They are read where QuickFIX has them; none is kept here."""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from services.gateway.fix.connection import Patience
from services.gateway.fix.framer import Framer
from services.gateway.fix.wire import parse
from tests.foreign.quickfix_definitions import FEEDS, Definition, Player, complete
from tests.integration.test_connection import Gateway

FOLDER = os.environ.get("TICKVAULT_QUICKFIX_DEFINITIONS", "")
PATHS = sorted(path for version in FEEDS for path in Path(FOLDER, version).glob("*.def")) if FOLDER else []
PATIENCE = Patience(reconnect_first_s=0.02, reconnect_cap_s=0.1)  # the rest as in production
NOW = datetime(2026, 1, 5, 23, 59, 55, tzinfo=UTC)

SWALLOWED = "QuickFIX skips as many bytes as a wrong BodyLength says, and the next message with them; we find that message"
OTHERWISE = {
    "fix42/2m_BodyLengthValueNotCorrect": SWALLOWED,
    "fix44/2m_BodyLengthValueNotCorrect": SWALLOWED,
    "fix50sp2/2m_BodyLengthValueNotCorrect": SWALLOWED,
    "fix50sp2/2r_UnregisteredMsgType": "QuickFIX writes 1137 into BusinessMessageReject, which has no such field",
}


def case(path):
    name = f"{path.parent.name}/{path.stem}"
    return pytest.param(
        path, id=name, marks=[pytest.mark.xfail(strict=True, reason=OTHERWISE[name])] if name in OTHERWISE else []
    )


@pytest.mark.skipif(not PATHS, reason="TICKVAULT_QUICKFIX_DEFINITIONS does not name QuickFIX's folder test/definitions/server")
@pytest.mark.parametrize("path", [case(path) for path in PATHS] or [None])
def test_the_gateway_does_as_the_definition_says(path, tmp_path):
    asyncio.run(Player(Definition(path)).play(partial(Gateway, tmp_path, patience=PATIENCE)))


def test_a_line_is_completed_with_times_length_and_checksum():
    sent = complete("8=FIX.4.4\x0135=0\x0134=2\x0152=<TIME>\x01122=<TIME+10>\x0160=<TIME-55>\x01", NOW)
    frames, garbled = Framer().feed(sent, 0)
    assert (frames, garbled) == ([sent], [])
    message = parse(sent)
    assert [message.text(tag) for tag in (52, 122, 60)] == ["20260105-23:59:55", "20260106-00:00:05", "20260105-23:59:00"]


def test_a_length_and_a_checksum_that_a_line_has_are_sent_as_they_are():
    assert complete("8=FIX.4.4\x019=40\x0135=0\x0110=256\x01", NOW) == b"8=FIX.4.4\x019=40\x0135=0\x0110=256\x01"
    assert complete("35=0\x018=FIX.4.4\x01", NOW) == b"35=0\x018=FIX.4.4\x01"
