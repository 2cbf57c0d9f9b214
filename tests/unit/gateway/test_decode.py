"""A journal for people: every message by name, and the one that gave a stored tick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_lp import T0, Lp, both_sides, make_feed, quote

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import format_moment
from services.gateway import decode
from services.gateway.fix.session import Session
from services.gateway.journal import Direction, Journal

FEEDS = """
[[fix]]
name = "LP1"
host = "127.0.0.1"
port = 1
sender_comp_id = "TICKVAULT"
target_comp_id = "LP1"
[fix.aliases]
"EURUSD.r" = "EUR/USD"
"""


def conversation() -> Lp:
    """Three quotes in one read, one cut in two, one garbled."""
    lp = Lp(symbols="all", aliases={"EURUSD.r": "EUR/USD"}).connect().logon()
    lp.wait(1).receive(b"".join(lp.message("X", quote("EURUSD.r", f"1.{n}", "1.9")) for n in (1, 2, 3)))
    cut = lp.message("W", both_sides("GBP/USD", "1.5", "1.6"))
    lp.wait(1).receive(cut[:50]).wait(1).receive(cut[50:] + b"noise")
    return lp.wait(1).send("X", quote("EURUSD.r", "1.4", "1.9")).drop()


@pytest.fixture
def folder(tmp_path):
    """The conversation as the gateway would have written it, in segments so small that messages are cut by them too."""
    lp = conversation()
    journal, session = Journal(tmp_path / "LP1", segment_bytes=400), Session(lp.session.feed)
    journal.begin_segment(session.snapshot(0))
    for record in lp.records:
        if journal.segment_is_full:
            journal.begin_segment(session.snapshot(0))
        journal.append(record.recv_ts, record.direction, record.data)
        session.apply(record)
    journal.close()
    assert len(list((tmp_path / "LP1").iterdir())) > 2
    (tmp_path / "feeds.toml").write_text(FEEDS)
    return tmp_path / "LP1"


def test_every_message_is_printed_with_its_time_direction_and_tags_by_name(folder):
    lines = list(decode.lines(folder))
    assert sum("  in   MarketDataIncrementalRefresh  " in line for line in lines) == 4
    assert sum("  in   MarketDataSnapshotFullRefresh  " in line for line in lines) == 1
    assert any("  out  Logon  " in line and "MsgSeqNum(34)=1 " in line and "HeartBtInt(108)=30" in line for line in lines)
    assert any("MDEntryPx(270)=1.2 " in line and line.startswith(format_moment(T0 + 1_000_000_000)) for line in lines)
    assert any("garbled: b'noise'" in line for line in lines)
    assert any(line.endswith("connection closed") for line in lines)


def test_the_message_of_every_stored_tick_is_found(folder):
    lp = conversation()
    assert len(lp.ticks) == 5
    for tick in lp.ticks:
        wanted = decode.Wanted(tick.symbol, tick.ts, tick.seq)
        (line,) = decode.find(folder, wanted, lambda: Session(lp.session.feed))
        assert f"MDEntryPx(270)={tick.bid / 1e9:g} " in line
        assert line.startswith(format_moment(tick.recv_ts))
    assert list(decode.find(folder, decode.Wanted("EUR/USD", T0 - 1, None), lambda: Session(make_feed()))) == []


def test_a_folder_or_a_file_without_a_journal_is_refused(tmp_path):
    (tmp_path / "x.journal").write_bytes(b"something else")
    for path, reason in ((tmp_path / "nowhere", "no journal segment"), (tmp_path / "x.journal", "not a journal segment")):
        with pytest.raises(Rejected, match=reason):
            list(decode.lines(path))


def test_a_segment_with_a_damaged_record_is_printed_up_to_it(folder):
    segment = min(folder.iterdir())
    whole = list(decode.lines(segment))
    segment.write_bytes(segment.read_bytes()[:-3])
    assert list(decode.lines(segment)) == whole[:-1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TICKVAULT_FEEDS_FILE": str(folder.parent / "feeds.toml")}
    command = [sys.executable, "-m", "services.gateway", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_line_finds_a_tick_and_says_what_it_cannot_do(folder):
    tick = conversation().ticks[1]
    found = run(folder, "--decode", str(folder), "--tick", "eur/usd", format_moment(tick.ts), str(tick.seq))
    assert (found.returncode, found.stdout.count("\n")) == (0, 1), found.stderr
    assert "MDEntryPx(270)=1.2 " in found.stdout
    assert run(folder, "--decode", str(folder), "--tick", "XAU/USD", str(tick.ts)).returncode == 1
    for arguments, reason in (
        (["--decode", "/nowhere"], "no journal segment"),
        (["--decode", str(folder), "--tick", "EUR/USD", "yesterday"], "yesterday"),
        (["--tick", "EUR/USD", "1"], "--tick needs --decode"),
    ):
        refused = run(folder, *arguments)
        assert (refused.returncode, reason in refused.stderr, refused.stdout) == (2, True, ""), refused.stderr


def test_a_message_of_another_kind_of_feed_is_printed_as_it_came(tmp_path):
    journal = Journal(tmp_path / "WS")
    journal.begin_segment(Session(make_feed()).snapshot(0))
    journal.append(T0, Direction.IN, b'{"s":"BTCUSDT","b":"1.5"}')
    journal.append(T0, Direction.CLOCK, b"\x90")
    journal.close()
    assert [line.split("  ", 3)[3].strip() for line in decode.lines(tmp_path / "WS")][1:] == [
        '{"s":"BTCUSDT","b":"1.5"}', "time has passed: a market that is open is quiet, or a resend did not come",
    ]  # fmt: skip
