"""Polygons, lines and points of a GeoJSON file (RFC 7946) as shapes of shapely, all between -180 and 180 degrees."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from duch.errors import FilterError

MOST_BYTES = 64 * 2**20  # over a million vertices, which take seconds and half a gigabyte to read
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


def shapes_of(content: bytes | str) -> list[Any]:
    """The shapes of a geometry, a feature or a collection of features.

    Raises:
        FilterError: no GeoJSON, coordinates that are not degrees, a ring that crosses itself, nothing in it.
    """
    if len(content) > MOST_BYTES:
        raise FilterError(
            f"it is larger than {MOST_BYTES // 2**20} MiB; wanted a simpler outline, "
            "such as by `ogr2ogr -simplify 0.001 small.geojson large.geojson`"
        )
    try:
        shapes = [part for shape in _shapes(_json(content), "") for part in _within_180(shape)]
    except RecursionError:
        raise FilterError("it is nested too deeply; wanted GeoJSON of a polygon") from None
    if not shapes:
        raise FilterError("it holds no geometry; wanted a polygon, or features with one")
    return shapes


def _json(content: bytes | str) -> Any:
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except ValueError as error:
        raise FilterError(
            f"it is no GeoJSON ({str(error)[:80]!a}); wanted some in degrees, such as by "
            "`ogr2ogr -f GeoJSON -t_srs EPSG:4326 area.geojson FILE`"
        ) from None


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


def _positions(found: Any, place: str) -> NDArray[np.float64]:
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
