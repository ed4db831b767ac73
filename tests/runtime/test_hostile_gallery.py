"""Galleries that a stranger made: one line, nothing crashes, hangs or grows, nothing is written outside."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from duch.cli import main
from duch.errors import DuchError, GalleryCorruptError, GalleryError
from duch.gallery import Gallery, GalleryWriter
from duch.gallery_export import export_gallery
from duch.optimize import optimize
from duch.repair import repair
from duch.tile import COLUMNS, row_crc
from duch.verify import verify

from .some_gallery import edit, flip, some_gallery, what_a_reader_sees

SECRET = "root:x:0:0\n" * 60
FILES = ("catalog.sqlite", "codes-1.bin", "columns-1.bin", "tables-1.bin", "writer.lock", "catalog.sqlite-wal")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = some_gallery(tmp_path_factory.mktemp("made") / "g")
    optimize(folder, tables=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "g")


def search(folder: Path) -> object:
    with Gallery.open(folder) as gallery:
        hits = gallery.search(np.zeros((1, gallery.n_bits // 8), np.uint8), 100)
        return list(gallery.batches()), hits


def write(folder: Path) -> None:
    with Gallery.writer(folder) as out:
        out.remove(["s0/0000.png"])
        out.compact()


USES: list[Callable[[Path], object]] = [search, verify, write, lambda folder: optimize(folder, tables=True), repair]


def outcome(use: Callable[[Path], object], folder: Path) -> str:
    """What it said; any error but one line of duch's own is the test's."""
    message = ""
    try:
        use(folder)
    except DuchError as error:
        message = str(error)
    assert "\n" not in message
    return message


def sign(folder: Path, table: str, key: str, column: str, value: Any) -> None:
    """Change a value and the checksum with it."""
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        name, columns = ("key", "key, value") if table == "meta" else ("id", COLUMNS)
        (row,) = connection.execute(
            f"SELECT rowid FROM {table} WHERE {name} = ? ORDER BY rowid DESC", (key,)
        ).fetchone()
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
        values = connection.execute(f"SELECT {columns} FROM {table} WHERE rowid = ?", (row,)).fetchone()
        connection.execute(f"UPDATE {table} SET crc = ? WHERE rowid = ?", (row_crc(values), row))
    connection.close()


# --- what stands in the place of a file ---


def pipe(place: Path) -> None:
    os.mkfifo(place)


def directory(place: Path) -> None:
    place.mkdir()


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def link_to_a_secret(place: Path) -> None:
    place.symlink_to(place.parents[1] / "secret")


def link_to_nothing(place: Path) -> None:
    place.symlink_to(place.parents[1] / "made")


@pytest.mark.parametrize("stands", [pipe, directory, device, link_to_a_secret, link_to_nothing])
@pytest.mark.parametrize("name", [*FILES, "codes-2.bin", "tables-1.bin.partial"])
def test_no_plain_file_where_one_belongs(folder: Path, name: str, stands: Callable[[Path], None]) -> None:
    secret = folder.with_name("secret")
    secret.write_text(SECRET)
    for use in USES:
        copy = shutil.copytree(folder, folder.with_name("copy"))
        (copy / name).unlink(missing_ok=True)
        stands(copy / name)
        outcome(use, copy)
        assert secret.read_text() == SECRET
        assert not folder.with_name("made").exists()
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["catalog.sqlite", "codes-1.bin", "columns-1.bin", "writer.lock"])
def test_nothing_is_written_through_a_link(folder: Path, name: str) -> None:
    elsewhere = folder.with_name("elsewhere")
    shutil.move(folder / name, elsewhere)
    (folder / name).symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(GalleryError, match=rf"{name} is a link.* wanted the file itself"):
        Gallery.writer(folder)
    assert elsewhere.read_bytes() == before
    assert search(folder)  # where tiles are read through links is the owner's affair


def test_repair_writes_no_file_through_a_link(folder: Path) -> None:
    outside = folder.with_name("outside")
    outside.write_text(SECRET)
    seen = what_a_reader_sees(folder)
    flip(folder / "columns-1.bin", 70)
    for name in ("codes-2.bin", "columns-2.bin"):
        (folder / name).symlink_to(outside)
    assert repair(folder).taken_out == []
    assert outside.read_text() == SECRET
    assert what_a_reader_sees(folder).keys() == seen.keys()


def test_a_file_that_cannot_be_read_is_no_damage(folder: Path) -> None:
    (folder / "codes-1.bin").unlink()
    (folder / "codes-1.bin").symlink_to(folder / "codes-1.bin")  # refused for root as well
    for use in (search, verify, repair):
        with pytest.raises(GalleryError, match=r"codes-1\.bin cannot be opened") as caught:
            use(folder)
        assert not isinstance(caught.value, GalleryCorruptError)


def test_a_folder_with_the_name_of_a_leftover_is_left_alone(folder: Path) -> None:
    (folder / "codes-7.bin").mkdir()
    write(folder)
    assert (folder / "codes-7.bin").is_dir()
    assert verify(folder).problems == []


# --- what stands in the catalog ---

ENDLESS = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT"
COMPUTED = COLUMNS.replace("text,", "text TEXT AS (printf('%.*c', 100000000, 'x')),")
SCHEMAS = {
    "a view of meta": "ALTER TABLE meta RENAME TO m; "
    f"CREATE VIEW meta AS {ENDLESS} i AS key, i AS value, 0 AS crc FROM r",
    "a view of tiles": f"ALTER TABLE tiles RENAME TO t; CREATE VIEW tiles AS {ENDLESS} i AS seq, 1 AS deleted FROM r",
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON meta BEGIN DELETE FROM tiles; END",
    "a virtual table": "ALTER TABLE batches RENAME TO b; CREATE VIRTUAL TABLE batches USING fts5(first_row, n_rows)",
    "a computed column": f"DROP TABLE tiles; CREATE TABLE tiles ({COMPUTED}, crc)",
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_catalog_that_would_run_something_is_refused(folder: Path, schema: str) -> None:
    connection = sqlite3.connect(folder / "catalog.sqlite")
    connection.executescript(schema)
    connection.close()
    for use in (search, write, repair):
        assert "no gallery has views, triggers or computed columns" in outcome(use, folder)
    assert "no gallery has" in verify(folder).problems[0].what


@pytest.mark.parametrize("deleted", [0, 1])
def test_seqs_that_are_no_numbers(folder: Path, deleted: int) -> None:
    edit(folder, f"CREATE TABLE t ({COLUMNS}, crc)")
    edit(folder, f"INSERT INTO t SELECT 'x' || {COLUMNS}, crc FROM tiles WHERE deleted = 0 OR {deleted}")
    edit(folder, "DROP TABLE tiles")
    edit(folder, "ALTER TABLE t RENAME TO tiles")
    for use in (search, write):
        assert "is damaged" in outcome(use, folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("n_bits", value) for value in (2**31, 2**62, -8, 12, "64", 1.5, None)),
        *(("committed", value) for value in (2**62, -1, "5", None)),
        *(("generation", value) for value in (2**62, -1, 2.0**63, "../../g/codes-1")),
        *(("fingerprint", value) for value in ("zz", "0" * 63, "\u0660" * 64)),
        *((key, value) for key in ("root", "bundle_hint") for value in (5, "a%00b", "a\0b")),
    ],
)
def test_values_of_meta_with_a_right_checksum(folder: Path, key: str, value: Any) -> None:
    sign(folder, "meta", key, "value", value)
    for use in (search, write):
        assert "g/" in outcome(use, folder)
    assert verify(folder).problems


ATTRIBUTES = ("[1]", "{", '{"a":1e999}', '{"a":NaN}', '{"a":' + "9" * 5000 + "}", "[" * 10**5)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("attributes", value) for value in ATTRIBUTES),
        *(("modality", value) for value in ("sound", 1)),
        *(("west", value) for value in (float("inf"), "abc", None)),
        *(("time_us", value) for value in ("now", 1.5)),
    ],
)
def test_values_of_a_tile_with_a_right_checksum(folder: Path, tmp_path: Path, column: str, value: Any) -> None:
    sign(folder, "tiles", "s1/0001.png", column, value)
    for use in (search, lambda folder: export_gallery(folder, tmp_path / "out")):
        assert "damaged" in outcome(use, folder)
    assert not (tmp_path / "out").exists()
    assert len(outcome(repair, folder).splitlines()) <= 1


def test_json_stays_json_whatever_a_tile_says(folder: Path) -> None:
    sign(folder, "tiles", "s1/0001.png", "attributes", '{"a\\ud800":"\\u001b[31m\\udfff"}')
    with Gallery.open(folder) as gallery:
        hits = gallery.search(np.zeros((1, 8), np.uint8), 100)[0]
    attributes = next(hit.attributes for hit in hits if hit.id == "s1/0001.png")
    script = "import json, sys; from duch.cli_common import print_json; print_json(json.loads(sys.argv[1]))"
    printed = subprocess.run([sys.executable, "-c", script, json.dumps(attributes)], capture_output=True, check=True)
    assert json.loads(printed.stdout) == attributes == {"a\ud800": "\x1b[31m\udfff"}
    assert b"\x1b" not in printed.stdout


def test_an_id_steers_no_terminal(folder: Path) -> None:
    sign(folder, "tiles", "s1/0001.png", "id", "\x1b]0;x\x07\n\r\u202e")
    result = CliRunner().invoke(main, ["gallery", "remove", str(folder), "--where", "id <> ''", "--dry-run"])
    assert "\\x1b]0;x\\x07\\n\\r\\u202e" in result.stdout
    assert "\x1b" not in result.stdout


def test_writer_of_a_gallery_from_a_stranger_says_who_it_waits_for(folder: Path) -> None:
    with GalleryWriter(folder):
        (folder / "writer.lock").write_bytes(b"\x1b[31m\xff\n99")
        with pytest.raises(GalleryError, match="another writer") as caught:
            GalleryWriter(folder)
    assert str(caught.value).isprintable()
