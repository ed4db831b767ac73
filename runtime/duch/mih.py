"""Exact search by multi-index hashing in the tables of an index, and by a scan where the tables do not pay.

A query goes to the tables with the time of a scan as its budget. Where it is expected to take longer it is scanned for,
together with the others of its batch that gave up. Rows that came after the tables were built are scanned for every
query, and the hits of both merged.

Shapes: n codes, q queries, k hits wanted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import hamming, mih_native, mih_numpy, native
from .allowed_rows import AllowedRows, Rows
from .codes import PackedCodes
from .hamming import Distances
from .mih_table import DamagedTableError, words_per_code
from .tables import Tables

# Nanoseconds that a scan takes for a word of 64 bits of a code, fitted to 64 bits at 1e6 and 1e7 rows on the machine of
# mih.c: for each query of a batch, and once for all of them; a query alone takes another way through the codes.
# Measured with 256 / 16 / 1 queries: AVX-512 .042 / .084-.107 / .28-.5, AVX2 .095 / .165-.2 / .35-.55, NumPy .5-.8.
_COMPARE_NS = {"avx512": 0.04, "avx2": 0.1, "neon": 0.3, "portable": 0.6, native.NUMPY: 0.6}
_SHARED_NS, _ALONE_NS = 0.8, 0.4
# The same for a row of a mask that allows not all of them, once for all queries: 6 where half of them are, 80 for 1 %.
_PICK_NS = 15
# The least that the tables take for a query and for a call: where a scan takes less they are not asked.
_LEAST_NS, _CALL_NS = 10_000, 40_000
# Queries below which a scan has more use of threads, as it shares the rows of one query among them.
_FEW_QUERIES = 16
# Room for the hits of a radius search. A query that has more is asked again: most have few.
_FIRST_ROOM, _ROOM_GROWTH, _ROOM_LIMIT = 256, 16, 1 << 22
_DAMAGE = "a search led out of its arrays, to another code than that of the row, or to a row twice"


def top_k(
    codes: PackedCodes,
    tables: Tables,
    queries: PackedCodes,
    k: int,
    allowed: AllowedRows | None,
    *,
    threads: int,
    always: bool,
) -> tuple[Distances, Rows]:
    """The k nearest rows of every query, in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> distances and rows, both (q, k).
    k is 1 to the number of allowed rows. always: no query is given up.
    """
    try:
        distances, rows, found = _search(codes, tables, queries, k, None, allowed, threads, always)
        done = np.flatnonzero(found != mih_numpy.GAVE_UP)
        tail, tail_allowed = _tail(codes, tables, allowed)
        n_tail = len(tail) if tail_allowed is None else tail_allowed.count
        if len(done) and (n_tail or (found[done] < k).any()):
            late = hamming.top_k(tail, queries[done], min(k, n_tail), tail_allowed, threads=threads)
            unused = np.arange(k) >= found[done, None]
            distances[done], rows[done] = _merged(distances[done], rows[done], unused, *late, tables.n_rows)
    except DamagedTableError:
        tables.distrust(_DAMAGE)
        return hamming.top_k(codes, queries, k, allowed, threads=threads)
    rest = np.flatnonzero(found == mih_numpy.GAVE_UP)
    if len(rest):
        distances[rest], rows[rest] = hamming.top_k(codes, queries[rest], k, allowed, threads=threads)
    return distances, rows


def within_radius(
    codes: PackedCodes,
    tables: Tables,
    queries: PackedCodes,
    radius: int,
    allowed: AllowedRows | None,
    *,
    threads: int,
    always: bool,
) -> list[tuple[Distances, Rows]]:
    """Every row at most `radius` bits away, for each query in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> q pairs of distances (m,) and rows (m,).
    always: no query is given up.
    """
    radius = min(radius, codes.shape[1] * 8)
    results: dict[int, tuple[Distances, Rows]] = {}
    left, room = np.arange(len(queries)), min(_FIRST_ROOM, tables.n_rows) + 1
    rest: list[int] = []
    try:
        while len(left):
            full: list[int] = []
            group = max(1, _ROOM_LIMIT // room)
            for some in (left[start : start + group] for start in range(0, len(left), group)):
                distances, rows, found = _search(codes, tables, queries[some], room, radius, allowed, threads, always)
                for i, query in enumerate(some.tolist()):
                    if found[i] == mih_numpy.GAVE_UP:
                        rest.append(query)
                    elif found[i] == room:
                        full.append(query)
                    else:
                        results[query] = (distances[i, : found[i]].copy(), rows[i, : found[i]].copy())
            left, room = np.array(full, dtype=np.int64), min(room * _ROOM_GROWTH, tables.n_rows + 1)
        tail, tail_allowed = _tail(codes, tables, allowed)
        if len(tail) and results:
            done = list(results)
            late = hamming.within_radius(tail, queries[done], radius, tail_allowed, threads=threads)
            for query, (distances, rows) in zip(done, late, strict=True):
                if len(rows):
                    results[query] = _joined(*results[query], distances, rows + tables.n_rows)
    except DamagedTableError:
        tables.distrust(_DAMAGE)
        return hamming.within_radius(codes, queries, radius, allowed, threads=threads)
    if rest:
        found_by_scan = hamming.within_radius(codes, queries[rest], radius, allowed, threads=threads)
        results.update(zip(rest, found_by_scan, strict=True))
    return [results[query] for query in range(len(queries))]


def _search(
    codes: PackedCodes,
    tables: Tables,
    queries: PackedCodes,
    k: int,
    radius: int | None,
    allowed: AllowedRows | None,
    threads: int,
    always: bool,
) -> tuple[Distances, Rows, NDArray[np.int64]]:
    """What the tables find."""
    threads = native.thread_count(threads)
    budget = math.inf if always else _scan_ns(tables, len(queries), allowed, threads)
    if budget < _LEAST_NS + _CALL_NS / max(len(queries), 1):
        hits = np.empty((len(queries), k), dtype=np.int64)
        return hits.astype(np.int32), hits, np.full(len(queries), mih_numpy.GAVE_UP)
    search = mih_native.search if mih_native.available() else mih_numpy.search
    return search(
        tables.tables,
        codes,
        np.ascontiguousarray(queries),
        k,
        max_distance=codes.shape[1] * 8 if radius is None else radius,
        allow=None if allowed is None else _bitmap(allowed),
        budget_ns=budget,
        threads=threads,
    )


def _bitmap(allowed: AllowedRows) -> NDArray[np.uint8]:
    if allowed.rows is None:
        return allowed.bitmap
    mask = np.zeros(allowed.n, dtype=np.bool_)
    mask[allowed.rows] = True
    return np.packbits(mask, bitorder="little")


def _scan_ns(tables: Tables, n_queries: int, allowed: AllowedRows | None, threads: int) -> float:
    """Nanoseconds that one query of a batch would take in a scan of the rows that the tables cover."""
    compare, n_queries = _COMPARE_NS[native.level()], max(n_queries, 1)
    spread = threads if n_queries < _FEW_QUERIES else 1
    n_words = words_per_code(tables.n_bits)
    if allowed is not None and allowed.count < allowed.n:
        return allowed.count * (n_words * compare + _PICK_NS / n_queries) / spread
    word = max(compare, min(compare + _SHARED_NS / n_queries, _ALONE_NS))
    return tables.n_rows * n_words * word / spread


def _tail(codes: PackedCodes, tables: Tables, allowed: AllowedRows | None) -> tuple[PackedCodes, AllowedRows | None]:
    """The rows that came after the tables, and which of them may be found."""
    tail = codes[tables.n_rows :]
    return tail, None if allowed is None else allowed.after(tables.n_rows)


def _merged(
    distances: Distances, rows: Rows, unused: NDArray[np.bool_], late_distances: Distances, late_rows: Rows, first: int
) -> tuple[Distances, Rows]:
    """The k nearest of hits in the tables and hits after them, whose rows count from `first`.

    Shape: distances, rows and unused (q, k), late_distances and late_rows (q, l) -> both (q, k).
    """
    nowhere = np.iinfo(np.int32).max
    both = np.concatenate([np.where(unused, nowhere, distances), late_distances], axis=1)
    # Sorted by distance alone: late rows stand behind, and come later in the order as well.
    order = np.argsort(both, axis=1, kind="stable")[:, : distances.shape[1]]
    best = np.take_along_axis(both, order, axis=1)
    if (best == nowhere).any():
        raise DamagedTableError  # fewer rows in the tables than they say
    return best, np.take_along_axis(np.concatenate([rows, late_rows + first], axis=1), order, axis=1)


def _joined(distances: Distances, rows: Rows, late_distances: Distances, late_rows: Rows) -> tuple[Distances, Rows]:
    """All hits of one query in the tables and after them, in order."""
    both = np.concatenate([distances, late_distances])
    order = np.argsort(both, kind="stable")
    return both[order], np.concatenate([rows, late_rows])[order]
