"""Exact Hamming search over packed codes in NumPy, for where there is no native library; `duch.hamming` chooses.

Rows are read in blocks small enough to stay in the second-level cache while every query of the batch passes over them.
A query keeps its k best so far; once it has k, a block counts only where it holds something strictly nearer, because
a later row at the same distance comes later in the order (distance, row).

Shapes: n codes, q queries, w words in a code (the widest unsigned integers that divide its bytes), k hits wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .allowed_rows import AllowedRows, Rows
from .codes import PackedCodes

Distances = NDArray[np.int32]
_Counts = NDArray[Any]  # uint8; uint16 from 256 bits on, uint32 from 65536: distances of one block

# Rows in a block. 64-bit codes measured at 8k / 16k / 32k / 64k / 128k rows: .60 / .55 / .47 / .49 / .56 ns a code.
BLOCK_ROWS = 32_768
# The first block is small, as all of it must be sorted to find a first k-th distance; blocks then grow to full size.
FIRST_BLOCK_ROWS = 1_024
BLOCK_GROWTH = 8


def top_k(codes: PackedCodes, queries: PackedCodes, k: int, allowed: AllowedRows | None) -> tuple[Distances, Rows]:
    """The k nearest rows of every query, in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> distances and rows, both (q, k).
    k is at most the number of allowed rows; the arguments are checked by the caller.
    """
    best = [_Best(k, codes.shape[1] * 8) for _ in range(len(queries))]
    for query, rows, distances in _scan(codes, queries, allowed):
        best[query].offer(rows, distances)
    out_distances = np.empty((len(queries), k), dtype=np.int32)
    out_rows = np.empty((len(queries), k), dtype=np.int64)
    for query, found in enumerate(best):
        out_distances[query], out_rows[query] = found.result()
    return out_distances, out_rows


def within_radius(
    codes: PackedCodes, queries: PackedCodes, radius: int, allowed: AllowedRows | None
) -> list[tuple[Distances, Rows]]:
    """Every row at most `radius` bits away, for each query in the order (distance, row).

    Shape: codes (n, n_bits / 8), queries (q, n_bits / 8) -> q pairs of distances (m,) and rows (m,).
    """
    best = [_Best(len(codes), radius) for _ in range(len(queries))]
    for query, rows, distances in _scan(codes, queries, allowed):
        best[query].offer(rows, distances)
    return [found.result() for found in best]


class _Best:
    """The nearest rows that one query has met: at most k of them, none farther than `limit` bits."""

    def __init__(self, k: int, limit: int) -> None:
        self._k = k
        self._limit = limit
        self._count = 0
        self._distances: list[_Counts] = []
        self._rows: list[Rows] = []

    def offer(self, rows: Rows | int, distances: _Counts) -> None:
        """Take what is near enough from a block: `rows` are its row numbers, or the first of consecutive ones."""
        if self._limit < 0 or distances.min() > self._limit:
            return  # what most blocks come to, so it is the cheapest question that settles it
        near = np.flatnonzero(distances <= self._limit)
        self._distances.append(distances[near])
        self._rows.append(near + rows if isinstance(rows, int) else rows[near])
        self._count += len(near)
        if self._count >= self._k:
            self._keep_k()

    def _keep_k(self) -> None:
        distances, rows = np.concatenate(self._distances), np.concatenate(self._rows)
        # Rows come in rising order, so a stable sort by distance alone is the order (distance, row).
        order = np.argsort(distances, kind="stable")[: self._k]
        self._distances, self._rows, self._count = [distances[order]], [rows[order]], len(order)
        if self._count == self._k:
            self._limit = int(distances[order[-1]]) - 1

    def result(self) -> tuple[Distances, Rows]:
        if not self._rows:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        self._keep_k()
        return self._distances[0].astype(np.int32), self._rows[0].astype(np.int64, copy=False)


def _scan(
    codes: PackedCodes, queries: PackedCodes, allowed: AllowedRows | None
) -> Iterator[tuple[int, Rows | int, _Counts]]:
    """Yield (query, rows, distances) for every block and query; the distances are valid until the next step."""
    word = _word_type(codes.shape[1])
    query_words = np.ascontiguousarray(queries).view(word)  # (q, w)
    n_words = query_words.shape[1]
    block_rows = min(BLOCK_ROWS, len(codes))
    columns = np.empty((n_words, block_rows), dtype=word)
    xor = np.empty(block_rows, dtype=word)
    ones = np.empty(block_rows, dtype=np.uint8)
    # A distance reaches n_bits, so 256 bits no longer fit a byte, nor 65536 two.
    total: _Counts = np.empty(block_rows, dtype=np.min_scalar_type(codes.shape[1] * 8))

    for block, rows in _blocks(codes, allowed, block_rows):
        n = len(block)
        words = np.ascontiguousarray(block).view(word).T  # (w, n); copies a block only if its rows have gaps
        if len(query_words) > 1 and n_words > 1:
            # Word by word is twice as quick to read as row by row; one query alone would not earn the copy back.
            np.copyto(columns[:, :n], words)
            words = columns[:, :n]
        distances = total[:n]
        for query, parts in enumerate(query_words):
            for j, part in enumerate(parts):
                np.bitwise_xor(words[j], part, out=xor[:n])
                if j == 0:
                    np.bitwise_count(xor[:n], out=distances)
                else:
                    np.add(distances, np.bitwise_count(xor[:n], out=ones[:n]), out=distances)
            yield query, rows, distances


def _blocks(
    codes: PackedCodes, allowed: AllowedRows | None, block_rows: int
) -> Iterator[tuple[PackedCodes, Rows | int]]:
    """Yield the allowed codes block by block, with their rows or the first of consecutive ones."""
    listed = None if allowed is None else allowed.rows
    mask = None if allowed is None else allowed.mask
    end = len(codes) if listed is None else len(listed)
    start, step = 0, FIRST_BLOCK_ROWS
    while start < end:
        first, stop = start, min(start + step, end)
        start, step = stop, min(step * BLOCK_GROWTH, block_rows)
        if listed is not None:
            yield codes[listed[first:stop]], listed[first:stop]
            continue
        block = codes[first:stop]
        if mask is not None:
            chosen = np.flatnonzero(mask[first:stop])
            if len(chosen) == 0:
                continue
            if len(chosen) < len(block):
                yield block[chosen], chosen + first
                continue
        yield block, first


def _word_type(n_bytes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The widest unsigned integer that divides a code of n_bytes."""
    return next(np.dtype(f"u{size}") for size in (8, 4, 2, 1) if n_bytes % size == 0)
