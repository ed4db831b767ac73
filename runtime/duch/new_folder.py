"""A folder that is made in one go: it appears whole at its place, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .catalog import is_gallery
from .display import display_path
from .durable import check_place, fsync_folder
from .errors import GalleryError


@contextmanager
def new_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to make a folder; it is renamed to `out` at the end of the block, and gone after an error.

    A process that is killed leaves a folder `.<hex>.writing` beside `out`, which may be deleted.

    Raises:
        GalleryError: `out` holds something, or cannot be written.
    """
    target = Path(os.path.realpath(out))
    name = display_path(out)
    if is_gallery(target):
        raise GalleryError(f"{name} is a gallery already; wanted a new or empty folder")
    if os.path.lexists(target) and not target.is_dir():
        raise GalleryError(f"{name} is a file; wanted a new or empty folder")
    # In the same folder, so that places relative to it stay right.
    beside = target.with_name(f".{secrets.token_hex(8)}.writing")
    outcome = "nothing was made"
    try:
        if target.is_dir() and any(target.iterdir()):
            raise GalleryError(f"{name} is not empty; wanted a new or empty folder")
        check_place(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        fsync_folder(beside)
        os.rename(beside, target)  # fails if something has come there meanwhile
        outcome = "it is there, but a power cut may take it"
        for above in target.parents:  # may be as new as the folder
            if os.access(above, os.R_OK):
                fsync_folder(above)
    except OSError as error:
        raise GalleryError(f"{name} cannot be written: {error.strerror or error}; {outcome}") from error
    except GalleryError as error:
        # What the writer of a gallery says of safe tiles is not so here.
        what, ours = str(error).partition(";")[0], display_path(beside)
        if type(error) is not GalleryError or ours not in what:
            raise
        raise GalleryError(
            f"{what.replace(ours, name)}; nothing was made, so make room on the disk and run it again"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
