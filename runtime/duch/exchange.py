"""The files that galleries are exported to and imported from, and the rows in them.

A Parquet file, or a folder with

- `tiles.csv`: UTF-8, a first line of column names, then one line a tile, quoted as RFC 4180 has it. `\\N` stands for a
  value that is not known, and a text that begins with a backslash has one more in front;
- `codes.npy`: the packed codes in the same order, uint8 (n, n_bits / 8);
- `gallery.json`: the members of `About`, and the format.

Parquet has the same columns, the code as column `code`, and the members of `About` in the metadata of its schema.

Shapes: n tiles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .codes import MAX_N_BITS
from .display import display_path
from .errors import InputError
from .ids import is_place
from .tile import MODALITIES, StoredTile, Tile, attributes_from_json, attributes_to_json

FORMAT, FORMAT_VERSION = "duch-gallery-export", 1
TEXTS = ("id", "modality", "uri", "text", "attributes")
INTEGERS = ("size", "mtime_ns", "time_us", "seq")
REALS = ("west", "south", "east", "north")
COLUMNS = (*("id", "modality", "uri", "text", "size", "mtime_ns"), *REALS, *("time_us", "attributes", "seq"))
CODE = "code"
TILES_FILE, CODES_FILE, ABOUT_FILE = "tiles.csv", "codes.npy", "gallery.json"

Row = dict[str, Any]  # a value for each of COLUMNS


@dataclass(frozen=True, kw_only=True)
class About:
    """What an export says of its gallery.

    Attributes:
        fingerprint: 64 hex digits of the bundle that made the codes.
        n_bits: length of the codes.
        root: the folder that uris are relative to, itself an id-escaped path relative to the folder of the export.
        bundle_hint: the bundle, likewise.
    """

    fingerprint: str
    n_bits: int
    root: str | None = None
    bundle_hint: str | None = None

    def to_json(self) -> str:
        """As it is written."""
        return json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes, source: Path) -> About:
        """As it was written.

        Raises:
            InputError: something else.
        """
        name = display_path(source)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is no JSON: {error}; wanted what `duch gallery export` writes") from None
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise InputError(f"{name} does not name the format {FORMAT}; wanted what `duch gallery export` writes")
        if (version := value.pop("format_version", None)) != FORMAT_VERSION:
            raise InputError(f"{name} has format version {version!r}; this duch reads {FORMAT_VERSION}")
        known: dict[str, Any] = {key: value.get(key) for key in cls.__dataclass_fields__}
        n_bits, texts = known["n_bits"], (known["root"], known["bundle_hint"])
        if not (
            re.fullmatch("[0-9a-f]{64}", str(known["fingerprint"]))
            and type(n_bits) is int
            and 0 < n_bits <= MAX_N_BITS
            and n_bits % 8 == 0
            and all(text is None or (isinstance(text, str) and is_place(text)) for text in texts)
        ):
            raise InputError(f"{name} says {known}; wanted a fingerprint of 64 hex digits, n_bits and two places")
        return cls(**known)


def to_row(tile: StoredTile) -> Row:
    """The row of a tile."""
    west, south, east, north = tile.footprint or (None,) * 4
    return {
        **{name: getattr(tile, name) for name in ("id", "modality", "uri", "text", "size", "mtime_ns")},
        **{"west": west, "south": south, "east": east, "north": north},
        **{"time_us": tile.time_us, "attributes": attributes_to_json(tile.attributes), "seq": tile.seq},
    }


def from_row(row: Mapping[str, Any], where: str) -> Tile:
    """The tile of a row whose values have the right types.

    Args:
        row: a value for each of `COLUMNS`; seq is not looked at.
        where: what to call the row in a message.

    Raises:
        InputError: values that make no tile.
    """
    edges = tuple(row[name] for name in REALS)
    if any(edge is None for edge in edges) and any(edge is not None for edge in edges):
        raise InputError(f"{where} has the footprint {edges}; wanted four numbers, or none")
    if row["id"] is None or row["modality"] not in MODALITIES:
        raise InputError(f"{where} has the id {row['id']!r} and modality {row['modality']!r}; wanted image or text")
    tile = Tile(
        **{name: row[name] for name in ("id", "modality", "uri", "text", "size", "mtime_ns", "time_us")},
        footprint=None if edges[0] is None else edges,
        attributes={} if row["attributes"] is None else _attributes(row["attributes"], where),
    )
    try:
        tile.check()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return tile


def check_columns(found: list[str], wanted: tuple[str, ...], name: str) -> None:
    """Refuse other columns than those of an export; seq may be missing.

    Raises:
        InputError: a column is missing, unknown or there twice.
    """
    missing = [column for column in wanted if column not in found and column != "seq"]
    unknown = [column for column in found if column not in wanted]
    if missing or unknown or len(set(found)) < len(found):
        raise InputError(f"{name} has the columns {', '.join(found)[:500]}; wanted {', '.join(wanted)}")


def _attributes(text: str, where: str) -> dict[str, Any]:
    try:
        return attributes_from_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} has attributes that are no JSON: {error}; wanted a JSON object") from None
