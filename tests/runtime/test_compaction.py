"""Compaction: what stays, what goes, and what readers of the older generation see."""

import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duch import gallery_writer
from duch.columns_file import GROUP_ROWS, Columns
from duch.errors import GalleryError
from duch.gallery import Gallery, Tile

FINGERPRINT = "ab" * 32


def codes_of(*numbers: int) -> np.ndarray:
    return np.array([list(struct.pack(">Q", number)) for number in numbers], dtype=np.uint8).reshape(-1, 8)


def make(folder: Path, n: int = 6) -> Path:
    with Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(
            codes_of(*range(n)),
            [
                Tile(id=str(i), modality="text" if i % 3 == 2 else "image", time_us=i, footprint=(i, 0, i, 1))
                for i in range(n)
            ],
        )
    return folder


def hits_of(gallery: Gallery, k: int = 100) -> list[tuple[str, int, int]]:
    return [(hit.id, hit.seq, hit.distance) for hit in gallery.search(codes_of(0), k)[0]]


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".bin")


def n_rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    try:
        return int(connection.execute("SELECT count(*) FROM tiles").fetchone()[0])
    finally:
        connection.close()


def test_compaction_keeps_live_tiles_with_their_seq_and_takes_the_rest_away(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with Gallery.writer(folder) as out:
        out.remove(["0", "4"])
        out.append(codes_of(7), [Tile(id="1", modality="image")])
        before = hits_of(Gallery.open(folder))
        assert out.compact() == 3
        assert len(out) == 4
        out.append(codes_of(0), [Tile(id="later", modality="image")])
    with Gallery.open(folder) as gallery:
        assert [hit for hit in hits_of(gallery) if hit[0] != "later"] == before
        assert hits_of(gallery)[0] == ("later", 7, 0)
        assert (gallery.codes.shape, gallery.columns.n) == ((5, 8), 5)
        assert gallery.columns.take(range(5))["seq"].tolist() == [2, 3, 5, 6, 7]
        assert (gallery.count("image"), gallery.count("text")) == (3, 2)
    assert files_of(folder) == ["codes-2.bin", "columns-2.bin"]
    assert n_rows(folder) == 5


def test_nothing_to_compact_writes_no_generation(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with Gallery.writer(folder) as out:
        assert out.compact() == 0
    assert files_of(folder) == ["codes-1.bin", "columns-1.bin"]


def test_a_gallery_whose_tiles_are_all_gone_can_be_compacted_and_filled_again(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with Gallery.writer(folder) as out:
        out.remove(map(str, range(6)))
        assert out.compact() == 6
        out.append(codes_of(3), [Tile(id="3", modality="image")])
    assert hits_of(Gallery.open(folder)) == [("3", 6, 2)]


def test_a_compaction_reports_rows_and_works_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2 * GROUP_ROWS + 10
    folder = make(tmp_path / "g", n)
    monkeypatch.setattr(gallery_writer, "_COMPACTED_AT_ONCE", 1000)
    told: list[tuple[int, int]] = []
    gone = [str(i) for i in range(0, n, 7)]
    with Gallery.writer(folder) as out:
        out.remove(gone)
        assert out.compact(lambda done, total: told.append((done, total))) == len(gone)
    assert told[0] == (1000, n)
    assert told[-1] == (n, n)
    gallery = Gallery.open(folder)
    kept = [i for i in range(n) if i % 7]
    assert gallery.codes.tolist() == codes_of(*kept).tolist()
    table = gallery.columns.take(np.arange(len(kept)))
    assert table["seq"].tolist() == table["time_us"].tolist() == table["west"].tolist() == kept
    assert gallery.columns.rows_of(kept[::-5]).tolist() == sorted(range(len(kept))[::-5])


def test_a_reader_keeps_its_snapshot_through_a_compaction(tmp_path: Path) -> None:
    folder = make(tmp_path / "g")
    with Gallery.writer(folder) as out:
        out.remove(["5"])
        reader = Gallery.open(folder)
        before = hits_of(reader)
        out.remove(["0", "1"])  # after it was opened: to this reader they are still there
        assert out.compact() == 3
        assert hits_of(reader) == before
        assert files_of(folder) == ["codes-1.bin", "codes-2.bin", "columns-1.bin", "columns-2.bin"]
        out.remove(["2"])
        assert out.compact() == 1
        assert hits_of(reader) == before
        middle = Gallery.open(folder)
    with Gallery.writer(folder):  # the next writer comes by and finds it still held
        assert hits_of(reader) == before
    reader.close()
    assert files_of(folder) == ["codes-1.bin", "codes-3.bin", "columns-1.bin", "columns-3.bin"]
    Gallery.writer(folder).close()
    assert files_of(folder) == ["codes-3.bin", "columns-3.bin"]
    assert n_rows(folder) == 2
    assert [hit[0] for hit in hits_of(middle)] == ["4", "3"]


@pytest.mark.parametrize(
    "left", ["codes-2.bin", "columns-2.bin", "codes-0001.bin", "tables-1.bin.partial", "codes-x.bin"]
)
def test_the_next_writer_takes_away_what_a_crash_left_and_nothing_else(tmp_path: Path, left: str) -> None:
    folder = make(tmp_path / "g")
    (folder / left).write_bytes(b"left")
    (folder / "notes.txt").write_text("mine")
    Gallery.writer(folder).close()
    mine = {"codes-0001.bin", "codes-x.bin"}  # names that duch never gives
    assert (folder / left).exists() == (left in mine)
    assert (folder / "notes.txt").exists()
    assert len(Gallery.open(folder)) == 6


CRASH = """
import os, sys
from duch.gallery import Gallery
folder, stop_at = sys.argv[1], int(sys.argv[2])
calls = 0
def counted(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == stop_at:
            os._exit(9)
        return real(*args, **more)
    return call
out = Gallery.writer(folder)
for name in ("fsync", "pwrite", "unlink", "ftruncate"):
    setattr(os, name, counted(getattr(os, name)))
out.compact()
out.close()
print(calls)
"""


@pytest.mark.slow
def test_a_compaction_that_dies_at_any_step_leaves_the_gallery_as_it_was_or_compacted(tmp_path: Path) -> None:
    """The process ends before each of its writes, syncs and removals in turn."""
    for stop_at in range(1, 100):
        folder = make(tmp_path / str(stop_at))
        with Gallery.writer(folder) as out:
            out.remove(["0", "3"])
        expected = hits_of(Gallery.open(folder))
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(folder), str(stop_at)], capture_output=True, check=False
        )
        with Gallery.open(folder) as gallery:
            assert hits_of(gallery) == expected
        with Gallery.writer(folder) as out:
            assert out.compact() in (0, 2)
        assert len(files_of(folder)) == 2
        assert hits_of(Gallery.open(folder)) == expected
        if done.returncode == 0:
            assert stop_at > 10
            return
        assert done.returncode == 9, done.stderr
    pytest.fail("the compaction never came to its end")


def test_a_full_disk_during_compaction_leaves_the_gallery_as_it_was(tmp_path: Path) -> None:
    folder = make(tmp_path / "g", 5000)
    with Gallery.writer(folder) as out:
        out.remove(["1"])
    expected = hits_of(Gallery.open(folder))
    script = """
import resource, sys
from duch.errors import GalleryError
from duch.gallery import Gallery
out = Gallery.writer(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    out.compact()
except GalleryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    assert "File too large; 4,999 tiles are safe" in done.stdout
    assert hits_of(Gallery.open(folder)) == expected
    Gallery.writer(folder).close()
    assert files_of(folder) == ["codes-1.bin", "columns-1.bin"]


def test_a_reader_that_opens_in_the_middle_of_a_compaction_takes_the_new_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "g")
    real, opened = os.open, []

    def compact_first(path: str, *args: int, **more: int) -> int:
        if str(path).endswith("-1.bin") and not opened:
            opened.append(path)
            with Gallery.writer(folder) as out:
                out.remove(["1"])
                out.compact()
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", compact_first)
    gallery = Gallery.open(folder)
    assert opened
    assert "1" not in [hit[0] for hit in hits_of(gallery)]
    assert gallery.columns.n == 5


def test_a_closed_writer_compacts_nothing(tmp_path: Path) -> None:
    out = Gallery.writer(make(tmp_path / "g"))
    out.close()
    with pytest.raises(GalleryError, match="was closed"):
        out.compact()


def test_rows_of_seqs_are_found_in_groups_that_are_full_and_in_one_that_is_not(tmp_path: Path) -> None:
    n = GROUP_ROWS + 3
    columns = Gallery.open(make(tmp_path / "g", n)).columns
    wanted = [-5, 0, 1, GROUP_ROWS - 1, GROUP_ROWS, n - 1, n, 2**62]
    assert columns.rows_of(wanted).tolist() == [0, 1, GROUP_ROWS - 1, GROUP_ROWS, n - 1]
    assert columns.rows_of([]).tolist() == []
    assert Columns(-1, 0).rows_of([1]).tolist() == []
