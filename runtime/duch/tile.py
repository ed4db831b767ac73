"""What a gallery knows of one image or sentence, and the exact form in which its catalog keeps it."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import InputError
from .ids import Window, window_of

Modality = Literal["image", "text"]
MODALITIES = ("image", "text")
Value = None | int | float | str | bytes

# The columns of table tiles that its CRC covers, in the order in which it covers them.
COLUMNS = (
    "seq, id, modality, uri, text, size, mtime_ns, west, south, east, north, time_us, attributes, code_crc, deleted"
)
# Made once: json.dumps makes one for each call, which takes 1.5 of the 20 microseconds in which a tile is appended.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no JSON, or beyond binary64")
    return number


_FROM_JSON = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """What the catalog keeps of one image or sentence.

    Attributes:
        id: unique among the live tiles of a gallery.
        modality: "image" or "text".
        uri: where an image, or the scene of a chip, lies, as an id-escaped path relative to the gallery's root.
        text: the sentence of a text.
        size: bytes of the image file.
        mtime_ns: its modification time, nanoseconds since 1970 UTC.
        footprint: west, south, east, north in degrees, EPSG:4326; west > east crosses the antimeridian.
        time_us: acquisition time, microseconds since 1970 UTC.
        attributes: anything else, as JSON values.
    """

    id: str
    modality: Modality
    uri: str | None = None
    text: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    footprint: tuple[float, float, float, float] | None = None
    time_us: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> Window | None:
        """The part of the scene at `uri` that a chip is; None for what is no chip."""
        return window_of(self.id, self.uri)

    def check(self) -> None:
        """Refuse what the catalog could not give back unchanged.

        Raises:
            InputError: empty id, unknown modality, text that is no Unicode, attributes that are no JSON, odd numbers.
        """
        if not self.id:
            raise InputError("a tile has an empty id; wanted a path or a name")
        if self.modality not in MODALITIES:
            raise InputError(f"tile {self.id!r} has modality {self.modality!r}; wanted image or text")
        if self.footprint is not None and not (len(self.footprint) == 4 and all(map(math.isfinite, self.footprint))):
            raise InputError(f"tile {self.id!r} has footprint {self.footprint}; wanted west, south, east, north")
        for number in (self.size, self.mtime_ns, self.time_us):
            if number is not None and not -(2**63) < number < 2**63:  # the least one stands for no time
                raise InputError(f"tile {self.id!r} has the number {number}, which does not fit 64 bits")
        try:
            for text in (self.id, self.uri or "", self.text or "", attributes_to_json(self.attributes) or ""):
                text.encode("utf-8")
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"tile {self.id!a} cannot be stored as UTF-8 and JSON: {error}") from None


@dataclass(frozen=True, kw_only=True)
class StoredTile(Tile):
    """A tile with its place in the gallery.

    Attributes:
        seq: given at insertion, never reused.
        code_crc: CRC-32 of its code.
        deleted: the generation in which the tile was replaced or removed; 0 while it is live.
    """

    seq: int
    code_crc: int
    deleted: int = 0

    @classmethod
    def of(cls, tile: Tile, *, seq: int, code_crc: int, deleted: int = 0) -> StoredTile:
        """A tile at its place."""
        known = {name: getattr(tile, name) for name in Tile.__dataclass_fields__}
        return cls(**known, seq=seq, code_crc=code_crc, deleted=deleted)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A tile that was found.

    Attributes:
        rank: 1 for the nearest.
        distance: bits in which its code differs from the query's.
        seq: its place in the order of insertion; ties are ranked by it.
        id: its id.
        modality: "image" or "text".
        uri: where an image, or the scene of a chip, lies, relative to the gallery's root.
        text: the sentence of a text.
        footprint: west, south, east, north in degrees, if known.
        time_us: acquisition time in microseconds since 1970 UTC, if known.
        attributes: anything else that is known.
        path: the image file, or the scene; None for a text, and where the file is missing or was not looked for.
    """

    rank: int
    distance: int
    seq: int
    id: str
    modality: Modality
    uri: str | None = None
    text: str | None = None
    footprint: tuple[float, float, float, float] | None = None
    time_us: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def window(self) -> Window | None:
        """The part of the scene at `path` that a chip is; None for what is no chip."""
        return window_of(self.id, self.uri)

    @classmethod
    def of(cls, tile: StoredTile, *, rank: int, distance: int) -> Hit:
        """A tile as it was found."""
        shared = ("seq", "id", "modality", "uri", "text", "footprint", "time_us", "attributes")
        return cls(rank=rank, distance=distance, **{name: getattr(tile, name) for name in shared})


def row_crc(values: Iterable[Value]) -> int:
    """CRC-32 over the values of a row, each as a type byte and its little-endian bytes (GALLERY.md)."""
    parts = []
    for value in values:
        if value is None:
            parts.append(b"\0")
        elif isinstance(value, int):
            parts.append(struct.pack("<Bq", 1, value))
        elif isinstance(value, float):
            parts.append(struct.pack("<Bd", 2, value))
        else:
            # Damage may turn a text into a BLOB or into no UTF-8 at all: its CRC must then differ, and not fail.
            raw, kind = (value, 4) if isinstance(value, bytes) else (value.encode("utf-8", "surrogateescape"), 3)
            parts.append(struct.pack("<BI", kind, len(raw)) + raw)
    return zlib.crc32(b"".join(parts))


def attributes_to_json(attributes: Mapping[str, Any]) -> str | None:
    """Attributes as the catalog stores them: sorted keys, no spaces, no NaN; None if there are none."""
    if not attributes:
        return None
    return _JSON.encode(dict(attributes))


def attributes_from_json(text: str) -> dict[str, Any]:
    """Attributes from JSON of whatever origin; the inverse of `attributes_to_json`.

    Raises:
        ValueError: no JSON object, or a number in it that JSON cannot give back.
        RecursionError: nested too deeply.
    """
    value = _FROM_JSON.decode(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text[:40]!r} is no object")
    return value


def to_values(tile: StoredTile) -> tuple[Value, ...]:
    """The row of a tile: the values of `COLUMNS`."""
    # + 0.0 makes -0.0 a plain zero, as SQLite does when it stores it.
    edges = (None,) * 4 if tile.footprint is None else tuple(float(edge) + 0.0 for edge in tile.footprint)
    return (
        *(tile.seq, tile.id, tile.modality, tile.uri, tile.text, tile.size, tile.mtime_ns),
        *edges,
        *(tile.time_us, attributes_to_json(tile.attributes), tile.code_crc, tile.deleted),
    )


def from_values(values: Sequence[Any]) -> StoredTile:
    """The tile of a row, from the values of `COLUMNS`; the inverse of `to_values`.

    Raises:
        ValueError: no tile has these values; another program wrote them.
    """
    seq, tile_id, modality, uri, text, size, mtime_ns, *edges, time_us, attributes, code_crc, deleted = values
    if (
        not (isinstance(tile_id, str) and modality in MODALITIES)
        or not all(value is None or isinstance(value, str) for value in (uri, text, attributes))
        or not all(value is None or isinstance(value, int) for value in (size, mtime_ns, time_us))
        or not (edges == [None] * 4 or all(type(edge) is float and math.isfinite(edge) for edge in edges))
        or not (isinstance(code_crc, int) and isinstance(deleted, int))
    ):
        raise ValueError("a value that its column cannot have")
    return StoredTile(
        seq=seq,
        id=tile_id,
        modality=modality,
        uri=uri,
        text=text,
        size=size,
        mtime_ns=mtime_ns,
        footprint=None if edges[0] is None else (edges[0], edges[1], edges[2], edges[3]),
        time_us=time_us,
        attributes={} if attributes is None else attributes_from_json(attributes),
        code_crc=code_crc,
        deleted=deleted,
    )
