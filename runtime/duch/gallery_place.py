"""How a gallery comes to be, and who may write to it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from . import codes_file, columns_file
from .catalog import FILE_NAME as CATALOG
from .catalog import Catalog, Meta, is_gallery
from .display import display_path
from .durable import fsync_folder
from .errors import GalleryError, GalleryLockedError
from .generation import Generation
from .mapped_file import HEADER_SIZE, open_plain

LOCK = "writer.lock"
_PARTIAL = CATALOG + ".partial"
_FIRST_GENERATION = 1
_FIRST_FILES = (codes_file.file_name(_FIRST_GENERATION), columns_file.file_name(_FIRST_GENERATION))


def may_create(folder: Path) -> bool:
    """Whether the folder is free for a new gallery; False if it is one.

    Raises:
        GalleryError: it holds something else.
    """
    if not os.path.lexists(folder):
        return True
    if is_gallery(folder):
        return False
    if not folder.is_dir():
        raise GalleryError(f"{display_path(folder)} is a file; wanted a folder for the gallery")
    for entry in folder.iterdir():
        # A creation that was cut short leaves these; codes without a catalog are somebody's loss and not ours to drop.
        leftover = entry.name == LOCK or entry.name.startswith(_PARTIAL)
        empty = entry.name in _FIRST_FILES and entry.stat().st_size <= HEADER_SIZE
        if not leftover and not empty:
            if is_gallery(folder):
                return False  # another writer has just made it
            raise GalleryError(
                f"{display_path(folder)} holds {display_path(entry.name)} and no {CATALOG}; "
                "wanted a gallery, or a new or empty folder"
            )
    return True


def take_lock(folder: Path) -> int:
    """Become the one writer of a gallery; returns the descriptor that holds the lock until it is closed.

    Raises:
        GalleryLockedError: another writer is at work.
        GalleryError: the folder cannot be written or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_plain(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise GalleryError(f"{display_path(folder)} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        holder = told if told.isdigit() else "unknown"
        os.close(lock)
        raise GalleryLockedError(
            f"another writer (process {holder}) holds {display_path(folder / LOCK)}; wait for it to end"
        ) from None
    except OSError as error:
        os.close(lock)
        raise GalleryError(
            f"{display_path(folder / LOCK)} cannot be locked: {error.strerror}; keep the gallery on a local disk"
        ) from error
    with suppress(OSError):  # for the message above; the lock itself is the system's
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def create_files(folder: Path, fingerprint: str, n_bits: int) -> None:
    """Make the files. The catalog gets its name last, so that the gallery appears at once and whole.

    Raises:
        GalleryError: the folder cannot be written.
    """
    partial = folder / _PARTIAL
    meta = Meta(
        generation=_FIRST_GENERATION,
        committed=0,
        next_seq=0,
        live_images=0,
        live_texts=0,
        fingerprint=fingerprint,
        n_bits=n_bits,
        root=None,
        bundle_hint=None,
    )
    try:
        for leftover in folder.glob(_PARTIAL + "*"):
            leftover.unlink()
        Generation.create(folder, meta)
        Catalog.create(partial, meta)
        fsync_folder(folder)
        os.rename(partial, folder / CATALOG)
        fsync_folder(folder)
        for above in folder.absolute().parents:  # may be as new as the gallery
            with suppress(PermissionError):  # then it is not
                fsync_folder(above)
    except OSError as error:
        raise GalleryError(f"{display_path(folder)} cannot be written: {error.strerror}") from error
