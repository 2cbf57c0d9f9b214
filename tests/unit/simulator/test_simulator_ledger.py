"""The ledger file."""

from simulator_desk import NOW_NS, make_quote

from services.simulator.ledger import HEADER, Ledger


def test_a_line_is_in_the_file_when_append_returns(tmp_path):
    with Ledger(tmp_path / "ledger.csv", "LP1") as ledger:
        ledger.append([(7, make_quote()), (8, make_quote(bid_size=b""))])
        assert (tmp_path / "ledger.csv").read_bytes() == HEADER + (
            f"LP1,7,EUR/USD,{NOW_NS},1.08512,1.08518,5,10\nLP1,8,EUR/USD,{NOW_NS},1.08512,1.08518,,10\n".encode()
        )


def test_a_restart_goes_on_with_the_file(tmp_path):
    for seq in (1, 2):
        with Ledger(tmp_path / "ledger.csv", "LP1") as ledger:
            ledger.append([(seq, make_quote())])
    lines = (tmp_path / "ledger.csv").read_bytes().splitlines(keepends=True)
    assert (lines[0], len(lines)) == (HEADER, 3)


def test_without_a_path_nothing_is_kept():
    with Ledger(None, "LP1") as ledger:
        ledger.append([(1, make_quote())])
