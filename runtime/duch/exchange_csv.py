"""Exports as a folder: tiles.csv, codes.npy and gallery.json; `duch.exchange` says what they hold.

Shapes: n tiles, m some of them.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .codes import PackedCodes
from .display import display_path
from .errors import InputError, one_line
from .exchange import (
    ABOUT_FILE,
    CODES_FILE,
    COLUMNS,
    INTEGERS,
    REALS,
    TILES_FILE,
    About,
    Row,
    check_columns,
    from_row,
    to_row,
)
from .new_folder import new_folder
from .tile import StoredTile, Tile

_UNKNOWN = r"\N"
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST_ABOUT = 1 << 20
_LARGEST_CELL = 1 << 26  # characters; the limit of csv is 131,072

Batch = tuple[PackedCodes, list[StoredTile]]


def write_folder(out: Path, about: About, n_tiles: int, batches: Iterable[Batch]) -> None:
    """Write an export; it appears whole or not at all.

    Raises:
        GalleryError: the place is taken or cannot be written.
    """
    with new_folder(out) as beside:
        beside.mkdir()
        (beside / ABOUT_FILE).write_text(about.to_json() + "\n", encoding="utf-8")
        with (
            open(beside / TILES_FILE, "w", encoding="utf-8", newline="") as tiles_file,
            open(beside / CODES_FILE, "wb") as codes_file,
        ):
            lines = csv.writer(tiles_file)
            lines.writerow(COLUMNS)
            shape = (n_tiles, about.n_bits // 8)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(codes_file, header)
            for codes, tiles in batches:
                codes_file.write(codes.tobytes())
                lines.writerows([_cell(value) for value in to_row(tile).values()] for tile in tiles)
        for name in (ABOUT_FILE, TILES_FILE, CODES_FILE):
            with open(beside / name, "rb") as written:
                os.fsync(written.fileno())


class FolderExport:
    """An export to read.

    Attributes:
        about: what it says of its gallery.
        n_tiles: how many tiles it holds.
        folder: the folder that its places are relative to.
    """

    def __init__(self, folder: Path) -> None:
        """Open one.

        Raises:
            InputError: a file is missing or no export.
        """
        self.folder = folder
        self.about = About.from_json(_read(folder / ABOUT_FILE), folder / ABOUT_FILE)
        file, self.n_tiles = _open_codes(folder / CODES_FILE, self.about.n_bits)
        file.close()

    def batches(self, size: int) -> Iterator[tuple[PackedCodes, list[Tile]]]:
        """The tiles with their codes in the file's order, some at a time.

        Shape: -> codes (m, n_bits / 8) uint8 and m tiles, m <= size.

        Raises:
            InputError: a row that is no tile, or not one for each code.
        """
        name, width = display_path(self.folder / TILES_FILE), self.about.n_bits // 8
        codes_file, n_codes = _open_codes(self.folder / CODES_FILE, self.about.n_bits)
        with codes_file, _open(self.folder / TILES_FILE) as tiles_file:
            rows = _rows(tiles_file, name)
            done = 0
            while tiles := [from_row(row, where) for row, where in islice(rows, size)]:
                done += len(tiles)
                if done > n_codes:
                    raise InputError(f"{name} has more lines than {CODES_FILE} codes, {n_codes:,}; wanted one for each")
                raw = codes_file.read(len(tiles) * width)
                yield np.frombuffer(raw, dtype=np.uint8).reshape(len(tiles), width), tiles
            if done < n_codes:
                raise InputError(f"{name} has {done:,} tiles, {CODES_FILE} {n_codes:,} codes; wanted one for each")


def _rows(tiles_file: BinaryIO, name: str) -> Iterator[tuple[Row, str]]:
    """The rows of an open tiles.csv, each with what to call it."""
    text = TextIOWrapper(tiles_file, encoding="utf-8-sig", newline="")
    lines = csv.reader(text, strict=True)
    try:
        header = _next_line(lines) or []
        check_columns(header, COLUMNS, name)
        while (cells := _next_line(lines)) is not None:
            where = f"line {lines.line_num} of {name}"
            if len(cells) != len(header):
                raise InputError(f"{where} has {len(cells)} cells; wanted {len(header)}")
            yield {column: _value(column, cell, where) for column, cell in zip(header, cells, strict=True)}, where
    except csv.Error as error:
        raise InputError(f"line {lines.line_num} of {name} is no CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no UTF-8 after line {lines.line_num}: {error.reason}") from None


def _next_line(lines: Iterator[list[str]]) -> list[str] | None:
    """The cells of the next line; None at the end.

    The limit is one of the whole process, so it is not kept while the caller of a generator does something else.
    """
    before = csv.field_size_limit(_LARGEST_CELL)
    try:
        return next(lines, None)
    finally:
        csv.field_size_limit(before)


def _cell(value: Any) -> str:
    if value is None:
        return _UNKNOWN
    text = repr(value) if isinstance(value, float) else str(value)
    return "\\" + text if text.startswith("\\") else text


def _value(column: str, cell: str, where: str) -> Any:
    if cell == _UNKNOWN:
        return None
    if column in INTEGERS:
        if not _INTEGER.fullmatch(cell):
            raise InputError(f"{where} has {column} {cell[:80]!r}; wanted an integer or {_UNKNOWN}")
        return int(cell)
    if column in REALS:
        if not _REAL.fullmatch(cell):
            raise InputError(f"{where} has {column} {cell[:80]!r}; wanted a number or {_UNKNOWN}")
        return float(cell)
    return cell[1:] if cell.startswith("\\") else cell


def _open_codes(file: Path, n_bits: int) -> tuple[BinaryIO, int]:
    """codes.npy, open at its first code, and how many there are."""
    name, stream = display_path(file), _open(file)
    try:
        try:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran_order, dtype = read[version](stream)
        except Exception as error:  # a broken header raises nearly anything
            raise InputError(f"{name} is no NPY file of version 1 or 2: {one_line(error)[:200]}") from None
        if len(shape) != 2 or shape[1] != n_bits // 8 or dtype != np.uint8 or fortran_order:
            raise InputError(f"{name} holds {dtype} {shape}; wanted uint8 (n, {n_bits // 8}), row after row")
        size, wanted = os.fstat(stream.fileno()).st_size, stream.tell() + shape[0] * shape[1]
        if size != wanted:  # a negative number of codes as well
            raise InputError(f"{name} has {size:,} bytes; wanted {wanted:,} for {shape[0]:,} codes")
    except BaseException:
        stream.close()
        raise
    return stream, int(shape[0])


def _open(file: Path) -> BinaryIO:
    try:
        return open(file, "rb")
    except OSError as error:
        raise InputError(
            f"{display_path(file)} cannot be read: {error.strerror}; wanted what `duch gallery export` writes"
        ) from None


def _read(file: Path) -> bytes:
    with _open(file) as stream:
        return stream.read(_LARGEST_ABOUT)
