"""The live tiles of a gallery as a Parquet file or as a folder with CSV and NPY.

export_gallery("gallery/", "tiles.parquet")
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .codes import PackedCodes
from .display import display_path
from .errors import GalleryError
from .exchange import About
from .exchange_csv import write_folder
from .exchange_parquet import pyarrow, write_parquet
from .gallery import Gallery
from .ids import path_to_place
from .progress import Progress
from .tile import StoredTile


def export_gallery(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, on_progress: Progress | None = None
) -> int:
    """Write the live tiles of a gallery in seq order; the export appears whole or not at all. Returns how many.

    Args:
        folder: the gallery.
        out: a file that ends in `.parquet` and may exist, or a folder that does not exist or is empty.
        on_progress: called with tiles done and tiles in all.

    Raises:
        MissingPackageError: a Parquet file, and pyarrow is not installed.
        GalleryCorruptError: a tile is damaged.
        GalleryError: the folder is no gallery, or the export cannot be written.
    """
    place = Path(out)
    to_parquet = place.suffix.lower() == ".parquet"
    if to_parquet:
        pyarrow()  # before anything is read
    with Gallery.open(folder) as gallery:
        beside = place.parent if to_parquet else place
        about = About(
            fingerprint=gallery.fingerprint,
            n_bits=gallery.n_bits,
            root=path_to_place(gallery.root, beside),
            bundle_hint=path_to_place(gallery.bundle_hint, beside),
        )
        batches = _told(gallery, on_progress)
        if to_parquet:
            if not place.parent.is_dir():
                raise GalleryError(f"folder {display_path(place.parent)} does not exist; wanted a place for the file")
            write_parquet(place, about, batches)
        else:
            write_folder(place, about, len(gallery), batches)
        return len(gallery)


def _told(gallery: Gallery, on_progress: Progress | None) -> Iterator[tuple[PackedCodes, list[StoredTile]]]:
    done = 0
    for codes, tiles in gallery.batches():
        yield codes, tiles
        done += len(tiles)
        if on_progress is not None:
            on_progress(done, len(gallery))
