"""The footprints of windows of a scene on the map: exact polygons in EPSG:4326, and their bounding boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

from duch.errors import needs_extra
from duch.ids import Window
from duch.region import BBox

from .border import Point, border_on_earth, borders, corners_of
from .georeference import Georeference

with needs_extra("geo", "a footprint"):
    import shapely

_CONVEX = 5  # points of a closed path that cannot cross itself: a parallelogram, as good as


class Footprint(NamedTuple):
    """The ground that a window shows.

    Attributes:
        geometry: a GeoJSON Polygon, counterclockwise; cut at the antimeridian, a MultiPolygon (RFC 7946, 3.1.9).
        bbox: west, south, east, north in degrees; west > east crosses the antimeridian.
    """

    geometry: dict[str, Any]
    bbox: BBox


def footprints(georeference: Georeference, windows: Sequence[Window]) -> list[Footprint | None]:
    """The footprints of windows, of the part of each that lies in the scene; None for one that shows no ground.

    Edges that are curved in longitude and latitude get points until they are nowhere off by more than half a pixel.
    Of a window that looks past the Earth's edge, or beyond what its projection can show, the rest counts, to a
    sixteenth of its height. A window that holds a pole reaches from -180 to 180 and up to it.

    Args:
        georeference: of the scene.
        windows: in the scene's pixels; may reach beyond the scene.
    """
    if not windows:
        return []
    corners = corners_of(georeference, windows)
    middle_x, middle_y = corners.mean(axis=1).T
    middles = zip(*(degrees.tolist() for degrees in georeference.lonlat(middle_x, middle_y)), strict=True)
    # Seven decimals are a centimetre; finer pixels need more to keep their shape.
    decimals = max(7, math.ceil(math.log10(1.1e5 / min(georeference.gsd))) + 1)
    return [
        _footprint(border or border_on_earth(georeference, box), middle, decimals)
        for border, box, middle in zip(borders(georeference, corners), corners, middles, strict=True)
    ]


def _footprint(ring: list[Point], middle: Point, decimals: int) -> Footprint | None:
    """The footprint from the places along a border, not closed, in either sense."""
    rounded = [(_rounded(lon, decimals), _rounded(lat, decimals)) for lon, lat in ring]
    path = _run_on(_at_poles([point for point, _ in groupby(rounded)]))
    if len(set(path)) < 3:
        return None
    south, north = min(lat for _, lat in path), max(lat for _, lat in path)
    turn = _turn(path)
    if turn:
        pole = _pole_inside(path, middle)
        around = _eastwards(path if turn > 0 else path[::-1])
        around += [(around[-1][0], pole), (around[0][0], pole)]
        geometry, west, east = _cut(around, [-180], decimals), -180.0, 180.0
        south, north = min(south, pole), max(north, pole)
    else:
        first = min(lon for lon, _ in path)
        whole_turns = 360.0 * math.floor((first + 180) / 360)  # so that it begins from -180 on, and below 180
        path = [(_rounded(lon - whole_turns, decimals), lat) for lon, lat in path]
        west, east = min(lon for lon, _ in path), max(lon for lon, _ in path)
        if east > 180:
            west, east = (west, _rounded(east - 360, decimals)) if east - west < 360 else (-180.0, 180.0)
            geometry = _cut(path, [-180, 180], decimals)
        elif len(path) > _CONVEX and not shapely.Polygon(path).is_valid:
            geometry = _cut(path, [-180], decimals)  # across a gap of an interrupted map
        else:
            geometry = _polygon(path)
    return None if geometry is None else Footprint(geometry, (west, south, east, north))


def _rounded(degrees: float, decimals: int) -> float:
    return round(degrees, decimals) + 0.0  # no -0.0


def _at_poles(ring: list[Point]) -> list[Point]:
    """A border whose point at a pole has the longitudes of its neighbours: a pole has all of them, PROJ names one."""
    points = []
    for number, (lon, lat) in enumerate(ring):
        before, after = ring[number - 1], ring[(number + 1) % len(ring)]
        if abs(lat) < 90 or abs(before[1]) == 90 or abs(after[1]) == 90:
            points.append((lon, lat))  # no pole, or an edge of a map in degrees, along it
        else:
            points += [(before[0], lat), (after[0], lat)]
    return points


def _run_on(ring: list[Point]) -> list[Point]:
    """The closed path of a border, with longitudes that run on beyond 180 where they would jump.

    Its last point is the first, by a whole turn farther east or west if it goes around a pole.
    """
    path: list[Point] = []
    for lon, lat in ring + ring[:1]:
        turns = round((path[-1][0] - lon) / 360) if path else 0
        path.append((lon + 360 * turns, lat))
    turn = _turn(path) if path else 0
    if turn:
        for number, (before, after) in enumerate(pairwise(path), 1):
            if abs(before[1]) == abs(after[1]) == 90:
                # Through a pole, half a turn east is half a turn west; the border has the pole, and does not go around.
                return path[:number] + [(lon - turn, lat) for lon, lat in path[number:]]
    return path


def _turn(path: list[Point]) -> int:
    """Degrees by which a path goes around the Earth, eastwards: -360, 0 or 360."""
    return 360 * round((path[-1][0] - path[0][0]) / 360)


def _pole_inside(path: list[Point], middle: Point) -> float:
    """Which pole a border goes around: the one on its middle's side of it."""
    nearest = min(path, key=lambda point: abs((point[0] - middle[0] + 180) % 360 - 180))
    return 90.0 if middle[1] >= nearest[1] else -90.0


def _eastwards(path: list[Point]) -> list[Point]:
    """Two rounds of a path around a pole, which pass through -180 to 180."""
    whole_turns = 360 * math.floor((path[0][0] + 180) / 360)
    once = [(lon - whole_turns, lat) for lon, lat in path]
    return [(lon - 360, lat) for lon, lat in once[:-1]] + once


def _polygon(path: list[Point]) -> dict[str, Any] | None:
    """A GeoJSON polygon, counterclockwise, of a closed path; None if it has no area."""
    first_lon, first_lat = path[0]
    near = [(lon - first_lon, lat - first_lat) for lon, lat in path]
    area = sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairwise(near))
    if not area:
        return None
    return {"type": "Polygon", "coordinates": [[list(point) for point in (path if area > 0 else path[::-1])]]}


def _cut(path: list[Point], wests: list[int], decimals: int) -> dict[str, Any] | None:
    """A GeoJSON geometry of what lies in these turns of the Earth, each from its west on, of a closed path.

    None if it has no area.
    """
    polygon = shapely.make_valid(shapely.Polygon(path))
    pieces = [
        shapely.transform(
            shapely.intersection(polygon, shapely.box(west, -90, west + 360, 90)),
            lambda points, west=west: np.round(points - [west + 180, 0], decimals),
        )
        for west in wests
    ]
    # Joined, for a map of the whole Earth may begin anywhere.
    parts = [part for part in shapely.get_parts(shapely.union_all(pieces)) if part.geom_type == "Polygon"]
    rings = [
        [[[_rounded(lon, decimals), _rounded(lat, decimals)] for lon, lat in ring.coords] for ring in _rings(part)]
        for part in parts
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings} if rings else None


def _rings(polygon: Any) -> list[Any]:
    oriented = shapely.geometry.polygon.orient(polygon)
    return [oriented.exterior, *oriented.interiors]
