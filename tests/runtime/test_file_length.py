"""Files that were not copied whole are told by their length alone."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.geo.file_length import least_length

KINDS: dict[str, dict[str, Any]] = {
    "tiled": {},
    "strips": {"tiled": False},
    "cog": {"cog": True},
    "bigtiff": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "big-endian bigtiff": {"ENDIANNESS": "BIG", "BIGTIFF": "YES"},
    "plain": {"compress": "none", "tiled": False},
    "mask": {"mask": np.arange(60 * 70).reshape(60, 70) % 3 > 0},
    "sparse": {"values": np.zeros((3, 60, 70), dtype=np.uint16), "SPARSE_OK": "TRUE"},
    "tags": {"nodata": 31000, "tags": {"A": "b" * 100}, "descriptions": ["a name"] * 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_byte_that_a_tiff_lacks_is_missed(tmp_path: Path, kind: str) -> None:
    from .some_scenes import write_scene

    known = {"values": (3, 60, 70), "blocksize": 128 if kind == "cog" else 16, **KINDS[kind]}
    file = write_scene(tmp_path / "a.tif", **known)
    whole = file.read_bytes()
    least = least_length(file)
    # GDAL rounds the size up, to a word or, in a COG, by the four bytes behind each tile
    assert len(whole) - 16 <= least <= len(whole)
    for length in [*random.Random(0).sample(range(16, least), 40), least - 1]:
        file.write_bytes(whole[:length])
        assert least_length(file) > length


def test_a_png_ends_with_its_last_chunk(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.effect_noise((40, 30), 50).save(file)
    whole = file.read_bytes()
    assert least_length(file) == len(whole)
    for length in [*range(8, len(whole), 61), len(whole) - 1]:
        file.write_bytes(whole[:length])
        assert least_length(file) > length
    file.write_bytes(whole + b"anything")
    assert least_length(file) == len(whole)


@pytest.mark.parametrize("content", [b"", b"II", b"II\x2a", b"\xff\xd8\xff\xe0 JPEG", b"P6 2 2 255 ...."])
def test_other_files_tell_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    assert least_length(file) == 0


def test_directories_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(struct.pack("<2sHIHI", b"II", 42, 8, 0, 8))
    assert least_length(file) == 14


def test_damage_ends_with_a_length(tmp_path: Path) -> None:
    file, generator, stream = tmp_path / "a.tif", random.Random(1), io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "TIFF")
    for _ in range(60):
        content = bytearray(stream.getvalue())
        for _ in range(4):
            content[generator.randrange(-300, 20)] = generator.randrange(256)
        file.write_bytes(content)
        assert least_length(file) >= 0
