"""The tables of multi-index hashing in a mapped file beside the codes. GALLERY.md specifies it.

The file holds nothing that the codes do not: what is missing, damaged or of another generation is not used, and can be
built again at any time. It covers the first rows of a generation; rows appended later are scanned.

Shapes: n rows, w words in a code.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from . import mapped_file, mih_native, mih_numpy
from .codes import PackedCodes, check_codes
from .display import display_path
from .durable import fsync_folder
from .errors import TablesError
from .mih_table import MAX_BITS, MAX_KEY_BITS, MAX_TABLES, Table, blocks, key_widths, words_per_code

MAGIC = b"DUCHTABL"
HEADER_SIZE = 640
_COUNTS = struct.Struct("<QII")  # rows, CRC-32 of their codes, number of tables
_ENTRY = struct.Struct("<II")  # bits of the key, CRC-32 of the table's bytes
_CRC = struct.Struct("<I")  # of all bytes before it, the last of the header
_ALIGNMENT = 64


def file_name(generation: int) -> str:
    """Name of the tables file of a generation."""
    return f"tables-{generation}.bin"


class Tables:
    """The tables of the first rows of an index, mapped read-only.

    Attributes:
        file: where they are.
        n_bits: length of a code.
        n_rows: how many rows they cover, from row 0.
        tables: the tables; their keys together are the bits of a code.
        problem: None, or what a search found wrong with them: then they are used no more.
    """

    def __init__(self, file: Path, n_bits: int, header: bytes, mapped: mmap.mmap) -> None:
        """Tables in a mapped file whose header has been checked; `open` and `build` make one."""
        self.file = file
        self.n_bits = n_bits
        self.n_rows: int
        self.n_rows, self._codes_crc, n_tables = _COUNTS.unpack_from(header, mapped_file.HEADER_SIZE)
        entries = [_ENTRY.unpack_from(header, _entry(t)) for t in range(n_tables)]
        self.tables = _lay_out(mapped, self.n_bits, self.n_rows, [bits for bits, _ in entries])
        self.problem: str | None = None
        self._mapped = mapped
        self._crcs = [crc for _, crc in entries]

    @classmethod
    def build(
        cls,
        codes: PackedCodes,
        file: str | os.PathLike[str],
        *,
        fingerprint: str,
        generation: int,
        n_tables: int | None = None,
    ) -> Tables:
        """Make the tables of some codes and put them in place of the file, whole and on the disk, or not at all.

        Shape: codes (n, n_bits / 8) uint8, rows 0 to n - 1 of the generation.

        Args:
            codes: packed codes.
            file: where to; `FILE.partial` beside it is written first.
            fingerprint: of the bundle that made the codes, 64 hexadecimal digits.
            generation: of the gallery's codes.
            n_tables: how many tables; by default what is quickest for so many codes.

        Raises:
            CodesError: codes of the wrong type or shape; too long or too many for tables.
            OSError: the file cannot be written; a full disk is noticed before anything else is done.
        """
        codes, place = np.ascontiguousarray(check_codes(codes)), Path(file)
        n, n_bits = len(codes), codes.shape[1] * 8
        widths = key_widths(n_bits, n, n_tables)
        fill = mih_native.build if mih_native.available() else mih_numpy.build
        size = HEADER_SIZE + sum(_table_size(n_bits, n, bits) for bits in widths)
        beside = place.with_name(place.name + ".partial")
        descriptor = mapped_file.open_new(beside)
        try:
            os.posix_fallocate(descriptor, 0, size)  # a page that finds no room later kills the process
            mapped = mmap.mmap(descriptor, size)
            crcs, start = [], HEADER_SIZE
            for table in _lay_out(mapped, n_bits, n, widths):
                fill(table, codes)
                end = start + _table_size(n_bits, n, table.key_bits)
                crcs.append(_crc(mapped, start, end))
                start = end
            header = bytearray(HEADER_SIZE)
            first = mapped_file.header(MAGIC, n_bits, fingerprint, generation)
            header[: len(first)] = first
            _COUNTS.pack_into(header, len(first), n, zlib.crc32(codes.data) if n else 0, len(widths))
            for t, entry in enumerate(zip(widths, crcs, strict=True)):
                _ENTRY.pack_into(header, _entry(t), *entry)
            _CRC.pack_into(header, HEADER_SIZE - _CRC.size, zlib.crc32(header[: -_CRC.size]))
            mapped[:HEADER_SIZE] = bytes(header)
            mapped.flush()
            os.fsync(descriptor)
            os.replace(beside, place)
            fsync_folder(place.parent)
        except OSError as error:
            if error.filename is None:
                error.filename = os.fspath(place)
            raise
        finally:
            os.close(descriptor)
            with suppress(OSError):
                beside.unlink()
        return cls.open(place, n_bits=n_bits, fingerprint=fingerprint, generation=generation, n_rows=n)

    @classmethod
    def open(
        cls, file: str | os.PathLike[str], *, n_bits: int, fingerprint: str, generation: int, n_rows: int
    ) -> Tables:
        """Map the tables of a generation that has n_rows rows; nothing but the header is read.

        Raises:
            TablesError: there are none, or not of these codes, or they are damaged: build them again.
        """
        place = Path(file)
        try:
            descriptor = mapped_file.open_plain(place, os.O_RDONLY)
            try:
                header = os.pread(descriptor, HEADER_SIZE, 0)
                size = _size_told(header, place, n_bits, fingerprint, generation, n_rows)
                if (actual := os.fstat(descriptor).st_size) != size:
                    raise TablesError(f"{display_path(place)} has {actual:,} bytes, wanted {size:,}; {_BUILD}")
                mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise TablesError(f"{display_path(place)} is not there; {_BUILD}") from None
        except OSError as error:
            raise TablesError(f"{display_path(place)} cannot be read: {error.strerror}; {_BUILD}") from None
        return cls(place, n_bits, header, mapped)

    def distrust(self, why: str) -> None:
        """Use them no more: a search found them damaged."""
        self.problem = f"{display_path(self.file)} is damaged: {why}; {_BUILD}"

    def check(self, codes: PackedCodes) -> None:
        """Read all of the file and compare it with its checksums, and the codes with those it was made of.

        Shape: codes (at least n_rows, n_bits / 8) uint8.

        Raises:
            TablesError: something differs; build them again.
        """
        name, start = display_path(self.file), HEADER_SIZE
        for t, (table, crc) in enumerate(zip(self.tables, self._crcs, strict=True)):
            end = start + _table_size(self.n_bits, self.n_rows, table.key_bits)
            if (found := _crc(self._mapped, start, end)) != crc:
                raise TablesError(f"{name}: table {t} has the CRC-32 {found:08x}, wanted {crc:08x}; {_BUILD}")
            start = end
        crc = 0
        for part in blocks(self.n_rows):
            crc = zlib.crc32(np.ascontiguousarray(codes[part]).data, crc)
        if crc != self._codes_crc:
            raise TablesError(
                f"{name} was made of codes with the CRC-32 {self._codes_crc:08x}, not {crc:08x}; {_BUILD}"
            )


_BUILD = "a scan answers until the tables are built again"


def _entry(t: int) -> int:
    return mapped_file.HEADER_SIZE + _COUNTS.size + t * _ENTRY.size


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _parts(n_bits: int, n: int, key_bits: int) -> tuple[int, int, int]:
    """Bytes of the offsets, rows and codes of a table."""
    return _aligned(4 * (2**key_bits + 1)), _aligned(4 * n), _aligned(8 * words_per_code(n_bits) * n)


def _table_size(n_bits: int, n: int, key_bits: int) -> int:
    return sum(_parts(n_bits, n, key_bits))


def _lay_out(mapped: mmap.mmap, n_bits: int, n: int, widths: list[int] | tuple[int, ...]) -> list[Table]:
    """The arrays of all tables, in the file."""
    tables, at, first_bit, n_words = [], HEADER_SIZE, 0, words_per_code(n_bits)
    for bits in widths:
        offsets, rows, codes = _parts(n_bits, n, bits)
        tables.append(
            Table(
                first_bit,
                bits,
                np.frombuffer(mapped, "<u4", 2**bits + 1, at),
                np.frombuffer(mapped, "<u4", n, at + offsets),
                np.frombuffer(mapped, "<u8", n * n_words, at + offsets + rows).reshape(n, n_words),
            )
        )
        at += offsets + rows + codes
        first_bit += bits
    return tables


def _crc(mapped: mmap.mmap, start: int, end: int) -> int:
    with memoryview(mapped) as view, view[start:end] as part:
        return zlib.crc32(part)


def _size_told(header: bytes, place: Path, n_bits: int, fingerprint: str, generation: int, n_rows: int) -> int:
    """Check a header; return the size of the file that it tells of."""
    name = display_path(place)
    if len(header) < HEADER_SIZE or zlib.crc32(header[: -_CRC.size]) != _CRC.unpack_from(header, HEADER_SIZE - 4)[0]:
        raise TablesError(f"{name} has a damaged header; {_BUILD}")
    if header[: mapped_file.HEADER_SIZE] != mapped_file.header(MAGIC, n_bits, fingerprint, generation):
        raise TablesError(
            f"{name} is not of the {n_bits}-bit codes of generation {generation} of this gallery; {_BUILD}"
        )
    rows, _, n_tables = _COUNTS.unpack_from(header, mapped_file.HEADER_SIZE)
    if rows > n_rows:
        raise TablesError(f"{name} covers {rows:,} codes, of {n_rows:,}; {_BUILD}")
    widths = [_ENTRY.unpack_from(header, _entry(t))[0] for t in range(min(n_tables, MAX_TABLES))]
    good = n_tables == len(widths) and all(1 <= bits <= MAX_KEY_BITS for bits in widths)
    if not good or sum(widths) != n_bits or n_bits > MAX_BITS:
        raise TablesError(f"{name} tells of tables that are not of {n_bits}-bit codes; {_BUILD}")
    return HEADER_SIZE + sum(_table_size(n_bits, rows, bits) for bits in widths)
