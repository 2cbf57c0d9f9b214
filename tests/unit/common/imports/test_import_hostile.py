"""Files that are damaged, endless or made to harm: each has a named limit, and no line is lost without being counted."""

import gzip
import io
import random
import struct
import zipfile
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from import_files import opened, read, rows_of, stream, write

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS
from libs.common.imports import ImportFile, Options, Source, find_sources, importing, json_file
from libs.common.imports.source import BLOCK_BYTES, EXPANSION_FREE_BYTES, read_blocks
from libs.common.imports.table import LINE_CHARS_MAX, RAW_BYTES_MAX

HEADER = "time,symbol,bid,ask\n"
FIRST = 1549267200000


def lines(count, first=0):
    return "".join(f"{FIRST + n},EURUSD,1.{10_000 + n % 5_000},1.16\n" for n in range(first, first + count))


def stamps(rows):
    return [row[1] // NS_PER_MS - FIRST for row in rows]


def zipped(folder, content, name="a.zip", members=("ticks.csv",), **more):
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, content, **more)
    return path


class Endless(io.RawIOBase):
    """A stream that gives `piece` again and again, `count` times."""

    def __init__(self, begin, piece, count):
        self.left = begin
        self.piece, self.count = piece, count

    def read(self, size=-1):
        while len(self.left) < size and self.count:
            self.left += self.piece
            self.count -= 1
        given, self.left = self.left[:size], self.left[size:]
        return given


# ---- packed files


PACK = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "two gz": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]) + b"\0" * 512,
    "two zst": lambda data: b"".join(map(zstandard.ZstdCompressor().compress, (data[:100], data[100:]))),
}


@pytest.mark.parametrize("pack", PACK)
def test_packed_files_are_read_by_what_they_are_and_not_by_their_name(tmp_path, pack):
    content = (HEADER + lines(20_000)).encode()
    path = write(tmp_path, "ticks", PACK[pack](content))
    file = opened(path)
    assert stamps(rows_of(file)) == list(range(20_000))
    assert file.digest == opened(write(tmp_path, "plain", content)).content_digest()


@pytest.mark.parametrize("pack", ["gz", "zst"])
@pytest.mark.parametrize("at", [0.3, 0.99])
def test_packed_files_that_are_cut_off_are_refused(tmp_path, pack, at):
    packed = PACK[pack]((HEADER + lines(20_000)).encode())
    path = write(tmp_path, "ticks.csv", packed[: int(len(packed) * at)])
    with pytest.raises(Rejected, match="cut off"):
        read(path)


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_flipped_bit_in_a_packed_file_is_noticed(tmp_path, pack):
    packed = bytearray(PACK[pack]((HEADER + lines(20_000)).encode()))
    packed[-3] ^= 1  # in the checksum
    with pytest.raises(Rejected, match="damaged"):
        read(write(tmp_path, "ticks.csv", bytes(packed)))


def test_what_came_before_the_damage_was_given_and_the_digest_is_not(tmp_path):
    packed = PACK["gz"]((HEADER + "".join(lines(1, n) for n in random.Random(4).sample(range(100_000), 50_000))).encode())
    file = opened(write(tmp_path, "ticks.csv", packed[:-2000]))
    count = 0
    with pytest.raises(Rejected, match="cut off"):  # noqa: PT012 - in the middle of the batches
        for batch in file.batches():
            count += len(batch.rows)
    assert 0 < count < 50_000
    assert (file.summary.rows, file.digest) == (count, None)


def test_zips_that_are_cut_off_or_damaged_are_refused(tmp_path):
    whole = zipped(tmp_path, HEADER + lines(20_000)).read_bytes()
    with pytest.raises(Rejected, match="not a whole zip"):
        find_sources([write(tmp_path, "cut.zip", whole[:-30])])
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    with pytest.raises(Rejected, match="damaged, cut off or encrypted"):
        read(write(tmp_path, "damaged.zip", bytes(damaged)))


def test_encrypted_and_oddly_packed_members_are_refused(tmp_path):
    data = bytearray(zipped(tmp_path, HEADER + lines(10)).read_bytes())
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        where = data.index(magic) + at
        data[where : where + 2] = struct.pack("<H", 1)
    with pytest.raises(Rejected, match="encrypted"):
        read(write(tmp_path, "encrypted.zip", bytes(data)))
    path = tmp_path / "bzip2.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("ticks.csv", HEADER)
    with pytest.raises(Rejected, match="packed by method 12"):
        read(path)


BOMB_BYTES = EXPANSION_FREE_BYTES * 2


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_bomb_is_refused_once_it_has_grown_250_fold(tmp_path, pack):
    packer = zlib.compressobj(9, wbits=31) if pack == "gz" else zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(BOMB_BYTES // 2**20)) + packer.flush()
    unpacked = 0
    with pytest.raises(Rejected, match="unpacks to more than 250 times its size"):  # noqa: PT012 - while it is read
        for block in read_blocks(Source(write(tmp_path, "x.csv", bomb))):
            unpacked += len(block)
    assert unpacked < BOMB_BYTES


def test_a_zip_bomb_is_refused_and_one_of_overlapping_members_before_it_is_opened(tmp_path, monkeypatch):
    with pytest.raises(Rejected, match="unpacks to more than 250 times its size"):
        list(read_blocks(*find_sources([zipped(tmp_path, b"\0" * BOMB_BYTES)]).sources))
    path = zipped(tmp_path, random.Random(0).randbytes(1_000), members=("a.csv", "b.csv"))
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 20 : second + 24] = struct.pack("<I", 2**20)
    path.write_bytes(bytes(data))
    with pytest.raises(Rejected, match="its members overlap"):
        find_sources([path])
    monkeypatch.setattr("libs.common.imports.source.MEMBERS_MAX", 1)
    with pytest.raises(Rejected, match="2 members, more than the 1 that one zip may have"):
        find_sources([zipped(tmp_path, "", members=("a.csv", "b.csv"))])


# ---- what stands in them


def test_a_line_of_a_hundred_megabytes_is_one_rejected_line(tmp_path):
    monster = Endless((HEADER + lines(2)).encode(), b"9" * 2**20, 100)
    file = stream(Chained(monster, io.BytesIO(b"\n" + lines(2, 2).encode())))
    batches = list(file.batches())
    assert stamps([row for batch in batches for row in batch.rows]) == [0, 1, 2, 3]
    (line,) = [line for batch in batches for line in batch.rejected]
    assert (line.line, line.reason, len(line.raw)) == (4, f"longer than {LINE_CHARS_MAX} characters", RAW_BYTES_MAX)


class Chained:
    def __init__(self, *files):
        self.files = list(files)

    def read(self, size=-1):
        while self.files:
            if data := self.files[0].read(size):
                return data
            self.files.pop(0)
        return b""


@pytest.mark.parametrize(
    "begin",
    [
        '[{"time": 1549267200000, "symbol": "X", "bid": 1, "ask": 2}, "',
        '[{"time": 1549267200000, "symbol": "X", "bid": 1, "ask": 2}, 1,',
    ],
)
def test_a_json_array_without_an_end_stays_within_bounds(begin):
    file = stream(Endless(begin.encode(), b"1," * 2**17, 3))
    largest = 0
    with pytest.raises(Rejected, match="cut off: the JSON array does not end"):  # noqa: PT012 - at the end of the batches
        for batch in file.batches():
            largest = max(largest, sum(len(line.raw) for line in batch.rejected))
    assert file.summary.rows == 1
    assert largest < 2**24


def test_a_stream_is_read_once_and_a_preview_takes_nothing_from_it():
    file = stream(Endless((HEADER + lines(3)).encode(), b"", 0))
    assert stamps(file.preview(2).rows) == [0, 1]
    assert stamps(file.preview(2).rows) == [0, 1]
    with pytest.raises(Rejected, match="a stream is read once"):
        file.content_digest()
    assert stamps(rows_of(file)) == [0, 1, 2]


def test_long_streams_are_previewed_and_read_across_blocks_with_the_right_line_numbers():
    count = BLOCK_BYTES // 10
    content = HEADER + lines(count) + "broken\n" + lines(count, count)
    file = stream(Chained(io.BytesIO(content.encode())))
    assert stamps(file.preview(count + 1).rows) == list(range(count + 1))
    batches = list(file.batches())
    assert len(batches) > 2
    assert stamps([row for batch in batches for row in batch.rows]) == list(range(2 * count))
    assert [line.line for batch in batches for line in batch.rejected] == [count + 2]


def test_binary_garbage_is_refused(tmp_path):
    for seed in range(50):
        garbage = random.Random(seed).randbytes(5_000)
        with pytest.raises(Rejected):
            read(write(tmp_path, f"{seed}.csv", garbage), symbol="EURUSD", timezone="UTC")


@given(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"[", b"{", b'[{"time":', HEADER.encode(), b"\xff\xfe", b"PK\3\4", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"]\0\0"]
    ),
)
def test_any_bytes_are_read_or_refused(begin, data):
    try:
        file = stream(io.BytesIO(data + begin), symbol="EURUSD", timezone="UTC")
        for batch in file.batches():
            assert all(row[6] & 128 for row in batch.rows)
    except Rejected:
        pass


def test_mixed_encodings_reject_their_lines_only(tmp_path):
    odd = f"{FIRST},EURÜSD,1,2\n"
    content = (
        (HEADER + lines(2)).encode() + odd.encode() + odd.encode("latin-1") + lines(1, 2).encode() + "ÿþ\n".encode("utf-16-le")
    )
    rows, rejected = read(write(tmp_path, "x.csv", content))
    assert stamps(rows) == [0, 1, 2]
    assert [line.raw for line in rejected][:2] == [odd.strip().encode(), odd.strip().encode("latin-1")]
    assert {line.reason for line in rejected[:2]} == {"the symbol is missing or not one"}


def test_a_file_of_countless_symbols_or_days_is_refused(tmp_path, monkeypatch):
    rows, rejected = read(write(tmp_path, "s.csv", HEADER + "".join(f"{FIRST},S{n},1,2\n" for n in range(20_100))))
    assert (len(rows), {line.reason for line in rejected}) == (20_000, {"the file names more than 20000 symbols"})
    monkeypatch.setattr(importing, "DAYS_MAX", 10)
    with pytest.raises(Rejected, match="more than 10 days of symbols"):
        read(write(tmp_path, "d.csv", HEADER + "".join(f"{FIRST + 86_400_000 * n},X,1,2\n" for n in range(12))))


def test_a_json_document_has_a_largest_size(tmp_path, monkeypatch):
    path = write(tmp_path, "x.json", '{"symbol": "X", "time": [1549267200000], "bid": [1], "ask": [2]}')
    assert len(read(path)[0]) == 1
    monkeypatch.setattr(json_file, "DOCUMENT_BYTES_MAX", 30)
    with pytest.raises(Rejected, match="above 30 bytes"):
        read(path)


def test_deep_nesting_is_refused_or_rejected(tmp_path):
    deep = "[" * 100_000
    with pytest.raises(Rejected):
        read(write(tmp_path, "x.json", deep))
    rows, rejected = read(
        write(tmp_path, "y.json", f'[{{"time": {FIRST}, "symbol": "X", "bid": 1, "ask": 2}}, {{"a": {deep}}}, {{"z": 1}}]')
    )
    assert (len(rows), len(rejected)) == (1, 2)


def test_a_path_that_is_not_there_and_a_folder_without_ticks_are_refused(tmp_path):
    with pytest.raises(Rejected, match="no such file"):
        find_sources([tmp_path / "gone"])
    write(tmp_path, "notes.txt", "x")
    with pytest.raises(Rejected, match="no tick file in it"):
        find_sources([tmp_path])


def test_folders_and_zips_are_searched_in_the_order_of_names(tmp_path):
    for name in ("b/2.csv", "b/1.csv.gz", "a/z.ndjson", ".hidden/x.csv", "b/.x.csv", "a/notes.txt"):
        write(tmp_path, name, "x")
    zipped(tmp_path / "b", "x", "0.zip", members=("n/2.csv", "1.csv", "report.txt", "__MACOSX/._1.csv", "inner.zip"))
    found = find_sources([tmp_path, tmp_path / "b" / "2.csv"])
    names = [source.name.removeprefix(f"{tmp_path.as_posix()}/") for source in found.sources]
    assert names == ["a/z.ndjson", "b/0.zip/1.csv", "b/0.zip/n/2.csv", "b/1.csv.gz", "b/2.csv"] or names == [
        "b/0.zip/1.csv", "b/0.zip/n/2.csv", "b/1.csv.gz", "b/2.csv", "a/z.ndjson"
    ]  # fmt: skip
    assert [name.rpartition("/")[2] for name, _ in found.skipped] == ["notes.txt", "inner.zip", "report.txt"]


def test_a_zip_of_one_member_is_read_whatever_it_is_called(tmp_path):
    assert len(read(zipped(tmp_path, HEADER + lines(3), members=("export.txt",)))[0]) == 3
    with pytest.raises(Rejected, match="a zip has to be a file"):
        ImportFile(Source(tmp_path / "-", stream=io.BytesIO((tmp_path / "a.zip").read_bytes())), Options())
