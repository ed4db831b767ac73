"""Checking a gallery: every code, every column and every value against its checksum, and all of them with each other.

    for problem in verify("gallery/").problems:
        print(problem)

It looks at a snapshot, so a writer may be at work meanwhile, and holds some thousands of tiles in memory at a time.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from . import write_ahead_log
from .catalog import FILE_NAME as CATALOG
from .catalog import catalog_of
from .gallery_check import Problem, VerifyReport, check
from .gallery_place import LOCK
from .mapped_file import open_plain
from .progress import Progress

LOG = CATALOG + "-wal"

__all__ = ["Problem", "VerifyReport", "verify"]


def verify(folder: str | os.PathLike[str], *, on_progress: Progress | None = None) -> VerifyReport:
    """Check all of a gallery. Damage is reported, not raised.

    Args:
        folder: the gallery.
        on_progress: called with rows done and rows in all.

    Raises:
        GalleryError: the folder is no gallery, or cannot be read, or is of another format version.
    """
    place = Path(folder)
    log = catalog_of(place).with_name(LOG)
    found = write_ahead_log.find_damage(log)
    if found and not _has_writer(place):  # under a writer's hands the log may have changed while it was read
        found = write_ahead_log.find_damage(log)
        what = f"{found}; what was committed from there on is lost, unless a power cut came before it was acknowledged"
        return check(place, on_progress, [Problem(what, LOG)] if found else [])
    return check(place, on_progress, [])


def _has_writer(folder: Path) -> bool:
    """Whether a writer is at work; where that cannot be told, nobody can write either."""
    try:
        lock = open_plain(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(lock)
    return False
