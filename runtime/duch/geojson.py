"""Hits as GeoJSON (RFC 7946), for any map."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .captions import is_on_map, time_text
from .tile import Hit, Tile

_DECIMALS = 7  # of a degree: a centimetre
# An attribute that is written as the geometry, and not once more among the properties.
_GEOMETRY = "geometry"

Position = tuple[float, float]
Ring = list[Position]


def feature_collection(hits: Iterable[Hit]) -> dict[str, Any]:
    """A FeatureCollection with a feature for each hit, in their order; JSON values all through.

    The geometry is null where no footprint is known. Properties are those of `properties_of`.
    """
    return {"type": "FeatureCollection", "features": [_feature(hit) for hit in hits]}


def _feature(hit: Hit) -> dict[str, Any]:
    feature: dict[str, Any] = {"type": "Feature", "id": hit.id}
    if (bbox := bbox_of(hit)) is not None:
        feature["bbox"] = bbox
    return {**feature, "geometry": geometry_of(hit), "properties": properties_of(hit)}


def properties_of(hit: Hit) -> dict[str, Any]:
    """What is known of a hit beside its place on the map: first ours, null where unknown, then its attributes.

    An attribute that bears one of our names keeps its value as `attribute_NAME`.
    """
    properties: dict[str, Any] = {
        "rank": hit.rank,
        "distance": hit.distance,
        "id": hit.id,
        "modality": hit.modality,
        "uri": hit.uri,
        "window": None if hit.window is None else list(hit.window),
        "time": time_text(hit.time_us),
        "text": hit.text,
    }
    return properties | {
        name: value for name, value in renamed(hit.attributes, properties).items() if name != _GEOMETRY
    }


def renamed(attributes: Mapping[str, Any], taken: Container[str]) -> dict[str, Any]:
    """Attributes, with `attribute_` put in front of names that are taken until they are not."""
    free_names = {}
    for name, value in attributes.items():
        free = name
        while free in taken or (free != name and free in attributes):
            free = f"attribute_{free}"
        free_names[free] = value
    return free_names


def bbox_of(tile: Tile | Hit) -> list[float] | None:
    """West, south, east, north in degrees; west > east crosses the antimeridian, as RFC 7946, 5.2, has it.

    None where it is not known, or off the map.
    """
    if tile.footprint is None or not is_on_map(tile.footprint):
        return None
    return [round(float(edge), _DECIMALS) for edge in tile.footprint]


def geometry_of(tile: Tile | Hit) -> dict[str, Any] | None:
    """The footprint of a tile as a GeoJSON geometry in EPSG:4326, cut at the antimeridian.

    The attribute `geometry` where it is a polygon or several; else the bounding box, which is a line or a point where
    it has no area; None where neither is known. Outer rings run counterclockwise.
    """
    polygons = _polygons(tile.attributes.get(_GEOMETRY))
    if polygons is not None:
        return _of_polygons(polygons)
    bbox = bbox_of(tile)
    return None if bbox is None else _box(*bbox)


def _polygons(geometry: Any) -> list[list[Ring]] | None:
    """The rings of an attribute, which may come from anywhere; None if it is no polygon on the map."""
    try:
        kind, coordinates = geometry["type"], geometry["coordinates"]
        if kind not in ("Polygon", "MultiPolygon"):
            return None
        found = [coordinates] if kind == "Polygon" else coordinates
        polygons = [[_ring(ring, hole=place > 0) for place, ring in enumerate(polygon)] for polygon in found]
    except (TypeError, KeyError, ValueError):
        return None
    return polygons if polygons and all(polygons) else None


def _ring(points: Sequence[Any], *, hole: bool) -> Ring:
    """A closed ring, turned the right way round.

    Raises:
        ValueError: it is none.
    """
    ring = [(round(x, _DECIMALS), round(y, _DECIMALS)) for x, y, *_ in points]
    if len(ring) < 4 or ring[0] != ring[-1] or not all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring):
        raise ValueError
    # From its first corner: the area of a chip is lost among the digits of products of whole longitudes.
    x0, y0 = ring[0]
    area = math.fsum((ax - x0) * (by - y0) - (bx - x0) * (ay - y0) for (ax, ay), (bx, by) in pairwise(ring))
    if area == 0:
        raise ValueError
    return ring[::-1] if (area > 0) == hole else ring


def _of_polygons(polygons: list[list[Ring]]) -> dict[str, Any]:
    coordinates = [[[list(position) for position in ring] for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    spans = [(west, east)]
    if west > east:
        spans = [span for span in ((west, 180.0), (-180.0, east)) if span[0] < span[1]] or [(180.0, 180.0)]
    if south < north and all(left < right for left, right in spans):
        corners = [
            [(left, south), (right, south), (right, north), (left, north), (left, south)] for left, right in spans
        ]
        return _of_polygons([[ring] for ring in corners])
    if spans[0][0] == spans[-1][1] and south == north:
        return {"type": "Point", "coordinates": [spans[0][0], south]}
    lines = [[[left, south], [right, north]] for left, right in spans]
    if len(lines) == 1:
        return {"type": "LineString", "coordinates": lines[0]}
    return {"type": "MultiLineString", "coordinates": lines}
