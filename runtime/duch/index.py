"""Exact search in packed codes held in memory or in a mapped file.

The order of results is always (distance, row), so the same question has one answer on every machine.

Shapes: n codes, q queries.
"""

from __future__ import annotations

import operator
from typing import Literal, SupportsIndex

from numpy.typing import ArrayLike

from . import hamming, mih
from .allowed_rows import AllowedRows
from .codes import PackedCodes, check_codes
from .errors import CodesError
from .hamming import Distances, Rows
from .tables import Tables

Method = Literal["auto", "scan", "mih"]


class HammingIndex:
    """Nearest packed codes by Hamming distance: exact, with ties in row order.

    Example:
        >>> index = HammingIndex(np.array([[0b0000_0000], [0b0000_0111], [0b0000_0001]], dtype=np.uint8))
        >>> distances, rows = index.search(np.array([[0]], dtype=np.uint8), 2)
        >>> distances.tolist(), rows.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(self, codes: PackedCodes, *, threads: SupportsIndex = 0, tables: Tables | None = None) -> None:
        """Search in these codes, which are kept as they are: an array or a memory map is never copied whole.

        Shape: codes (n, n_bits / 8) uint8; n may be 0.

        Args:
            codes: packed codes.
            threads: how many threads a search may take; 0 for one a core. They hold no lock of Python's, and
                several threads may search in one index.
            tables: of multi-index hashing over the first of these codes (`Tables.build`). The results are the same.

        Raises:
            CodesError: wrong type, number of dimensions or width; threads below 0; tables of other codes; with tables,
                codes with gaps between their rows.
        """
        self._codes = check_codes(codes)
        self._threads = _whole_number(threads, "threads")
        if self._threads < 0:
            raise CodesError(f"threads is {self._threads}; wanted 0, for one a core, or more")
        if tables is not None and (tables.n_bits != self.n_bits or tables.n_rows > len(self)):
            raise CodesError(
                f"tables of {tables.n_rows} codes of {tables.n_bits} bits; wanted at most {len(self)} of {self.n_bits}"
            )
        if tables is not None and not self._codes.flags.c_contiguous:
            raise CodesError("codes lie in memory with gaps between their rows; wanted none, to search in tables")
        self._tables = tables

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def n_bits(self) -> int:
        """Length of a code, in bits."""
        return int(self._codes.shape[1]) * 8

    @property
    def tables_problem(self) -> str | None:
        """What a search found wrong with the tables, which are not used since; None if nothing is known."""
        return None if self._tables is None else self._tables.problem

    def search(
        self,
        queries: PackedCodes,
        k: SupportsIndex,
        *,
        allow: ArrayLike | AllowedRows | None = None,
        method: Method = "auto",
    ) -> tuple[Distances, Rows]:
        """The k nearest codes of each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> distances (q, k') int32 in bits, rows (q, k') int64, where k' is the
        smaller of k and the number of allowed codes: an empty index gives (q, 0).

        Args:
            queries: packed codes of the same width.
            k: how many, at least 1.
            allow: the codes that may be found, all of them by default: bool (n,), or their rows, int64 (m,) and
                strictly rising, or what `mask` made of either.
            method: scan; mih, multi-index hashing in the tables; or auto, whichever is expected to be quicker. The
                results are the same.

        Raises:
            CodesError: k below 1; queries or mask of the wrong type, shape or width; no such method, or mih without
                tables.
        """
        wanted = _whole_number(k, "k")
        if wanted < 1:
            raise CodesError(f"k is {wanted}; wanted at least 1")
        checked = check_codes(queries, self.n_bits)
        allowed = self._allowed(allow)
        reachable = len(self) if allowed is None else allowed.count
        tables, hits = self._tables_for(method, allowed), min(wanted, reachable)
        if tables is not None and hits:
            always = method == "mih"
            return mih.top_k(self._codes, tables, checked, hits, allowed, threads=self._threads, always=always)
        return hamming.top_k(self._codes, checked, hits, allowed, threads=self._threads)

    def search_radius(
        self,
        queries: PackedCodes,
        radius: SupportsIndex,
        *,
        allow: ArrayLike | AllowedRows | None = None,
        method: Method = "auto",
    ) -> list[tuple[Distances, Rows]]:
        """Every code at distance <= radius from each query, in the order (distance, row).

        Shape: queries (q, n_bits / 8) uint8 -> q pairs of distances (m,) int32 in bits and rows (m,) int64.

        Args:
            queries: packed codes of the same width.
            radius: largest distance, in bits; 0 finds equal codes.
            allow: the codes that may be found, all of them by default: bool (n,), or their rows, int64 (m,) and
                strictly rising, or what `mask` made of either.
            method: scan; mih, multi-index hashing in the tables; or auto, whichever is expected to be quicker. The
                results are the same.

        Raises:
            CodesError: radius below 0; queries or mask of the wrong type, shape or width; no such method, or mih
                without tables.
        """
        limit = _whole_number(radius, "radius")
        if limit < 0:
            raise CodesError(f"radius is {limit}; wanted at least 0")
        checked, allowed = check_codes(queries, self.n_bits), self._allowed(allow)
        tables = self._tables_for(method, allowed)
        if tables is not None:
            always = method == "mih"
            return mih.within_radius(self._codes, tables, checked, limit, allowed, threads=self._threads, always=always)
        return hamming.within_radius(self._codes, checked, limit, allowed, threads=self._threads)

    def mask(self, allow: ArrayLike) -> AllowedRows:
        """Prepare what a search may find, for use in many searches: checking and packing it costs time.

        Shape: bool (n,), True for the codes that may be found, or int64 (m,), their rows strictly rising. Neither may
        change afterwards.

        Raises:
            CodesError: another type or shape; rows that do not rise or are not there.
        """
        return AllowedRows.of(allow, len(self))

    def _tables_for(self, method: Method, allowed: AllowedRows | None) -> Tables | None:
        """The tables to search in, or None to scan."""
        if method not in ("auto", "scan", "mih"):
            raise CodesError(f"method is {method!r}; wanted auto, scan or mih")
        tables = self._tables if self.tables_problem is None else None
        if method == "mih":
            if tables is None:
                raise CodesError(f"method is mih; {self.tables_problem or 'there are no tables of these codes'}")
            return tables
        # Listed rows are few, so that a scan reads little.
        listed = allowed is not None and allowed.rows is not None
        return None if method == "scan" or listed else tables

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
