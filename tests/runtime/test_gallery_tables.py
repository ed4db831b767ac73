"""Multi-index hashing tables beside a gallery: used when they fit, told when they do not, never needed."""

import os
from pathlib import Path

import numpy as np
import pytest

from duch.errors import CodesError
from duch.gallery import Gallery, Tile
from duch.tables import Tables

FINGERPRINT = "cd" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path / "g", range(3000))
    build(tmp_path / "g")
    return tmp_path / "g"


def add(folder: Path, numbers: range) -> None:
    rng = np.random.default_rng(numbers.start)
    centres = np.random.default_rng(0).integers(0, 256, (20, 8), dtype=np.uint8)
    noise = np.packbits(rng.random((len(numbers), 64)) < 0.1, axis=1)
    codes = centres[rng.integers(0, 20, len(numbers))] ^ noise
    with Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, create=True) as out:
        out.append(codes, [Tile(id=str(i), modality="image") for i in numbers])


def build(folder: Path) -> None:
    with Gallery.open(folder) as gallery:
        Tables.build(gallery.codes, folder / "tables-1.bin", fingerprint=FINGERPRINT, generation=1)


def hits_of(folder: Path, **more: int) -> list[list[tuple[str, int]]]:
    with Gallery.open(folder, **more) as gallery:
        queries = np.array(gallery.codes[::150])
        return [[(hit.id, hit.distance) for hit in hits] for hits in gallery.search(queries, 30)]


def without_tables(folder: Path) -> list[list[tuple[str, int]]]:
    kept = folder / "tables-1.bin"
    kept.rename(folder / "aside")
    try:
        return hits_of(folder)
    finally:
        (folder / "aside").rename(kept)


def test_tables_change_no_answer(folder: Path) -> None:
    with Gallery.open(folder) as gallery:
        assert gallery.tables_problem is None
        assert gallery._index._tables is not None
    assert hits_of(folder) == without_tables(folder) == hits_of(folder, threads=1)


def test_tiles_that_came_later_or_went_are_found_or_not(folder: Path) -> None:
    add(folder, range(3000, 3100))
    with Gallery.writer(folder) as out:
        out.remove(str(i) for i in range(0, 3000, 150))
    found = hits_of(folder)
    assert found == without_tables(folder)
    ids = {tile_id for hits in found for tile_id, _ in hits}
    assert "0" not in ids
    assert any(int(tile_id) >= 3000 for tile_id in ids)


def test_tables_of_an_older_generation_are_not_used_and_go(folder: Path) -> None:
    with Gallery.writer(folder) as out:
        out.remove(["7"])
        out.compact()
    assert not (folder / "tables-1.bin").exists()
    assert len(hits_of(folder)) > 0


@pytest.mark.parametrize("offset", [0, 20, 300, 639])
def test_a_damaged_header_is_told_and_a_scan_answers(folder: Path, offset: int) -> None:
    expected = hits_of(folder)
    file = folder / "tables-1.bin"
    data = bytearray(file.read_bytes())
    data[offset] ^= 4
    file.write_bytes(data)
    with Gallery.open(folder) as gallery:
        assert gallery.tables_problem is not None
        assert "tables-1.bin" in gallery.tables_problem
    assert hits_of(folder) == expected


def test_truncated_tables_are_told_and_a_scan_answers(folder: Path) -> None:
    expected = hits_of(folder)
    os.truncate(folder / "tables-1.bin", 5000)
    with Gallery.open(folder) as gallery:
        assert "has 5,000 bytes, wanted" in str(gallery.tables_problem)
    assert hits_of(folder) == expected


def test_tables_of_another_gallery_are_told(folder: Path, tmp_path: Path) -> None:
    with Gallery.open(folder) as gallery:
        Tables.build(gallery.codes, folder / "tables-1.bin", fingerprint="ef" * 32, generation=1)
    with Gallery.open(folder) as gallery:
        assert "is not of the 64-bit codes of generation 1" in str(gallery.tables_problem)


def test_threads_below_none_are_refused(folder: Path) -> None:
    with pytest.raises(CodesError, match="threads is -1"):
        Gallery.open(folder, threads=-1)
