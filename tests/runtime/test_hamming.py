"""Every kernel of this machine against a naive reference and against FAISS: the same results, in the same order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch import hamming, native
from duch.index import HammingIndex
from duch.tables import Tables

LEVELS = native.levels()
WIDTHS = [8, 16, 24, 40, 64, 72, 96, 128, 192, 200, 256, 320, 512, 1088]
# Around the borders of vectors, slices and blocks.
SIZES = [0, 1, 2, 63, 64, 65, 127, 129, 511, 512, 513, 1024, 1025, 1600, 4095, 4097]

Results = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def _level_afterwards() -> Iterator[None]:
    before = native.level()
    yield
    native.set_level(before)


def naive(codes: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> list[Results]:
    """Distances and rows of all allowed rows for each query, by unpacking every bit and sorting by both."""
    bits, asked = np.unpackbits(codes[rows], axis=1), np.unpackbits(queries, axis=1)
    found = []
    for query in asked:
        distances = (bits != query).sum(axis=1)
        order = np.lexsort((rows, distances))
        found.append((distances[order], rows[order]))
    return found


def random_codes(rng: np.random.Generator, n: int, n_bits: int, values: int, offset: int = 0) -> np.ndarray:
    """Codes whose bytes are multiples of 256 / values, at an address that is `offset` beyond an even one."""
    memory = np.empty(n * n_bits // 8 + offset, dtype=np.uint8)[offset:]
    memory[:] = rng.integers(0, values, len(memory), dtype=np.int64) * (256 // values)
    return memory.reshape(n, n_bits // 8)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    n_bits = draw(st.sampled_from(WIDTHS))
    n = draw(st.one_of(st.sampled_from(SIZES), st.integers(0, 300)))
    if n_bits > 256:
        n = min(n, 600)
    values = draw(st.sampled_from([1, 2, 256]))  # all equal, few different, random
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([None, 0.0, 0.01, 0.3, 0.9, 0.999]))
    # Runs of allowed rows leave whole blocks out.
    run = draw(st.sampled_from([1, 1000]))
    mask = None if share is None else np.repeat(rng.random(n // run + 1) < share, run)[:n]
    # Batches are scanned otherwise than a few queries.
    n_queries = draw(st.sampled_from([0, 1, 2, 4, 5, 21, 40]))
    return {
        "codes": random_codes(rng, n, n_bits, values, draw(st.integers(0, 3))),
        "queries": random_codes(rng, n_queries, n_bits, values, draw(st.integers(0, 3))),
        "mask": mask,
        "listed": draw(st.booleans()),
        "k": n if draw(st.integers(0, 9)) == 0 else draw(st.integers(1, 60)),
        "radius": draw(st.one_of(st.integers(0, n_bits), st.just(n_bits // 3))),
        "threads": draw(st.integers(1, 4)),
    }


@given(searches())
@settings(max_examples=100, deadline=None)
def test_every_level_equals_the_naive_reference(case: dict[str, Any]) -> None:
    codes, queries, mask = case["codes"], case["queries"], case["mask"]
    rows = np.arange(len(codes)) if mask is None else np.flatnonzero(mask)
    allow = rows if mask is not None and case["listed"] else mask
    index = HammingIndex(codes, threads=case["threads"])
    expected = naive(codes, queries, rows)
    for level in LEVELS:
        native.set_level(level)
        distances, found = index.search(queries, max(case["k"], 1), allow=allow)
        near = index.search_radius(queries, case["radius"], allow=allow)
        k = min(max(case["k"], 1), len(rows))
        assert distances.shape == found.shape == (len(queries), k)
        assert len(near) == len(queries)
        for i, (wanted, wanted_rows) in enumerate(expected):
            np.testing.assert_array_equal(distances[i], wanted[:k], level)
            np.testing.assert_array_equal(found[i], wanted_rows[:k], level)
            inside = int((wanted <= case["radius"]).sum())
            np.testing.assert_array_equal(near[i][0], wanted[:inside], level)
            np.testing.assert_array_equal(near[i][1], wanted_rows[:inside], level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("n_bits", "n_queries"), [(64, 3), (64, 40), (128, 40), (256, 2), (256, 40)])
def test_distances_equal_those_of_faiss(level: str, n_bits: int, n_queries: int) -> None:
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(n_bits)
    codes, queries = (random_codes(rng, n, n_bits, 256) for n in (30_000, n_queries))
    oracle = faiss.IndexBinaryFlat(n_bits)
    oracle.add(codes)
    native.set_level(level)
    distances, rows = HammingIndex(codes).search(queries, 50)
    np.testing.assert_array_equal(distances, oracle.search(queries, 50)[0])
    np.testing.assert_array_equal(distances, np.bitwise_count(codes[rows] ^ queries[:, None]).sum(axis=2))
    assert (np.diff(distances.astype(np.int64) * len(codes) + rows, axis=1) > 0).all()


@pytest.mark.parametrize("level", LEVELS[:-1])
@pytest.mark.parametrize(("n", "n_queries"), [(60_000, 40), (4_000, 600)], ids=["rows", "queries"])
def test_threads_that_share_the_rows_or_the_queries_change_nothing(level: str, n: int, n_queries: int) -> None:
    rng = np.random.default_rng(n)
    codes, queries = random_codes(rng, n, 64, 4), random_codes(rng, n_queries, 64, 4)
    mask = rng.random(n) < 0.7
    native.set_level(level)
    alone, shared = HammingIndex(codes, threads=1), HammingIndex(codes, threads=3)
    for allow in (None, mask, np.flatnonzero(mask)):
        for one, other in zip(
            alone.search(queries, 20, allow=allow), shared.search(queries, 20, allow=allow), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    near, also_near = alone.search_radius(queries[:30], 9), shared.search_radius(queries[:30], 9)
    assert sum(len(rows) for _, rows in near) > 0
    for one, other in zip(near, also_near, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("level", LEVELS)
def test_one_index_serves_several_python_threads(level: str) -> None:
    rng = np.random.default_rng(5)
    codes = random_codes(rng, 20_000, 64, 256)
    native.set_level(level)
    index = HammingIndex(codes)
    questions = [random_codes(rng, n, 64, 256) for n in (1, 3, 25, 1, 30, 2, 1, 26)]
    expected = [index.search(queries, 7) for queries in questions]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda queries: index.search(queries, 7), questions * 3))
    for (distances, rows), (wanted, wanted_rows) in zip(answers, expected * 3, strict=True):
        np.testing.assert_array_equal(distances, wanted)
        np.testing.assert_array_equal(rows, wanted_rows)


@pytest.mark.parametrize("level", LEVELS)
def test_a_radius_search_has_room_for_every_row(level: str) -> None:
    codes = np.zeros((hamming._FIRST_CAPACITY * 3, 8), dtype=np.uint8)
    codes[::3, 0] = 1
    native.set_level(level)
    first, second = HammingIndex(codes).search_radius(np.array([[0] * 8, [255] * 8], dtype=np.uint8), 1)
    np.testing.assert_array_equal(first[0], np.repeat([0, 1], [len(codes) * 2 // 3, len(codes) // 3]))
    np.testing.assert_array_equal(first[1], np.argsort(codes[:, 0], kind="stable"))
    assert len(second[1]) == 0


def test_a_prepared_mask_serves_many_searches() -> None:
    rng = np.random.default_rng(6)
    codes, queries = random_codes(rng, 3_000, 64, 256), random_codes(rng, 2, 64, 256)
    index, mask = HammingIndex(codes), rng.random(3_000) < 0.5
    prepared = index.mask(mask)
    for _ in range(2):
        for ours, theirs in zip(
            index.search(queries, 9, allow=prepared), index.search(queries, 9, allow=mask), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_codes_wider_than_the_library_takes_are_searched_by_numpy() -> None:
    rng = np.random.default_rng(7)
    codes = random_codes(rng, 3, (hamming.MAX_NATIVE_BYTES + 1) * 8, 256)
    expected = naive(codes, codes[:1], np.arange(3))[0]
    distances, rows = HammingIndex(codes).search(codes[:1], 3)
    np.testing.assert_array_equal(distances[0], expected[0])
    np.testing.assert_array_equal(rows[0], expected[1])


@pytest.mark.parametrize("n_bits", [248, 256, 65_528, 65_536])
def test_opposite_codes_differ_in_every_bit(n_bits: int) -> None:
    codes = np.repeat(np.array([[255], [1], [0]], dtype=np.uint8), n_bits // 8, axis=1)
    for level in LEVELS:
        native.set_level(level)
        index = HammingIndex(codes)
        distances, rows = index.search(codes[2:], 3)
        assert (distances.tolist(), rows.tolist()) == ([[0, n_bits // 8, n_bits]], [[2, 1, 0]])
        assert [len(near) for _, near in (index.search_radius(codes[2:], r)[0] for r in (n_bits - 1, n_bits))] == [2, 3]


@pytest.mark.parametrize("threads", [2**31, 2**32, 10**30])
def test_threads_may_be_asked_for_by_any_number(threads: int, tmp_path: Path) -> None:
    codes = random_codes(np.random.default_rng(8), 500, 64, 256)
    tables = Tables.build(codes, tmp_path / "tables", fingerprint="ab" * 32, generation=1)
    few, many = HammingIndex(codes, threads=1), HammingIndex(codes, threads=threads, tables=tables)
    for method in ("scan", "mih"):
        np.testing.assert_array_equal(many.search(codes[:40], 3, method=method), few.search(codes[:40], 3))


def test_another_thread_may_choose_the_level_meanwhile(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    codes = random_codes(rng, 3_000, 64, 4)
    index = HammingIndex(
        codes, threads=2, tables=Tables.build(codes, tmp_path / "tables", fingerprint="ab" * 32, generation=1)
    )
    expected, near = index.search(codes[:30], 9), index.search_radius(codes[:3], 5)
    done = Event()

    def choose() -> None:
        for level in cycle(LEVELS):
            native.set_level(level)
            if done.is_set():
                return

    def search(method: Literal["scan", "mih"]) -> None:
        for _ in range(60):
            np.testing.assert_array_equal(index.search(codes[:30], 9, method=method), expected)
            for (_, rows), (_, wanted) in zip(index.search_radius(codes[:3], 5, method=method), near, strict=True):
                np.testing.assert_array_equal(rows, wanted)

    with ThreadPoolExecutor(3) as pool:
        chooser = pool.submit(choose)
        try:
            for searcher in [pool.submit(search, method) for method in ("scan", "mih")]:
                searcher.result()
        finally:
            done.set()
        chooser.result()
