"""Multi-index hashing in NumPy, for where there is no native library: the same results, some 5 to 10 times slower.

Shapes: n rows, w words in a code, q queries, k hits wanted, m codes read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .allowed_rows import Rows
from .codes import PackedCodes
from .hamming_numpy import Distances
from .mih_table import DamagedTableError, Table, Words, as_words, blocks

GAVE_UP = -1
# As in mih.c: nanoseconds for a ring, a bucket of it and a code read, and the part of the budget to explore with.
_RING_NS, _BUCKET_NS, _CODE_NS = 60_000, 20, 20
_EXPLORE_SHARE = 8


def build(table: Table, codes: PackedCodes) -> None:
    """Fill the arrays of a table. Shape: codes (n, n_bits / 8). Takes 16 bytes a row of memory for a while."""
    keys = np.empty(len(codes), dtype=np.uint16 if table.key_bits <= 16 else np.uint32)  # NumPy sorts 16 bits quickly
    for part in blocks(len(codes)):
        keys[part] = table.keys_of(as_words(codes[part]))
    table.offsets[0] = 0
    np.cumsum(np.bincount(keys, minlength=2**table.key_bits), out=table.offsets[1:])
    table.rows[:] = np.argsort(keys, kind="stable")
    for part in blocks(len(codes)):
        table.codes[part] = as_words(codes[table.rows[part]])


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
    """As `duch.mih_native.search`, on one thread."""
    distances = np.empty((len(queries), k), dtype=np.int32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    found = np.full(len(queries), GAVE_UP, dtype=np.int64)
    for i, query in enumerate(as_words(queries)):
        hits = _Search(tables, query, k, min(max_distance, codes.shape[1] * 8), allow).run(budget_ns)
        if hits is None:
            continue
        found[i] = n = len(hits)
        distances[i, :n], rows[i, :n] = hits >> np.uint64(32), hits & np.uint64(2**32 - 1)
        twice = hits[1:] == hits[:-1]
        if twice.any() or (_distances(as_words(codes[rows[i, :n]]), query) != distances[i, :n]).any():
            raise DamagedTableError
    return distances, rows, found


class _Search:
    """The hits of one query so far, and how far each table has been read."""

    def __init__(
        self, tables: Sequence[Table], query: Words, k: int, limit: int, allow: NDArray[np.uint8] | None
    ) -> None:
        self._tables, self._query, self._k, self._limit, self._allow = tables, query, k, limit, allow
        self._keys = [int(table.keys_of(query[None])[0]) for table in tables]
        self._radius = [-1] * len(tables)
        self._fill = [
            float(table.offsets[key + 1]) - float(table.offsets[key])
            for table, key in zip(tables, self._keys, strict=True)
        ]
        self._hits = np.empty(0, dtype=np.uint64)  # distance << 32 | row, in order

    def run(self, budget_ns: float) -> NDArray[np.uint64] | None:
        """The hits, distance << 32 | row each, in order; None if a scan is expected to take less."""
        spent, sure = 0.0, 0  # every allowed code at less than `sure` bits has been met
        while sure <= self._limit:
            t = self._cheapest(self._radius)
            cost = self._cost(t, self._radius[t])
            if spent + cost > budget_ns / _EXPLORE_SHARE and self._cost_of(self._limit + 1 - sure) > budget_ns:
                return None
            n_read = self._read_ring(t)
            table, ring = self._tables[t], math.comb(self._tables[t].key_bits, self._radius[t] + 1)
            # The ring around an empty bucket need not be empty.
            self._fill[t] = max(n_read / ring, len(table.rows) / 2**table.key_bits)
            spent += _RING_NS + ring * _BUCKET_NS + n_read * _CODE_NS
            self._radius[t] += 1
            sure += 1
            if self._radius[t] == table.key_bits:
                break  # that was every code
        return self._hits

    def _cost(self, t: int, radius: int) -> float:
        """Nanoseconds for the ring of table t after this radius."""
        ring = math.comb(self._tables[t].key_bits, radius + 1)
        return _RING_NS + ring * (_BUCKET_NS + self._fill[t] * _CODE_NS)

    def _cheapest(self, radius: list[int]) -> int:
        return min(range(len(radius)), key=lambda t: self._cost(t, radius[t]))

    def _cost_of(self, rings: int) -> float:
        """Nanoseconds for so many more rings, the cheapest first. Each makes sure of one bit more."""
        radius, cost = self._radius.copy(), 0.0
        for _ in range(rings):
            t = self._cheapest(radius)
            cost += self._cost(t, radius[t])
            radius[t] += 1
            if radius[t] == self._tables[t].key_bits:
                break
        return cost

    def _read_ring(self, t: int) -> int:
        """Take the hits from the next ring of table t; return how many codes it held."""
        table = self._tables[t]
        keys = self._keys[t] ^ _flips(table.key_bits, self._radius[t] + 1)
        starts, ends = table.offsets[keys].astype(np.int64), table.offsets[keys + 1].astype(np.int64)
        if (starts > ends).any() or ends.max() > len(table.rows):
            raise DamagedTableError
        counts = ends - starts
        n_read = int(counts.sum())
        if n_read > 2 * len(table.rows):
            raise DamagedTableError  # buckets that overlap, which could need any amount of memory
        before = np.cumsum(counts) - counts
        positions = np.repeat(starts - before, counts) + np.arange(n_read)
        distances = _distances(table.codes[positions], self._query)
        near = distances <= self._limit
        positions, distances = positions[near], distances[near]
        # Another table that has been read as far as the distance of a code's key there has brought the code before.
        words, first = table.codes[positions], np.ones(len(positions), dtype=np.bool_)
        for u, other in enumerate(self._tables):
            if u != t and self._radius[u] >= 0:
                first &= np.bitwise_count(other.keys_of(words) ^ self._keys[u]) > self._radius[u]
        rows, distances = table.rows[positions[first]], distances[first]
        if (rows >= len(table.rows)).any():
            raise DamagedTableError
        if self._allow is not None:
            allowed = (self._allow[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
            rows, distances = rows[allowed], distances[allowed]
        self._hits = np.sort(np.concatenate([self._hits, distances << np.uint64(32) | rows]))[: self._k]
        if len(self._hits) == self._k:
            self._limit = min(self._limit, int(self._hits[-1] >> np.uint64(32)))
        return n_read


def _distances(words: Words, query: Words) -> NDArray[np.uint64]:
    """Bits that differ. Shape: words (m, w), query (w,) -> (m,)."""
    distances: NDArray[np.uint64] = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.uint64)
    return distances


@lru_cache(maxsize=64)
def _flips(key_bits: int, radius: int) -> NDArray[np.int64]:
    """All keys of so many bits with so many ones, rising."""
    if radius in (0, key_bits):
        return np.array([2**radius - 1], dtype=np.int64)
    with_highest = _flips(key_bits - 1, radius - 1) | np.int64(1 << (key_bits - 1))
    return np.concatenate([_flips(key_bits - 1, radius), with_highest])
