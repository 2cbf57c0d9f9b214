"""The reckoning must be able to fail: what it calls lost, doubled, excused."""

from pathlib import Path

import pytest

from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Gap, Quarantined
from libs.common.store import Batch, DayFile, Layout
from libs.common.testing.reckoning import LedgerTail, compare, numbering_errors, reckon

DAY = 20_000
T0 = DAY * NS_PER_DAY
HEADER = "session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size\n"


def tick(seq: int) -> tuple:
    return ("EUR/USD", "LP1", T0 + seq, seq, T0, 1_085_120_000 + seq, 1_086_000_000, 1.0, 2.5, 0)


def line(seq: int, number: int | None = None) -> str:
    return f"LP1,{seq if number is None else number},EUR/USD,{T0 + seq},{1.08512 + seq / 1e9:.9f},1.086,1,2.5\n"


def gap(first: int | None, last: int | None, from_seq: int, to_seq: int | None) -> Gap:
    return Gap("LP1", first, last, T0 + from_seq, None if to_seq is None else T0 + to_seq, "gap_fill", "snapshot")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.csv"
    path.write_text(HEADER + "".join(map(line, range(4))), "ascii")
    return path


def store(folder: Path, *seqs: int, gaps: tuple[Gap, ...] = (), quarantined: tuple[bytes, ...] = ()) -> Path:
    file = DayFile(Layout(folder).day(DAY))
    items = [Quarantined(T0, "LP1", "LP1", "", "garbled", raw, number) for number, raw in enumerate(quarantined)]
    file.write(Batch(ticks=[tick(seq) for seq in seqs], gaps=list(gaps), quarantined=items))
    file.close()
    return folder


def test_a_store_that_equals_the_ledger_is_sound(tmp_path: Path, ledger: Path) -> None:
    result = reckon([ledger], store(tmp_path, 0, 1, 2, 3))
    assert (result.received, result.stored, result.in_gaps, result.sound) == (4, 4, 0, True)
    assert numbering_errors(tmp_path) == []


def test_a_line_that_is_nowhere_is_lost_and_shown(tmp_path: Path, ledger: Path) -> None:
    result = reckon([ledger], store(tmp_path, 0, 1, 3))
    assert (result.lost, result.duplicates) == (1, 0)
    assert f"EUR/USD,{T0 + 2}" in result.examples[0]
    assert "numbered 4, highest seq + 1 4, account 3" in numbering_errors(tmp_path)[0]


def test_a_tick_that_no_ledger_knows_is_one_too_many(tmp_path: Path, ledger: Path) -> None:
    result = reckon([ledger], store(tmp_path, 0, 1, 2, 3, 4))
    assert (result.lost, result.duplicates) == (0, 1)


@pytest.mark.parametrize(
    ("recorded", "excused"),
    [
        (gap(2, 2, 2, 2), True),
        (gap(None, None, 1, 3), True),
        (gap(2, None, 1, None), True),
        (gap(2, 2, 3, 9), False),  # the number of another connection
        (gap(5, 9, 0, None), False),  # the time of other numbers
        (gap(None, None, 3, None), False),
    ],
)
def test_a_gap_excuses_a_line_only_where_number_and_time_fit(tmp_path: Path, ledger: Path, recorded: Gap, excused: bool) -> None:
    result = reckon([ledger], store(tmp_path, 0, 1, 3, gaps=(recorded,)))
    assert (result.in_gaps, result.lost) == (int(excused), int(not excused))


@pytest.mark.parametrize(
    ("raw", "excused"),
    [
        (b"8=FIX.4.4\x0135=X\x0134=2\x0155=EUR/USD\x01270=1.085120002\x01270=1.0X6\x01", True),
        (b"8=FIX.4.4\x0135=X\x0134=2\x0155=EUR/USD\x01270=1.2\x01270=1.3\x01", False),
        (b"8=FIX.4.4\x0135=X\x0134=3\x0155=EUR/USD\x01270=1.085120002\x01270=1.086\x01", False),
    ],
)
def test_a_quarantined_message_excuses_only_the_line_it_shows(tmp_path: Path, ledger: Path, raw: bytes, excused: bool) -> None:
    result = reckon([ledger], store(tmp_path, 0, 1, 3, quarantined=(raw,)))
    assert (result.in_gaps, result.lost, result.quarantined) == (int(excused), int(not excused), 1)


def test_a_window_compares_what_falls_into_it(tmp_path: Path, ledger: Path) -> None:
    tail = LedgerTail(ledger)
    data_dir = store(tmp_path, 0, 1, 2, 3)
    first = compare(tail.until(T0 + 2), data_dir, (0, T0 + 2))
    second = compare(tail.until(T0 + 9), data_dir, (T0 + 2, T0 + 9))
    assert [(part.received, part.stored, part.sound) for part in (first, second)] == [(2, 2, True)] * 2


def test_a_ledger_that_is_being_written_is_read_up_to_its_last_whole_line(ledger: Path) -> None:
    tail = LedgerTail(ledger)
    with ledger.open("a", encoding="ascii") as file:
        file.write(line(4)[:-5])
        file.flush()
        assert len(tail.until(T0 + 9)) == 4
        file.write(line(4)[-5:])
    assert [found.msg_seq_num for found in tail.until(T0 + 9)] == ["4"]
    assert tail.lines == 5
