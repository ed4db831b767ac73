"""Making a rename survive a power cut."""

from __future__ import annotations

import os


def fsync_folder(folder: str | os.PathLike[str]) -> None:
    """Put the names in a folder on the disk: without it a renamed file may be gone after a power cut.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
