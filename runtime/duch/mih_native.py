"""Multi-index hashing by the native library; runtime/native/mih.h says what its functions do.

Shapes: n rows, q queries, k hits wanted.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import native
from .allowed_rows import Rows
from .codes import PackedCodes
from .hamming_numpy import Distances
from .mih_table import DamagedTableError, Table

# The statuses of mih.h.
_OK, _DAMAGED = 0, 2


class _Table(ctypes.Structure):
    """mih_table of mih.h."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("first_bit", ctypes.c_int32),
        ("key_bits", ctypes.c_int32),
    )


class _Index(ctypes.Structure):
    """mih_index of mih.h."""

    _fields_ = (
        ("tables", ctypes.c_void_p),
        ("n_tables", ctypes.c_int32),
        ("n_bytes", ctypes.c_int32),
        ("n_rows", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("allow", ctypes.c_void_p),
    )


def available() -> bool:
    """Whether the library is there and wanted."""
    return native.library() is not None


def build(table: Table, codes: PackedCodes) -> None:
    """Fill the arrays of a table. Shape: codes (n, n_bits / 8), contiguous."""
    pointers = _pointers(table)
    _check(_library().mih_build(ctypes.byref(pointers), codes.ctypes.data, *codes.shape))


def search(
    tables: Sequence[Table],
    codes: PackedCodes,
    queries: PackedCodes,
    k: int,
    *,
    max_distance: int,
    allow: NDArray[np.uint8] | None,
    budget_ns: float,
    threads: int,
) -> tuple[Distances, Rows, NDArray[np.int64]]:
    """The k nearest of the rows that the tables cover, in the order (distance, row).

    Shape: codes (at least n, n_bits / 8) and queries (q, n_bits / 8), contiguous; allow (at least n / 8,), bits ->
    distances and rows (q, k), found (q,): how many of them are hits, or -1 for a query that was given up.

    Raises:
        DamagedTableError: a table leads out of its arrays, to another code than that of the row, or to a row twice.
    """
    pointers = (_Table * len(tables))(*(_pointers(table) for table in tables))
    index = _Index(
        *(ctypes.addressof(pointers), len(tables), codes.shape[1], len(tables[0].rows)),
        *(codes.ctypes.data, None if allow is None else allow.ctypes.data),
    )
    distances = np.empty((len(queries), k), dtype=np.int32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    found = np.empty(len(queries), dtype=np.int64)
    _check(
        _library().mih_search(
            *(ctypes.byref(index), queries.ctypes.data, len(queries), k, max_distance, budget_ns, threads),
            *(distances.ctypes.data, rows.ctypes.data, found.ctypes.data),
        )
    )
    return distances, rows, found


def _library() -> ctypes.CDLL:
    # Not native.library(): since the caller asked available() another thread may have chosen NumPy.
    library = native.load()
    if library is None:
        raise RuntimeError("the native library was asked for and is not there")  # the caller asks available()
    return library


def _pointers(table: Table) -> _Table:
    return _Table(*table.addresses, table.first_bit, table.key_bits)


def _check(status: int) -> None:
    if status == _DAMAGED:
        raise DamagedTableError
    if status != _OK:
        raise RuntimeError(f"the native search refused its arguments (status {status})")  # the caller has checked them
