"""Areas of GeoJSON: what is read of a file, and which tiles meet it, against a plain loop of shapely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duch import region
from duch.bundle import read_bundle
from duch.cli import main
from duch.errors import FilterError
from duch.filters import Filters
from duch.gallery import Gallery, Tile
from duch.where_parser import parse

from .resigned import TINY

shapely = pytest.importorskip("shapely")

from duch.geo import area as area_module  # noqa: E402
from duch.geo.area import Area  # noqa: E402
from duch.geo.area_geojson import MOST_BYTES  # noqa: E402


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """A polygon; counterclockwise from its lower left corner."""
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [corners]}


def features(*geometries: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": each} for each in geometries]}


def area(geojson: Any) -> Area:
    return Area.from_geojson(json.dumps(geojson))


def meets(found: Area, footprints: list[Any]) -> list[bool]:
    edges = np.array([footprint or (np.nan,) * 4 for footprint in footprints], dtype=np.float64).reshape(-1, 4)
    return found.meets(*edges.T).tolist()


def naive(shapes: list[Any], footprint: Any) -> bool:
    """Whether a box meets one of the shapes of shapely, all of them between -180 and 180."""
    if footprint is None:
        return False
    west, south, east, north = footprint
    halves = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    corners = [shapely.MultiPoint([(a, south), (b, north), (a, north), (b, south)]).convex_hull for a, b in halves]
    return any(shapely.intersects(shape, corner) for shape in shapes for corner in corners)


# Few values, so that edges touch and boxes have no width.
LONGITUDES = st.sampled_from([-180.0, -179.5, -10.0, 0.0, 0.1, 10.0, 25.0, 179.5, 180.0])
LATITUDES = st.sampled_from([-90.0, -45.5, 0.0, 0.1, 10.0, 60.0, 90.0])
FOOTPRINTS = st.tuples(LONGITUDES, LATITUDES, LONGITUDES, LATITUDES).map(
    lambda edges: (edges[0], min(edges[1], edges[3]), edges[2], max(edges[1], edges[3]))
)
POSITIONS = st.tuples(LONGITUDES, LATITUDES).map(list)


def has_area(triangle: list[list[float]]) -> bool:
    return bool(shapely.Polygon(triangle).is_valid)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Points, lines, triangles, boxes with a hole, and several of them."""
    kind = draw(st.sampled_from(["Point", "LineString", "Triangle", "Box", "MultiPolygon", "GeometryCollection"]))
    if kind == "Point":
        return {"type": "Point", "coordinates": draw(POSITIONS)}
    if kind == "LineString":
        return {"type": "LineString", "coordinates": draw(st.lists(POSITIONS, min_size=2, max_size=4))}
    if kind == "Triangle":
        triangle = draw(st.lists(POSITIONS, min_size=3, max_size=3, unique_by=tuple).filter(has_area))
        return {"type": "Polygon", "coordinates": [[*triangle, triangle[0]]]}
    if kind == "Box":
        holed = box(-179.5, -45.5, 25.0, 60.0)
        hole = draw(st.sampled_from([None, box(-10.0, 0.0, 10.0, 10.0), box(0.0, 0.0, 0.1, 0.1)]))
        return holed if hole is None else {**holed, "coordinates": [*holed["coordinates"], hole["coordinates"][0]]}
    some = draw(st.lists(geometries(), min_size=1, max_size=3))
    if kind == "MultiPolygon":
        polygons = [each["coordinates"] for each in some if each["type"] == "Polygon"]
        return {"type": kind, "coordinates": polygons or [box(0, 0, 10, 10)["coordinates"]]}
    return {"type": kind, "geometries": some}


@given(found=geometries(), footprints=st.lists(st.one_of(st.none(), FOOTPRINTS), max_size=30))
@example(found=box(-10, 0, 10, 10), footprints=[(10.0, 10.0, 10.0, 10.0), (25.0, 0.0, -10.0, 0.0)])
@settings(max_examples=80, deadline=None)
def test_what_meets_an_area_equals_a_plain_loop(found: dict[str, Any], footprints: list[Any]) -> None:
    shapes = list(shapely.get_parts(shapely.from_geojson(json.dumps(found))))
    expected = [naive(shapes, footprint) for footprint in footprints]
    assert meets(area(found), footprints) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(area_module, "_WORTH_A_GRID", 0)
        assert meets(area(found), footprints) == expected


def coast(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """A ragged outline of n vertices around 20 E 40 N, an island, and a line on the border of cells of the grid."""
    turn, far = np.sort(rng.uniform(0, 2 * np.pi, n)), rng.uniform(5, 16, n)
    ring = np.stack([20 + far * np.cos(turn), 40 + far * np.sin(turn)], axis=1).tolist()
    island = box(36.5, 40.0, 37.0, 40.5)["coordinates"]
    return {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "MultiPolygon", "coordinates": [[ring], island]},
            {"type": "LineString", "coordinates": [[0, 20], [64, 84], [64, 20]]},
        ],
    }


@pytest.mark.parametrize("side", [0.0, 0.02, 1.0, 20.0])
def test_many_footprints_are_decided_by_a_grid_as_one_by_one(side: float) -> None:
    rng = np.random.default_rng(8)
    found = area(coast(rng, 300))
    south_west = rng.uniform(-5, 90, (12_000, 2)) - side / 2
    south_west[:4000] = np.round(south_west[:4000])  # cells are a degree wide
    edges = np.concatenate([south_west, south_west + side], axis=1).T
    edges[:, 5] = np.nan
    result = found.meets(*edges)
    assert "_grid" in vars(found)
    alone = np.concatenate([found.meets(*edges[:, start : start + 3000]) for start in range(0, 12_000, 3000)])
    assert (result == alone).all()
    assert 0 < np.count_nonzero(result) < 12_000


@given(found=geometries(), footprints=st.lists(FOOTPRINTS, max_size=10))
@settings(max_examples=60, deadline=None)
def test_the_box_of_an_area_is_met_by_all_that_meet_the_area_and_is_the_smallest(
    found: dict[str, Any], footprints: list[Any]
) -> None:
    of_area = area(found)
    region.check(bbox=of_area.bbox)
    columns = {
        name: np.array([f[place] for f in footprints]) for place, name in enumerate(("west", "south", "east", "north"))
    }
    table = {**columns, "time_us": np.zeros(len(footprints), dtype=np.int64)}
    inside = region.inside(table, bbox=of_area.bbox)  # type: ignore[arg-type]
    assert not (np.array(meets(of_area, footprints), dtype=np.bool_) & ~inside).any()
    bounds = shapely.bounds(of_area.parts)
    ends = bounds[:, 2].max() - bounds[:, 0].min()
    # Turned so that each part in turn is the westernmost one.
    turned = [np.where(bounds[:, :1] < first, bounds + 360, bounds) for first in bounds[:, 0]]
    widths = [ends, *(each[:, 2].max() - first for each, first in zip(turned, bounds[:, 0], strict=True))]
    assert (of_area.bbox[2] - of_area.bbox[0]) % 360 == pytest.approx(min(widths) % 360)


def test_an_area_beyond_180_degrees_is_the_one_that_is_cut_there() -> None:
    cut = {
        "type": "MultiPolygon",
        "coordinates": [box(170, -20, 180, 5)["coordinates"], box(-180, -20, -165, 5)["coordinates"]],
    }
    for same in (cut, box(170, -20, 195, 5), box(-190, -20, -165, 5)):
        found = area(same)
        assert found.bbox == (170, -20, -165, 5)
        fiji = [(177, -19, -178, -16), (176, -18, 176.1, -17), (-166, 0, -166, 0), (169, 0, 169.9, 1), (0, 0, 1, 1)]
        assert meets(found, fiji) == [True, True, True, False, False]
    assert area(box(190, 0, 200, 5)).bbox == (-170, 0, -160, 5)
    assert area({"type": "Point", "coordinates": [200, 5]}).bbox == (-160, 5, -160, 5)
    assert area({"type": "LineString", "coordinates": [[170, 0], [190, 0]]}).bbox == (170, 0, -170, 0)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda polygon: polygon,
        lambda polygon: {"type": "Feature", "properties": None, "geometry": polygon},
        lambda polygon: features(None, polygon),
        lambda polygon: {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": []}, polygon]},
        lambda polygon: {**polygon, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
        lambda polygon: {**polygon, "coordinates": [[[*each, 812.5] for each in polygon["coordinates"][0]]]},
        lambda polygon: {**polygon, "coordinates": [polygon["coordinates"][0][:-1]]},
        lambda polygon: {**polygon, "coordinates": [polygon["coordinates"][0][::-1]]},
    ],
    ids=["geometry", "feature", "features", "collection", "crs84", "heights", "not closed", "clockwise"],
)  # fmt: skip
def test_every_way_to_write_a_polygon_is_read(wrapped: Any) -> None:
    found = area(wrapped(box(5, 45, 15, 55)))
    assert found.bbox == (5, 45, 15, 55)
    assert meets(found, [(6, 46, 7, 47), (0, 46, 1, 47)]) == [True, False]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert Area.from_geojson(b"\xef\xbb\xbf" + json.dumps(box(0, 0, 1, 1)).encode()).bbox == (0, 0, 1, 1)


BOWTIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
SQUARE = box(0, 0, 1, 1)
UTM = {**box(0, 0, 1, 1), "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOWTIE, "coordinates: self-intersection at 5 5; wanted a polygon whose rings do not cross"),
        ({"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], BOWTIE["coordinates"]]}, "coordinates[1]: s"),
        (UTM, "coordinate system is 'urn:ogc:def:crs:EPSG::32633'"),
        ({**UTM, "crs": "EPSG:4326"}, "coordinate system is None"),
        (box(399960, 5000000, 409960, 5010000), "coordinates[0][0] is [399960, 5000000]; wanted longitude, then"),
        (box(45, 100, 46, 101), "coordinates[0][0] is [45, 100]; wanted longitude, then latitude from -90"),
        (box(400, 0, 401, 1), "wanted longitude"),
        ({"type": "Point", "coordinates": [1e400, 0]}, "wanted longitude"),
        ({"type": "Point", "coordinates": [float("nan"), 0]}, "coordinates[0] is [nan, 0]; wanted longitude"),
        ({"type": "Point", "coordinates": ["5", 0]}, "coordinates[0] is ['5', 0]; wanted longitude and latitude"),
        ({"type": "Point", "coordinates": [True, 0]}, "two numbers"),
        ({"type": "Point", "coordinates": [5]}, "two numbers"),
        ({"type": "Point", "coordinates": 5}, "coordinates is no list"),
        ({"type": "Polygon"}, "coordinates is missing; wanted a list"),
        ({"type": "Polygon", "coordinates": [5]}, "coordinates[0] is no list"),
        ({"type": "Polygon", "coordinates": [[]]}, "0 positions; wanted a ring"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "3 positions; wanted a ring"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}, "wanted a polygon whose rings"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "coordinates[0] is empty"),
        ({"type": "LineString", "coordinates": [[0, 0]]}, "wanted a line of at least two"),
        ({"type": "Polygon", "coordinates": []}, "holds no geometry"),
        ({"type": "FeatureCollection", "features": []}, "holds no geometry"),
        ({"type": "Feature", "geometry": None}, "holds no geometry"),
        ({"type": "FeatureCollection"}, "features is missing"),
        (features(SQUARE, BOWTIE), "features[1].geometry.coordinates: self-intersection"),
        ({"type": "FeatureCollection", "features": [5]}, "features[0] is no JSON object"),
        ({"type": ["Polygon"]}, "the whole is of type ['Polygon']"),
        ({"type": "Topology", "arcs": []}, "of type 'Topology'; wanted GeoJSON"),
        ([1, 2], "the whole is no JSON object"),
        (b"", "is no GeoJSON"),
        (b"\x00\x00\x27\x0a\x00\x00\xff\xfe a shapefile", "ogr2ogr -f GeoJSON"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [1', "is no GeoJSON"),
        (b'{"type": "Point", "coordinates": [' + b"9" * 5000 + b", 0]}", "is no GeoJSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"type":"GeometryCollection","geometries":[' * 100_000, "nested too deeply"),
        (b" " * (MOST_BYTES + 1), "is larger than 64 MiB; wanted a simpler outline"),
    ],
    ids=range(36),
)  # fmt: skip
def test_what_is_no_area_is_one_line(content: Any, said: str) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(FilterError) as caught:
        Area.from_geojson(raw, name="a.geojson")
    assert str(caught.value).startswith("a.geojson")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250


NUMBERS = st.one_of(st.integers(-400, 400), st.floats(), st.sampled_from([0, 1, 90, 180, 181, 360]))
NESTED = st.recursive(
    st.one_of(st.none(), st.text(max_size=3), NUMBERS, st.tuples(NUMBERS, NUMBERS).map(list)),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)
RINGS = st.lists(st.tuples(st.floats(-360, 360), st.floats(-90, 90)).map(list), max_size=6)
KINDS = [
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
    "x",
    5,
]
ANYTHING = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS)},
        optional={
            "coordinates": st.one_of(NESTED, RINGS, RINGS.map(lambda ring: [ring]), RINGS.map(lambda ring: [[ring]]))
        },
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("Feature"), "geometry": inner}),
        st.lists(inner, max_size=3).map(lambda some: {"type": "GeometryCollection", "geometries": some}),
        st.fixed_dictionaries({"type": st.just("FeatureCollection"), "features": st.one_of(NESTED, st.lists(inner))}),
    ),
    max_leaves=4,
)


@given(found=ANYTHING)
@settings(max_examples=200, deadline=None)
def test_any_json_is_an_area_or_refused(found: Any) -> None:
    try:
        of_area = area(found)
    except FilterError:
        return
    region.check(bbox=of_area.bbox)
    assert meets(of_area, [(-180, -90, 180, 90)]) == [True]


# --- in a gallery ---

TRIANGLE = {"type": "Polygon", "coordinates": [[[0, 0], [60, 0], [0, 60], [0, 0]]]}
PACIFIC = box(165, -30, 200, 30)


def world() -> list[Tile]:
    """Tiles all over the globe, some across the antimeridian, some without a place, a tenth of them sentences."""
    rng = np.random.default_rng(3)
    tiles = []
    for i in range(400):
        west, south = float(rng.uniform(-180, 180)), float(rng.uniform(-60, 70))
        east = west + 4 if west < 176 else west - 356
        tiles.append(
            Tile(
                id=f"{i:03}.png",
                modality="text" if i % 10 == 3 else "image",
                footprint=None if i % 13 == 0 else (west, south, east, south + 4),
                time_us=i,
                attributes={"cloud": i % 20},
            )
        )
    return tiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("area") / "g"
    bundle = read_bundle(TINY)
    codes = np.random.default_rng(0).integers(0, 256, (400, bundle.n_bits // 8), dtype=np.uint8)
    options: Any = {"fingerprint": bundle.fingerprint, "n_bits": bundle.n_bits, "bundle_hint": TINY}
    with Gallery.writer(folder, create=True, **options) as out:
        out.append(codes, world())
        out.remove(["200.png", "201.png"])
    return folder


@pytest.mark.parametrize("where", [None, "cloud < 15", "cloud < 1"])
@pytest.mark.parametrize("limits", [{}, {"bbox": (10.0, 0.0, 50.0, 20.0)}, {"since_us": 100, "until_us": 300}])
@pytest.mark.parametrize("ids", [None, tuple(f"{i:03}.png" for i in range(0, 400, 3))])
@pytest.mark.parametrize("geojson", [TRIANGLE, PACIFIC], ids=["triangle", "pacific"])
def test_an_area_is_a_filter_like_the_others(folder: Path, geojson: Any, ids: Any, limits: Any, where: Any) -> None:
    found = area(geojson)
    filters = Filters(area=found, ids=ids, where=None if where is None else parse(where), **limits)
    shapes, west, east = list(found.parts), *limits.get("bbox", (0, 0, 0, 0))[::2]
    expected = {
        tile.id
        for tile in world()
        if tile.id not in ("200.png", "201.png")
        and tile.modality == "image"
        and naive(shapes, tile.footprint)
        and (not west or (tile.footprint[0] <= east and tile.footprint[2] >= west and tile.footprint[1] <= 20))  # type: ignore[index]
        and limits.get("since_us", 0) <= tile.time_us < limits.get("until_us", 1000)  # type: ignore[operator]
        and (where is None or tile.attributes["cloud"] < int(where.split()[-1]))
        and (ids is None or tile.id in ids)
    }  # fmt: skip
    with Gallery.open(folder) as gallery:
        code = gallery.codes[:1]
        hits = gallery.search(code, 400, modality="image", filters=filters)[0]
        assert {hit.id for hit in hits} == expected
        assert gallery.count("image", filters) == len(expected)


def duch(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def test_search_takes_an_area_from_a_file_or_stdin(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps(TRIANGLE))
    shapes = list(area(TRIANGLE).parts)
    live = [tile for tile in world() if tile.modality == "image" and tile.id not in ("200.png", "201.png")]
    expected = {tile.id for tile in live if naive(shapes, tile.footprint)}
    for source, stdin in ((tmp_path / "a.geojson", None), ("-", json.dumps(TRIANGLE).encode())):
        result = duch("search", folder, "a river", "-k", "400", "--json", "--geometry", source, stdin=stdin)
        assert {hit["id"] for hit in json.loads(result.stdout)["hits"]} == expected


def test_a_bad_area_on_the_command_line_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bow.geojson").write_text(json.dumps(BOWTIE))
    (tmp_path / "folder").mkdir()
    for options, said in (
        (["--geometry", tmp_path / "bow.geojson"], "bow.geojson: coordinates: self-intersection at 5 5"),
        (["--geometry", tmp_path / "none.geojson"], "none.geojson: No such file"),
        (["--geometry", tmp_path / "folder"], "Is a directory"),
        (["--geometry", "-"], "stdin: it is no GeoJSON"),
        (["--geometry", "-", "--ids", "-"], "both --geometry and --ids read stdin"),
        (["--geometry", "/dev/zero"], "is larger than 64 MiB"),
    ):
        result = duch("search", folder, "a river", *options, stdin=b"")
        assert result.exit_code == 1, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert said in result.stderr
