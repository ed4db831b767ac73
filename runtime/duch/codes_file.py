"""The codes of a gallery: a 64-byte header, then packed codes row after row. GALLERY.md specifies it."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from . import mapped_file
from .codes import PackedCodes
from .mapped_file import HEADER_SIZE

MAGIC = b"DUCHCODE"


def file_name(generation: int) -> str:
    """Name of the codes file of a generation."""
    return f"codes-{generation}.bin"


def header(n_bits: int, fingerprint: str, generation: int) -> bytes:
    """The 64 bytes before the first code."""
    return mapped_file.header(MAGIC, n_bits, fingerprint, generation)


def check(descriptor: int, file: Path, *, n_bits: int, fingerprint: str, generation: int, committed: int) -> None:
    """Compare an open codes file with what the catalog says of it.

    Raises:
        GalleryError: written by a newer format version.
        GalleryCorruptError: wrong header, or shorter than the committed rows.
    """
    size = HEADER_SIZE + committed * (n_bits // 8)
    mapped_file.check(descriptor, file, header(n_bits, fingerprint, generation), size)


def write_rows(descriptor: int, first_row: int, codes: PackedCodes) -> None:
    """Write codes from a row on; not yet on the disk.

    Shape: codes (n, n_bits / 8) uint8, contiguous.
    """
    mapped_file.write_at(descriptor, codes.tobytes(), HEADER_SIZE + first_row * codes.shape[1])


def map_codes(descriptor: int, *, n_bits: int, committed: int) -> PackedCodes:
    """The committed codes, mapped read-only; nothing is read before it is used.

    Shape: -> (committed, n_bits / 8) uint8.
    """
    width = n_bits // 8
    if committed == 0:
        return np.empty((0, width), dtype=np.uint8)
    mapped = mmap.mmap(descriptor, HEADER_SIZE + committed * width, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=np.uint8, offset=HEADER_SIZE).reshape(committed, width)
