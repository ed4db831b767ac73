"""Where the pixels of a scene lie on Earth: by its affine transform, its ground control points or its RPCs.

Pixel coordinates have 0,0 at the outer corner of the upper left pixel and 0.5,0.5 at its centre. Places are longitude
and latitude in degrees, EPSG:4326, in this order.

Shapes: n points.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.errors import ConfigError, SceneError, needs_extra, one_line

from .gdal import environment

with needs_extra("geo", "a place on the map"):
    from rasterio._err import CPLE_BaseError, CPLE_NotSupportedError
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.errors import CRSError, RasterioError, TransformWarning
    from rasterio.transform import GCPTransformer, RPCTransformer
    from rasterio.warp import transform

Floats = NDArray[np.float64]
_ToMap = Callable[[Floats, Floats], tuple[Floats, Floats]]

_GDAL_ERRORS = (CPLE_BaseError, RasterioError, CRSError)
_LONLAT = CRS.from_epsg(4326)
_EQUATOR_METRES, _ECCENTRICITY_SQUARED = 6_378_137.0, 0.006_694_379_990_14  # of WGS 84
_LONGEST_NAME = 60
# Through so many points a thin plate spline goes exactly; it is solved in the cube of their number (500: 0.05 s).
_MOST_SPLINE_POINTS = 500


class Georeference:
    """The place of every pixel of a scene. For one thread at a time.

    Attributes:
        width: columns of the scene.
        height: rows of the scene.
        crs_name: its coordinate system, such as "EPSG:32633"; a short name where no authority lists it.
        gsd: ground sampling distance at the scene's centre, metres a pixel across and down.
    """

    def __init__(self, to_map: _ToMap, crs: CRS, *, crs_name: str, width: int, height: int) -> None:
        """Join the two steps from a pixel to its place.

        Args:
            to_map: from pixels to coordinates of `crs`.
            crs: a coordinate system on Earth.
            crs_name: its name.
            width: columns of the scene.
            height: rows of the scene.

        Raises:
            SceneError: the coordinate system is not of this Earth, or no pixel has a place.
        """
        self._to_map, self._crs = to_map, crs
        self.width, self.height, self.crs_name = width, height, crs_name
        # Global grids in degrees often centre their first row on the pole, so that half of it lies beyond.
        self._over_pole = self._pixel_degrees() if crs.is_geographic else 0.0
        self.gsd = self._measured_gsd()

    def lonlat(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Places of points of the scene, or beyond it; inf, inf for a point that has none.

        Shape: x, y (n,) -> (n,), (n,).
        """
        with environment():
            lon, lat = _to_degrees(self._crs, *self._to_map(np.asarray(x, np.float64), np.asarray(y, np.float64)))
        beyond = np.abs(lat) - 90
        lat = np.where((beyond > 0) & (beyond <= self._over_pole), np.copysign(90.0, lat), lat)
        nowhere = ~(np.isfinite(lon) & (np.abs(lat) <= 90))
        return np.where(nowhere, np.inf, lon), np.where(nowhere, np.inf, lat)

    def _pixel_degrees(self) -> float:
        """The larger of what one pixel across and one down make in latitude, in degrees."""
        _, lat = self._to_map(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
        with np.errstate(invalid="ignore"):
            return float(np.abs(lat[1:] - lat[0]).max())

    def _measured_gsd(self) -> tuple[float, float]:
        # The centre of a scene may look past the Earth: then the place next to it counts.
        steps = (np.arange(9) + 0.5) / 9
        x, y = (grid.ravel() for grid in np.meshgrid(steps * self.width, steps * self.height))
        order = np.argsort(np.hypot(x / self.width - 0.5, y / self.height - 0.5), kind="stable")
        x, y = x[order], y[order]
        places = [
            on_ground(*self.lonlat(x + right, y + down)) for right, down in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))
        ]
        across = np.linalg.norm(places[1] - places[0], axis=1)
        down = np.linalg.norm(places[3] - places[2], axis=1)
        seen = np.flatnonzero(np.isfinite(across) & np.isfinite(down) & (across > 0) & (down > 0))
        if not len(seen):
            raise SceneError(f"its pixels have no place on Earth by its coordinate system {self.crs_name}")
        return float(across[seen[0]]), float(down[seen[0]])


def on_ground(lon: Floats, lat: Floats) -> Floats:
    """Points of the WGS 84 ellipsoid, metres from the Earth's centre; NaN for what has no place.

    Between neighbours, their straight distance is that on the ground.

    Shape: (n,), (n,) -> (n, 3).
    """
    with np.errstate(invalid="ignore"):
        east, north = np.radians(lon), np.radians(lat)
        sine = np.sin(north)
        radius = _EQUATOR_METRES / np.sqrt(1 - _ECCENTRICITY_SQUARED * sine**2)
        level = radius * np.cos(north)
        return np.stack(
            [level * np.cos(east), level * np.sin(east), radius * (1 - _ECCENTRICITY_SQUARED) * sine], axis=-1
        )


def crs_of(text: str) -> CRS:
    """The coordinate system that a user names: "EPSG:32633", WKT, PROJJSON or a PROJ string.

    Raises:
        ConfigError: no such system.
    """
    with environment():  # holds GDAL's own words back from stderr
        try:
            return CRS.from_user_input(text)
        except CRSError as error:
            raise ConfigError(
                f"{text[:_LONGEST_NAME]!r} is no coordinate system ({one_line(error)}); wanted one such as EPSG:32633"
            ) from None


def georeference_of(dataset: Any, *, crs: str | None = None) -> Georeference | None:
    """The places of an open rasterio dataset; None for one that names none.

    The transform counts before ground control points, those before RPCs. Control points are met exactly, by a thin
    plate spline; more than 500 of them in the mean, by a polynomial. RPCs are taken at the mean height of their scene.

    Args:
        dataset: open for reading.
        crs: coordinate system of transforms and control points whose dataset names none.

    Raises:
        ConfigError: `crs` is no coordinate system.
        SceneError: the transform has no inverse, the control points or RPCs cannot be used, or the coordinate system
            leads to no place on Earth.
    """
    size = {"width": dataset.width, "height": dataset.height}
    given = None if crs is None else crs_of(crs)
    control_points, control_crs = dataset.gcps
    if not dataset.transform.is_identity and (system := _of_a_map(dataset.crs) or given):
        return _by_affine(dataset.transform, system, size)
    if control_points and (system := _of_a_map(control_crs) or given):
        return _by_control_points(control_points, system, size)
    return _by_rpcs(dataset, size)


def _of_a_map(crs: CRS | None) -> CRS | None:
    """A coordinate system, unless it is a drawing's: programs write one where they know of none."""
    return crs if crs and (crs.is_geographic or crs.is_projected) else None


def _by_affine(affine: Any, crs: CRS, size: dict[str, int]) -> Georeference:
    a, b, c, d, e, f = affine[:6]
    # Compared with its own pixels: those of a scene in degrees may measure 1e-6 by 1e-6.
    if not all(map(math.isfinite, affine[:6])) or abs(a * e - b * d) <= 1e-9 * max(a * a + d * d, b * b + e * e):
        raise SceneError(
            f"its geotransform {a:g}, {b:g}, {c:g}, {d:g}, {e:g}, {f:g} has no inverse; wanted pixels with an area"
        )

    def to_map(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        return a * x + b * y + c, d * x + e * y + f

    return Georeference(to_map, _on_earth(crs), crs_name=_name(crs), **size)


def _by_control_points(points: Sequence[Any], crs: CRS, size: dict[str, int]) -> Georeference:
    places = np.array([[point.x, point.y] for point in points], dtype=np.float64)
    lon, lat = _to_degrees(_on_earth(crs), places[:, 0], places[:, 1])
    seen = np.flatnonzero(np.isfinite(lon))
    try:
        if len(seen) < 3:
            raise ValueError("wanted three or more, on Earth")  # GDAL takes two, and places nothing
        x, y, z = on_ground(lon[seen], lat[seen]).mean(axis=0).tolist()
        # A map of their own: in degrees, points about the antimeridian or a pole are no neighbours.
        local = CRS.from_proj4(
            f"+proj=aeqd +lat_0={math.degrees(math.atan2(z, math.hypot(x, y))):.6f} "
            f"+lon_0={math.degrees(math.atan2(y, x)):.6f} +datum=WGS84 +units=m"
        )
        moved = [
            GroundControlPoint(points[number].row, points[number].col, x, y)
            for number, x, y in zip(seen, *transform(_LONLAT, local, lon[seen], lat[seen]), strict=True)
        ]
        transformer = GCPTransformer(moved, tps=len(moved) <= _MOST_SPLINE_POINTS)
    except (*_GDAL_ERRORS, ValueError) as error:
        raise SceneError(f"its {len(points)} ground control points give no place: {one_line(error)}") from None
    return Georeference(_by_transformer(transformer), local, crs_name=_name(crs), **size)


def _by_rpcs(dataset: Any, size: dict[str, int]) -> Georeference | None:
    try:
        rpcs = dataset.rpcs
        if rpcs is None:
            return None
        transformer = RPCTransformer(rpcs, RPC_HEIGHT=rpcs.height_off)
    except (*_GDAL_ERRORS, ValueError, KeyError) as error:  # KeyError: one of them is missing
        raise SceneError(f"its RPCs give no place: {one_line(error)}") from None
    return Georeference(_by_transformer(transformer), _LONLAT, crs_name="EPSG:4326", **size)


def _by_transformer(transformer: Any) -> _ToMap:
    def to_map(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TransformWarning)  # of points without a place: they are inf
            map_x, map_y = transformer.xy(y, x, offset="ul")  # "ul": the point itself, not the middle of a pixel
        return np.asarray(map_x), np.asarray(map_y)

    return to_map


def _on_earth(crs: CRS) -> CRS:
    """The coordinate system itself, if places on Earth can be had from it.

    Raises:
        SceneError: it is another planet's or moon's.
    """
    try:
        transform(crs, _LONLAT, [0.0], [0.0])
    except (CPLE_NotSupportedError, CRSError):
        raise SceneError(f"its coordinate system {_name(crs)} leads to no place on Earth") from None
    except _GDAL_ERRORS:
        pass  # 0,0 lies outside of its domain
    return crs


def _to_degrees(crs: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Longitudes and latitudes; inf for points outside of the projection's domain.

    For one such point GDAL refuses them all, so they are looked for by halves.
    """
    try:
        lon, lat = transform(crs, _LONLAT, x, y)
    except _GDAL_ERRORS:
        if len(x) == 1:
            return np.array([np.inf]), np.array([np.inf])
        half = len(x) // 2
        parts = _to_degrees(crs, x[:half], y[:half]), _to_degrees(crs, x[half:], y[half:])
        return np.concatenate([parts[0][0], parts[1][0]]), np.concatenate([parts[0][1], parts[1][1]])
    return np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)


def _name(crs: CRS) -> str:
    authority = crs.to_authority()
    if authority is not None:
        return ":".join(authority)[:_LONGEST_NAME]
    # The name is the first text of the WKT; GDAL calls what has none "unknown" or "unnamed".
    wkt = crs.to_wkt()
    name = next(iter(wkt.split('"')[1:]), "").strip()
    if name.lower() in ("", "unknown", "unnamed"):
        name = " ".join(["unnamed", *re.findall(r'PROJECTION\["([^"]+)"', wkt)[:1]])
    return name[:_LONGEST_NAME].strip()
