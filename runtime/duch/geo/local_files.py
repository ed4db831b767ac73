"""Local files that metadata names: JSON, read with care, and what its links lead to."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from duch.display import display_path, printable
from duch.errors import one_line

_MOST_BYTES = 1 << 26  # of a JSON file; collections of items have some kB each
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FILE_URL = re.compile(r"file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)


class Unusable(Exception):
    """Why a file, an item or a link cannot be used."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading bytes. A pipe would keep its reader waiting.

    Raises:
        Unusable: there is none.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unusable("is no regular file")
        return open(path, "rb")
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None
    except ValueError:  # NUL in its name
        raise Unusable("cannot be read: its name is none") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        Unusable: there is none.
    """
    with open_regular(path) as stream:
        try:
            raw = stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise Unusable(f"cannot be read: {error.strerror}") from None
    if len(raw) > _MOST_BYTES:
        raise Unusable(f"is larger than {_MOST_BYTES >> 20} MB; wanted STAC in smaller files")
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"is no JSON: {one_line(error)}") from None
    if not isinstance(document, dict):
        raise Unusable(f"is a JSON {type(document).__name__}; wanted a STAC object")
    return document


def text_of(value: Any) -> str | None:
    """A text that can be stored; None for anything else."""
    if not isinstance(value, str) or not value.strip() or re.search("[\0\ud800-\udfff]", value):
        return None
    return value.strip()


def linked_file(href: Any, folder: Path) -> Path:
    """The regular file that a link leads to: a path as it is or percent-escaped, or a file URL.

    Args:
        href: as it was read.
        folder: what a relative link is relative to.

    Raises:
        Unusable: it leads elsewhere.
    """
    text = text_of(href)
    if text is None:
        raise Unusable(f"has the href {str(href)[:40]!r}; wanted a path")
    found = _FILE_URL.match(text)
    if _URL.match(text) and found is None:
        raise Unusable(f"lies at {printable(text[:100])}, which is not on this machine; download it and link to that")
    plain = folder / (text[found.end() :] if found else text)
    unescaped = Path(os.fsdecode(unquote_to_bytes(os.fsencode(plain))))
    for path in (unescaped, plain) if found else (plain, unescaped):
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return path
            reason = "is no regular file"
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {getattr(error, 'strerror', None) or 'its name is none'}"
    raise Unusable(f"leads to {display_path(plain)}, which {reason}")
