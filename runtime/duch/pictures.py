"""The picture of a hit: an image file, or the part of a scene that a chip is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .display import printable
from .errors import ImageError, MissingPackageError, needs_extra
from .ids import id_to_path
from .preprocess import load_image
from .tile import Hit

if TYPE_CHECKING:
    from PIL import Image


def path_of(hit: Hit, root: str | os.PathLike[str] | None) -> Path | None:
    """The image file of a hit, or its scene, below a root; None for a text, and where the file is missing."""
    if root is None or hit.uri is None:
        return None
    path = Path(root) / id_to_path(hit.uri)
    # Not Path.is_file: a name that is too long, or a folder that may not be entered, is an error to it.
    return path if os.path.isfile(path) else None


def picture_of(hit: Hit) -> Image.Image:
    """A hit's picture as it was coded, before it was resized for the model; RGB, 8 bits.

    Raises:
        ImageError: a text; a file that is missing or cannot be read; a chip where the extra `geo` is not installed.
    """
    if hit.path is None:
        raise ImageError(f"{printable(hit.id)} has no image file here; wanted one below the gallery's root")
    if hit.window is None:
        return load_image(hit.path)
    try:
        with needs_extra("geo", "the picture of a chip"):
            from .geo.chips import read_chip
    except MissingPackageError as error:
        raise ImageError(str(error)) from error
    return read_chip(hit.path, hit.window, hit.attributes)
