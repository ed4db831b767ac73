"""Hits as GeoParquet 1.1 (https://geoparquet.org), with pyarrow: for GeoPandas, DuckDB, QGIS.

The columns are the properties of the GeoJSON, and the geometry as WKB (ISO 19125, little-endian).
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .display import display_path
from .durable import replacing
from .errors import InputError, one_line
from .exchange_parquet import pyarrow
from .geojson import geometry_of, properties_of
from .tile import Hit

_GEOMETRY = "geometry"
_CODES = {"Point": 1, "LineString": 2, "Polygon": 3, "MultiLineString": 5, "MultiPolygon": 6}  # of WKB
_PARTS = {"MultiLineString": "LineString", "MultiPolygon": "Polygon"}
_INT64 = range(-(2**63), 2**63)


def write_geoparquet(path: Path, hits: Iterable[Hit]) -> None:
    """Write hits, in their order; the file takes the place of an older one once it is whole.

    Attributes become a column of their type where all values share one, else of JSON text.

    Raises:
        MissingPackageError: pyarrow is not installed.
        InputError: the file cannot be written.
    """
    pa = pyarrow()
    hits = list(hits)
    geometries = [geometry_of(hit) for hit in hits]
    table = _table(pa, hits, geometries)
    try:
        with replacing(path) as file:
            pa.parquet.write_table(table, file, compression="zstd")
    except OSError as error:
        raise InputError(
            f"{display_path(path)} cannot be written: {error.strerror or one_line(error)}; nothing was made"
        ) from error


def _table(pa: Any, hits: Sequence[Hit], geometries: Sequence[dict[str, Any] | None]) -> Any:
    rows = [properties_of(hit) for hit in hits]
    columns: dict[str, Any] = {
        "rank": pa.array([hit.rank for hit in hits], pa.int64()),
        "distance": pa.array([hit.distance for hit in hits], pa.int64()),
        **{name: _texts(pa, [row[name] for row in rows]) for name in ("id", "modality", "uri")},
        "window": pa.array([row["window"] for row in rows], pa.list_(pa.int64())),
        "time": pa.array([hit.time_us for hit in hits], pa.timestamp("us", tz="UTC")),
        "text": _texts(pa, [hit.text for hit in hits]),
    }
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in columns:
            columns[_utf8(name)] = _attribute(pa, [row.get(name) for row in rows])
    columns[_GEOMETRY] = pa.array(
        [None if geometry is None else to_wkb(geometry) for geometry in geometries], pa.binary()
    )
    table = pa.table(columns)
    return table.replace_schema_metadata({"geo": json.dumps(_metadata(geometries))})


def _attribute(pa: Any, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or value in _INT64 for value in values):
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float} and all(value is None or abs(value) <= sys.float_info.max for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {str}:
        return _texts(pa, values)
    return _texts(pa, [None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def _texts(pa: Any, values: Sequence[str | None]) -> Any:
    return pa.array([None if value is None else _utf8(value) for value in values], pa.string())


def _utf8(text: str) -> str:
    """Without lone surrogates, which a strange catalog can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _metadata(geometries: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    known = [geometry for geometry in geometries if geometry is not None]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({geometry["type"] for geometry in known}),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    positions = [position for geometry in known for position in positions_of(geometry["coordinates"])]
    if positions:
        xs, ys = zip(*positions, strict=True)
        column["bbox"] = [min(xs), min(ys), max(xs), max(ys)]
    # No `crs` means OGC:CRS84: longitude and latitude, as in GeoJSON.
    return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}


def positions_of(coordinates: Sequence[Any]) -> Iterator[Sequence[float]]:
    """Every position in the coordinates of a GeoJSON geometry."""
    if coordinates and not isinstance(coordinates[0], list | tuple):
        yield coordinates
    else:
        for part in coordinates:
            yield from positions_of(part)


def to_wkb(geometry: dict[str, Any]) -> bytes:
    """The well-known binary of a GeoJSON geometry: a point, lines or polygons."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    head = struct.pack("<BI", 1, _CODES[kind])
    if kind == "Point":
        return head + struct.pack("<2d", *coordinates)
    if kind == "LineString":
        return head + _sequence(coordinates)
    if kind == "Polygon":
        return head + struct.pack("<I", len(coordinates)) + b"".join(map(_sequence, coordinates))
    parts = [to_wkb({"type": _PARTS[kind], "coordinates": part}) for part in coordinates]
    return head + struct.pack("<I", len(parts)) + b"".join(parts)


def _sequence(positions: Sequence[Sequence[float]]) -> bytes:
    flat = [number for position in positions for number in position]
    return struct.pack(f"<I{len(flat)}d", len(positions), *flat)
