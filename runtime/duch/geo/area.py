"""An area on the map, read from GeoJSON (RFC 7946), and which footprints meet it.

Edges are straight in longitude and latitude, as the RFC has them, and no ring crosses the antimeridian by itself: it is
cut there, or goes on beyond 180 degrees. A footprint is its bounding box; where edges touch, they meet.

Shapes: n footprints, p parts of the area.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duch.errors import FilterError, needs_extra
from duch.region import BBox

with needs_extra("geo", "an area of GeoJSON"):
    import shapely

Mask = NDArray[np.bool_]
Edges = NDArray[np.float64]
Shapes = NDArray[np.object_]

MOST_BYTES = 64 * 2**20  # over a million vertices; Python holds them in some 300 MB while it reads them
_FARTHEST = 360.0  # degrees of longitude: for rings beyond 180, and for those that count from 0 to 360
_MULTI = ("MultiPoint", "MultiLineString", "MultiPolygon")
# How GeoJSON of before the RFC names the coordinate system that is now the only one. Writers took the last two for
# longitude first as well.
_CRS84 = (
    "urn:ogc:def:crs:OGC:1.3:CRS84",
    "urn:ogc:def:crs:OGC::CRS84",
    "urn:ogc:def:crs:EPSG::4326",
    "EPSG:4326",
)


@dataclass(frozen=True, eq=False)
class Area:
    """Polygons, lines and points on the map; what meets one of them meets the area.

    Attributes:
        parts: polygons, lines and points of shapely, of longitudes from -180 to 180, (p,).
        bbox: west, south, east, north of the smallest box around them; west > east crosses the antimeridian.
    """

    parts: Shapes
    bbox: BBox

    @classmethod
    def from_geojson(cls, content: bytes | str, name: str = "the area") -> Area:
        """Read a geometry, a feature or a collection of features.

        Args:
            content: the file, at most 64 MiB.
            name: of the file, for errors.

        Raises:
            FilterError: no GeoJSON, coordinates that are not degrees, a ring that crosses itself, nothing in it.
        """
        if len(content) > MOST_BYTES:
            raise FilterError(
                f"{name} is larger than {MOST_BYTES // 2**20} MiB; wanted a simpler outline, "
                "such as by `ogr2ogr -simplify 0.001 small.geojson large.geojson`"
            )
        try:
            parts = [part for shape in _shapes(_json(content), "") for part in _within_180(shape)]
        except FilterError as error:
            raise FilterError(f"{name}: {error}") from None
        except RecursionError:
            raise FilterError(f"{name} is nested too deeply; wanted GeoJSON of a polygon") from None
        if not parts:
            raise FilterError(f"{name} holds no geometry; wanted a polygon, or features with one")
        shapes = np.array(parts, dtype=np.object_)
        shapely.prepare(shapes)
        return cls(shapes, _bbox_of(shapes))

    def meets(self, west: ArrayLike, south: ArrayLike, east: ArrayLike, north: ArrayLike) -> Mask:
        """Which footprints meet the area; none that is not known (nan).

        Shape: four of (n,) degrees -> (n,) bool.
        """
        w, s, e, n = (np.asarray(edge, dtype=np.float64) for edge in (west, south, east, north))
        crosses = w > e
        result = self._meets(w, s, np.where(crosses, 180.0, e), n)
        if crosses.any():  # the other half of those that cross the antimeridian
            result[crosses] |= self._meets(
                np.full(np.count_nonzero(crosses), -180.0), s[crosses], e[crosses], n[crosses]
            )
        return result

    def _meets(self, west: Edges, south: Edges, east: Edges, north: Edges) -> Mask:
        """As `meets`, of boxes that do not cross the antimeridian."""
        result = np.zeros(west.shape, dtype=np.bool_)
        known = np.flatnonzero(~np.isnan(west))
        boxes = _boxes(west[known], south[known], east[known], north[known])
        box, part = self._tree.query(boxes)  # pairs whose bounds meet
        met = shapely.intersects(self.parts[part], boxes[box])
        result[known[box[met]]] = True
        return result

    @cached_property
    def _tree(self) -> Any:
        return shapely.STRtree(self.parts)


def _json(content: bytes | str) -> Any:
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except ValueError as error:
        raise FilterError(
            f"this is no GeoJSON ({str(error)[:80]!a}); wanted some in degrees, such as by "
            "`ogr2ogr -f GeoJSON -t_srs EPSG:4326 area.geojson FILE`"
        ) from None


def _boxes(west: Edges, south: Edges, east: Edges, north: Edges) -> Shapes:
    """Rectangles; lines and points where they have no width or height, as GEOS wants."""
    boxes: Shapes = np.atleast_1d(shapely.box(west, south, east, north))
    flat = (west == east) | (south == north)
    if flat.any():
        corners = np.stack([west, south, east, north], axis=-1).reshape(-1, 2, 2)
        boxes[flat] = shapely.linestrings(corners[flat])
        point = (west == east) & (south == north)
        boxes[point] = shapely.points(corners[point, 0])
    return boxes


def _shapes(found: Any, place: str) -> Iterator[Any]:
    """The polygons, lines and points of a GeoJSON object that stands at some place of the file."""
    if not isinstance(found, Mapping):
        raise FilterError(f"{place or 'the whole'} is no JSON object; wanted a geometry, a feature or features")
    _check_crs(found.get("crs"))
    kind = found.get("type")
    if kind == "Feature":
        if found.get("geometry") is not None:
            yield from _shapes(found["geometry"], _at(place, "geometry"))
    elif kind in ("FeatureCollection", "GeometryCollection"):
        member = "features" if kind == "FeatureCollection" else "geometries"
        for number, each in enumerate(_list(found.get(member), _at(place, member))):
            yield from _shapes(each, f"{_at(place, member)}[{number}]")
    elif kind in _MULTI or f"Multi{kind}" in _MULTI:
        place = _at(place, "coordinates")
        coordinates = _list(found.get("coordinates"), place)
        if kind in _MULTI:
            for number, each in enumerate(coordinates):
                yield _shape(kind, each, f"{place}[{number}]")
        elif coordinates:  # empty: a geometry that is nowhere
            yield _shape(f"Multi{kind}", coordinates, place)
    else:
        raise FilterError(f"{place or 'the whole'} is of type {kind!a:.40}; wanted GeoJSON, such as a Polygon")


def _shape(kind: str, coordinates: Any, place: str) -> Any:
    """One part of a geometry of a Multi kind."""
    if kind == "MultiPoint":
        return shapely.points(_positions([coordinates], place)[0])
    if kind == "MultiLineString":
        line = _positions(coordinates, place)
        if len(line) < 2:
            raise FilterError(f"{place} has {len(line)} position; wanted a line of at least two")
        return shapely.linestrings(line)
    rings = [_ring(ring, f"{place}[{number}]") for number, ring in enumerate(_list(coordinates, place))]
    if not rings:
        raise FilterError(f"{place} is empty; wanted a polygon's rings")
    polygon = shapely.polygons(rings[0], rings[1:] or None)
    if not shapely.is_valid(polygon):
        reason = shapely.is_valid_reason(polygon).lower().replace("[", " at ").rstrip("]")
        raise FilterError(
            f"{place}: {reason}; wanted a polygon whose rings do not cross, as QGIS's Fix Geometries makes"
        )
    return polygon


def _ring(found: Any, place: str) -> Any:
    positions = _positions(found, place)
    if len(positions) and (positions[0] != positions[-1]).any():  # can mean nothing else
        positions = np.concatenate([positions, positions[:1]])
    if len(positions) < 4:
        raise FilterError(f"{place} has {len(positions)} positions; wanted a ring of at least four, the last the first")
    return shapely.linearrings(positions)


def _positions(found: Any, place: str) -> Edges:
    """Longitudes and latitudes, (m, 2); heights are passed over."""
    for number, position in enumerate(_list(found, place)):
        if not (
            isinstance(position, list) and len(position) > 1 and all(type(x) in (int, float) for x in position[:2])
        ):
            raise FilterError(f"{place}[{number}] is {position!a:.60}; wanted longitude and latitude, two numbers")
        if not (-_FARTHEST <= position[0] <= _FARTHEST and -90 <= position[1] <= 90):
            raise FilterError(
                f"{place}[{number}] is {position[:2]!a:.60}; wanted longitude, then latitude from -90 to 90, in degrees"
            )
    return np.array([position[:2] for position in found], dtype=np.float64).reshape(-1, 2)


def _list(found: Any, place: str) -> list[Any]:
    if not isinstance(found, list):
        raise FilterError(f"{place} is {'missing' if found is None else 'no list'}; wanted a list, as GeoJSON has it")
    return found


def _check_crs(crs: Any) -> None:
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if name not in _CRS84:
        raise FilterError(
            f"the coordinate system is {name!a:.60}; wanted longitude and latitude, such as by "
            "`ogr2ogr -f GeoJSON -t_srs EPSG:4326 area.geojson FILE`"
        )


def _at(place: str, member: str) -> str:
    return f"{place}.{member}" if place else member


def _within_180(shape: Any) -> Sequence[Any]:
    """The pieces of a shape between -180 and 180 degrees, those beyond turned back there."""
    west, _, east, _ = shapely.bounds(shape)
    if west >= -180 and east <= 180:
        return [shape]
    pieces = []
    for turn in (-360.0, 0.0, 360.0):
        cut = shapely.get_parts(shapely.intersection(shape, shapely.box(-180 - turn, -90, 180 - turn, 90)))
        # Of a polygon that ends at 180, what lies beyond is a line.
        cut = cut[~shapely.is_empty(cut) & (shapely.get_dimensions(cut) == shapely.get_dimensions(shape))]
        pieces += [shapely.transform(piece, lambda xy, turn=turn: xy + np.array([turn, 0.0])) for piece in cut]
    return pieces


def _bbox_of(parts: Shapes) -> BBox:
    """The smallest box around all parts: what is left of the circle of longitudes without its widest gap."""
    bounds = shapely.bounds(parts)  # (p, 4)
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    bounds = bounds[np.argsort(bounds[:, 0])]
    ends = np.maximum.accumulate(bounds[:, 2])
    gaps = bounds[1:, 0] - ends[:-1]
    across = bounds[0, 0] + 360 - ends[-1]
    if len(gaps) == 0 or gaps.max() <= across:
        return float(bounds[0, 0]), south, float(ends[-1]), north
    widest = int(np.argmax(gaps))
    return float(bounds[widest + 1, 0]), south, float(ends[widest]), north
