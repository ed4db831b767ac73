"""How long a TIFF or a PNG has to be, by what it says of itself.

GDAL passes over tags of a TIFF that lie beyond its end, so one that was not copied whole may lose its nodata value or
its mask without a word, and tells of missing pixels only when it comes to them. Of a PNG it misses no pixels at all.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

_STRIPS, _TILES = (273, 279), (324, 325)  # tags of the offsets of their bytes, and of how many there are
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {3: "u2", 4: "u4", 16: "u8"}
_MOST_DIRECTORIES = 1024


def least_length(path: Path) -> int:
    """The bytes that a file tells of; 0 for what is neither a TIFF nor a PNG.

    Of a TIFF: its directories, their values, its strips and tiles. Of a PNG: its chunks. Where a file ends too early
    to tell more, at least one more than it has.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(16)
        if head[:4] in (b"II\x2a\0", b"MM\0\x2a"):
            return _Directories(file, head, big=False).end()
        if head[:4] in (b"II\x2b\0", b"MM\0\x2b"):
            return _Directories(file, head, big=True).end()
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return _end_of_chunks(file)
    return 0


def _end_of_chunks(file: BinaryIO) -> int:
    at, kind = 8, b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return at + 12
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        at += 12 + length  # and a checksum
    return at


class _Directories:
    """The chain of directories of a TIFF; BigTIFF has wider numbers."""

    def __init__(self, file: BinaryIO, head: bytes, *, big: bool) -> None:
        self._file, self._size = file, file.seek(0, 2)
        self._order = "<" if head[:2] == b"II" else ">"
        self._count, self._entry, self._offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
        self._first = self._number(head[8:16] if big else head[4:8])
        self._end = len(head)

    def end(self) -> int:
        at, seen = self._first, set[int]()
        try:
            while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
                seen.add(at)
                at = self._read_directory(at)
        except EOFError:  # `_end` is beyond the file
            pass
        return self._end

    def _read_directory(self, at: int) -> int:
        """Take a directory into account; where the next one is, 0 after the last."""
        width = struct.calcsize("=" + self._count)
        (n,) = struct.unpack(self._order + self._count, self._bytes(at, width))
        entry = struct.Struct(self._order + self._entry)
        rows = self._bytes(at + width, n * entry.size)
        data: dict[int, np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]] = {}
        for tag, kind, count, value in entry.iter_unpack(rows):
            size = count * _SIZES.get(kind, 0)
            raw = value[:size] if size <= len(value) else self._bytes(self._number(value), size)
            if tag in (*_STRIPS, *_TILES) and kind in _INTEGERS:
                data[tag] = np.frombuffer(raw, dtype=self._order + _INTEGERS[kind])
        for offsets, counts in (_STRIPS, _TILES):
            if offsets in data and len(data[offsets]) == len(data.get(counts, ())):
                ends = data[offsets].astype(np.float64) + data[counts]
                # What a sparse file leaves out has no bytes.
                self._end = max(self._end, int(ends[data[counts] > 0].max(initial=0)))
        return self._number(self._bytes(at + width + len(rows), struct.calcsize("=" + self._offset)))

    def _number(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self._order == "<" else "big")

    def _bytes(self, at: int, count: int) -> bytes:
        self._end = max(self._end, at + count)
        if at + count > self._size:
            raise EOFError
        self._file.seek(at)
        return self._file.read(count)
