"""The codes half of a gallery: a 64-byte header, then packed codes row after row. GALLERY.md specifies it.

The file knows nothing of how many of its rows exist; the catalog says so, and what lies beyond is leftover.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np

from .codes import PackedCodes
from .display import display_path
from .errors import GalleryCorruptError, GalleryError

MAGIC = b"DUCHCODE"
FORMAT_VERSION = 1
HEADER_SIZE = 64
_HEADER = struct.Struct("<8sII32s16x")  # magic, version, n_bits, fingerprint, zeros


def file_name(generation: int) -> str:
    """Name of the codes file of a generation."""
    return f"codes-{generation}.bin"


def header(n_bits: int, fingerprint: str) -> bytes:
    """The 64 bytes before the first code."""
    return _HEADER.pack(MAGIC, FORMAT_VERSION, n_bits, bytes.fromhex(fingerprint))


def create(file: Path, n_bits: int, fingerprint: str) -> None:
    """Write a codes file without codes, and have it on the disk before returning."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_at(descriptor, header(n_bits, fingerprint), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(file: Path, flags: int) -> int:
    """A descriptor of a codes file that the catalog names.

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


def check(descriptor: int, file: Path, *, n_bits: int, fingerprint: str, committed: int) -> None:
    """Compare an open codes file with what the catalog says of it.

    Raises:
        GalleryError: written by a newer format version.
        GalleryCorruptError: wrong header, or shorter than the committed rows.
    """
    name = display_path(file)
    found = os.pread(descriptor, HEADER_SIZE, 0)
    if found != header(n_bits, fingerprint):
        if (
            found.startswith(MAGIC)
            and len(found) == HEADER_SIZE
            and (version := _HEADER.unpack(found)[1]) > FORMAT_VERSION
        ):
            raise GalleryError(
                f"{name} has format version {version}; this duch reads up to {FORMAT_VERSION}, so update duch"
            )
        raise GalleryCorruptError(
            f"{name} begins with {found[:16].hex() or 'nothing'}; wanted the header of {n_bits}-bit codes of bundle "
            f"{fingerprint[:12]}, so restore the gallery from a copy"
        )
    size, wanted = os.fstat(descriptor).st_size, HEADER_SIZE + committed * (n_bits // 8)
    if size < wanted:
        raise GalleryCorruptError(
            f"{name} is truncated: {size:,} bytes, wanted at least {wanted:,} for {committed:,} codes; "
            "restore the gallery from a copy"
        )


def map_codes(descriptor: int, *, n_bits: int, committed: int) -> PackedCodes:
    """The committed codes, mapped read-only; nothing is read before it is used.

    Shape: -> (committed, n_bits / 8) uint8.
    """
    width = n_bits // 8
    if committed == 0:
        return np.empty((0, width), dtype=np.uint8)
    mapped = mmap.mmap(descriptor, HEADER_SIZE + committed * width, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=np.uint8, offset=HEADER_SIZE).reshape(committed, width)
