"""Hits as a STAC ItemCollection: what a STAC client reads, and still GeoJSON.

STAC 1.1 (https://github.com/radiantearth/stac-spec), a FeatureCollection of Items. Of the embedding extension, a
proposal at version 0.0.1, the fields that fit an item are used: `emb:runtime_parameters`, `emb:quantization` and the
link `emb:source-data`. It is not declared: its schema wants items of STAC 1.0.0 that hold the embeddings themselves.
What belongs to the search is under `duch:`.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from .captions import time_text
from .geojson import bbox_of, geometry_of, renamed
from .tile import Hit

_VERSION = "1.1.0"
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
# STAC demands a time or a span of time. Where none is known the span is the whole calendar, which says no more.
_ANY_TIME = {"datetime": None, "start_datetime": "0001-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
_GEOTIFF = "image/tiff; application=geotiff"
_TYPES = {
    ".tif": _GEOTIFF,
    ".tiff": _GEOTIFF,
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jp2": "image/jp2",
}
# How the pixels of a chip were made, from its attributes.
_PARAMETERS = {"bands": "bands", "range": "range", "chip": "chip_size", "settings": "settings"}
_LONGEST = 120  # characters of an id, so that it can name a file


def item_collection(
    hits: Iterable[Hit], *, fingerprint: str, n_bits: int, folder: Path | None = None
) -> dict[str, Any]:
    """An ItemCollection with an item for each hit, in their order; JSON values all through.

    Args:
        hits: what was found.
        fingerprint: of the bundle that made the codes, 64 hex digits.
        n_bits: length of the codes.
        folder: of the file that this is written to, which links are relative to; without one they are absolute. The
            link to a file that is missing is its uri.
    """
    features = [_item(hit, fingerprint, n_bits, folder) for hit in hits]
    return {"type": "FeatureCollection", "features": features}


def item_id(tile_id: str) -> str:
    """An id that can stand in a URL and name a file: its readable part, and a checksum where that is not all of it."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", tile_id).strip("._")[:_LONGEST] or "tile"
    if readable == tile_id:
        return tile_id
    return f"{readable}-{zlib.crc32(tile_id.encode('utf-8', 'surrogatepass')):08x}"


def _item(hit: Hit, fingerprint: str, n_bits: int, folder: Path | None) -> dict[str, Any]:
    properties, extensions = _properties(hit, fingerprint, n_bits)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": extensions,
        "id": item_id(hit.id),
        "geometry": geometry_of(hit),
    }
    if (bbox := bbox_of(hit)) is not None:
        item["bbox"] = bbox
    links, assets = [], {}
    if hit.uri is not None:
        scene = {"href": _href(hit.uri, hit.path, folder)}
        if known := _TYPES.get(PurePosixPath(hit.uri).suffix.lower()):
            scene["type"] = known
        assets["data"] = {**scene, "roles": ["data"]}
        if hit.window is not None:
            links.append({"rel": "emb:source-data", **scene})
    return {**item, "properties": properties, "links": links, "assets": assets}


def _href(uri: str, path: Path | None, folder: Path | None) -> str:
    """A link to the file of a hit: a URI reference, in which all that could mean something else is escaped."""
    if path is None:
        return quote(unquote_to_bytes(uri.encode("utf-8", "replace")))
    if folder is None:
        return Path(os.path.realpath(path)).as_uri()
    return quote(os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))))


def _properties(hit: Hit, fingerprint: str, n_bits: int) -> tuple[dict[str, Any], list[str]]:
    """The properties of an item, and the extensions that they are of."""
    rest = {name: value for name, value in hit.attributes.items() if name != "geometry"}
    time = time_text(hit.time_us)
    properties: dict[str, Any] = dict(_ANY_TIME) if time is None else {"datetime": time}
    if hit.text is not None:
        properties["description"] = hit.text
    extensions = []
    if _is_number(rest.get("gsd")) and rest["gsd"] > 0:
        properties["gsd"] = rest.pop("gsd")
    if isinstance(rest.get("sensor"), str):
        properties["platform"] = rest.pop("sensor")
    if _is_number(rest.get("cloud_cover")) and 0 <= rest["cloud_cover"] <= 100:
        properties["eo:cloud_cover"] = rest.pop("cloud_cover")
        extensions.append(_EO)
    if re.fullmatch("[A-Z]+:[0-9A-Z]+", str(rest.get("crs"))):
        properties["proj:code"] = rest.pop("crs")
        extensions.append(_PROJECTION)
    parameters = {name: rest.pop(key) for key, name in _PARAMETERS.items() if key in rest}
    if hit.window is not None:
        parameters["window"] = list(hit.window)
    if parameters:
        properties["emb:runtime_parameters"] = parameters
    properties["emb:quantization"] = {"method": "sign", "original_dtype": "float32", "quantized_dtype": "other"}
    ours = {
        "id": hit.id,
        "rank": hit.rank,
        "distance": hit.distance,
        "n_bits": n_bits,
        "fingerprint": fingerprint,
    }
    properties |= {f"duch:{name}": value for name, value in (ours | renamed(rest, ours)).items()}
    return properties, extensions


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
