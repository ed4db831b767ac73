"""Exact search in packed codes held in memory or in a mapped file.

The order of results is always (distance, row), so the same question has one answer on every machine.

Shapes: n codes, q queries.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

from numpy.typing import ArrayLike

from . import hamming
from .allowed_rows import AllowedRows
from .codes import PackedCodes, check_codes
from .errors import CodesError
from .hamming import Distances, Rows


class HammingIndex:
    """Nearest packed codes by Hamming distance: exact, with ties in row order.

    Example:
        >>> index = HammingIndex(np.array([[0b0000_0000], [0b0000_0111], [0b0000_0001]], dtype=np.uint8))
        >>> distances, rows = index.search(np.array([[0]], dtype=np.uint8), 2)
        >>> distances.tolist(), rows.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(self, codes: PackedCodes, *, threads: SupportsIndex = 0) -> None:
        """Search in these codes, which are kept as they are: an array or a memory map is never copied whole.

        Shape: codes (n, n_bits / 8) uint8; n may be 0.

        Args:
            codes: packed codes.
            threads: how many threads a search may take; 0 for one a core. They hold no lock of Python's, and
                several threads may search in one index.

        Raises:
            CodesError: wrong type, number of dimensions or width; threads below 0.
        """
        self._codes = check_codes(codes)
        self._threads = _whole_number(threads, "threads")
        if self._threads < 0:
            raise CodesError(f"threads is {self._threads}; wanted 0, for one a core, or more")

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def n_bits(self) -> int:
        """Length of a code, in bits."""
        return int(self._codes.shape[1]) * 8

    def search(
        self, queries: PackedCodes, k: SupportsIndex, *, allow: ArrayLike | AllowedRows | None = None
    ) -> tuple[Distances, Rows]:
        """The k nearest codes of each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> distances (q, k') int32 in bits, rows (q, k') int64, where k' is the
        smaller of k and the number of allowed codes: an empty index gives (q, 0).

        Args:
            queries: packed codes of the same width.
            k: how many, at least 1.
            allow: the codes that may be found, all of them by default: bool (n,), or their rows, int64 (m,) and
                strictly rising, or what `mask` made of either.

        Raises:
            CodesError: k below 1; queries or mask of the wrong type, shape or width.
        """
        wanted = _whole_number(k, "k")
        if wanted < 1:
            raise CodesError(f"k is {wanted}; wanted at least 1")
        checked = check_codes(queries, self.n_bits)
        allowed = self._allowed(allow)
        reachable = len(self) if allowed is None else allowed.count
        return hamming.top_k(self._codes, checked, min(wanted, reachable), allowed, threads=self._threads)

    def search_radius(
        self, queries: PackedCodes, radius: SupportsIndex, *, allow: ArrayLike | AllowedRows | None = None
    ) -> list[tuple[Distances, Rows]]:
        """Every code at distance <= radius from each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> q pairs of distances (m,) int32 in bits and rows (m,) int64.

        Args:
            queries: packed codes of the same width.
            radius: largest distance, in bits; 0 finds equal codes.
            allow: the codes that may be found, all of them by default: bool (n,), or their rows, int64 (m,) and
                strictly rising, or what `mask` made of either.

        Raises:
            CodesError: radius below 0; queries or mask of the wrong type, shape or width.
        """
        limit = _whole_number(radius, "radius")
        if limit < 0:
            raise CodesError(f"radius is {limit}; wanted at least 0")
        checked, allowed = check_codes(queries, self.n_bits), self._allowed(allow)
        return hamming.within_radius(self._codes, checked, limit, allowed, threads=self._threads)

    def mask(self, allow: ArrayLike) -> AllowedRows:
        """Prepare what a search may find, for use in many searches: checking and packing it costs time.

        Shape: bool (n,), True for the codes that may be found, or int64 (m,), their rows strictly rising. Neither may
        change afterwards.

        Raises:
            CodesError: another type or shape; rows that do not rise or are not there.
        """
        return AllowedRows.of(allow, len(self))

    def _allowed(self, allow: ArrayLike | AllowedRows | None) -> AllowedRows | None:
        if allow is None:
            return None
        if not isinstance(allow, AllowedRows):
            return self.mask(allow)
        if allow.n != len(self):
            raise CodesError(f"allow was made for {allow.n} codes; wanted {len(self)}, as many as there are here")
        return allow


def _whole_number(value: SupportsIndex, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise CodesError(f"{name} is {value!r}; wanted a whole number") from None
