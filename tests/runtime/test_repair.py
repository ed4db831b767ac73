"""Repairing galleries: what is whole stays, what is not is named, and what cannot be repaired stays as it is."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duch.errors import GalleryCorruptError, GalleryError, GalleryLockedError
from duch.gallery import Gallery
from duch.repair import repair
from duch.tile import row_crc
from duch.verify import verify

from .some_gallery import (
    Whole,
    code,
    crashed_gallery,
    edit,
    flip,
    some_gallery,
    some_tiles,
    what_a_reader_sees,
    writer,
)


def digest(folder: Path) -> dict[str, str]:
    """The files of a gallery that hold anything of it."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".sqlite")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_whole_gallery_is_left_alone(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    report = repair(folder)
    assert (report.problems, report.taken_out, report.leftovers) == ([], [], [])
    assert what_a_reader_sees(folder) == before
    assert (folder / "codes-1.bin").exists()


def test_leftovers_go(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    (folder / "codes-5.bin").write_bytes(b"half")
    assert repair(folder).leftovers == ["codes-5.bin"]
    assert not (folder / "codes-5.bin").exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "zeros", "short"])
def test_a_columns_file_is_made_anew_from_the_catalog(tmp_path: Path, damage: str) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    file = folder / "columns-1.bin"
    size = file.stat().st_size
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "zeros": b"\0" * size, "short": file.read_bytes()[:5000]}[damage])
    report = repair(folder)
    assert report.problems
    assert report.taken_out == []
    assert what_a_reader_sees(folder) == before
    assert verify(folder).problems == []


def test_tiles_without_a_whole_code_or_row_are_taken_out_and_named(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    flip(folder / "codes-1.bin", 64 + 8 * 7 + 3)
    edit(folder, "UPDATE tiles SET time_us = 5 WHERE seq = 9")
    flip(folder / "columns-1.bin", 64 + 8 * 12)  # seq of row 12, which the catalog knows better
    edit(folder, "UPDATE batches SET codes_crc = 0")
    report = repair(folder)
    assert report.taken_out == ["s3/0007.png", "s1/0009.png"]
    assert what_a_reader_sees(folder) == {seq: seen for seq, seen in before.items() if seq not in (7, 9)}
    assert verify(folder).problems == []
    with writer(folder) as out:
        assert out.find("s3/0007.png") is None


def test_a_row_that_is_gone_from_the_catalog_costs_no_other_tile(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    edit(folder, "DELETE FROM tiles WHERE seq = 3")
    assert repair(folder).taken_out == []
    assert what_a_reader_sees(folder) == {seq: seen for seq, seen in before.items() if seq != 3}


def test_codes_beyond_the_end_of_a_short_file_are_taken_out(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    os.truncate(folder / "codes-1.bin", 64 + 8 * 30 + 5)
    assert len(repair(folder).taken_out) == len([seq for seq in before if seq >= 30])
    assert what_a_reader_sees(folder) == {seq: seen for seq, seen in before.items() if seq < 30}


def test_a_codes_file_with_a_damaged_header_keeps_its_codes(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    flip(folder / "codes-1.bin", 20)
    repair(folder)
    assert what_a_reader_sees(folder) == before


def test_counts_and_next_seq_are_corrected(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    for key, value in (("live_images", 7), ("live_texts", 0), ("next_seq", 3)):
        edit(folder, "UPDATE meta SET value = ?, crc = ? WHERE key = ?", value, row_crc((key, value)), key)
    repair(folder)
    with Gallery.open(folder) as gallery:
        assert len(gallery) == len(what_a_reader_sees(folder)) == 36
    with writer(folder) as out:
        assert list(out.append(code(1), some_tiles(1, "new/")).seqs) == [41]


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    edit(folder, "CREATE INDEX tiles_attribute_x ON tiles (json_extract(attributes, '$.\"x\"'))")
    before = what_a_reader_sees(folder)
    data = (folder / "catalog.sqlite").read_bytes()
    flip(folder / "catalog.sqlite", data.index(b"s0/0004.png") + 5)
    assert verify(folder).problems
    assert repair(folder).taken_out == []
    assert verify(folder).problems == []
    assert what_a_reader_sees(folder) == before
    indexes = sqlite3.connect(folder / "catalog.sqlite").execute("SELECT name FROM sqlite_master WHERE sql NOT NULL")
    assert {"tiles_live_id", "tiles_deleted_id", "tiles_attribute_x"} <= {name for (name,) in indexes}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "codes-1.bin").unlink(), "codes-1.bin is missing"),
        (lambda folder: (folder / "codes-1.bin").write_bytes(b"\1" * 1000), "no tile is whole"),
        (lambda folder: edit(folder, "UPDATE meta SET value = 9 WHERE key = 'committed'"), "'committed' of table meta"),
        (lambda folder: (folder / "catalog.sqlite").write_bytes(b"x" * 5000), "no catalog of a gallery"),
        (lambda folder: edit(folder, "DROP TABLE batches"), "no such table"),
    ],
)
def test_what_cannot_be_repaired_is_one_line_and_stays_as_it_is(tmp_path: Path, damage: Any, message: str) -> None:
    folder = some_gallery(tmp_path / "g")
    damage(folder)
    before = digest(folder)
    with pytest.raises(GalleryCorruptError) as caught:
        repair(folder)
    assert message in str(caught.value)
    assert "cannot be repaired" in str(caught.value)
    assert "\n" not in str(caught.value)
    after = digest(folder)
    assert after == before or message == "no tile is whole"
    assert after.keys() == before.keys()


def test_a_writer_at_work_is_not_disturbed(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    with writer(folder), pytest.raises(GalleryLockedError):
        repair(folder)


def test_a_reader_keeps_what_it_has(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    with Gallery.open(folder) as reader:
        flip(folder / "columns-1.bin", 64 + 8 * 12)
        repair(folder)
        assert (folder / "codes-1.bin").exists()
        assert reader.search(reader.codes[1:2], 1)[0][0].distance == 0
    with writer(folder):
        pass
    assert not (folder / "codes-1.bin").exists()


@pytest.fixture(scope="module", params=["closed", "crashed"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    make = {"closed": some_gallery, "crashed": crashed_gallery}[request.param]
    return Whole.of(make(tmp_path_factory.mktemp("whole") / "g"))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), bit=st.integers(0, 7))
def test_one_flipped_bit_costs_one_tile_at_most(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, bit: int
) -> None:
    name, of_file = data.draw(st.sampled_from(whole.places))
    place = data.draw(st.sampled_from(of_file))
    folder = tmp_path_factory.mktemp("flip") / "g"
    shutil.copytree(whole.folder, folder)
    flip(folder / name, place, bit)
    check_repair(folder, whole.seen, name)
    shutil.rmtree(folder)


def check_repair(folder: Path, before: dict[int, Any], name: str) -> None:
    untouched = digest(folder)
    try:
        report = repair(folder)
    except GalleryError:
        assert digest(folder).keys() == untouched.keys() or name.endswith("-wal")
        return
    assert verify(folder).problems == []
    if not name.endswith("-wal"):  # what is lost of the log cannot be known
        after = what_a_reader_sees(folder)
        assert after.items() <= before.items()
        assert len(before) - len(after) <= len(report.taken_out) <= 1


FAILING = """
import resource, sys
from duch.errors import GalleryError
from duch.repair import repair
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    repair(sys.argv[1])
except GalleryError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [100, 1000, 150_000])
def test_a_full_disk_leaves_the_gallery_as_it_was(tmp_path: Path, limit: int) -> None:
    folder = some_gallery(tmp_path / "g", 300)
    flip(folder / "columns-1.bin", 64 + 8 * 12)
    found = verify(folder).problems
    command = [sys.executable, "-c", FAILING, str(folder), str(limit)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.startswith("GalleryError"), out
    assert len(out.stdout.splitlines()) == 1
    assert verify(folder).problems == found
    assert repair(folder).taken_out == []


KILLED = """
import sys
import threading
from duch.repair import repair
print("begins", flush=True)
repair(sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_repair_leaves_the_gallery_as_it_was_or_repaired(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g", 3000)
    before = what_a_reader_sees(folder)
    flip(folder / "columns-1.bin", 64 + 8 * 12)
    found = verify(folder).problems
    chance = random.Random(0)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        timer = threading.Timer(chance.uniform(0, 0.3), child.send_signal, [signal.SIGKILL])
        timer.start()
        child.wait()
        timer.cancel()
        child.stdout.close()
        assert verify(folder).problems in ([], found)
    assert repair(folder).taken_out == []
    assert what_a_reader_sees(folder) == before
