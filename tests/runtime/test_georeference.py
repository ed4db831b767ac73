"""Places of pixels against pyproj, which asks PROJ by another way."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

rasterio = pytest.importorskip("rasterio", exc_type=ImportError)
pyproj = pytest.importorskip("pyproj")

from affine import Affine  # noqa: E402
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.rpc import RPC  # noqa: E402

from duch.errors import ConfigError, SceneError  # noqa: E402
from duch.geo.gdal import open_raster  # noqa: E402
from duch.geo.georeference import Georeference, crs_of, georeference_of, on_ground  # noqa: E402

from .some_scenes import PLACES, transform_at, write_scene  # noqa: E402

GEOS = "+proj=geos +h=35785831 +lon_0=0 +datum=WGS84 +units=m"


def georeference(folder: Path, crs: str | None, transform: Affine, *, given: str | None = None, **more: Any) -> Any:
    """Of a scene of 60 x 40 pixels, written and opened."""
    path = write_scene(folder / "scene.tif", (1, 40, 60), place="utm" if crs else None, crs=crs, transform=transform)
    return opened(path, crs=given)


def opened(path: Path, **more: Any) -> Georeference | None:
    with open_raster(path) as dataset:
        return georeference_of(dataset, **more)


def joined(*transforms: Affine) -> Affine:
    """The last one first; the operator for it differs between versions of affine."""
    matrices = [np.reshape(transform, (3, 3)) for transform in transforms]
    return Affine(*np.linalg.multi_dot([*matrices, np.eye(3)]).ravel()[:6])


def on_map(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def in_metres(lon: Any, lat: Any, expected_lon: Any, expected_lat: Any) -> float:
    """The largest distance on the ground."""
    _, _, distances = pyproj.Geod(ellps="WGS84").inv(lon, lat, expected_lon, expected_lat)
    return float(np.max(distances))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turned", [0, 200])
def test_affine_transforms_agree_with_pyproj(tmp_path: Path, place: str, turned: float) -> None:
    transform = joined(transform_at(place, 60, 40), Affine.rotation(turned))
    found = georeference(tmp_path, PLACES[place][0], transform)
    x, y = np.meshgrid(np.linspace(0, 60, 7), np.linspace(0, 40, 7))
    expected = pyproj.Transformer.from_crs(PLACES[place][0], 4326, always_xy=True).transform(*on_map(transform, x, y))
    assert in_metres(*found.lonlat(x.ravel(), y.ravel()), expected[0].ravel(), expected[1].ravel()) < 1e-3
    assert found.crs_name == PLACES[place][0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", [Affine.scale(1), Affine.scale(1, -1), Affine.scale(-1, 0.5), Affine.rotation(40)])
def test_gsd_is_measured_on_the_ground(tmp_path: Path, place: str, shape: Affine) -> None:
    about_middle = (Affine.translation(30, 20), shape, Affine.translation(-30, -20))
    transform = joined(transform_at(place, 60, 40), *about_middle)
    found = georeference(tmp_path, PLACES[place][0], transform)
    to_degrees = pyproj.Transformer.from_crs(PLACES[place][0], 4326, always_xy=True)
    west, east, top, bottom = (
        to_degrees.transform(*on_map(transform, *at)) for at in ((29.5, 20), (30.5, 20), (30, 19.5), (30, 20.5))
    )
    assert found.gsd == pytest.approx((in_metres(*west, *east), in_metres(*top, *bottom)), rel=1e-5)


@given(
    st.lists(
        st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4)),
        min_size=1,
    )
)
@settings(max_examples=30, deadline=None)
def test_straight_distances_of_neighbours_are_those_on_the_ground(points: list[tuple[float, ...]]) -> None:
    lon, lat, more_lon, more_lat = np.array(points).T
    other_lon, other_lat = lon + more_lon, np.clip(lat + more_lat, -90, 90)
    found = np.linalg.norm(on_ground(lon, lat) - on_ground(other_lon, other_lat), axis=1)
    _, _, expected = pyproj.Geod(ellps="WGS84").inv(lon, lat, other_lon, other_lat)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("none", [None, 'LOCAL_CS["unnamed",UNIT["metre",1]]'])
def test_a_scene_in_no_system_takes_the_given_one_and_others_keep_theirs(tmp_path: Path, none: str | None) -> None:
    transform = Affine(10, 0, 5e5, 0, -10, 5e6)
    assert georeference(tmp_path, none, transform) is None
    assert georeference(tmp_path, none, transform, given="EPSG:32612").crs_name == "EPSG:32612"
    assert georeference(tmp_path, "EPSG:32633", transform, given="EPSG:32612").crs_name == "EPSG:32633"


@pytest.mark.parametrize("crs", [None, "EPSG:32633"])
def test_no_transform_is_no_place(tmp_path: Path, crs: str | None) -> None:
    assert georeference(tmp_path, crs, Affine.identity(), given="EPSG:32633") is None


@pytest.mark.parametrize("text", ["", "32633", "EPSG:99999999", "http://127.0.0.1/x", "/etc/passwd", "\0", "x" * 1000])
def test_what_is_no_coordinate_system_is_told_in_one_line(capfd: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no coordinate system .*; wanted one such as EPSG:32633$") as caught:
        crs_of(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        ("EPSG:32633", "EPSG:32633"),
        ("ESRI:54009", "ESRI:54009"),
        (GEOS, "unnamed Geostationary_Satellite"),
        (
            f'PROJCS["{"long " * 40}"' + pyproj.CRS("+proj=laea +lat_0=7").to_wkt("WKT1_GDAL")[16:],
            "long " * 11 + "long",
        ),
    ],
)
def test_names_of_systems_are_short(tmp_path: Path, crs: str, name: str) -> None:
    found = georeference(tmp_path, crs, Affine(1000, 0, -3e4, 0, -1000, 2e4))
    assert found.crs_name == name


@pytest.mark.parametrize(
    ("crs", "transform", "message"),
    [
        ("EPSG:32633", Affine(10, 20, 5e5, 5, 10, 5e6), "its geotransform 10, 20, 500000, 5, 10, 5e.06 has no inverse"),
        ("EPSG:32633", Affine(10, 0, 5e5, 0, 0, 5e6), "has no inverse; wanted pixels with an area"),
        ("EPSG:32633", Affine(float("nan"), 0, 5e5, 0, 1, 5e6), "has no inverse"),
        (
            "EPSG:4326",
            Affine(10, 0, 5e5, 0, -10, 5e6),
            "its pixels have no place on Earth by its coordinate system EPSG",
        ),
        (
            "IAU_2015:30100",
            Affine(0.1, 0, 5, 0, -0.1, 5),
            "coordinate system IAU_2015:30100 leads to no place on Earth",
        ),
        (GEOS, Affine(1000, 0, -5.4e6, 0, -1000, 5.4e6), "its pixels have no place on Earth"),
    ],
)
def test_a_transform_that_leads_nowhere_is_refused(
    tmp_path: Path, capfd: Any, crs: str, transform: Affine, message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        georeference(tmp_path, crs, transform)
    assert capfd.readouterr().err == ""


def test_points_without_a_place_are_inf_and_spoil_no_others(tmp_path: Path) -> None:
    found = georeference(tmp_path, GEOS, Affine(2e5, 0, -6e6, 0, -2e5, 4e6))  # the disk is 54 pixels across
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(0, 60, 31), np.linspace(0, 40, 31)))
    lon, lat = found.lonlat(x, y)
    expected_lon, expected_lat = pyproj.Transformer.from_crs(GEOS, 4326, always_xy=True).transform(
        2e5 * x - 6e6, 4e6 - 2e5 * y
    )
    assert 100 < np.isinf(expected_lon).sum() < 900
    np.testing.assert_allclose(lon, expected_lon, atol=1e-9)
    np.testing.assert_allclose(lat, expected_lat, atol=1e-9)


def test_half_a_pixel_beyond_a_pole_is_the_pole_and_more_is_nowhere(tmp_path: Path) -> None:
    found = georeference(tmp_path, "EPSG:4326", Affine(6, 0, -3, 0, -180 / 39, 90 + 90 / 39))
    lon, lat = found.lonlat(np.zeros(4), np.array([0, 40, -1, 41.0]))
    assert lat.tolist() == [90, -90, np.inf, np.inf]
    assert lon.tolist() == [-3, -3, np.inf, np.inf]


def control_points(transform: Affine, steps: int) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(row, column, *on_map(transform, column, row))
        for row in np.linspace(0, 40, steps)
        for column in np.linspace(0, 60, steps)
    ]


@pytest.mark.parametrize("place", ["utm", "degrees", "north pole", "south pole", "utm 1 over -180", "degrees over 180"])
@pytest.mark.parametrize("steps", [2, 10, 30])
@pytest.mark.parametrize("in_degrees", [False, True])
def test_control_points_lead_to_their_places(tmp_path: Path, place: str, steps: int, in_degrees: bool) -> None:
    crs, _, pixel = PLACES[place]
    transform = joined(transform_at(place, 60, 40), Affine.rotation(10))
    points = control_points(transform, steps)
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    if in_degrees:
        points = [GroundControlPoint(p.row, p.col, *to_degrees.transform(p.x, p.y)) for p in points]
    path = write_scene(tmp_path / "s.tif", (1, 40, 60), crs="EPSG:4326" if in_degrees else crs, gcps=points)
    found = opened(path)
    assert found is not None
    assert found.crs_name == ("EPSG:4326" if in_degrees else crs)
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(0, 60, 7), np.linspace(0, 40, 7)))
    expected = to_degrees.transform(*on_map(transform, x, y))
    metres = 1.2e5 * pixel if crs == "EPSG:4326" else pixel
    # Four corners say nothing of the curve between them, and a map of the pole has the size of a continent's.
    assert in_metres(*found.lonlat(x, y), *expected) < (0.3 if steps == 2 else 0.05) * metres
    assert np.isfinite(found.gsd).all()


def test_control_points_without_a_system_take_the_given_one(tmp_path: Path) -> None:
    points = control_points(transform_at("utm", 60, 40), 3)
    dataset = SimpleNamespace(
        width=60, height=40, transform=Affine.identity(), crs=None, gcps=(points, None), rpcs=linear_rpc(height=0)
    )
    by_points = georeference_of(dataset, crs="EPSG:32633")
    assert by_points is not None
    assert by_points.crs_name == "EPSG:32633"
    by_rpcs = georeference_of(dataset)
    assert by_rpcs is not None
    assert by_rpcs.crs_name == "EPSG:4326"
    dataset.rpcs = None
    assert georeference_of(dataset) is None


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_control_points_are_refused_in_one_line(tmp_path: Path, capfd: Any, n: int) -> None:
    points = [GroundControlPoint(0, 10 * i, 5e5 + i, 5e6) for i in range(n)]  # on a line
    path = write_scene(tmp_path / "s.tif", (1, 40, 60), crs="EPSG:32633", gcps=points)
    with pytest.raises(SceneError, match=f"its {n} ground control points give no place"):
        opened(path)
    assert capfd.readouterr().err == ""


def linear_rpc(*, height: float) -> RPC:
    """Column = 30 + 30 (lon - 15) / 0.01 + 0.3 (h - height), row = 20 - 20 (lat - 45) / 0.01."""
    one, zeros = [1.0] + [0.0] * 19, [0.0] * 16
    return RPC(
        **{"line_off": 20, "line_scale": 20, "lat_off": 45, "lat_scale": 0.01, "line_den_coeff": one},
        **{"samp_off": 30, "samp_scale": 30, "long_off": 15, "long_scale": 0.01, "samp_den_coeff": one},
        **{"height_off": height, "height_scale": 100, "line_num_coeff": [0.0, 0, -1, 0, *zeros]},
        samp_num_coeff=[0.0, 1, 0, 1, *zeros],
    )


@pytest.mark.parametrize("height", [0.0, 2500.0])
def test_rpcs_lead_to_places_at_their_mean_height(tmp_path: Path, height: float) -> None:
    found = opened(write_scene(tmp_path / "s.tif", (1, 40, 60), place=None, rpcs=linear_rpc(height=height)))
    assert found is not None
    assert found.crs_name == "EPSG:4326"
    lon, lat = found.lonlat(np.array([0.5, 30.5, 60.5]), np.array([0.5, 20.5, 40.5]))
    np.testing.assert_allclose(lon, [14.99, 15, 15.01], atol=1e-5)
    np.testing.assert_allclose(lat, [45.01, 45, 44.99], atol=1e-5)


def test_control_points_that_are_nowhere_are_passed_over(tmp_path: Path) -> None:
    points = control_points(transform_at("utm", 60, 40), 4)
    bad = [GroundControlPoint(3, 3, value, 5e6) for value in (float("nan"), float("inf"), 1e30)]
    path = write_scene(tmp_path / "s.tif", (1, 40, 60), crs="EPSG:32633", gcps=points + bad)
    expected = opened(write_scene(tmp_path / "t.tif", (1, 40, 60), crs="EPSG:32633", gcps=points))
    found, corner = opened(path), (np.array([0.0]), np.array([0.0]))
    assert found is not None
    assert expected is not None
    assert found.lonlat(*corner) == expected.lonlat(*corner)


@pytest.mark.parametrize("value", ["x", "nan", "0"])
@pytest.mark.parametrize("left_out", [None, "HEIGHT_OFF", "LINE_DEN_COEFF"])
def test_rpcs_that_are_damaged_are_one_line(tmp_path: Path, capfd: Any, value: str, left_out: str | None) -> None:
    names = [f"{a}_{b}" for a in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT") for b in ("OFF", "SCALE")]
    names += [f"{a}_{b}_COEFF" for a in ("LINE", "SAMP") for b in ("NUM", "DEN")]
    items = "".join(f'<MDI key="{name}">{value}</MDI>' for name in names if name != left_out)
    path = write_scene(tmp_path / "s.tif", (1, 40, 60), place=None)
    path.with_name("s.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="RPC">{items}</Metadata></PAMDataset>')
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(SceneError, match=r"its RPCs give no place: |its pixels have no place on Earth"),
    ):
        opened(path)
    assert capfd.readouterr().err == ""
