"""Names and sentences as they may be printed on one line of a terminal."""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """Text that is safe to print on one line, whatever a file name or a sentence holds."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def display_path(path: str | os.PathLike[str]) -> str:
    """A path that is safe to print on one line, whatever bytes its name holds."""
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))
