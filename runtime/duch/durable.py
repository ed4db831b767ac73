"""Files and folders that are whole or not there, also after a power cut."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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


def check_place(path: str | os.PathLike[str]) -> None:
    """Say early whether a folder could be put there, before hours of work are lost to it.

    Raises:
        OSError: it is the working folder, or what is closest above it is no folder, or cannot be written to; its file
            name is that.
    """
    place = Path(os.path.realpath(path))
    if place == Path.cwd():  # replaced, it would leave the shell in a folder that is gone
        raise OSError(errno.EBUSY, "is the folder that the command runs in", os.fspath(place))
    above = next((parent for parent in place.parents if os.path.lexists(parent)), place)
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(above))


def rename_folder(new: Path, target: Path) -> None:
    """Rename a folder over nothing, an empty one or an older one; if that fails, the older one comes back.

    Raises:
        OSError: it cannot be renamed.
    """
    if not target.exists() or not any(target.iterdir()):
        os.rename(new, target)
        return
    old = new.with_suffix(".old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:  # an interrupt too
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it into place at the end; on any error the old one stays.

    Through a link, the file it points at is replaced. What is no regular file, such as /dev/stdout, is written to.

    Raises:
        OSError: it cannot be written; its file name is `path`.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{secrets.token_hex(8)}.writing")
    try:
        if target.exists() and not target.is_file():
            with open(target, "wb") as stream:
                yield stream
            return
        with open(beside, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, target)
        fsync_folder(target.parent)
    except OSError as error:
        if error.filename in (None, os.fspath(beside), os.fspath(target)):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        with suppress(OSError):
            beside.unlink()
