"""What the mapped files of a gallery have in common: a 64-byte header, a name with the generation, careful writes.

A file knows nothing of how many of its rows exist; the catalog says so, and what lies beyond is leftover.
"""

from __future__ import annotations

import os
import struct
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
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_at(descriptor, first, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(file: Path, flags: int) -> int:
    """A descriptor of a file that the catalog names.

    Raises:
        GalleryCorruptError: it is missing.
        GalleryError: it cannot be opened.
    """
    try:
        return os.open(file, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        raise GalleryCorruptError(f"{display_path(file)} is missing; restore the gallery from a copy") from None
    except OSError as error:
        raise GalleryError(f"{display_path(file)} cannot be opened: {error.strerror}") from error


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
