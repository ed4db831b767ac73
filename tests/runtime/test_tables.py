"""The tables file: its bytes, what is refused, and damage, which costs time but never a wrong hit or a crash."""

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch import mih_native, native
from duch.errors import CodesError, TablesError
from duch.index import HammingIndex
from duch.tables import HEADER_SIZE, Tables, file_name

FINGERPRINT = bytes(range(32)).hex()
RNG = np.random.default_rng(1)
CODES = RNG.integers(0, 256, (40, 2), dtype=np.uint8)
TELLS: dict[str, Any] = {"n_bits": 16, "fingerprint": FINGERPRINT, "generation": 7, "n_rows": 40}


def build(file: Path, codes: np.ndarray = CODES, **more: Any) -> Tables:
    return Tables.build(codes, file, **{"fingerprint": FINGERPRINT, "generation": 7, "n_tables": 4, **more})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / file_name(7)


@pytest.fixture(scope="module")
def whole(place: Path) -> bytes:
    build(place)
    return place.read_bytes()


def test_the_file_is_as_gallery_md_says(place: Path, whole: bytes) -> None:
    """Read back with nothing but struct and zlib."""
    assert place.name == "tables-7.bin"
    assert struct.unpack_from("<8sII32sQ8s", whole) == (b"DUCHTABL", 2, 16, bytes(range(32)), 7, bytes(8))
    assert struct.unpack_from("<QII", whole, 64) == (40, zlib.crc32(CODES.tobytes()), 4)
    entries = [struct.unpack_from("<II", whole, 80 + 8 * t) for t in range(4)]
    assert [bits for bits, _ in entries] == [4, 4, 4, 4]
    assert whole[112:636] == bytes(524)
    assert struct.unpack_from("<I", whole, 636) == (zlib.crc32(whole[:636]),)
    at = 640
    words = CODES.copy().view("<u2")[:, 0].astype(int)
    for t, (bits, crc) in enumerate(entries):
        keys = words >> 4 * t & 15
        order = sorted(range(40), key=lambda row: (keys[row], row))
        offsets = [int((keys < key).sum()) for key in range(2**bits + 1)]
        arrays = [struct.pack("<17I", *offsets), struct.pack("<40I", *order), struct.pack("<40Q", *words[order])]
        table = b"".join(array + bytes(-len(array) % 64) for array in arrays)
        assert whole[at : at + len(table)] == table
        assert crc == zlib.crc32(table)
        at += len(table)
    assert len(whole) == at


def test_what_is_built_can_be_opened_and_checked(tmp_path: Path) -> None:
    build(tmp_path / "t.bin").check(CODES)
    tables = Tables.open(tmp_path / "t.bin", **{**TELLS, "n_rows": 50})  # ten were appended later
    tables.check(np.concatenate([CODES, CODES[:10]]))
    assert (tables.n_rows, tables.n_bits, len(tables.tables), tables.problem) == (40, 16, 4, None)
    assert [file.name for file in tmp_path.iterdir()] == ["t.bin"]


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("n_bits", [8, 64, 72])
def test_tables_of_no_codes_or_one(n: int, n_bits: int, tmp_path: Path) -> None:
    codes = np.ones((n, n_bits // 8), dtype=np.uint8)
    tables = build(tmp_path / "t.bin", codes, n_tables=None)
    tables.check(codes)
    assert (
        HammingIndex(codes, tables=tables).search(np.ones((2, n_bits // 8), np.uint8), 3)[1].tolist() == [[0] * n] * 2
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_bits": 24}, "is not of the 24-bit codes of generation 7 of this gallery"),
        ({"fingerprint": "00" * 32}, "is not of the 16-bit codes"),
        ({"generation": 8}, "is not of the 16-bit codes of generation 8"),
        ({"n_rows": 39}, "covers 40 codes, of 39"),
    ],
)
def test_tables_of_other_codes_are_not_used(change: dict[str, Any], message: str, place: Path, whole: bytes) -> None:
    place.write_bytes(whole)
    with pytest.raises(TablesError) as caught:
        Tables.open(place, **{**TELLS, **change})
    assert message in str(caught.value)
    assert str(caught.value).endswith("; a scan answers until the tables are built again")
    assert "\n" not in str(caught.value)


def test_tables_that_are_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(TablesError, match="is not there"):
        Tables.open(tmp_path / "none.bin", **TELLS)
    with pytest.raises(TablesError, match="is no plain file"):
        Tables.open(tmp_path, **TELLS)


def test_codes_that_changed_are_told(place: Path, whole: bytes) -> None:
    place.write_bytes(whole)
    with pytest.raises(TablesError, match="was made of codes with the CRC-32"):
        Tables.open(place, **TELLS).check(CODES ^ 1)


@given(keep=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_a_truncated_file_is_refused(keep: float, place: Path, whole: bytes) -> None:
    place.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(TablesError, match=r"damaged header|bytes, wanted"):
        Tables.open(place, **TELLS)


def search_everything(tables: Tables) -> None:
    """Every search answers as a scan does, and none leaves its arrays; or the tables are found damaged."""
    index = HammingIndex(CODES, tables=tables)
    wrong = False
    for level in native.levels():
        tables.problem = None
        native.set_level(level)
        for k in (1, 7, 40):
            scan = index.search(CODES, k, method="scan")
            found = index.search(CODES, k, method="mih" if tables.problem is None else "auto")
            gathered = np.bitwise_count(CODES[found[1]] ^ CODES[:, None]).sum(axis=2)
            np.testing.assert_array_equal(found[0], gathered)  # a hit may be missed, but none is wrong
            wrong |= not np.array_equal(found, scan)
        if tables.problem is None:
            index.search_radius(CODES, 5, method="mih")
    native.set_level(native.levels()[0])
    if wrong or tables.problem:
        with pytest.raises(TablesError):
            tables.check(CODES)


@given(place_=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), header=st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_changed_byte_is_refused_or_named_by_check(
    place_: float, flip: int, header: bool, place: Path, whole: bytes
) -> None:
    size = HEADER_SIZE if header else len(whole)
    damaged = bytearray(whole)
    damaged[int(place_ * size)] ^= flip
    place.write_bytes(damaged)
    if int(place_ * size) < HEADER_SIZE:
        with pytest.raises(TablesError, match="has a damaged header"):
            Tables.open(place, **TELLS)
        return
    tables = Tables.open(place, **TELLS)
    with pytest.raises(TablesError, match="has the CRC-32"):
        tables.check(CODES)
    search_everything(tables)


@given(start=st.floats(0, 1, exclude_max=True), garbage=st.binary(min_size=1, max_size=800))
@settings(max_examples=25, deadline=None)
def test_garbage_in_the_tables_never_leads_out_of_them(start: float, garbage: bytes, place: Path, whole: bytes) -> None:
    at = HEADER_SIZE + int(start * (len(whole) - HEADER_SIZE))
    place.write_bytes((whole[:at] + garbage + whole[at + len(garbage) :])[: len(whole)])
    search_everything(Tables.open(place, **TELLS))


@given(fields=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_header_with_a_right_checksum_but_wrong_counts_is_refused(
    fields: list[int], place: Path, whole: bytes
) -> None:
    damaged = bytearray(whole)
    struct.pack_into("<6I", damaged, 64, *fields)
    struct.pack_into("<I", damaged, 636, zlib.crc32(damaged[:636]))
    place.write_bytes(damaged)
    with pytest.raises(TablesError):
        Tables.open(place, **TELLS)


def test_a_search_that_meets_damage_says_so_and_scans(place: Path, whole: bytes) -> None:
    damaged = bytearray(whole)
    damaged[640 + 64 : 640 + 68] = b"\xff" * 4  # the last offset of the first table
    damaged[640 : 640 + 64] = b"\xff" * 64
    place.write_bytes(damaged)
    index = HammingIndex(CODES, tables=Tables.open(place, **TELLS))
    assert index.tables_problem is None
    found = index.search(CODES[:3], 5, method="mih")
    np.testing.assert_array_equal(found, index.search(CODES[:3], 5, method="scan"))
    assert index.tables_problem is not None
    assert "tables-7.bin is damaged" in index.tables_problem
    np.testing.assert_array_equal(index.search(CODES[:3], 5), found)
    with pytest.raises(CodesError, match=r"tables-7\.bin is damaged"):
        index.search(CODES[:3], 5, method="mih")


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("way", ["nearest", "radius"])
def test_a_row_that_is_there_twice_is_no_hit_twice(way: str, level: str, tmp_path: Path) -> None:
    codes = np.zeros((6, 2), dtype=np.uint8)
    build(tmp_path / "t.bin", codes)
    damaged = bytearray((tmp_path / "t.bin").read_bytes())
    rows_at = HEADER_SIZE + 128  # after the 17 offsets of the first table
    assert struct.unpack_from("<6I", damaged, rows_at) == (0, 1, 2, 3, 4, 5)
    struct.pack_into("<I", damaged, rows_at + 4, 0)
    (tmp_path / "t.bin").write_bytes(damaged)
    index = HammingIndex(codes, tables=Tables.open(tmp_path / "t.bin", **{**TELLS, "n_rows": 6}))
    native.set_level(level)
    try:
        search = index.search if way == "nearest" else lambda *args, **more: index.search_radius(*args, **more)[0]
        rows = search(codes[:1], 6, method="mih")[1]
    finally:
        native.set_level(native.levels()[0])
    assert rows.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert index.tables_problem is not None


def test_a_full_disk_leaves_the_old_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "t.bin")
    before = (tmp_path / "t.bin").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        build(tmp_path / "t.bin", CODES[:3])
    assert caught.value.filename == str(tmp_path / "t.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["t.bin"]
    assert (tmp_path / "t.bin").read_bytes() == before


def test_an_interrupt_leaves_the_old_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "t.bin")
    before = (tmp_path / "t.bin").read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "t.bin", CODES[:3])
    assert [file.name for file in tmp_path.iterdir()] == ["t.bin"]
    assert (tmp_path / "t.bin").read_bytes() == before


def test_readers_keep_the_tables_that_they_opened(tmp_path: Path) -> None:
    old = build(tmp_path / "t.bin")
    new = build(tmp_path / "t.bin", CODES[:20])
    old.check(CODES)
    new.check(CODES)
    assert (old.n_rows, new.n_rows) == (40, 20)


@pytest.mark.skipif(not mih_native.available(), reason="no native library")
def test_the_file_is_the_same_without_the_native_library(tmp_path: Path, whole: bytes) -> None:
    native.set_level(native.NUMPY)
    try:
        build(tmp_path / "t.bin")
    finally:
        native.set_level(native.levels()[0])
    assert (tmp_path / "t.bin").read_bytes() == whole
