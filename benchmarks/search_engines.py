"""The engines that search.py lets take turns, each over the same codes, and the check that they find the same.

Shapes: n codes, q queries, k hits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from duch import native
from duch.codes import PackedCodes
from duch.index import HammingIndex

Found = tuple[np.ndarray, np.ndarray]  # distances and rows, both (q, k)

OURS, FAISS = "ours", "FAISS"
NUMPY, USEARCH, SQLITE_VEC = "NumPy, ours", "usearch", "sqlite-vec"
PEERS = (f"{FAISS} AVX2", USEARCH, SQLITE_VEC)


class OtherResultsError(Exception):
    """An engine does not find what another finds."""


@dataclass(frozen=True)
class Engine:
    """One way to search, over codes that it was given.

    Attributes:
        name: as it stands in the tables.
        search: queries (q, n_bits / 8), k and threads -> what was found.
        threads: whether it can take more than one.
        batches: whether many queries at once cost it less than one after another.
    """

    name: str
    search: Callable[[PackedCodes, int, int], Found]
    threads: bool = True
    batches: bool = True


def our_engines(codes: PackedCodes) -> Iterator[Engine]:
    """Our scan with each kernel that this processor can run, the best first; NumPy's is the last."""
    for level in native.levels():

        def search(queries: PackedCodes, k: int, threads: int, level: str = level) -> Found:
            native.set_level(level)
            return HammingIndex(codes, threads=threads).search(queries, k)

        is_numpy = level == native.NUMPY
        yield Engine(NUMPY if is_numpy else f"{OURS}, {level}", search, threads=not is_numpy)


def faiss_engines(codes: PackedCodes) -> Iterator[Engine]:
    """IndexBinaryFlat at the level that FAISS chooses and at AVX2: neither is the faster one everywhere."""
    import faiss

    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    config = faiss.SIMDConfig  # FAISS 1.15 and newer choose among their levels as they run
    default = config.auto_detect_simd_level()
    config.set_level(default)
    for level, name in ((default, f"{config.get_level_name()}, its default"), (faiss.SIMDLevel_AVX2, "AVX2")):
        if not config.is_simd_level_available(level):
            continue

        def search(queries: PackedCodes, k: int, threads: int, level: int = level) -> Found:
            config.set_level(level)
            faiss.omp_set_num_threads(threads)
            return index.search(queries, k)

        yield Engine(f"{FAISS} {name}", search)


def usearch_engine(codes: PackedCodes) -> Iterator[Engine]:
    from usearch.index import MetricKind, search

    def search_all(queries: PackedCodes, k: int, threads: int) -> Found:
        matches = search(codes, queries, k, MetricKind.Hamming, exact=True, threads=threads, dtype="b1")
        shape = (len(queries), k)  # one query comes back without the first dimension
        return matches.distances.reshape(shape).astype(np.int32), matches.keys.reshape(shape).astype(np.int64)

    yield Engine(USEARCH, search_all, batches=False)


def sqlite_vec_engine(codes: PackedCodes) -> Iterator[Engine]:
    # Not Python's own sqlite3, which is often built without loadable extensions.
    import apsw
    import sqlite_vec

    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute(f"CREATE VIRTUAL TABLE tiles USING vec0(code bit[{8 * codes.shape[1]}])")
    with connection:
        connection.executemany(
            "INSERT INTO tiles (rowid, code) VALUES (?, vec_bit(?))",
            ((row, code.tobytes()) for row, code in enumerate(codes)),
        )
    question = "SELECT distance, rowid FROM tiles WHERE code MATCH vec_bit(?) AND k = ?"

    def search(queries: PackedCodes, k: int, _: int) -> Found:
        hits = [connection.execute(question, (query.tobytes(), k)).fetchall() for query in queries]
        found = np.array(hits, dtype=np.int64).reshape(len(queries), -1, 2)
        return found[..., 0].astype(np.int32), found[..., 1]

    yield Engine(SQLITE_VEC, search, threads=False, batches=False)


def engines_over(codes: PackedCodes) -> tuple[list[Engine], dict[str, str]]:
    """Ours, then all peers that are installed; and why others are missing."""
    engines, missing = list(our_engines(codes)), {}
    peers: dict[str, Callable[[PackedCodes], Iterator[Engine]]] = {
        FAISS: faiss_engines,
        USEARCH: usearch_engine,
        SQLITE_VEC: sqlite_vec_engine,
    }
    for name, build in peers.items():
        try:
            engines += build(codes)
        except ImportError as error:
            missing[name] = f"not installed ({error})"
        except AttributeError as error:
            missing[name] = f"another version than the one this script knows ({error})"
    return engines, missing


def read_pass(codes: PackedCodes, threads: int) -> Callable[[], Any]:
    """Reads all codes and does nothing else: NumPy's sum over 64-bit words, a part for each thread.

    In the third-level cache and in memory a loop in C with prefetching is no faster (measured at 1e6 and 1e7 codes of
    64 bits, within 2 and 8 %); in the second-level cache it is, by half.
    """
    words = codes.reshape(-1).view(np.uint64)
    if threads == 1:
        return words.sum
    parts, pool = np.array_split(words, threads), ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.sum, parts))


def all_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def check_same(codes: PackedCodes, queries: PackedCodes, wanted: Found, found: Found, *, exact: bool) -> None:
    """Refuse results that differ.

    Args:
        codes: what was searched, (n, n_bits / 8).
        queries: (q, n_bits / 8).
        wanted: what our first engine finds.
        found: what another finds for the first of these queries, or for all.
        exact: the rows must be the same too; else rows at equal distances may be others, as long as each has the
            distance that is told.

    Raises:
        OtherResultsError: another distance, or another row.
    """
    distances, rows = found
    q = len(distances)
    if not np.array_equal(distances, wanted[0][:q]):
        raise OtherResultsError("other distances")
    if exact:
        if not np.array_equal(rows, wanted[1][:q]):
            raise OtherResultsError("other rows")
        return
    if any(len(set(of_query)) < len(of_query) for of_query in rows.tolist()):
        raise OtherResultsError("a row twice")
    if (rows < 0).any() or (rows >= len(codes)).any():
        raise OtherResultsError("a row that does not exist")
    true = np.bitwise_count(codes[rows] ^ queries[:q, None]).sum(axis=2)  # (q, k)
    if not np.array_equal(true, distances):
        raise OtherResultsError("a row at another distance than told")
