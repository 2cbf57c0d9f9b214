"""Damage is found and named; a death at any step, and a full disk, leave what was there."""

import contextlib
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from columnar_days import DAY, EVER, MIDNIGHT, NOW, closed_day, late_file, plain, tick
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from libs.common.domain.errors import Rejected
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.store.columnar import Damaged, Query, SealedReader, read_manifest, seal, sealed_days, verify
from libs.common.store.columnar.manifest import FORMAT, encode_manifest

ROWS = [tick(seq, ts=MIDNIGHT + seq * 10**9) for seq in range(200)]
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def sealed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    beside = {
        "trades": [Trade("EUR/USD", "LP1", MIDNIGHT, 0, MIDNIGHT, 1, None, None, None)],
        "books": [Book("EUR/USD", "LP1", MIDNIGHT, 0, MIDNIGHT, [(1, 1.0)], [])],
        "gaps": [Gap("LP1", 4, 6, MIDNIGHT, None, "gap_fill", None)],
        "quarantined": [Quarantined(MIDNIGHT, "LP1", "LP1", "", "bad", b"8=FIX", 0)],
    }
    seal(folder, closed_day(folder, *ROWS, **beside), now=NOW, row_group_rows=64)
    return sealed_days(folder)[0].folder


KINDS = ["ticks", "bars", "trades", "books", "gaps", "quarantine", "account", "manifest"]


def file_of(folder: Path, kind: str) -> Path:
    return folder / ("ticks_2024-10-04.manifest.json" if kind == "manifest" else f"{kind}_2024-10-04.parquet")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_and_a_cut_tail_are_found_and_named_in_each_kind_of_file(sealed_folder: Path, kind, data) -> None:
    path = file_of(sealed_folder, kind)
    content = path.read_bytes()
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(content) - 1)) :]
    try:
        path.write_bytes(damaged)
        (problem,) = verify(file_of(sealed_folder, "manifest"))
        assert problem.path == path
        path.unlink()
        (problem,) = verify(file_of(sealed_folder, "manifest"))
        assert str(problem) == f"{path}: it is gone"
    finally:
        path.write_bytes(content)
    assert verify(file_of(sealed_folder, "manifest")) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_never_comes_back_as_other_ticks(sealed_folder: Path, at, bit) -> None:
    path = file_of(sealed_folder, "ticks")
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[at % len(content)] ^= 1 << bit
    found: list[tuple] = []
    try:
        path.write_bytes(damaged)
        with contextlib.suppress(Damaged), SealedReader(sealed_folder.parents[3]) as reader:
            found = plain(reader.read(Query(("EUR/USD",), *EVER)))
    finally:
        path.write_bytes(content)
    assert found in ([], ROWS)  # a reader may not need what was hit


def test_rows_that_are_not_those_of_the_digest_are_found_behind_sound_checksums(sealed_folder: Path) -> None:
    manifest = file_of(sealed_folder, "manifest")
    content = manifest.read_bytes()
    found = read_manifest(manifest)
    (series,) = found.series["EUR/USD"]
    found.series["EUR/USD"] = [replace(series, digest="0")]
    try:
        manifest.write_bytes(encode_manifest(found))
        (problem,) = verify(manifest)
        assert "not those of their digest" in str(problem)
        assert verify(manifest, rows=False) == []
    finally:
        manifest.write_bytes(content)


def test_a_manifest_of_a_newer_program_is_refused(sealed_folder: Path, tmp_path: Path) -> None:
    newer = encode_manifest(read_manifest(file_of(sealed_folder, "manifest"))).replace(b'"format":1', b'"format":2')
    body = newer[77:]
    path = tmp_path / "ticks_2024-10-04.manifest.json"
    path.write_bytes(b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'",' + body)
    assert FORMAT == 1
    with pytest.raises(Rejected, match="upgrade"):
        verify(path)


SEAL = textwrap.dedent("""
    import resource, sys
    from pathlib import Path
    from libs.common.store import Layout
    from libs.common.store.columnar import seal
    folder, day, now = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4] != "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    seal(folder, Layout(folder).day(day), late=Layout(folder).late(day), now=now)
""")


def run_seal(folder: Path, *, die_at: str = "", file_bytes_max: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SEAL, str(folder), str(DAY), str(NOW), str(file_bytes_max)]
    environment = {**os.environ, "CHAOS_POINT": die_at, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def ticks_of(folder: Path) -> list[tuple]:
    with SealedReader(folder) as reader:
        return plain(reader.read(Query(("EUR/USD",), *EVER)))


@pytest.mark.parametrize("step", ["written_not_verified", "verified_not_named", "named_not_swapped", "verified_not_swapped"])
@pytest.mark.parametrize("amending", [False, True])
def test_a_death_at_any_step_leaves_the_old_state_and_sealing_again_succeeds(tmp_path: Path, step, amending) -> None:
    path = closed_day(tmp_path, *ROWS[:150])
    late_file(tmp_path, *ROWS[150:])
    if amending:
        seal(tmp_path, path, now=NOW)
    assert run_seal(tmp_path, die_at=step).returncode == -9
    assert ticks_of(tmp_path) == (ROWS[:150] if amending else [])
    assert [problem for paths in sealed_days(tmp_path) for problem in verify(paths.manifest)] == []
    assert run_seal(tmp_path).returncode == 0
    assert ticks_of(tmp_path) == ROWS
    (paths,) = sealed_days(tmp_path)
    assert verify(paths.manifest) == []
    assert [left.name for left in paths.folder.iterdir() if left.name.endswith(".partial")] == []


def test_a_full_disk_leaves_the_old_state_and_nothing_else(tmp_path: Path) -> None:
    path = closed_day(tmp_path, *ROWS[:150])
    late_file(tmp_path, *ROWS[150:])
    seal(tmp_path, path, now=NOW)
    before = {found: found.read_bytes() for found in sealed_days(tmp_path)[0].folder.iterdir()}
    failed = run_seal(tmp_path, file_bytes_max=1500)
    assert failed.returncode == 1
    assert "Retryable" in failed.stderr
    assert {found: found.read_bytes() for found in sealed_days(tmp_path)[0].folder.iterdir()} == before
