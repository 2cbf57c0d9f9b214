"""The ledger file."""

from simulator_desk import NOW_NS, make_quote

from services.simulator.ledger import DEPTH_HEADER, HEADER, TRADES_HEADER, Ledger, LevelLine, Lines, TradeLine


def test_a_line_is_in_the_file_when_append_returns(tmp_path):
    with Ledger(tmp_path / "ledger.csv", "LP1") as ledger:
        ledger.append(Lines([(7, make_quote()), (8, make_quote(bid_size=b""))]))
        assert (tmp_path / "ledger.csv").read_bytes() == HEADER + (
            f"LP1,7,EUR/USD,{NOW_NS},1.08512,1.08518,5,10\nLP1,8,EUR/USD,{NOW_NS},1.08512,1.08518,,10\n".encode()
        )


def test_a_restart_goes_on_with_the_file(tmp_path):
    for seq in (1, 2):
        with Ledger(tmp_path / "ledger.csv", "LP1") as ledger:
            ledger.append(Lines([(seq, make_quote())]))
    lines = (tmp_path / "ledger.csv").read_bytes().splitlines(keepends=True)
    assert (lines[0], len(lines)) == (HEADER, 3)


def test_levels_and_trades_have_files_of_their_own(tmp_path):
    path = tmp_path / "ledger.csv"
    level = LevelLine(7, b"X", b"EUR/USD", NOW_NS, b"2", b"1", b"", b"3", b"", b"")
    trade = TradeLine(8, b"EUR/USD", NOW_NS, b"1.1", b"", b"sell", b"T1")
    with Ledger(path, "LP1", depth=True, trades=True) as ledger:
        ledger.append(Lines([], [level], [trade]))
    assert path.read_bytes() == HEADER
    assert (tmp_path / "ledger.csv.depth").read_bytes() == DEPTH_HEADER + f"LP1,7,X,EUR/USD,{NOW_NS},2,1,,3,,\n".encode()
    assert (tmp_path / "ledger.csv.trades").read_bytes() == TRADES_HEADER + f"LP1,8,EUR/USD,{NOW_NS},1.1,,sell,T1\n".encode()


def test_files_that_nothing_goes_into_are_not_made(tmp_path):
    with Ledger(tmp_path / "ledger.csv", "LP1"):
        assert [path.name for path in tmp_path.iterdir()] == ["ledger.csv"]


def test_without_a_path_nothing_is_kept():
    with Ledger(None, "LP1") as ledger:
        ledger.append(Lines([(1, make_quote())]))
