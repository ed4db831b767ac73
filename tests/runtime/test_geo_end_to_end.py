"""A scene into a gallery, a picture that was planted in it found again, its footprint where GDAL and PROJ put it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("rasterio", exc_type=ImportError)
geopandas = pytest.importorskip("geopandas", exc_type=ImportError)
shapely = pytest.importorskip("shapely", exc_type=ImportError)

from duch.cli import main  # noqa: E402

from .some_scenes import PLACES, transform_at, write_scene  # noqa: E402

CHIP, WIDTH, HEIGHT = 32, 160, 112
PLANTED = (64, 40)  # left, upper; in the middle, where the antimeridian and the poles are
BUNDLE = Path(__file__).parents[1] / "tiny_bundle"


def duch(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_picture_is_found_where_it_is(place: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    picture = generator.integers(0, 256, (CHIP, CHIP, 3), dtype=np.uint8)
    values = generator.normal(1200, 60, (4, HEIGHT, WIDTH)).clip(1, 2550).astype(np.uint16)
    x, y = PLANTED
    values[[2, 1, 0], y : y + CHIP, x : x + CHIP] = picture.transpose(2, 0, 1) * np.uint16(10)
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in" / "scene.tif", values, place=place, cog=True, nodata=65535)
    Image.fromarray(picture).save(tmp_path / "picture.png")

    duch(
        *("index", BUNDLE, tmp_path / "in", tmp_path / "gallery", "--chip", CHIP, "--overlap", 0.75),
        *("--bands", "3,2,1", "--range", "0:2550"),
    )
    found = tmp_path / "found.geojson"
    report = duch("search", tmp_path / "gallery", "--image", tmp_path / "picture.png", "--json", "--geojson", found)

    planted = [hit for hit in json.loads(report)["hits"] if hit["id"] == f"scene.tif#{x},{y},{CHIP},{CHIP}"]
    assert [hit["distance"] for hit in planted] == [0]
    frame = geopandas.read_file(found)
    assert frame.crs == "EPSG:4326"
    geometry = frame.set_index("id").geometry[planted[0]["id"]]
    assert geometry.is_valid
    # Back in the scene's own pixels it covers the window: what it has too much or too little is a border below a pixel.
    west, _, east, _ = geometry.bounds
    parts = shapely.get_parts(geometry)
    pixels = [shapely.Polygon(to_pixels(np.array(part.exterior.coords), place)) for part in parts]
    covered = shapely.union_all(shapely.make_valid(pixels))
    window = shapely.box(x, y, x + CHIP, y + CHIP)
    assert covered.symmetric_difference(window).area < 0.5 * window.length
    assert shapely.hausdorff_distance(covered.convex_hull, window) < 1
    if "180" in place:
        assert (west, east) == (-180, 180)
        assert len(parts) == 2


def to_pixels(lonlat: np.ndarray, place: str) -> np.ndarray:
    """Degrees to columns and rows of the scene, by PROJ. (n, 2) -> (n, 2)."""
    from pyproj import Transformer

    crs = PLACES[place][0]
    east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T)
    if place == "degrees over 180":  # the scene goes on beyond 180
        east = np.where(east < 0, east + 360, east)
    columns, rows = ~transform_at(place, WIDTH, HEIGHT) @ (east, north)
    return np.column_stack([columns, rows])
