"""Tiles of one root below another one: their uris, and ids that are or begin with uris, as that root has them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .ids import path_to_place
from .tile import Tile


def common_root(roots: list[Path | None]) -> Path | None:
    """The folder that holds all roots; None if there are none."""
    known = [os.path.realpath(root) for root in roots if root is not None]
    return Path(os.path.commonpath(known)) if known else None


def path_below(folder: Path | None, root: Path | None) -> str | None:
    """The way from a root to a folder below it, as ids have it; None if they are the same or one is not known."""
    if folder is None or root is None:
        return None
    below = path_to_place(folder, root)
    return None if below == "." else below


def rebased(tile: Tile, below: str | None) -> Tile:
    """A tile with its uri relative to a root further up; and its id, if that is the uri or a chip's."""
    if below is None or tile.uri is None or tile.uri.startswith("/"):
        return tile
    follows = tile.id == tile.uri or tile.window is not None
    return replace(tile, uri=f"{below}/{tile.uri}", id=f"{below}/{tile.id}" if follows else tile.id)
