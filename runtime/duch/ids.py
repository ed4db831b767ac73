"""Ids of tiles: a path under the gallery's root as text, and back.

An id is the POSIX path relative to the root. A file name is bytes and an id is text, so bytes that are not UTF-8 are
percent-escaped (`%FF`); a `%` that would read as such an escape becomes `%25`. Every path therefore has one id, and
every id leads back to its path. A chip of a scene has the scene's id as its uri, and adds its window: `#x,y,w,h`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_WINDOW = re.compile(r"#(-?\d{1,9}),(-?\d{1,9}),(\d{1,9}),(\d{1,9})")
_ESCAPE_LOOKALIKE = re.compile(rb"%(?=[0-9A-Fa-f]{2})")


class Window(NamedTuple):
    """The place of a chip in its scene, in the scene's pixels; may reach beyond the scene, where it is padded.

    Attributes:
        x: columns left of it.
        y: rows above it.
        w: its width.
        h: its height.
    """

    x: int
    y: int
    w: int
    h: int


def path_to_id(path: str | os.PathLike[str]) -> str:
    """The id of a file, from its path relative to the gallery's root."""
    raw = _ESCAPE_LOOKALIKE.sub(b"%25", os.fsencode(path))
    # surrogateescape keeps a byte that is not UTF-8 as U+DC80..U+DCFF; nothing else decodes to those.
    return "".join(
        f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char
        for char in raw.decode("utf-8", "surrogateescape")
    )


def id_to_path(tile_id: str) -> str:
    """The path that an id stands for, relative to the gallery's root; the inverse of `path_to_id`."""
    return os.fsdecode(unquote_to_bytes(tile_id.encode("utf-8")))


def chip_id(uri: str, window: Window) -> str:
    """The id of a chip of the scene that lies at `uri`."""
    return f"{uri}#{window.x},{window.y},{window.w},{window.h}"


def window_of(tile_id: str, uri: str | None) -> Window | None:
    """The window of a chip, from its id and its uri; None for a tile that is no chip."""
    if uri is None or not tile_id.startswith(f"{uri}#"):
        return None
    found = _WINDOW.fullmatch(tile_id, len(uri))
    return None if found is None else Window(*map(int, found.groups()))


def is_place(text: str) -> bool:
    """Whether a text, from wherever, leads to a path: no NUL, and no surrogates, which JSON can spell."""
    encoded = text.encode("utf-8", "ignore")
    return encoded.decode() == text and b"\0" not in unquote_to_bytes(encoded)


def place_to_path(folder: Path, place: str | None) -> Path | None:
    """A place that a gallery keeps relative to its own folder, so that both can be moved together."""
    return None if place is None else Path(os.path.normpath(Path(os.path.realpath(folder)) / id_to_path(place)))


def path_to_place(path: str | os.PathLike[str] | None, folder: str | os.PathLike[str]) -> str | None:
    """A path as a place relative to a folder; the inverse of `place_to_path`. Neither needs to be there."""
    return None if path is None else path_to_id(os.path.relpath(os.path.realpath(path), os.path.realpath(folder)))
