"""Exact Hamming search over packed codes: the native kernels where there are any, else NumPy; the results are the same.

The arguments are checked by `duch.index.HammingIndex`.

Shapes: n codes, q queries, k hits wanted.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from . import hamming_numpy, native
from .allowed_rows import AllowedRows, Mask, Rows
from .codes import PackedCodes
from .hamming_numpy import Distances

__all__ = ["Distances", "Mask", "Rows", "top_k", "within_radius"]

# HAMMING_MAX_BYTES and the statuses of hamming.h.
MAX_NATIVE_BYTES = 8191
_OK, _NO_MEMORY = 0, 2
# Room for the results of a radius search. A query that has more is asked again: most have few.
_FIRST_CAPACITY = 1_024
_RADIUS_BATCH = 256


def top_k(
    codes: PackedCodes, queries: PackedCodes, k: int, allowed: AllowedRows | None, *, threads: int = 0
) -> tuple[Distances, Rows]:
    """The k nearest rows of every query, in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> distances and rows, both (q, k).
    k is at most the number of allowed rows. threads: 0 for one a core; NumPy takes one.
    """
    library = _library_for(codes)
    if library is None:
        return hamming_numpy.top_k(codes, queries, k, allowed)
    distances = np.empty((len(queries), k), dtype=np.int32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    if k:
        queries = np.ascontiguousarray(queries)
        _check(
            library.hamming_top_k(
                *(_gallery(codes, allowed), queries.ctypes.data, len(queries), k, native.thread_count(threads)),
                *(distances.ctypes.data, rows.ctypes.data),
            )
        )
    return distances, rows


def within_radius(
    codes: PackedCodes, queries: PackedCodes, radius: int, allowed: AllowedRows | None, *, threads: int = 0
) -> list[tuple[Distances, Rows]]:
    """Every row at most `radius` bits away, for each query in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> q pairs of distances (m,) and rows (m,).
    threads: 0 for one a core; NumPy takes one.
    """
    library = _library_for(codes)
    if library is None:
        return hamming_numpy.within_radius(codes, queries, radius, allowed)
    gallery, limit = _gallery(codes, allowed), min(radius, codes.shape[1] * 8)

    def search(some: PackedCodes, capacity: int) -> tuple[Distances, Rows, NDArray[np.int64]]:
        distances = np.empty((len(some), capacity), dtype=np.int32)
        rows = np.empty((len(some), capacity), dtype=np.int64)
        found = np.empty(len(some), dtype=np.int64)
        _check(
            library.hamming_within(
                *(gallery, some.ctypes.data, len(some), limit, native.thread_count(threads), capacity),
                *(distances.ctypes.data, rows.ctypes.data, found.ctypes.data),
            )
        )
        return distances, rows, found

    queries, results = np.ascontiguousarray(queries), []
    for start in range(0, len(queries), _RADIUS_BATCH):
        some = queries[start : start + _RADIUS_BATCH]
        distances, rows, found = search(some, min(_FIRST_CAPACITY, len(codes)))
        for i, count in enumerate(found.tolist()):
            if count <= distances.shape[1]:
                results.append((distances[i, :count].copy(), rows[i, :count].copy()))
            else:
                alone = search(some[i : i + 1], count)
                results.append((alone[0][0], alone[1][0]))
    return results


def _library_for(codes: PackedCodes) -> ctypes.CDLL | None:
    # The kernels read rows without gaps; a view with gaps is not worth a copy of the gallery.
    fits = codes.flags.c_contiguous and codes.shape[1] <= MAX_NATIVE_BYTES
    return native.library() if fits else None


def _gallery(codes: PackedCodes, allowed: AllowedRows | None) -> native.Gallery:
    allow = rows = None
    if allowed is not None:
        allow = allowed.bitmap if allowed.rows is None else None
        rows = allowed.rows
    gallery = native.Gallery(
        codes.ctypes.data,
        *codes.shape,
        None if allow is None else allow.ctypes.data,
        None if rows is None else rows.ctypes.data,
        0 if rows is None else len(rows),
    )
    gallery.arrays = (codes, allow, rows)  # lives as long as the addresses are used
    return gallery


def _check(status: int) -> None:
    if status == _NO_MEMORY:
        raise MemoryError("no memory for the scratch of a search; ask for fewer hits at a time")
    if status != _OK:
        raise RuntimeError(f"the native search refused its arguments (status {status})")  # the caller has checked them
