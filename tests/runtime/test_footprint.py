"""Footprints against their windows: taken back into pixels by pyproj, and as shapely and geopandas see them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

rasterio = pytest.importorskip("rasterio", exc_type=ImportError)
pyproj = pytest.importorskip("pyproj")
shapely = pytest.importorskip("shapely")

from affine import Affine  # noqa: E402

from duch import columns_file, region  # noqa: E402
from duch.geo.footprint import Footprint, footprints  # noqa: E402
from duch.geo.georeference import Georeference, georeference_of  # noqa: E402
from duch.ids import Window  # noqa: E402
from duch.tile import StoredTile  # noqa: E402

from .some_scenes import PLACES  # noqa: E402

GEOS = "+proj=geos +h=35785831 +lon_0=0 +datum=WGS84 +units=m"
SIZE = 1000


class Raster:
    """What georeference_of asks of a dataset."""

    def __init__(self, crs: str, transform: Affine, size: tuple[int, int] = (SIZE, SIZE)) -> None:
        self.crs, self.transform = rasterio.crs.CRS.from_user_input(crs), transform
        self.width, self.height = size
        self.gcps, self.rpcs = ([], None), None


class Scene:
    """A scene with its georeference, and the way back from degrees to pixels by pyproj."""

    def __init__(self, crs: str, transform: Affine, size: tuple[int, int] = (SIZE, SIZE)) -> None:
        found = georeference_of(Raster(crs, transform, size))
        assert found is not None
        self.georeference: Georeference = found
        self.transform, self.inverse = transform, ~transform
        self.to_map = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
        self.is_geographic = pyproj.CRS(crs).is_geographic
        columns, rows = (side / 2 for side in size)
        self.middle_x = transform.a * columns + transform.b * rows + transform.c

    def footprint(self, window: Window) -> Footprint:
        [found] = footprints(self.georeference, [window])
        assert found is not None
        return found

    def pixels(self, lon: Any, lat: Any) -> tuple[Any, Any]:
        """Pixel coordinates of places."""
        x, y = self.to_map.transform(lon, lat)
        if self.is_geographic:
            x = x + 360 * np.round((self.middle_x - x) / 360)
        inverse = self.inverse
        return inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f


def at(place: str, *, turned: float = 0, zoom: float = 1) -> Scene:
    """The scene of 1000 x 1000 pixels in the middle of a place."""
    crs, (x, y), pixel = PLACES[place]
    a, b = (pixel * zoom * part(math.radians(turned)) for part in (math.cos, math.sin))
    return Scene(crs, Affine(a, b, x - (a + b) * SIZE / 2, b, -a, y - (b - a) * SIZE / 2))


def rings(geometry: dict[str, Any]) -> list[list[list[float]]]:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [ring for polygon in polygons for ring in polygon]


def sides(geometry: dict[str, Any]) -> Iterator[tuple[Any, Any, bool]]:
    """Points along the sides of a footprint that are not at a pole, and whether it may be a cut at the antimeridian."""
    share = np.linspace(0, 1, 33)
    for ring in rings(geometry):
        for (lon, lat), (next_lon, next_lat) in pairwise(ring):
            if not abs(lat) == abs(next_lat) == 90:
                at_180 = abs(lon) == abs(next_lon) == 180
                yield lon + (next_lon - lon) * share, lat + (next_lat - lat) * share, at_180


def off_by(scene: Scene, window: Window, geometry: dict[str, Any]) -> float:
    """The largest distance, in pixels, between the sides of a footprint and those of its window, either way."""
    left, top = max(0, window.x), max(0, window.y)
    right, bottom = min(SIZE, window.x + window.w), min(SIZE, window.y + window.h)
    wanted = shapely.box(left, top, right, bottom).exterior
    there, found = 0.0, []
    for lon, lat, at_180 in sides(geometry):
        pixels = np.column_stack(scene.pixels(lon, lat))
        off = shapely.distance(wanted, shapely.points(pixels)).max()
        if not at_180 or off <= 0.5:  # a cut runs through the window
            there = max(there, off)
            found.append(pixels)
    corners = shapely.points(np.array(shapely.segmentize(wanted, 3).coords))
    back = shapely.distance(shapely.MultiLineString(found), corners).max()
    return float(max(there, back))


def check_form(found: Footprint, decimals: int = 7) -> None:
    """RFC 7946: valid, counterclockwise, closed, within the Earth's degrees; its box is its bounding box."""
    shape = shapely.from_geojson(json.dumps(found.geometry))
    assert shape.is_valid, shapely.is_valid_reason(shape)
    assert shape.area > 0
    for ring in rings(found.geometry):
        assert ring[0] == ring[-1]
        assert len({tuple(point) for point in ring}) == len(ring) - 1
        assert shapely.LinearRing(ring).is_ccw
        assert "-0.0" not in map(repr, np.ravel(ring).tolist())
        for lon, lat in ring:
            assert -180 <= lon <= 180
            assert -90 <= lat <= 90
            assert (round(lon, decimals), round(lat, decimals)) == (lon, lat)
    west, south, east, north = found.bbox
    assert (south, north) == (shape.bounds[1], shape.bounds[3])
    if west <= east:
        assert (west, east) == (shape.bounds[0], shape.bounds[2])
    else:  # one part ends at 180, and the other begins at -180
        assert found.geometry["type"] == "MultiPolygon"
        parts = sorted(part.bounds[::2] for part in shape.geoms)
        assert parts[0][0] == -180
        assert parts[-1][1] == 180
        assert east == max(end for begin, end in parts if begin < 0)
        assert west == min(begin for begin, end in parts if end > 0)
        assert west - east > 180 - 1e-6  # no sliver around the Earth


WINDOWS = st.builds(
    Window, x=st.integers(-50, SIZE - 10), y=st.integers(-50, SIZE - 10), w=st.integers(60, 600), h=st.integers(60, 600)
)


@given(
    place=st.sampled_from(sorted(PLACES)),
    turned=st.floats(-180, 180),
    zoom=st.sampled_from([0.1, 1.0, 3.0]),
    window=WINDOWS,
)
@example(place="north pole", turned=0, zoom=1, window=Window(0, 0, SIZE, SIZE))
@example(place="south pole", turned=0, zoom=1, window=Window(10, 400, 600, 600))
@example(place="north pole", turned=0, zoom=1, window=Window(500, 200, 300, 600))  # its edge passes through the pole
@example(place="north pole", turned=0, zoom=1, window=Window(500, 500, 300, 300))  # its corner is the pole
@example(place="degrees over 180", turned=0, zoom=1, window=Window(500, 0, 100, 100))  # its edge is the antimeridian
@example(place="north pole", turned=45, zoom=1, window=Window(400, 100, 300, 300))  # symmetric about Greenwich
@example(place="degrees over 180", turned=0, zoom=1, window=Window(400, 0, 100, 100))
@settings(max_examples=60, deadline=None)
def test_sides_are_within_half_a_pixel_of_those_of_the_window(
    place: str, turned: float, zoom: float, window: Window
) -> None:
    scene = at(place, turned=turned, zoom=zoom)
    found = scene.footprint(window)
    check_form(found, 8 if zoom == 0.1 else 7)
    assert off_by(scene, window, found.geometry) <= 0.5


@given(x=st.floats(-179.9, 179.9), y=st.floats(-85, 85), pixel=st.floats(1e-6, 0.01), window=WINDOWS)
@settings(max_examples=30, deadline=None)
def test_boxes_in_degrees_stay_boxes(x: float, y: float, pixel: float, window: Window) -> None:
    scene = Scene("EPSG:4326", Affine(pixel, 0, x, 0, -pixel / 2, y))
    found = scene.footprint(window)
    corners = {lat for ring in rings(found.geometry) for _, lat in ring}
    assert len(corners) == 2
    assert all(len(ring) == 5 for ring in rings(found.geometry))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turned", [0, 25])
def test_areas_are_those_on_the_ground(place: str, turned: float) -> None:
    scene = at(place, turned=turned)
    windows = [Window(x, y, 100, 100) for x in range(0, SIZE, 100) for y in range(0, SIZE, 100)]
    area = 0.0
    for found in footprints(scene.georeference, windows):
        assert found is not None
        for ring in rings(found.geometry):
            # Meridians are geodesics and parallels are not, so the cut edges of a pole do no harm.
            area += pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*np.array(ring).T)[0]
    expected = 0.0
    for x in range(0, SIZE, 100):
        for y in range(0, SIZE, 100):
            border = np.array(shapely.segmentize(shapely.box(x, y, x + 100, y + 100), 25).exterior.coords)[::-1]
            lon, lat = scene.georeference.lonlat(*border.T)
            expected += abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
    assert area == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90), ("EPSG:3995", 90)])
@pytest.mark.parametrize("turned", [0, 33, 90, 200])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_with_a_pole_reaches_around_the_earth(crs: str, pole: int, turned: float, mirrored: bool) -> None:
    a, b = 100 * math.cos(math.radians(turned)), 100 * math.sin(math.radians(turned))
    down = -1 if mirrored else 1
    scene = Scene(crs, Affine(a, -b * down, -700 * (a - b * down), b, a * down, -700 * (b + a * down)))
    found = scene.footprint(Window(650, 550, 200, 200))  # the pole is at 700, 700
    assert found.geometry["type"] == "Polygon"
    west, south, east, north = found.bbox
    assert (west, east) == (-180, 180)
    assert (south if pole < 0 else north) == pole
    check_form(found)
    ring = rings(found.geometry)[0]
    assert {(-180.0, float(pole)), (180.0, float(pole))} <= {tuple(point) for point in ring}
    nearest = min(50.0, 150.0) * 100  # metres from the pole
    edge = north if pole < 0 else south
    assert (90 - abs(edge)) * 111_600 > nearest
    beside = scene.footprint(Window(800, 550, 200, 200))
    assert beside.bbox[0] != -180
    assert max(map(abs, beside.bbox[1::2])) < 90


@pytest.mark.parametrize("place", ["north pole", "south pole"])
@pytest.mark.parametrize("turned", [17.3, 90])
@pytest.mark.parametrize(
    "window",
    [
        *(Window(500, 300, 300, 500), Window(200, 300, 300, 500), Window(300, 500, 500, 300)),  # the pole on a side
        *(Window(300, 200, 500, 300), Window(0, 0, 500, SIZE), Window(500, 499, 1, 2)),
        *(Window(500, 500, 100, 100), Window(400, 400, 100, 100), Window(499, 499, 1, 1)),  # and at a corner
    ],
)
def test_a_window_that_touches_a_pole_does_not_go_around_it(place: str, turned: float, window: Window) -> None:
    scene = at(place, turned=turned)
    found = scene.footprint(window)
    check_form(found)
    assert off_by(scene, window, found.geometry) <= 0.5
    shape = shapely.from_geojson(json.dumps(found.geometry))
    # Seen from the pole: half of the meridians, or a quarter, and a quarter of a pixel.
    assert shape.area <= 181 * (shape.bounds[3] - shape.bounds[1])


@pytest.mark.parametrize(
    ("crs", "right", "top"),
    [
        ("EPSG:3857", 20_037_508.342789244, 20_037_508.342789244),
        ("EPSG:3857", 20_137_508, 20_037_508),  # some of it twice
        ("EPSG:6933", 17_367_530.45, 7_314_540.83),
        ("+proj=igh", 20_037_508, 8_683_259),  # with gaps in the oceans
        ("ESRI:54009", 18_040_096, 9_020_048),  # an ellipse
    ],
)
def test_maps_of_the_world_have_valid_footprints(crs: str, right: float, top: float) -> None:
    scene = Scene(crs, Affine(right / 500, 0, -right, 0, -top / 500, top))
    for window in (Window(0, 0, SIZE, SIZE), Window(400, 50, 100, 100), Window(0, 300, 300, 300)):
        found = scene.footprint(window)
        check_form(found)
    assert scene.footprint(Window(0, 0, SIZE, SIZE)).bbox[0] < -179.9


@pytest.mark.parametrize("first", [-180, 0, -1.8, 170])
def test_a_map_of_the_whole_earth_crosses_nothing(first: float) -> None:
    scene = Scene("EPSG:4326", Affine(3.6, 0, first, 0, -1.8, 90), (100, 100))
    found = scene.footprint(Window(0, 0, 100, 100))
    assert found.bbox == (-180, -90, 180, 90)
    assert shapely.from_geojson(json.dumps(found.geometry)).area == 360 * 180
    check_form(found)


@pytest.mark.parametrize(
    ("x", "bbox"),
    [
        (0, (170, -5, 180, 5)),
        (5, (175, -5, -175, 5)),
        (10, (-180, -5, -170, 5)),
        (100, (-90, -5, -80, 5)),
        (185, (-5, -5, 5, 5)),
    ],
)
def test_longitudes_beyond_180_are_those_of_the_west(x: int, bbox: tuple[float, ...]) -> None:
    scene = Scene("EPSG:4326", Affine(1, 0, 170, 0, -1, 5), (360, 10))
    found = scene.footprint(Window(x, 0, 10, 10))
    assert found.bbox == bbox
    check_form(found)


def test_a_window_beyond_the_scene_has_the_footprint_of_its_part_inside() -> None:
    scene = at("utm")
    inside = scene.footprint(Window(900, 0, 100, 30))
    assert scene.footprint(Window(900, -70, 200, 100)) == inside
    assert footprints(scene.georeference, [Window(1000, 0, 10, 10), Window(-10, 0, 10, 10)]) == [None, None]
    assert footprints(scene.georeference, []) == []


@pytest.mark.parametrize("pixel", [0.01, 0.1, 1])
@pytest.mark.parametrize("y", [0, 8_000_000])
def test_the_smallest_chip_of_the_finest_pixels_keeps_its_shape(pixel: float, y: float) -> None:
    scene = Scene("EPSG:32633", Affine(pixel, 0, 700_000, 0, -pixel, y))
    found = scene.footprint(Window(0, 0, 1, 1))
    check_form(found, 9)
    assert off_by(scene, Window(0, 0, 1, 1), found.geometry) <= 0.25
    assert (round(found.bbox[0], 7) == found.bbox[0]) == (pixel == 1)


def test_each_window_gets_the_footprint_that_it_gets_alone() -> None:
    scene = at("north pole")
    windows = [Window(x, y, 150, 150) for x in range(0, SIZE, 150) for y in range(0, SIZE, 150)]
    assert footprints(scene.georeference, windows) == [scene.footprint(window) for window in windows]


def test_only_the_part_on_earth_of_a_window_has_a_footprint() -> None:
    scene = Scene(GEOS, Affine(12_000, 0, -6e6, 0, -12_000, 6e6))  # the disk is 905 pixels across
    sky, limb, ground = footprints(
        scene.georeference, [Window(0, 0, 100, 100), Window(100, 100, 200, 200), Window(400, 400, 200, 200)]
    )
    assert sky is None
    assert limb is not None
    assert ground is not None
    check_form(limb)
    columns, rows = np.meshgrid(np.arange(0.5, SIZE), np.arange(0.5, SIZE))
    lon, lat = pyproj.Transformer.from_crs(GEOS, 4326, always_xy=True).transform(
        12e3 * columns - 6e6, 6e6 - 12e3 * rows
    )
    seen = np.isfinite(lon)
    inside = (columns > 100) & (columns < 300) & (rows > 100) & (rows < 300)
    near = (columns > 90) & (columns < 310) & (rows > 90) & (rows < 310)
    found = shapely.contains_xy(shapely.from_geojson(json.dumps(limb.geometry)), lon, lat)
    assert not found[~near & seen].any()
    # The first row of seventeen that meets the disk may lie a row's height below its top.
    assert found[inside & seen].mean() > 0.97
    [whole] = footprints(scene.georeference, [Window(0, 0, SIZE, SIZE)])
    assert whole is not None
    assert all(60 < abs(degrees) < 82 for degrees in whole.bbox)


@pytest.mark.parametrize("place", PLACES)
def test_a_box_around_any_point_of_a_footprint_finds_it(place: str) -> None:
    found = at(place).footprint(Window(300, 200, 500, 600))
    tile = StoredTile(id="x", modality="image", footprint=found.bbox, seq=0, code_crc=0)
    table = columns_file.table_of([tile])
    shape = shapely.from_geojson(json.dumps(found.geometry))
    points = [shape.representative_point(), *(shapely.Point(point) for ring in rings(found.geometry) for point in ring)]
    for point in points:
        assert region.inside(table, bbox=(point.x, point.y, point.x, point.y)).all()
    assert not region.inside(table, bbox=(10, -10, 11, -9)).any()


@pytest.mark.parametrize("place", ["utm", "utm south", "degrees", "arctic", "antarctic", "utm 60 over 180"])
def test_geopandas_takes_a_footprint_back_to_the_window(place: str, tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    scene, window = at(place, turned=15), Window(300, 200, 500, 600)
    feature = {"type": "Feature", "properties": {}, "geometry": scene.footprint(window).geometry}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    found = geopandas.read_file(tmp_path / "a.geojson").to_crs(PLACES[place][0]).union_all()
    pixels = shapely.transform(found, lambda points: np.column_stack(_to_pixels(scene, points)))
    wanted = shapely.box(300, 200, 800, 800)
    assert pixels.symmetric_difference(wanted).area < 0.5 * wanted.length


def _to_pixels(scene: Scene, points: Any) -> tuple[Any, Any]:
    inverse = scene.inverse
    return (
        inverse.a * points[:, 0] + inverse.b * points[:, 1] + inverse.c,
        inverse.d * points[:, 0] + inverse.e * points[:, 1] + inverse.f,
    )
