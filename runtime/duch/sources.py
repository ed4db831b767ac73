"""What there is to index: the image files of a folder tree, the sentences of a JSONL file.

Whatever cannot be used is named with its reason, and the rest goes on.
"""

from __future__ import annotations

import heapq
import json
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .catalog import is_gallery
from .display import display_path
from .errors import InputError
from .tile import Tile

# By which images and scenes are known in a folder; a scene that is named itself may be called anything.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
SCENE_SUFFIXES = frozenset(
    {".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".j2c", ".vrt", ".img", ".ntf", ".nitf", ".png", ".jpg", ".jpeg"}
)

Skipped = tuple[str, str]  # name, reason


class ImageFile(NamedTuple):
    """An image file by its suffix.

    Attributes:
        relative: its path below the folder that was searched, as the system's bytes.
        size: bytes.
        mtime_ns: modification time, nanoseconds since 1970 UTC.
    """

    relative: bytes
    size: int
    mtime_ns: int


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        files: its image files.
        ignored: how many files are no images by their suffix.
        skipped: folders and image files that cannot be read, by their path below the folder, with the reason.
        unread: what may be a folder and cannot be read; nothing is known of the files below it.
    """

    files: list[ImageFile] = field(default_factory=list)
    ignored: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    unread: set[bytes] = field(default_factory=set)


class Sentence(NamedTuple):
    """A sentence and the line it stands on, counted from 1."""

    line: int
    tile: Tile


def find_images(
    folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES, *, passes_over: Callable[[bytes], bool] | None = None
) -> Found:
    """Image files below a folder and links in it, by their suffixes in lower case, ordered by their path.

    Another gallery's folder is passed over, and files and folders whose name `passes_over` says so of. A folder that
    several links lead to is searched once: where it really is if that is below `folder`, else at the first link.
    """
    found = Found()
    visited: set[tuple[int, int]] = set()
    pending = [(False, b"")]  # (reached by a link, path), a heap: links last
    base = os.fsencode(folder)
    while pending:
        linked, below = heapq.heappop(pending)
        path = os.path.join(base, below)
        try:
            here = os.stat(path)
            if (here.st_dev, here.st_ino) in visited:
                continue
            visited.add((here.st_dev, here.st_ino))
            if below and is_gallery(os.fsdecode(path)):
                continue
            entries = list(os.scandir(path))
        except OSError as error:
            found.skipped.append((below, f"cannot be read: {error.strerror}"))
            found.unread.add(below)
            continue
        for entry in entries:
            if passes_over is not None and passes_over(entry.name):
                continue
            relative = os.path.join(below, entry.name)
            is_image = os.fsdecode(os.path.splitext(entry.name)[1]).lower() in suffixes
            try:
                known = entry.stat()
            except OSError as error:  # a link to nowhere, or gone since
                found.unread.add(relative)
                if is_image:
                    found.skipped.append((relative, f"cannot be read: {error.strerror}"))
                continue
            if stat.S_ISDIR(known.st_mode):
                heapq.heappush(pending, (linked or entry.is_symlink(), relative))
            elif not is_image:
                found.ignored += 1
            elif stat.S_ISREG(known.st_mode):
                found.files.append(ImageFile(relative, known.st_size, known.st_mtime_ns))
            else:  # reading a pipe would wait for ever
                found.skipped.append((relative, "is no regular file"))
    found.skipped.sort()
    found.files.sort(key=lambda file: file.relative)
    return found


def read_sentences(file: Path) -> tuple[list[Sentence], list[Skipped]]:
    """The sentences of a JSONL file, and the lines that hold none.

    Raises:
        InputError: the file cannot be read.
    """
    found: list[Sentence] = []
    skipped: list[Skipped] = []
    lines_of_ids: dict[str, int] = {}
    try:
        with open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                raw = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not raw.strip():
                    continue
                try:
                    tile = _sentence(raw, number)
                    if tile.id in lines_of_ids:
                        raise InputError(f"has the id {tile.id!r} of line {lines_of_ids[tile.id]}; wanted another")
                except InputError as error:
                    skipped.append((f"line {number}", str(error)))
                else:
                    lines_of_ids[tile.id] = number
                    found.append(Sentence(number, tile))
    except OSError as error:
        raise InputError(
            f"{display_path(file)} cannot be read: {error.strerror}; wanted a file of JSON lines"
        ) from error
    return found, skipped


def _sentence(line: bytes, number: int) -> Tile:
    """The tile of one line.

    Raises:
        InputError: what is wrong with the line.
    """
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise InputError("is no UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"is a JSON {type(value).__name__}; wanted an object with text")
    text: Any = value.pop("text", None)
    tile_id: Any = value.pop("id", f"text:{number}")
    if not isinstance(text, str) or not text.strip():
        raise InputError("has no text; wanted a sentence under the key text")
    if not isinstance(tile_id, str):
        raise InputError(f"has the id {tile_id!r}; wanted a string")
    tile = Tile(id=tile_id, modality="text", text=text, attributes=value)
    tile.check()
    return tile


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed in JSON")
