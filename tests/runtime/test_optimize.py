"""Tables and indexes of a gallery: built, kept up, taken away; the results stay the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from duch.cli import main
from duch.encoder import Encoder
from duch.errors import CodesError, FilterError, GalleryError, GalleryLockedError
from duch.filters import Filters
from duch.gallery import Gallery, Tile
from duch.ingest import index_images
from duch.optimize import optimize
from duch.repair import repair
from duch.verify import verify
from duch.where_parser import parse

from .some_gallery import FINGERPRINT, code, flip, some_gallery, some_tiles, what_a_reader_sees, writer

TINY = Path(__file__).parents[1] / "tiny_bundle"


def duch(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, ["gallery", *map(str, arguments)])


def rows_in_tables(folder: Path) -> int:
    with Gallery.open(folder) as gallery:
        assert gallery.tables_problem is None
        return gallery.rows_in_tables


def test_tables_are_built_and_used_and_taken_away(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    before = what_a_reader_sees(folder)
    assert optimize(folder, tables=True).tables == 41
    assert rows_in_tables(folder) == 41
    assert what_a_reader_sees(folder) == before
    assert verify(folder).problems == []
    assert optimize(folder).tables == 41
    assert optimize(folder, tables=False).tables is None
    assert rows_in_tables(folder) == 0
    assert not (folder / "tables-1.bin").exists()


def test_an_index_of_an_attribute_is_made_once_and_used(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    names = ["sensor", "Odd 'name' %", "sensor"]
    assert optimize(folder, attributes=names).added == names[:2]
    assert optimize(folder, attributes=names).added == []
    with Gallery.open(folder) as gallery:
        assert sorted(gallery.indexed_attributes()) == sorted(names[:2])
        found = list(gallery.batches(filters=Filters(where=parse("sensor = 'S2A'"))))
        assert [tile.seq for _, tiles in found for tile in tiles] == [
            tile.seq for _, tiles in gallery.batches() for tile in tiles if tile.attributes
        ]
    assert verify(folder).problems == []
    assert optimize(folder, drop_attributes=["sensor", "gone"]).dropped == ["sensor"]
    with Gallery.open(folder) as gallery:
        assert gallery.indexed_attributes() == names[1:2]


def test_what_cannot_be_done_is_an_error(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    with pytest.raises(FilterError, match="cannot be asked for"):
        optimize(folder, attributes=['a"b'])
    with writer(folder), pytest.raises(GalleryLockedError):
        optimize(folder, tables=True)
    Gallery.create(tmp_path / "wide", fingerprint=FINGERPRINT, n_bits=1024).close()
    with pytest.raises(CodesError):
        optimize(tmp_path / "wide", tables=True)
    assert not list((tmp_path / "wide").glob("tables*"))


def test_a_damaged_table_is_named_and_repair_takes_it_away(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    optimize(folder, tables=True)
    before = what_a_reader_sees(folder)
    size = (folder / "tables-1.bin").stat().st_size
    for place in (3, 100, 640, size - 1):
        shutil.copytree(folder, tmp_path / "copy")
        flip(tmp_path / "copy" / "tables-1.bin", place)
        problems = verify(tmp_path / "copy").problems
        # The last bytes may fill up a table, which has a checksum of all.
        assert [problem.where for problem in problems] == ["tables-1.bin"]
        report = repair(tmp_path / "copy")
        assert (len(report.problems), report.taken_out) == (1, [])
        assert sorted(path.name for path in (tmp_path / "copy").glob("*-*.bin")) == ["codes-1.bin", "columns-1.bin"]
        assert what_a_reader_sees(tmp_path / "copy") == before
        shutil.rmtree(tmp_path / "copy")


def test_a_rewritten_gallery_has_no_tables_of_the_old_one(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    optimize(folder, tables=True)
    flip(folder / "columns-1.bin", 64)
    repair(folder)
    assert not list(folder.glob("tables*"))
    assert verify(folder).problems == []


def test_the_command_compacts_and_builds_tables_again(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    assert duch("optimize", folder).stdout == f"{folder}: tables of 41 codes\n"
    assert duch("compact", folder).exit_code == 0
    assert rows_in_tables(folder) == 36
    assert sorted(path.name for path in folder.glob("*-*.bin")) == ["codes-2.bin", "columns-2.bin", "tables-2.bin"]
    result = duch("optimize", folder, "--no-tables", "--attribute", "cloud", "--drop-attribute", "x", "--json")
    assert json.loads(result.stdout) == {"gallery": str(folder), "tables": None, "added": ["cloud"], "dropped": []}
    assert (
        duch("optimize", folder, "--drop-attribute", "cloud").stdout == f"{folder}: no tables; index deleted: cloud\n"
    )
    assert duch("compact", folder).exit_code == 0
    assert rows_in_tables(folder) == 0
    assert duch("optimize", folder, "--attribute", "").exit_code == 1


def test_info_tells_of_tables_and_indexes(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")

    def search() -> str:
        lines = CliRunner().invoke(main, ["info", str(folder)]).stdout.splitlines()
        return next(line for line in lines if line.startswith("search")).removeprefix("search").strip()

    assert search() == "a scan"
    optimize(folder, tables=True, attributes=["cloud", "Cloud"])
    assert search() == "tables of 41 codes"
    assert "Cloud, cloud" in CliRunner().invoke(main, ["info", str(folder)]).stdout
    flip(folder / "tables-1.bin", 100)
    assert "damaged" in search()


def test_indexing_builds_tables_again_once_they_cover_too_little(tmp_path: Path) -> None:
    encoder = Encoder(TINY)

    def index(first: int, end: int) -> None:
        (tmp_path / "images").mkdir(exist_ok=True)
        for number in range(first, end):
            Image.new("RGB", (40, 36), (number, 2 * number, 99)).save(tmp_path / "images" / f"{number}.png")
        index_images(encoder, tmp_path / "images", tmp_path / "g")

    index(0, 20)
    assert rows_in_tables(tmp_path / "g") == 0
    optimize(tmp_path / "g", tables=True)
    index(20, 21)
    assert rows_in_tables(tmp_path / "g") == 20
    index(21, 23)
    assert rows_in_tables(tmp_path / "g") == 23
    assert verify(tmp_path / "g").problems == []


def test_tables_that_a_writer_builds_meanwhile_are_no_problem(tmp_path: Path) -> None:
    folder = some_gallery(tmp_path / "g")
    optimize(folder, tables=True)
    older = (folder / "catalog.sqlite").read_bytes()
    with writer(folder) as out:
        out.append(code(9), [Tile(id="new", modality="text", text="x")])
    optimize(folder, tables=True)
    assert verify(folder).problems == []
    (folder / "catalog.sqlite").write_bytes(older)  # of a gallery that has forgotten its last tile
    assert [str(problem) for problem in verify(folder).problems] == ["tables-1.bin: they cover 42 rows; wanted 41"]


SCRIPT = """
import resource, sys
from duch.errors import GalleryError
from duch.optimize import optimize
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    optimize(sys.argv[1], tables=True)
except GalleryError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_leaves_the_gallery_as_it_was(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        codes = np.random.default_rng(0).integers(0, 256, (5000, 8), dtype=np.uint8)
        out.append(codes, some_tiles(5000))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "g")]
    (message,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert message.startswith("GalleryError the tables of ")
    assert "all tiles are safe" in message
    assert not list((tmp_path / "g").glob("tables*"))
    assert verify(tmp_path / "g").problems == []
    with pytest.raises(GalleryError, match=r"holds no catalog\.sqlite"):
        optimize(tmp_path, tables=True)
