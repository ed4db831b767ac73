"""The mosaic of built-in scenes: every tile at its place, on the map, in values of a satellite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duch.errors import DatasetError
from duch_training.scenes import write_mosaic, write_scenes
from duch_training.scenes.mosaic import BRIGHTEST

rasterio = pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("mosaic") / "set", count=22, size=32, seed=3, workers=1)


def test_every_tile_lies_at_its_place(dataset: Path, tmp_path: Path) -> None:
    places = write_mosaic(dataset, tmp_path / "scene.tif", margin=7)
    assert len(set(places.values())) == len(places) == 22
    with rasterio.open(tmp_path / "scene.tif") as scene:
        assert (scene.width, scene.height) == (2 * 7 + 5 * 32, 2 * 7 + 5 * 32)
        values = scene.read()
        assert scene.crs.to_epsg() == 32632
        assert scene.descriptions == ("blue", "green", "red", "near infrared")
        assert scene.tags()["TIFFTAG_DATETIME"] == "2024:06:01 10:20:30"
        assert scene.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    seen = np.zeros(values.shape[1:], dtype=bool)
    for name, (x, y) in places.items():
        with Image.open(dataset.parent / "images" / name) as image:
            drawn = np.asarray(image)
        found = values[2::-1, y : y + 32, x : x + 32].transpose(1, 2, 0)  # red, green, blue
        np.testing.assert_array_equal(np.rint((found - 1.0) / (BRIGHTEST - 1) * 255), drawn)
        seen[y : y + 32, x : x + 32] = True
    assert np.array_equal(values.any(axis=0), seen)
    assert np.array_equal(values.all(axis=0), seen)


def test_a_folder_that_is_not_there_is_an_error_and_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="folder with room"):
        write_mosaic(dataset, tmp_path / "none" / "scene.tif")
    assert not list(tmp_path.iterdir())
