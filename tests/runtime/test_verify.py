"""Checking galleries: whole ones pass, and no flipped bit that changes a live tile goes unseen."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duch.errors import GalleryCorruptError, GalleryError
from duch.gallery import Gallery
from duch.tile import row_crc
from duch.untrusted_files import code_crcs
from duch.verify import VerifyReport, verify
from duch.write_ahead_log import find_damage

from .some_gallery import (
    Whole,
    crashed_gallery,
    edit,
    fill,
    flip,
    some_gallery,
    some_tiles,
    what_a_reader_sees,
    writer,
)


def told(report: VerifyReport) -> str:
    return "\n".join(map(str, report.problems))


@pytest.fixture(scope="module", params=["closed", "compacted", "crashed"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole") / "g"
    if request.param == "crashed":
        return Whole.of(crashed_gallery(folder))
    some_gallery(folder)
    if request.param == "compacted":
        with writer(folder) as out:
            out.compact()
            fill(out, 20, "later/", 1)
    return Whole.of(folder)


def test_a_whole_gallery_has_no_problems(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    shutil.copytree(whole.folder, folder)
    report = verify(folder)
    assert report.problems == []
    assert report.leftovers == []
    assert report.n_tiles == len(whole.seen)
    connection = sqlite3.connect(folder / "catalog.sqlite")
    assert report.n_batches == len(connection.execute("SELECT * FROM batches").fetchall())
    connection.close()


def test_an_empty_gallery_is_whole(tmp_path: Path) -> None:
    assert verify(some_gallery(tmp_path / "g", 0)).problems == []


def test_many_batches_and_groups_are_whole_and_counted(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        codes = np.random.default_rng(0).integers(0, 256, (9000, 8), dtype=np.uint8)
        out.append(codes, some_tiles(9000))
        out.append(codes[:1], some_tiles(1, "b"))
    steps: list[tuple[int, int]] = []
    assert verify(tmp_path / "g", on_progress=lambda *step: steps.append(step)).problems == []
    assert steps[-1] == (9001, 9001)


def test_a_folder_that_is_no_gallery_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"holds no catalog\.sqlite"):
        verify(tmp_path)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_flipped_bit_is_named_or_changes_nothing_that_a_reader_sees(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, bit: int
) -> None:
    name, of_file = data.draw(st.sampled_from(whole.places))
    place = data.draw(st.sampled_from(of_file))
    folder = tmp_path_factory.mktemp("flip") / "g"
    shutil.copytree(whole.folder, folder)
    flip(folder / name, place, bit)
    try:
        named = bool(verify(folder).problems)
    except GalleryError:
        named = True
    if not named:
        assert what_a_reader_sees(folder) == whole.seen
    shutil.rmtree(folder)


TAMPERED = [
    ("UPDATE tiles SET text = text || ' ' WHERE seq = 3", "seq 3 of catalog.sqlite: it differs from its checksum"),
    ("UPDATE tiles SET deleted = 1 WHERE seq = 3", "seq 3 of catalog.sqlite: it differs"),
    ("DELETE FROM tiles WHERE seq = 3", "rows 3 to 3 of columns-1.bin: no tile has them"),
    ("DELETE FROM batches WHERE first_row = 0", "a batch of 13 rows at row 14; wanted one at row 0"),
    ("DELETE FROM batches WHERE first_row > 20", "the batches hold 27 rows; wanted 41"),
    ("UPDATE batches SET n_rows = 'x'", "a batch of 'x' rows at row 0"),
    ("UPDATE batches SET codes_crc = 1 WHERE first_row = 0", "rows 0 to 13 of codes-1.bin: they differ"),
    ("UPDATE batches SET columns_crc = 1 WHERE first_row = 0", "rows 0 to 13 of columns-1.bin: they differ"),
    ("UPDATE meta SET value = 6 WHERE key = 'live_texts'", "'live_texts' of table meta"),
    ("DELETE FROM meta WHERE key = 'root'", "'root' of table meta"),
    ("DROP TABLE batches", "no such table: batches"),
    ("ALTER TABLE tiles DROP COLUMN size", "no such column: size"),
]


@pytest.mark.parametrize(("statement", "message"), TAMPERED)
def test_a_catalog_that_was_edited_is_named(tmp_path: Path, statement: str, message: str) -> None:
    edit(some_gallery(tmp_path / "g"), statement)
    assert message in told(verify(tmp_path / "g"))


def set_meta(folder: Path, key: str, value: Any) -> None:
    edit(folder, "UPDATE meta SET value = ?, crc = ? WHERE key = ?", value, row_crc((key, value)), key)


def test_numbers_of_meta_that_are_wrong_with_a_right_checksum_are_named(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    set_meta(folder, "live_images", 17)
    assert "it counts 17 images and 5 texts; there are 31 and 5" in told(verify(folder))
    set_meta(folder, "live_images", 31)
    set_meta(folder, "next_seq", 40)
    assert "next_seq is 40, and there is seq 40" in told(verify(folder))


def test_values_of_a_wrong_type_are_named_even_if_their_checksum_is_right(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    for column, value in (
        ("attributes", "[1]"),
        ("attributes", "{"),
        ("west", None),
        ("modality", "audio"),
        ("uri", b"x"),
    ):
        connection = sqlite3.connect(folder / "catalog.sqlite")
        connection.execute(f"UPDATE tiles SET {column} = ? WHERE seq = 4", (value,))
        row = connection.execute("SELECT * FROM tiles WHERE seq = 4").fetchone()
        connection.execute("UPDATE tiles SET crc = ? WHERE seq = 4", (row_crc(row[:-1]),))
        connection.commit()
        connection.close()
        assert "seq 4 of catalog.sqlite: it differs" in told(verify(folder))


def test_an_index_that_disagrees_with_its_table_is_named(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    data = bytearray((folder / "catalog.sqlite").read_bytes())
    at = [place for place in range(len(data)) if data.startswith(b"s0/0004.png", place)]
    flip(folder / "catalog.sqlite", at[0] + 5)  # the index, then id and uri in the table
    before = what_a_reader_sees(folder)
    assert "missing from index tiles_live_id" in told(verify(folder))
    assert what_a_reader_sees(folder) == before


def test_two_live_tiles_of_one_id_are_named(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    edit(folder, "DROP INDEX tiles_live_id")
    connection = sqlite3.connect(folder / "catalog.sqlite")
    first, second = connection.execute("SELECT * FROM tiles WHERE seq IN (1, 2) ORDER BY seq")
    connection.close()
    crc = row_crc((second[0], first[1], *second[2:-1]))
    edit(folder, "UPDATE tiles SET id = ?, crc = ? WHERE seq = 2", first[1], crc)
    (problem,) = verify(folder).problems
    assert (problem.tile_id, problem.repairable) == (first[1], False)
    assert "more than one live tile" in problem.what


@pytest.mark.parametrize("name", ["codes-1.bin", "columns-1.bin"])
def test_a_file_that_is_missing_or_short_is_named(tmp_path: Path, name: str) -> None:
    folder = some_gallery(tmp_path / "g")
    size = (folder / name).stat().st_size
    for length in (size - 1, 70, 64, 30, 0):
        os.truncate(folder / name, length)
        problem = verify(folder).problems[0]
        assert problem.where == name
        assert "truncated" in problem.what or "header" in problem.what
        assert "restore" not in problem.what
        assert problem.repairable
    (folder / name).unlink()
    problem = verify(folder).problems[0]
    assert (problem.where, problem.repairable) == (name, name != "codes-1.bin")
    assert "is missing" in problem.what


@pytest.mark.parametrize("content", [b"", b"no database at all " * 300, b"SQLite format 3\0" + b"\0" * 4080])
def test_a_catalog_that_is_no_database_is_one_problem(tmp_path: Path, content: bytes) -> None:
    folder = some_gallery(tmp_path / "g")
    (folder / "catalog.sqlite").write_bytes(content)
    (problem,) = verify(folder).problems
    assert not problem.repairable
    with pytest.raises(GalleryError, match="damaged"):
        Gallery.open(folder)


def test_leftovers_are_listed_and_are_no_problem(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    for name in ("codes-2.bin", "columns-2.bin", "codes-7.bin.partial"):
        (folder / name).write_bytes(b"half a file")
    report = verify(folder)
    assert report.problems == []
    assert sorted(report.leftovers) == ["codes-2.bin", "codes-7.bin.partial", "columns-2.bin"]


def test_a_reader_can_check_all_before_it_searches(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    with Gallery.open(folder) as gallery:
        gallery.verify()
        flip(folder / "codes-1.bin", 64)
        with pytest.raises(GalleryCorruptError, match=r"has 2 problems, the first: rows 0 to 13 of codes-1\.bin"):
            gallery.verify()


# --- beside a writer ---


def test_a_check_beside_a_busy_writer_finds_nothing(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g", 0)
    done = threading.Event()

    def write() -> None:
        try:
            for turn in range(3):
                with writer(folder) as out:
                    for part in range(4):
                        fill(out, 60, f"{turn}/{part}/", part)
                    out.compact()
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    n_checks = 0
    while not done.is_set():
        assert told(verify(folder)) == ""
        n_checks += 1
    thread.join()
    assert n_checks > 3
    assert verify(folder).problems == []


# --- the write-ahead log ---


def test_a_log_that_was_used_before_is_whole(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a)")
    for n in (30, 3):
        for _ in range(n):
            connection.execute("INSERT INTO t VALUES (randomblob(900))")
        assert find_damage(tmp_path / "a.db-wal") is None
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.close()


@pytest.mark.parametrize("length", [0, 31, 32, 40, 5000])
def test_a_log_that_ends_early_is_what_a_crash_leaves(tmp_path: Path, length: int) -> None:
    folder = crashed_gallery(tmp_path / "g")
    os.truncate(folder / "catalog.sqlite-wal", length)
    assert find_damage(folder / "catalog.sqlite-wal") is None


@pytest.mark.parametrize("written", [24, 24 + 512, 24 + 4096 + 24])
def test_a_frame_that_a_kill_left_half_written_over_an_older_one_is_no_damage(tmp_path: Path, written: int) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a)")
    log, n_before = tmp_path / "a.db-wal", 20
    for _ in range(n_before):
        connection.execute("INSERT INTO t VALUES (randomblob(900))")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (1)")
    before = log.read_bytes()
    connection.execute("INSERT INTO t VALUES (randomblob(90000))")
    after = log.read_bytes()
    connection.close()
    first = next(place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
    torn = tmp_path / "torn-wal"
    torn.write_bytes(after[: first + written] + before[first + written :])
    assert find_damage(torn) is None
    flipped = bytearray(torn.read_bytes())
    flipped[first - 10] ^= 1  # in the page before, which is committed
    torn.write_bytes(flipped)
    assert find_damage(torn) == "frame 0 differs from its checksum"


def test_a_log_with_a_damaged_commit_is_named_though_sqlite_passes_over_it(tmp_path: Path) -> None:
    folder = crashed_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    flip(folder / "catalog.sqlite-wal", 20_000)
    assert "catalog.sqlite-wal: frame 4 differs from its checksum; what was committed" in told(verify(folder))
    assert len(what_a_reader_sees(folder)) < len(before)


# --- checksums of many codes at once ---


@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_checksums_of_codes_are_those_of_zlib(width: int, n: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 256, (n, width), dtype=np.uint8)
    assert code_crcs(codes).tolist() == [zlib.crc32(row.tobytes()) for row in codes]
