"""Pictures of hits: files, and chips read through their windows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.errors import ImageError
from duch.pictures import path_of, picture_of
from duch.tile import Hit

from .some_hits import some_hit

HOW = {"bands": [3, 2, 1], "range": [[0, 255]], "chip": 32}


def chip_of(scene: Path, window: str, **attributes: Any) -> Hit:
    return some_hit(id=f"scene#{window}", uri="scene", path=scene, attributes=attributes)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    from .some_scenes import ramp, write_scene

    return write_scene(tmp_path / "scene.tif", ramp(3, 100, 120, "uint8"))


def test_an_image_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.new("RGBA", (30, 60), (200, 10, 10, 255)).save(file)
    picture = picture_of(some_hit(path=file))
    assert (picture.mode, picture.size, picture.getpixel((29, 59))) == ("RGB", (30, 60), (200, 10, 10))


def test_a_chip_is_its_part_of_the_scene(scene: Path) -> None:
    from .some_scenes import ramp

    picture = picture_of(chip_of(scene, "64,16,32,32", **HOW))
    wanted = ramp(3, 100, 120, "uint8")[[2, 1, 0], 16:48, 64:96].transpose(1, 2, 0)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), wanted)


def test_a_chip_that_was_padded_is_as_large_as_any(scene: Path) -> None:
    picture = picture_of(chip_of(scene, "96,80,32,32", **HOW))
    assert picture.size == (32, 32)
    assert picture.getpixel((31, 31)) == (0, 0, 0)
    assert picture.getpixel((0, 0)) != (0, 0, 0)


def test_an_image_in_a_folder_with_a_hash_is_no_chip(tmp_path: Path) -> None:
    file = tmp_path / "a#0,0,8,8"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "PNG")
    assert picture_of(some_hit(id=file.name, uri=file.name, path=file)).getpixel((0, 0)) == (1, 2, 3)


def test_no_file_and_no_image_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"tile-1\.png has no image file here"):
        picture_of(some_hit())
    with pytest.raises(ImageError, match="does not exist"):
        picture_of(some_hit(path=tmp_path / "gone.png"))
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    with pytest.raises(ImageError, match=r"broken\.png is no image"):
        picture_of(some_hit(path=broken))


@pytest.mark.parametrize(
    ("window", "attributes", "message"),
    [
        ("0,0,32,32", {}, "does not say how its chip was read"),
        ("0,0,32,32", HOW | {"bands": [7, 8, 9]}, "has 3 bands"),
        ("500,500,32,32", HOW, "wanted the chip 500,500,32,32"),
    ],
)
def test_a_chip_that_cannot_be_read_is_told(scene: Path, window: str, attributes: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        picture_of(chip_of(scene, window, **attributes))


def test_a_scene_that_is_gone_is_told(scene: Path) -> None:
    scene.unlink()
    with pytest.raises(ImageError, match=r"scene\.tif"):
        picture_of(chip_of(scene, "0,0,32,32", **HOW))


@pytest.mark.parametrize("uri", ["gone.png", "folder", "loop", f"{'x' * 300}.png", "nul%00.png"])
def test_a_hit_whose_file_is_not_to_be_had_has_no_path(uri: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert path_of(some_hit(uri=uri), tmp_path) is None


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if re.match(r"duch\.geo\.|rasterio", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageError, match=re.escape("pip install 'duch[geo]'")):
        picture_of(chip_of(tmp_path / "scene.tif", "0,0,32,32", **HOW))
