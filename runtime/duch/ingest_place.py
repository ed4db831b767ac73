"""Where an ingest writes to, and which folder the ids of its tiles are relative to: of images and of scenes alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .display import display_path
from .errors import InputError
from .gallery_writer import GalleryWriter

if TYPE_CHECKING:
    from .encoder import Encoder


def open_writer(encoder: Encoder, gallery_folder: str | os.PathLike[str]) -> GalleryWriter:
    """The writer of a gallery for the codes of an encoder; the gallery is made if it is not there.

    Raises:
        GalleryError: the gallery cannot be written, or belongs to another bundle.
    """
    return GalleryWriter(
        gallery_folder,
        fingerprint=encoder.bundle.fingerprint,
        n_bits=encoder.n_bits,
        create=True,
        bundle_hint=encoder.bundle.path,
    )


def check_batch_size(batch_size: int) -> None:
    """Refuse what is no number of inputs.

    Raises:
        InputError: it is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}; wanted at least 1")


def wanted_root_of(folder: Path, root: str | os.PathLike[str] | None) -> Path | None:
    """The root that was asked for, if any, without links.

    Raises:
        InputError: the folder that is indexed is not inside.
    """
    if root is None:
        return None
    wanted = Path(os.path.realpath(root))
    _inside(folder, wanted, "wanted a root that holds it")
    return wanted


def settle_root(writer: GalleryWriter, folder: Path, wanted: Path | None) -> Path:
    """The folder that ids are relative to. Tiles in the gallery would be lost under another root than theirs.

    Args:
        writer: of the gallery.
        folder: what is indexed.
        wanted: see `wanted_root_of`.

    Raises:
        InputError: the gallery has another root, or one that does not hold the folder.
    """
    own = None if writer.root is None else Path(os.path.realpath(writer.root))
    fixed = own is not None and next(writer.live_images(), None) is not None and not is_gone(own)
    if own is not None and wanted is not None and wanted != own and fixed:
        raise InputError(
            f"{display_path(writer.folder)} holds tiles below the root {display_path(own)}; wanted the root "
            f"{display_path(wanted)}, so index into a new gallery"
        )
    root = wanted or own or folder
    _inside(folder, root, "index it into a new gallery" if fixed else "name a root that holds it with --root")
    return root


def is_gone(path: Path) -> bool:
    """Whether there is surely nothing: a path that must not be looked at, or a disk that fails, says nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _inside(folder: Path, root: Path, advice: str) -> None:
    if not folder.is_relative_to(root):
        raise InputError(f"{display_path(folder)} is not inside the root {display_path(root)}; {advice}")
