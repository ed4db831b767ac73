"""Exact search in packed codes held in memory or in a mapped file.

The order of results is always (distance, row), so the same question has one answer on every machine.

Shapes: n codes, q queries.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import hamming
from .codes import PackedCodes, check_codes
from .errors import CodesError
from .hamming import Distances, Mask, Rows


class HammingIndex:
    """Nearest packed codes by Hamming distance: exact, with ties in row order.

    Example:
        >>> index = HammingIndex(np.array([[0b0000_0000], [0b0000_0111], [0b0000_0001]], dtype=np.uint8))
        >>> distances, rows = index.search(np.array([[0]], dtype=np.uint8), 2)
        >>> distances.tolist(), rows.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(self, codes: PackedCodes) -> None:
        """Search in these codes, which are kept as they are: an array or a memory map is never copied whole.

        Shape: codes (n, n_bits / 8) uint8; n may be 0.

        Raises:
            CodesError: wrong type, number of dimensions or width.
        """
        self._codes = check_codes(codes)

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def n_bits(self) -> int:
        """Length of a code, in bits."""
        return int(self._codes.shape[1]) * 8

    def search(
        self, queries: PackedCodes, k: SupportsIndex, *, allow: ArrayLike | None = None
    ) -> tuple[Distances, Rows]:
        """The k nearest codes of each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> distances (q, k') int32 in bits, rows (q, k') int64, where k' is the
        smaller of k and the number of allowed codes: an empty index gives (q, 0).

        Args:
            queries: packed codes of the same width.
            k: how many, at least 1.
            allow: bool (n,), True for the codes that may be found; all of them by default.

        Raises:
            CodesError: k below 1; queries or mask of the wrong type, shape or width.
        """
        wanted = _whole_number(k, "k")
        if wanted < 1:
            raise CodesError(f"k is {wanted}; wanted at least 1")
        checked = check_codes(queries, self.n_bits)
        mask = self._mask(allow)
        reachable = len(self) if mask is None else int(np.count_nonzero(mask))
        return hamming.top_k(self._codes, checked, min(wanted, reachable), mask)

    def search_radius(
        self, queries: PackedCodes, radius: SupportsIndex, *, allow: ArrayLike | None = None
    ) -> list[tuple[Distances, Rows]]:
        """Every code at distance <= radius from each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> q pairs of distances (m,) int32 in bits and rows (m,) int64.

        Args:
            queries: packed codes of the same width.
            radius: largest distance, in bits; 0 finds equal codes.
            allow: bool (n,), True for the codes that may be found; all of them by default.

        Raises:
            CodesError: radius below 0; queries or mask of the wrong type, shape or width.
        """
        limit = _whole_number(radius, "radius")
        if limit < 0:
            raise CodesError(f"radius is {limit}; wanted at least 0")
        return hamming.within_radius(self._codes, check_codes(queries, self.n_bits), limit, self._mask(allow))

    def _mask(self, allow: ArrayLike | None) -> Mask | None:
        if allow is None:
            return None
        mask = np.asarray(allow)
        if mask.dtype != np.bool_ or mask.shape != (len(self),):
            raise CodesError(f"allow is {mask.dtype} {mask.shape}; wanted bool ({len(self)},), one for each code")
        return mask


def _whole_number(value: SupportsIndex, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise CodesError(f"{name} is {value!r}; wanted a whole number") from None
