"""GeoJSON of hits, read back by GDAL and checked by shapely."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.geojson import bbox_of, feature_collection, geometry_of, properties_of
from duch.tile import Hit

from .some_hits import NOON_US, SQUARE, some_chip, some_hit

HALF = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[179.9, -1.0], [180.0, -1.0], [180.0, 1.0], [179.9, 1.0], [179.9, -1.0]]],
        [[[-180.0, -1.0], [-179.9, -1.0], [-179.9, 1.0], [-180.0, 1.0], [-180.0, -1.0]]],
    ],
}


def boxed(west: float, south: float, east: float, north: float, **attributes: Any) -> Hit:
    return some_hit(footprint=(west, south, east, north), attributes=attributes)


def written(hits: list[Hit], folder: Path) -> Path:
    file = folder / "hits.geojson"
    file.write_text(json.dumps(feature_collection(hits), allow_nan=False), encoding="utf-8")
    return file


def test_a_feature_tells_all_that_is_known() -> None:
    assert feature_collection([some_chip(2, attributes={"sensor": "S2A", "deep": {"a": [1, None]}})]) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": "pass/S2A_20240501.tif#224,0,224,224",
                "bbox": [8.56, 47.0, 8.59, 47.02],
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[8.56, 47.0], [8.59, 47.0], [8.59, 47.02], [8.56, 47.02], [8.56, 47.0]]],
                },
                "properties": {
                    "rank": 2,
                    "distance": 4,
                    "id": "pass/S2A_20240501.tif#224,0,224,224",
                    "modality": "image",
                    "uri": "pass/S2A_20240501.tif",
                    "window": [224, 0, 224, 224],
                    "time": "2024-05-01T12:00:00.000002Z",
                    "text": None,
                    "sensor": "S2A",
                    "deep": {"a": [1, None]},
                },
            }
        ],
    }


def test_a_hit_without_a_place_has_no_geometry() -> None:
    feature = feature_collection([some_hit(modality="text", uri=None, text="two ships")])["features"][0]
    assert feature["geometry"] is None
    assert "bbox" not in feature
    assert feature["properties"]["text"] == "two ships"


@pytest.mark.parametrize("footprint", [(0.0, -1e308, 1.0, 1e308), (400.0, 0.0, 401.0, 1.0), (0.0, 50.0, 1.0, 40.0)])
def test_a_box_off_the_map_is_no_place(footprint: tuple[float, ...]) -> None:
    feature = feature_collection([some_hit(footprint=footprint)])["features"][0]
    assert feature["geometry"] is None
    assert "bbox" not in feature


def test_the_outline_is_told_rather_than_the_box() -> None:
    hit = boxed(8, 47, 9, 48, geometry=SQUARE)
    assert geometry_of(hit) == SQUARE
    assert "geometry" not in properties_of(hit)


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        7,
        [],
        {},
        {"type": "Polygon"},
        {"type": "Point", "coordinates": [8, 47]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": [[[8, 47], [9, 47], [8, 47]]]},
        {"type": "Polygon", "coordinates": [[[8, 47], [9, 47], [9, 48], [8, 48]]]},
        {"type": "Polygon", "coordinates": [[[8, 47], [9, 48], [9, 48], [8, 47]]]},
        {"type": "Polygon", "coordinates": [[[8, 47], ["9", 47], [9, 48], [8, 47]]]},
        {"type": "Polygon", "coordinates": [[[8, 47], [200, 47], [9, 48], [8, 47]]]},
        {"type": "Polygon", "coordinates": [[[8, 47], [math.nan, 47], [9, 48], [8, 47]]]},
        {"type": "Polygon", "coordinates": "abcd"},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [[], []]},
    ],
)
def test_an_outline_that_is_none_leaves_the_box(geometry: Any) -> None:
    plain = geometry_of(boxed(8, 47, 9, 48))
    assert plain is not None
    assert geometry_of(boxed(8, 47, 9, 48, geometry=geometry)) == plain
    assert geometry_of(some_hit(attributes={"geometry": geometry})) is None


def test_rings_are_turned_the_right_way_round() -> None:
    outer = [[8, 47], [9, 47], [9, 48], [8, 48], [8, 47]]
    inner = [[8.2, 47.2], [8.2, 47.4], [8.4, 47.4], [8.4, 47.2], [8.2, 47.2]]
    wanted = {"type": "Polygon", "coordinates": [outer, inner]}
    for rings in ([outer, inner], [outer[::-1], inner], [outer, inner[::-1]], [outer[::-1], inner[::-1]]):
        assert geometry_of(boxed(8, 47, 9, 48, geometry={"type": "Polygon", "coordinates": rings})) == wanted


def test_the_turn_of_a_small_ring_is_seen() -> None:
    ring = [[179.1, 89.0], [179.1000001, 89.0], [179.1000001, 89.0000001], [179.1, 89.0000001], [179.1, 89.0]]
    for given_ring in (ring, ring[::-1]):
        found = geometry_of(some_hit(attributes={"geometry": {"type": "Polygon", "coordinates": [given_ring]}}))
        assert found == {"type": "Polygon", "coordinates": [ring]}


def test_coordinates_have_seven_decimals() -> None:
    hit = boxed(1 / 3, 2 / 3, 4 / 3, 5 / 3)
    assert bbox_of(hit) == [0.3333333, 0.6666667, 1.3333333, 1.6666667]
    geometry = geometry_of(hit)
    assert geometry is not None
    assert geometry["coordinates"][0][0] == [0.3333333, 0.6666667]


def test_a_box_across_the_antimeridian_is_cut_there() -> None:
    hit = boxed(179.9, -1, -179.9, 1)
    assert geometry_of(hit) == HALF
    assert bbox_of(hit) == [179.9, -1, -179.9, 1]


@pytest.mark.parametrize(("west", "east"), [(180, -179), (179, -180)])
def test_a_box_that_only_touches_it_stays_whole(west: float, east: float) -> None:
    geometry = geometry_of(boxed(west, 0, east, 1))
    assert geometry is not None
    assert geometry["type"] == "Polygon"
    xs = [x for x, _ in geometry["coordinates"][0]]
    assert max(xs) - min(xs) == 1


@pytest.mark.parametrize(
    ("box", "geometry"),
    [
        ((8, 47, 8, 47), {"type": "Point", "coordinates": [8, 47]}),
        ((8, 47, 9, 47), {"type": "LineString", "coordinates": [[8, 47], [9, 47]]}),
        ((8, 47, 8, 48), {"type": "LineString", "coordinates": [[8, 47], [8, 48]]}),
        ((180, 47, -180, 48), {"type": "LineString", "coordinates": [[180, 47], [180, 48]]}),
        ((180, 47, -180, 47), {"type": "Point", "coordinates": [180, 47]}),
        (
            (179, 47, -179, 47),
            {"type": "MultiLineString", "coordinates": [[[179, 47], [180, 47]], [[-180, 47], [-179, 47]]]},
        ),
    ],
)
def test_a_box_without_an_area_is_a_line_or_a_point(box: tuple[float, ...], geometry: dict[str, Any]) -> None:
    assert geometry_of(boxed(*box)) == geometry


@given(*[st.integers(-1800, 1800)] * 2, *[st.integers(-900, 900)] * 2)
def test_geometries_of_boxes_are_valid_and_cover_them(west: int, east: int, south: int, north: int) -> None:
    shapely = pytest.importorskip("shapely.geometry")
    south, north = min(south, north), max(south, north)
    found = geometry_of(boxed(west / 10, south / 10, east / 10, north / 10))
    shape = shapely.shape(found)
    assert shape.is_valid
    width = (east - west if west <= east else east - west + 3600) / 10
    assert shape.area == pytest.approx(width * (north - south) / 10, abs=1e-6)
    polygons = getattr(shape, "geoms", [shape])
    assert all(polygon.exterior.is_ccw for polygon in polygons if polygon.geom_type == "Polygon")


def test_attributes_with_our_names_are_told_beside_ours() -> None:
    attributes = {"rank": "captain", "attribute_rank": 1, "time": 5, "Rank": 2}
    properties = properties_of(some_hit(3, attributes=attributes))
    assert properties["rank"] == 3
    assert properties["time"] is None
    assert properties["attribute_rank"] == 1
    assert properties["attribute_attribute_rank"] == "captain"
    assert properties["attribute_time"] == 5
    assert properties["Rank"] == 2


def test_gdal_opens_it(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely.geometry")
    hits = [
        some_chip(1),
        boxed(179.9, -1, -179.9, 1, sensor="S1B", cloud_cover=3),
        some_hit(3, modality="text", uri=None, text='quotes " and \u2028 ünïcode', id="text:3"),
        some_chip(4, attributes={"geometry": SQUARE, "sensor": "S2B", "deep": {"a": [1, {"b": None}]}}),
    ]
    frame = geopandas.read_file(written(hits, tmp_path))
    assert frame.crs == "OGC:CRS84" or frame.crs.to_epsg() == 4326
    assert list(frame["rank"]) == [hit.rank for hit in hits]
    assert list(frame["distance"]) == [hit.distance for hit in hits]
    assert list(frame["id"]) == [hit.id for hit in hits]
    assert frame["time"][0].timestamp() * 1e6 == pytest.approx(NOON_US + 1, abs=1e3)  # GDAL keeps milliseconds
    assert frame["text"][2] == hits[2].text
    assert list(frame["cloud_cover"])[:2] == [12.5, 3.0]
    assert frame["geometry"][2] is None
    for place in (0, 1, 3):
        assert frame.geometry[place].equals(shapely.shape(geometry_of(hits[place])))
    deep = frame["deep"][3]
    assert (json.loads(deep) if isinstance(deep, str) else deep) == {"a": [1, {"b": None}]}
    assert list(frame["window"][0]) == [0, 0, 224, 224]


def test_no_hits_are_an_empty_collection(tmp_path: Path) -> None:
    assert feature_collection([]) == {"type": "FeatureCollection", "features": []}
