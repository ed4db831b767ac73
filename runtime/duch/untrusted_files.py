"""The codes file and the columns file of a gallery that may be damaged: as much of them as is there.

Shapes: n rows, m some of them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import codes_file, columns_file
from .allowed_rows import Mask, Rows
from .catalog import Meta
from .codes import PackedCodes
from .columns_file import GROUP, GROUP_ROWS, NO_TIME, ROW, Columns, Table
from .errors import GalleryCorruptError, GalleryError
from .mapped_file import HEADER_SIZE, open_file

_ROWS_AT_ONCE = 16 * GROUP_ROWS  # a few MB
_INVERTED = np.uint32(0xFFFFFFFF)
# What a byte turns the CRC-32 of nothing into, before the last inversion.
_CRC_OF_BYTE = np.array([zlib.crc32(bytes([byte ^ 0xFF])) ^ 0xFF000000 for byte in range(256)], dtype=np.uint32)


class UntrustedFiles:
    """Both files of a generation.

    Attributes:
        codes_name: name of the codes file.
        columns_name: name of the columns file.
        codes: the committed codes that are there, mapped, (n, n_bits / 8) uint8.
        columns: the committed columns that are there, mapped.
        problems: what is wrong with a file as a whole, by its name.
    """

    def __init__(self, folder: Path, meta: Meta) -> None:
        """Open what is there. No lock is taken: a file that is open stays readable after a compaction took it away.

        Raises:
            GalleryError: a file that is there cannot be opened.
        """
        self.codes_name = codes_file.file_name(meta.generation)
        self.columns_name = columns_file.file_name(meta.generation)
        self.problems: dict[str, GalleryError] = {}
        shared: Any = {"fingerprint": meta.fingerprint, "generation": meta.generation, "committed": meta.committed}
        width = meta.n_bits // 8
        self.codes = np.empty((0, width), dtype=np.uint8)
        self.columns = Columns(-1, 0)
        for name in (self.codes_name, self.columns_name):
            file = folder / name
            try:
                descriptor = open_file(file, os.O_RDONLY)
            except GalleryCorruptError as error:  # missing; what may not be read is no damage
                self.problems[name] = error
                continue
            try:
                size = max(0, os.fstat(descriptor).st_size - HEADER_SIZE)
                if name == self.codes_name:
                    there = min(meta.committed, size // width)
                    self.codes = codes_file.map_codes(descriptor, n_bits=meta.n_bits, committed=there)
                    codes_file.check(descriptor, file, n_bits=meta.n_bits, **shared)
                else:
                    there = min(meta.committed, size // GROUP.itemsize * GROUP_ROWS)
                    self.columns = Columns(descriptor, there)
                    columns_file.check(descriptor, file, **shared)
            except GalleryError as error:
                self.problems[name] = error
            finally:
                os.close(descriptor)

    def codes_crc(self, first: int, end: int) -> int:
        """CRC-32 of the codes of rows first to end - 1."""
        crc = 0
        for part in _parts(first, end):
            crc = zlib.crc32(self.codes[part].tobytes(), crc)
        return crc

    def columns_crc(self, first: int, end: int) -> int:
        """CRC-32 of the columns of rows first to end - 1, row by row."""
        crc = 0
        for part in _parts(first, end):
            crc = zlib.crc32(self.columns.take(np.arange(part.start, part.stop)).tobytes(), crc)
        return crc

    def wrong_codes(self, rows: Rows, crcs: NDArray[np.uint32]) -> Mask:
        """Which of these rows are not there, or hold a code of another CRC-32; -1 is no row.

        Shape: rows (m,), crcs (m,) -> (m,).
        """
        wrong = (rows < 0) | (rows >= len(self.codes))
        wrong[~wrong] = code_crcs(self.codes[rows[~wrong]]) != crcs[~wrong]
        return wrong

    def wrong_columns(self, rows: Rows, table: Table) -> Mask:
        """Which of these rows are not there, or hold other columns; -1 is no row.

        Shape: rows (m,), table (m,) ROW -> (m,).
        """
        wrong = (rows < 0) | (rows >= self.columns.n)
        found, wanted = self.columns.take(rows[~wrong]), np.ascontiguousarray(table[~wrong])
        # By their bytes: nan equals nan, and a negative zero differs from zero.
        bytes_of_row = (np.uint8, ROW.itemsize)
        wrong[~wrong] = (found.view(bytes_of_row) != wanted.view(bytes_of_row)).any(axis=1)
        return wrong


def code_crcs(codes: PackedCodes) -> NDArray[np.uint32]:
    """CRC-32 of each code.

    Shape: codes (m, n_bits / 8) uint8 -> (m,).
    """
    sums = np.full(len(codes), _INVERTED)
    for column in codes.T:
        sums = _CRC_OF_BYTE[(sums ^ column) & 0xFF] ^ (sums >> 8)
    return sums ^ _INVERTED


def table_of_values(tiles: Sequence[Sequence[Any]]) -> Table:
    """The columns that undamaged rows of the catalog, values of `tile.COLUMNS`, stand for.

    Shape: m rows -> (m,) ROW.
    """
    table = np.empty(len(tiles), dtype=ROW)
    if tiles:
        seq, _, modality, *_, west, south, east, north, time_us, _, _, _ = zip(*tiles, strict=True)
        table["seq"] = seq
        for name, edges in (("west", west), ("south", south), ("east", east), ("north", north)):
            table[name] = np.array(edges, dtype=np.float64)  # None becomes nan
        table["time_us"] = [NO_TIME if time is None else time for time in time_us]
        table["modality"] = np.array(modality) == "text"
    return table


def _parts(first: int, end: int) -> Iterator[slice]:
    for start in range(first, end, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, end))
