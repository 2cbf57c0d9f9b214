"""A journal segment as an earlier gateway began it must be gone on with: these bytes are never edited, only added to."""

from libs.common.domain.moment import parse_moment
from services.gateway.feeds import FixFeed
from services.gateway.fix.session import Session
from services.gateway.fix.wire import encode
from services.gateway.journal import Direction, Record

# FIX 4.4, reset_on_logon = false, 2026-11-20: EUR/USD 0 and 1 and GBP/USD 0 were numbered, then the connection was lost
FIRST = bytes.fromhex(
    "de0015a6737461747573a6636c6f736564a96c6f676765645f6f6ec2a76e6578745f696e05a86e6578745f6f757403ab6865617274626561745f731eaa"
    "72657365745f73656e74c2a468656c6480aa68656c645f627974657300af726573656e645f646561646c696e6500a861736b65645f746f00a86761705f"
    "66726f6d00a6756e7365656e90ad676172626c65645f756e74696c00ac6c6173745f73656e64696e67cf18e9b8832bdd4000a76c6173745f7473cf18e9"
    "b8832bdd4000a96f70656e5f676170739197a34c503105c0cf18e9b8832bdd4000c0aa646973636f6e6e656374c0b171756172616e74696e655f6e756d"
    "62657200a764757261626c6500a472657374c400ad77616974696e675f73696e6365cf18e9b8832bdd4000a5626f6f6b73929da74555522f555344c0c0"
    "c0c0c0c0ce448b9b80ce4a817c80cf18e9b8832bdd4000cd512902809da74742502f555344c0c0c0c0c0c0ce4d7c6d00ce53724e00cf18e9b8832bdd40"
    "00cd51290180"
)


def test_numbers_and_gaps_go_on_from_the_first_version_s_snapshot() -> None:
    now = parse_moment("2026-11-20T11:00:00Z")
    feed = FixFeed(name="LP1", host="h", port=1, sender_comp_id="TICKVAULT", target_comp_id="LP1", reset_on_logon=False)

    def frame(seq: int, msg_type: str, *fields: tuple[int, str | int]) -> bytes:
        return encode("FIX.4.4", "LP1", "TICKVAULT", seq, msg_type, fields, now_ns=now)

    for settings in ({}, {"market_depth": 0}):
        session = Session(feed.model_copy(update=settings))
        logon = frame(5, "A", (98, 0), (108, 30))
        quote = frame(6, "W", (55, "EUR/USD"), (268, 2), (269, 0), (270, "1.2"), (269, 1), (270, "1.3"))
        for direction, data in (
            (Direction.SNAPSHOT, FIRST),
            (Direction.OPENED, b""),
            (Direction.IN, logon),
            (Direction.IN, quote),
        ):
            session.apply(Record(0, now, direction, data))
        outcome = session.take()
        assert [(tick[0], tick[3]) for tick in outcome.ticks] == [("EUR/USD", 2)]
        assert [(gap.cause, gap.first_seq, gap.resolved_by) for gap in outcome.gaps] == [("disconnect", 5, "snapshot")]
        assert session.state.next_in == 7
