"""What the mapped files of a gallery have in common: a 64-byte header, a name with the generation, careful writes.

A file knows nothing of how many of its rows exist; the catalog says so, and what lies beyond is leftover.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from .display import display_path
from .errors import GalleryCorruptError, GalleryError

FORMAT_VERSION = 2
HEADER_SIZE = 64
_HEADER = struct.Struct("<8sII32sQ8x")  # magic, version, a number of the kind, fingerprint, generation, zeros


def header(magic: bytes, number: int, fingerprint: str, generation: int) -> bytes:
    """The first 64 bytes. `number` is n_bits of a codes file, rows in a group of a columns file."""
    return _HEADER.pack(magic, FORMAT_VERSION, number, bytes.fromhex(fingerprint), generation)


def create(file: Path, first: bytes) -> None:
    """Write a file that holds its header alone, and have it on the disk before returning."""
    descriptor = open_new(file)
    try:
        write_at(descriptor, first, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(file: Path, flags: int) -> int:
    """A descriptor of a file that the catalog names.

    Raises:
        GalleryCorruptError: it is missing.
        GalleryError: it cannot be opened, or is no plain file.
    """
    try:
        return open_plain(file, flags)
    except FileNotFoundError:
        raise GalleryCorruptError(f"{display_path(file)} is missing; restore the gallery from a copy") from None
    except OSError as error:
        raise GalleryError(f"{display_path(file)} cannot be opened: {error.strerror}") from error


def open_plain(file: Path, flags: int) -> int:
    """A descriptor of a plain file, made if the flags say so; to be written to, it must not be a link.

    A gallery may come from a stranger: a pipe in the place of a file would hold its reader up for ever, and what is
    written through a link lands outside the folder.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    if writes and file.is_symlink():
        raise OSError(errno.ELOOP, f"{file.name} is a link, wanted the file itself", os.fspath(file))
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if writes else 0)
    descriptor = os.open(file, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{file.name} is no plain file", os.fspath(file))
    return descriptor


def open_new(file: Path) -> int:
    """A descriptor of a new, empty file to read and write, in the place of what a crash may have left of an older one.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileNotFoundError):
        file.unlink()
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of data at an offset; `os.pwrite` alone may stop short."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def check(descriptor: int, file: Path, first: bytes, size: int) -> None:
    """Compare an open file with the header that it should have, and with its least size in bytes.

    Raises:
        GalleryError: written by a newer format version.
        GalleryCorruptError: another header, or shorter.
    """
    name = display_path(file)
    found = os.pread(descriptor, HEADER_SIZE, 0)
    if found != first:
        magic, version, *_ = _HEADER.unpack(found.ljust(HEADER_SIZE, b"\0"))
        if magic == first[:8] and version > FORMAT_VERSION:
            raise GalleryError(f"{name} has format version {version}; this duch reads {FORMAT_VERSION}, so update duch")
        at = next((place for place, (a, b) in enumerate(zip(found, first, strict=False)) if a != b), len(found))
        raise GalleryCorruptError(
            f"{name} has {found[at : at + 16].hex() or 'nothing'} at byte {at} of its header; "
            f"wanted {first[at : at + 16].hex()}, so restore the gallery from a copy"
        )
    if (actual := os.fstat(descriptor).st_size) < size:
        raise GalleryCorruptError(
            f"{name} is truncated: {actual:,} bytes, wanted at least {size:,}; restore the gallery from a copy"
        )
