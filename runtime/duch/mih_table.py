"""One table of multi-index hashing: the codes of an index once more, in the order of some of their bits.

The bits of a code are cut into one key a table; M. Norouzi, A. Punjani, D. J. Fleet, "Fast Exact Search in Hamming
Space with Multi-Index Hashing", IEEE TPAMI 36 (2014). runtime/native/mih.h says how bits are counted.

Shapes: n codes, w words in a code (64 bits each, the last filled up with zeros).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .codes import PackedCodes
from .errors import CodesError

Words = NDArray[np.uint64]

MAX_BITS = 512  # MIH_MAX_BYTES of mih.h; it pays up to 128, on clustered codes
MAX_ROWS = 2**32 - 1
MAX_TABLES = 64
MAX_KEY_BITS = 28
# Keys so long that a bucket would hold 2^3 codes if they were spread evenly. Microseconds a query on clustered codes:
# 64 bits, 1e5 codes in 4 / 5 / 6 tables 13.6 / 7.6 / 8.5, 1e6 in 3 / 4 / 5 tables 19.1 / 11.8 / 13.8, 1e7 in 3 / 4
# tables 19.3 / 21.4; 128 bits, 1e6 in 7 / 8 tables 41 / 37, 1e7 in 5 / 6 / 7 tables 134 / 86 / 83.
_FILL_BITS = 3


class DamagedTableError(Exception):
    """A table leads out of its arrays. `duch.mih` catches it and scans."""


@dataclass(frozen=True, eq=False)
class Table:
    """The arrays of one table, all little-endian.

    Attributes:
        first_bit: the key is this bit of a code and the key_bits - 1 bits after it, the first being the lowest.
        key_bits: bits in the key.
        offsets: (2^key_bits + 1,) uint32; bucket b is the positions offsets[b] to offsets[b + 1] - 1.
        rows: (n,) uint32, the row of the code at each position; they rise within a bucket.
        codes: (n, w) uint64, the code at each position.
    """

    first_bit: int
    key_bits: int
    offsets: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    codes: Words

    @cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Where offsets, rows and codes lie; NumPy takes a microsecond to tell of one."""
        return self.offsets.ctypes.data, self.rows.ctypes.data, self.codes.ctypes.data

    def keys_of(self, words: Words) -> NDArray[np.int64]:
        """The key of each code. Shape: (m, w) -> (m,)."""
        word, shift = divmod(self.first_bit, 64)
        keys = words[:, word] >> np.uint64(shift)
        if shift + self.key_bits > 64:
            keys = keys | (words[:, word + 1] << np.uint64(64 - shift))
        return (keys & np.uint64((1 << self.key_bits) - 1)).astype(np.int64)


def key_widths(n_bits: int, n: int, n_tables: int | None = None) -> tuple[int, ...]:
    """Bits of the key of each table, all the n_bits together.

    Args:
        n_bits: length of a code.
        n: number of codes.
        n_tables: how many tables; by default what is quickest for so many codes.

    Raises:
        CodesError: no tables can be made of codes so long or so many, or not this number of tables.
    """
    if sys.byteorder != "little":
        raise CodesError("multi-index hashing needs a little-endian processor; search with the method scan")
    if n_bits > MAX_BITS:
        raise CodesError(
            f"codes have {n_bits} bits; multi-index hashing takes up to {MAX_BITS}, so use the method scan"
        )
    if n > MAX_ROWS:
        raise CodesError(f"{n} codes; multi-index hashing takes up to {MAX_ROWS}, so use the method scan")
    fewest, most = -(-n_bits // MAX_KEY_BITS), min(n_bits, MAX_TABLES)
    if n_tables is None:
        n_tables = min(max(round(n_bits / max(math.log2(max(n, 1)) - _FILL_BITS, 8)), fewest, 1), most)
    if not fewest <= n_tables <= most:
        raise CodesError(f"{n_tables} tables of {n_bits}-bit codes; wanted {fewest} to {most}")
    return tuple((n_bits * (t + 1)) // n_tables - (n_bits * t) // n_tables for t in range(n_tables))


def words_per_code(n_bits: int) -> int:
    """How many words of 64 bits hold a code."""
    return -(-n_bits // 64)


def as_words(codes: PackedCodes) -> Words:
    """Codes as little-endian words, zeros after the last byte. Shape: (m, n_bits / 8) uint8 -> (m, w)."""
    width = words_per_code(codes.shape[1] * 8) * 8
    if width == codes.shape[1]:
        return np.ascontiguousarray(codes).view("<u8")
    padded = np.zeros((len(codes), width), dtype=np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view("<u8")


def blocks(n: int, size: int = 1 << 20) -> Iterator[slice]:
    """Slices that cover n rows one after another."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
