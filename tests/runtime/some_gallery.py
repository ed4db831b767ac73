"""Galleries for the tests of their upkeep, and all that a reader sees in one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duch.gallery import Gallery, GalleryWriter, Tile

FINGERPRINT = "00112233445566778899aabbccddeeff" * 2
OTHER = "ff" * 32


def code(number: int) -> np.ndarray:
    """The number as a 64-bit code, (1, 8) uint8."""
    return np.frombuffer(number.to_bytes(8, "big"), dtype=np.uint8)[None]


def writer(folder: Path, **more: Any) -> GalleryWriter:
    return Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=64, **{"create": True, **more})


def some_tiles(n: int, prefix: str = "") -> list[Tile]:
    """Tiles with every kind of value, and without."""
    tiles = []
    for i in range(n):
        known: dict[str, Any] = {}
        if i % 2:
            known |= {"size": 1000 + i, "mtime_ns": 1_700_000_000_000_000_000 + i, "time_us": i - 5}
        if i % 3:
            known |= {"footprint": (i - 180.0, -0.5 * i / n, i - 179.25, 0.25)}
        if i % 5 == 1:
            known |= {"attributes": {"cloud": i / 100, "sensor": "S2A", "bands": [1, {"ü": None}]}}
        name = f"{prefix}s{i % 4}/{i:04}.png"
        if i % 7 == 3:
            tiles.append(
                Tile(id=f"{prefix}line {i}", modality="text", text=f"näher am Hafen, Nr. {i}\n" * (i % 9), **known)
            )
        else:
            tiles.append(Tile(id=name, modality="image", uri=name, **known))
    return tiles


def fill(out: GalleryWriter, n: int, prefix: str = "", seed: int = 0) -> None:
    """Some tiles in three batches, one of them twice, some removed."""
    codes = np.random.default_rng(seed).integers(0, 256, (n, out.n_bits // 8), dtype=np.uint8)
    tiles = some_tiles(n, prefix)
    for part in np.array_split(np.arange(n), 3):
        out.append(codes[part], [tiles[place] for place in part])
    out.append(~codes[:1], tiles[:1])
    out.remove([tile.id for tile in tiles[5::11]])


def some_gallery(folder: Path, n: int = 40, prefix: str = "", seed: int = 0, **more: Any) -> Path:
    with writer(folder, **more) as out:
        fill(out, n, prefix, seed)
    return folder


def crashed_gallery(folder: Path, n: int = 40) -> Path:
    """One whose writer was killed: most of its tiles are in the write-ahead log alone."""
    alive = folder.with_name(folder.name + "-alive")
    with writer(alive) as out:
        fill(out, n)
        shutil.copytree(alive, folder)
    shutil.rmtree(alive)
    return folder


def what_a_reader_sees(folder: Path) -> dict[int, Any]:
    """Every live tile by seq: its code and all that the catalog knows of it."""
    with Gallery.open(folder) as gallery:
        if not len(gallery):
            return {}
        zero = np.zeros((1, gallery.n_bits // 8), dtype=np.uint8)
        seqs = [hit.seq for hit in gallery.search(zero, len(gallery))[0]]
        rows = gallery.columns.rows_of(seqs)
        columns = gallery.columns.take(rows)
        tiles = gallery._catalog.tiles_of_seqs(seqs)
        return {
            int(seq): (gallery.codes[row].tobytes(), columns[place].tobytes(), repr(tiles[int(seq)]))
            for place, (row, seq) in enumerate(zip(rows, columns["seq"], strict=True))
        }


def edit(folder: Path, statement: str, *values: Any) -> None:
    """Change the catalog behind duch's back."""
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        connection.execute(statement, values)
    connection.close()


def flip(file: Path, place: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


@dataclass(frozen=True)
class Whole:
    """A gallery that nobody opens, with what is known of it."""

    folder: Path
    seen: dict[int, Any]
    places: list[tuple[str, Sequence[int]]]

    @classmethod
    def of(cls, folder: Path) -> Whole:
        places = live_places(folder)
        copy = folder.with_name(folder.name + "-opened")  # readers may leave files behind
        shutil.copytree(folder, copy)
        return cls(folder, what_a_reader_sees(copy), places)


def live_places(folder: Path) -> list[tuple[str, Sequence[int]]]:
    """The files of a gallery of 41 rows or more, and the bytes of each that anyone reads; of columns, their rows'."""
    found: list[tuple[str, Sequence[int]]] = []
    for file in sorted(folder.iterdir()):
        within: Sequence[int] = range(file.stat().st_size)
        if file.name.startswith("columns"):
            columns = ((0, 8), (32768, 8), (65536, 8), (98304, 8), (131072, 8), (163840, 8), (196608, 1))
            rows = [64 + offset + place for offset, width in columns for place in range(41 * width)]
            within = [*range(64), *rows]
        if within:
            found.append((file.name, within))
    return found
