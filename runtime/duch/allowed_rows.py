"""Which rows of an index a search may find, in the forms that the kernels read.

Shapes: n codes, m of them allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import CodesError

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AllowedRows:
    """The rows that may be found: a mask of all rows, or a list of some; `HammingIndex.mask` makes one.

    Attributes:
        n: rows of the index.
        count: rows that may be found.
        mask: (n,) bool, or None if the rows are listed.
        rows: (m,) int64, strictly rising, or None if there is a mask.
    """

    n: int
    count: int
    mask: Mask | None
    rows: Rows | None

    @classmethod
    def of(cls, allow: ArrayLike, n: int) -> AllowedRows:
        """Check what a caller allows of n rows.

        Shape: bool (n,), True for the rows that may be found, or int64 (m,), those rows strictly rising.

        Raises:
            CodesError: another type or shape; rows that do not rise or are not there.
        """
        given = np.asarray(allow)
        if given.dtype == np.bool_ and given.shape == (n,):
            return cls(n, int(np.count_nonzero(given)), given, None)
        if given.dtype != np.int64 or given.ndim != 1:
            raise CodesError(
                f"allow is {given.dtype} {given.shape}; wanted bool ({n},), one for each code, or int64 (m,), rows"
            )
        rows = np.ascontiguousarray(given)
        if len(rows) and (rows[0] < 0 or rows[-1] >= n or (rows[1:] <= rows[:-1]).any()):
            raise CodesError(f"allow lists rows that do not rise from one to the next or are not in 0 to {n - 1}")
        return cls(n, len(rows), None, rows)

    @cached_property
    def bitmap(self) -> NDArray[np.uint8]:
        """The mask as bits, row r in bit r % 8 of byte r // 8. Shape: (ceil(n / 8),)."""
        # Kept, as packing ten million rows costs more than some searches.
        return np.packbits(np.empty(0, np.bool_) if self.mask is None else self.mask, bitorder="little")

    def after(self, first: int) -> AllowedRows:
        """Those of the rows from `first` on, counted from there."""
        if self.rows is not None:
            rows = self.rows[np.searchsorted(self.rows, first) :] - first
            return AllowedRows(self.n - first, len(rows), None, rows)
        return AllowedRows.of(np.empty(0, np.bool_) if self.mask is None else self.mask[first:], self.n - first)
