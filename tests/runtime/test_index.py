"""HammingIndex against a naive loop, against FAISS, and against input it must refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch import hamming_numpy
from duch.errors import CodesError
from duch.index import HammingIndex

WIDTHS = [8, 16, 24, 32, 64, 96, 128, 256]


def naive_order(codes: np.ndarray, query: np.ndarray, allow: np.ndarray) -> list[tuple[int, int]]:
    """All allowed rows as (distance, row), by counting the ones of every xor byte in Python."""
    found = []
    for row, code in enumerate(codes.tolist()):
        if allow[row]:
            found.append((sum((a ^ b).bit_count() for a, b in zip(code, query.tolist(), strict=True)), row))
    return sorted(found)


def random_codes(n: int, n_bits: int, seed: int, *, few_values: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n, n_bits // 8), dtype=np.uint8)
    if few_values:  # many ties
        codes[:, 1:] = 0
        codes &= 3
    return codes


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    n_bits = draw(st.sampled_from(WIDTHS))
    n = draw(st.integers(0, 200))
    seed = draw(st.integers(0, 2**32 - 1))
    few = draw(st.booleans())
    rng = np.random.default_rng(seed)
    share = draw(st.sampled_from([None, 0.0, 0.1, 0.9, 1.0]))
    return {
        "codes": random_codes(n, n_bits, seed, few_values=few),
        "queries": random_codes(draw(st.integers(0, 4)), n_bits, seed + 1, few_values=few),
        "allow": None if share is None else rng.random(n) < share,
        "k": draw(st.integers(1, 250)),
        "radius": draw(st.integers(0, n_bits)),
        # Small blocks, so that a search of a few rows crosses many block borders.
        "blocks": draw(st.sampled_from([(1, 1), (2, 7), (4, 32), (1024, 32768)])),
    }


@given(searches())
@settings(max_examples=250, deadline=None)
def test_search_and_radius_equal_a_naive_loop(case: dict[str, Any]) -> None:
    codes, queries, allow = case["codes"], case["queries"], case["allow"]
    index = HammingIndex(codes)
    mask = np.ones(len(codes), dtype=bool) if allow is None else allow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming_numpy, "FIRST_BLOCK_ROWS", case["blocks"][0])
        patch.setattr(hamming_numpy, "BLOCK_ROWS", case["blocks"][1])
        distances, rows = index.search(queries, case["k"], allow=allow)
        near = index.search_radius(queries, case["radius"], allow=allow)

    k = min(case["k"], int(mask.sum()))
    assert distances.shape == rows.shape == (len(queries), k)
    assert (distances.dtype, rows.dtype) == (np.int32, np.int64)
    assert len(near) == len(queries)
    for i, query in enumerate(queries):
        expected = naive_order(codes, query, mask)
        assert list(zip(distances[i].tolist(), rows[i].tolist(), strict=True)) == expected[:k]
        inside = [pair for pair in expected if pair[0] <= case["radius"]]
        assert list(zip(near[i][0].tolist(), near[i][1].tolist(), strict=True)) == inside
        assert (near[i][0].dtype, near[i][1].dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("n_bits", [8, 64, 128, 256])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_distances_equal_faiss_over_many_blocks(n_bits: int, n_queries: int) -> None:
    faiss = pytest.importorskip("faiss")
    codes = random_codes(100_000, n_bits, 1)
    queries = random_codes(n_queries, n_bits, 2)
    oracle = faiss.IndexBinaryFlat(n_bits)
    oracle.add(codes)
    distances, rows = HammingIndex(codes).search(queries, 100)
    np.testing.assert_array_equal(distances, oracle.search(queries, 100)[0])
    gathered = np.bitwise_count(codes[rows] ^ queries[:, None, :]).sum(axis=2)
    np.testing.assert_array_equal(distances, gathered)
    later = np.diff(distances * 1_000_000 + rows, axis=1)  # (distance, row) as one number
    assert (later > 0).all()


def test_opposite_codes_of_256_bits_are_256_apart() -> None:
    codes = np.array([[255] * 32, [0] * 32], dtype=np.uint8)
    distances, rows = HammingIndex(codes).search(np.zeros((1, 32), dtype=np.uint8), 2)
    assert distances.tolist() == [[0, 256]]
    assert rows.tolist() == [[1, 0]]


def test_equal_distances_come_in_row_order() -> None:
    codes = np.zeros((50_000, 8), dtype=np.uint8)
    distances, rows = HammingIndex(codes).search(codes[:1], 1000)
    assert not distances.any()
    np.testing.assert_array_equal(rows[0], np.arange(1000))


def test_a_memory_map_is_searched_in_place(tmp_path: Path) -> None:
    codes = random_codes(70_000, 96, 3)
    file = tmp_path / "codes"
    file.write_bytes(b"x" * 64 + codes.tobytes())
    mapped = np.memmap(file, dtype=np.uint8, mode="r", offset=64, shape=codes.shape)
    index = HammingIndex(mapped)
    assert np.shares_memory(index._codes, mapped)
    for ours, theirs in zip(index.search(codes[:3], 9), HammingIndex(codes).search(codes[:3], 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_codes_whose_rows_have_gaps_or_odd_addresses_are_searched_alike() -> None:
    codes = random_codes(5_000, 64, 4)
    wide = np.zeros((5_000, 11), dtype=np.uint8)
    wide[:, 3:] = codes
    gaps = wide[:, 3:]
    odd = np.empty(codes.size + 1, dtype=np.uint8)[1:].reshape(codes.shape)
    odd[:] = codes
    expected = HammingIndex(codes).search(codes[:2], 20)
    for other in (gaps, odd, np.asfortranarray(codes)):
        found = HammingIndex(other).search(np.asfortranarray(codes[:2]), 20)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_empty_index_gives_empty_rows() -> None:
    index = HammingIndex(np.empty((0, 8), dtype=np.uint8))
    queries = np.zeros((3, 8), dtype=np.uint8)
    distances, rows = index.search(queries, 5)
    assert distances.shape == rows.shape == (3, 0)
    assert [len(rows) for _, rows in index.search_radius(queries, 64)] == [0, 0, 0]
    assert (len(index), index.n_bits) == (0, 64)


def test_a_mask_that_allows_nothing_gives_empty_rows() -> None:
    index = HammingIndex(random_codes(10, 64, 5))
    distances, rows = index.search(random_codes(2, 64, 6), 5, allow=np.zeros(10, dtype=bool))
    assert distances.shape == rows.shape == (2, 0)


def test_k_may_be_a_numpy_integer() -> None:
    assert HammingIndex(random_codes(10, 64, 7)).search(random_codes(1, 64, 8), np.int64(3))[1].shape == (1, 3)


QUERY = np.zeros((1, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(QUERY, 0), "k is 0; wanted at least 1"),
        (lambda index: index.search(QUERY, -3), "k is -3; wanted at least 1"),
        (lambda index: index.search(QUERY, 2.5), "k is 2.5; wanted a whole number"),
        (lambda index: index.search_radius(QUERY, -1), "radius is -1; wanted at least 0"),
        (lambda index: index.search(QUERY[:, :4], 1), "codes have 32 bits; wanted 64"),
        (lambda index: index.search(QUERY[0], 1), "codes have shape (8,)"),
        (lambda index: index.search(QUERY.astype(np.int8), 1), "codes are int8; wanted packed codes"),
        (lambda index: index.search_radius(QUERY.astype(float), 1), "codes are float64"),
        (lambda index: index.search(QUERY, 1, allow=np.ones(3, dtype=bool)), "allow is bool (3,); wanted bool (4,)"),
        (lambda index: index.search(QUERY, 1, allow=np.ones(4, dtype=np.int32)), "allow is int32 (4,)"),
        (lambda index: HammingIndex(np.zeros((4, 8))), "codes are float64"),
        (lambda index: HammingIndex(np.zeros((4, 0), dtype=np.uint8)), "codes have no bits"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(call: Any, message: str) -> None:
    index = HammingIndex(random_codes(4, 64, 9))
    with pytest.raises(CodesError) as caught:
        call(index)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
