"""Multi-index hashing against the scan and a naive loop, in C and in NumPy: the same hits, to the last tie."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch import mih, mih_native, mih_numpy, native
from duch.errors import CodesError
from duch.index import HammingIndex
from duch.mih_table import key_widths
from duch.tables import Tables

FINGERPRINT = "5a" * 32
WIDTHS = [8, 16, 24, 64, 72, 128, 200, 512]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "tables-1.bin"


@pytest.fixture(params=native.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.level()
    native.set_level(request.param)
    yield request.param
    native.set_level(before)


def build(codes: np.ndarray, place: Path, n_tables: int | None = None) -> Tables:
    return Tables.build(codes, place, fingerprint=FINGERPRINT, generation=1, n_tables=n_tables)


def codes_of(kind: str, n: int, n_bits: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "equal":
        return np.full((n, n_bits // 8), 0xA5, dtype=np.uint8)
    if kind == "random":
        return rng.integers(0, 256, (n, n_bits // 8), dtype=np.uint8)
    centres = rng.integers(0, 256, (3, n_bits // 8), dtype=np.uint8)
    flips = rng.random((n, n_bits)) < (0.1 if kind == "clustered" else 0.01)  # few: many duplicates and ties
    return centres[rng.integers(0, 3, n)] ^ np.packbits(flips, axis=1)


def naive(codes: np.ndarray, query: np.ndarray, allow: np.ndarray) -> np.ndarray:
    """(m, 2): distance and row of all allowed codes, in order."""
    distances = np.unpackbits(codes ^ query, axis=1).sum(axis=1)
    rows = np.flatnonzero(allow)
    return np.array(sorted(zip(distances[rows].tolist(), rows.tolist(), strict=True))).reshape(-1, 2)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    n_bits = draw(st.sampled_from(WIDTHS))
    n = draw(st.one_of(st.integers(0, 5), st.integers(0, 600)))
    kind = draw(st.sampled_from(["random", "clustered", "few", "equal"]))
    codes = codes_of(kind, n + 3, n_bits, draw(st.integers(0, 99)))
    share = draw(st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]))
    return {
        "codes": codes[:n],
        "queries": np.concatenate([codes[n:], codes[:1]]),
        "covered": n - draw(st.sampled_from([0, 0, 1, n // 3, n])) if n else 0,
        "n_tables": draw(st.integers(-(-n_bits // 13), min(n_bits, 64))),  # keys of 1 to 13 bits
        "allow": None if share is None else np.random.default_rng(n).random(n) < share,
        "k": draw(st.sampled_from([1, 3, 10, 700])),
        "radius": draw(st.integers(0, n_bits)),
        "threads": draw(st.integers(1, 3)),
        "method": draw(st.sampled_from(["mih", "mih", "auto"])),
        "level": draw(st.sampled_from(native.levels())),
    }


@given(case=searches())
@settings(max_examples=60, deadline=None)
def test_top_k_and_radius_equal_a_naive_loop(case: dict[str, Any], place: Path) -> None:
    codes, queries, allow, method = case["codes"], case["queries"], case["allow"], case["method"]
    before = native.level()
    native.set_level(case["level"])
    try:
        tables = build(codes[: case["covered"]], place, case["n_tables"])
        index = HammingIndex(codes, threads=case["threads"], tables=tables)
        distances, rows = index.search(queries, case["k"], allow=allow, method=method)
        near = index.search_radius(queries, case["radius"], allow=allow, method=method)
    finally:
        native.set_level(before)
    allowed = np.ones(len(codes), dtype=bool) if allow is None else allow
    assert tables.problem is None
    assert distances.shape == rows.shape == (len(queries), min(case["k"], int(allowed.sum())))
    assert (distances.dtype, rows.dtype) == (np.int32, np.int64)
    for i, query in enumerate(queries):
        expected = naive(codes, query, allowed)
        np.testing.assert_array_equal(np.column_stack([distances[i], rows[i]]), expected[: case["k"]])
        np.testing.assert_array_equal(np.column_stack(near[i]), expected[expected[:, 0] <= case["radius"]])
        assert (near[i][0].dtype, near[i][1].dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("n_bits", [64, 128])
@pytest.mark.parametrize("kind", ["random", "clustered", "few"])
def test_the_same_as_the_scan_over_many_buckets(kind: str, n_bits: int, level: str, place: Path) -> None:
    codes = codes_of(kind, 20_003, n_bits, 1)
    codes, queries = codes[:-3], codes[-3:]
    index = HammingIndex(codes, threads=1, tables=build(codes[:19_000], place))
    for k in (1, 10, 2_000):
        scan, hashed = (index.search(queries, k, method=method) for method in ("scan", "mih"))
        np.testing.assert_array_equal(hashed, scan)
    radius = int(index.search(queries, 10, method="scan")[0].max())
    for ours, theirs in zip(
        index.search_radius(queries, radius, method="mih"),
        index.search_radius(queries, radius, method="scan"),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert index.tables_problem is None


def test_a_radius_with_more_hits_than_there_is_room_for_at_first(level: str, place: Path) -> None:
    codes = codes_of("equal", 3_000, 64, 0)
    codes[1_000:] ^= 255  # a second group, farther than the radius
    index = HammingIndex(codes, tables=build(codes, place))
    found = index.search_radius(codes[:2], 3, method="mih")
    for distances, rows in found:
        assert not distances.any()
        np.testing.assert_array_equal(rows, np.arange(1_000))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_batch_is_shared_among_threads(threads: int, place: Path) -> None:
    codes = codes_of("clustered", 5_000, 64, 8)
    index = HammingIndex(codes, threads=threads, tables=build(codes, place))
    np.testing.assert_array_equal(
        index.search(codes[:200], 10, method="mih"), index.search(codes[:200], 10, method="scan")
    )


def test_numpy_may_be_chosen_by_another_thread_as_a_search_begins(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    codes, before, available = codes_of("clustered", 500, 64, 8), native.level(), mih_native.available

    def available_until_now() -> bool:
        found = available()
        native.set_level(native.NUMPY)
        return found

    monkeypatch.setattr(mih_native, "available", available_until_now)
    try:
        index = HammingIndex(codes, tables=build(codes, place))
        native.set_level(before)
        np.testing.assert_array_equal(
            index.search(codes[:4], 3, method="mih"), index.search(codes[:4], 3, method="scan")
        )
    finally:
        native.set_level(before)


def test_listed_rows_are_searched_alike(level: str, place: Path) -> None:
    codes = codes_of("clustered", 500, 64, 2)
    index = HammingIndex(codes, tables=build(codes[:400], place))
    rows = np.array([3, 77, 399, 400, 499])
    for method in ("auto", "mih"):
        np.testing.assert_array_equal(
            index.search(codes[:4], 3, allow=rows, method=method), index.search(codes[:4], 3, allow=rows, method="scan")
        )


# A budget that near queries of the next two tests keep to and far ones do not, nanoseconds.
BETWEEN = {mih_native: 30_000.0, mih_numpy: 1_500_000.0}


def kernels() -> list[Any]:
    return [mih_native, mih_numpy] if mih_native.available() else [mih_numpy]


@pytest.mark.parametrize("kernel", kernels())
def test_a_query_that_would_cost_more_than_its_budget_is_given_up(kernel: Any, place: Path) -> None:
    rng = np.random.default_rng(3)
    codes = codes_of("clustered", 20_000, 64, 4)
    far = rng.integers(0, 256, (2, 8), dtype=np.uint8)  # 10 to 20 bits from everything
    queries = np.concatenate([codes[:2], far])
    tables = build(codes, place).tables
    common: dict[str, Any] = {"max_distance": 64, "allow": None, "threads": 1}
    for budget, given_up in ((0.0, {0, 1, 2, 3}), (np.inf, set()), (BETWEEN[kernel], {2, 3})):
        found = kernel.search(tables, codes, queries, 3, budget_ns=budget, **common)[2]
        assert set(np.flatnonzero(found == mih_numpy.GAVE_UP).tolist()) == given_up
        assert set(found.tolist()) <= {3, mih_numpy.GAVE_UP}


def test_given_up_queries_are_scanned_for_among_the_others(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    codes = codes_of("clustered", 20_000, 64, 4)
    queries = codes[:4].copy()
    queries[1::2] = np.random.default_rng(5).integers(0, 256, (2, 8), dtype=np.uint8)
    index = HammingIndex(codes, tables=build(codes[:15_000], place))
    monkeypatch.setattr(mih, "_scan_ns", lambda *_: BETWEEN[kernels()[0]])
    scanned = []
    scan = mih.hamming.top_k
    monkeypatch.setattr(mih.hamming, "top_k", lambda *args, **more: scanned.append(len(args[1])) or scan(*args, **more))
    found = index.search(queries, 3)
    assert scanned == [2, 2]  # the rows after the tables for two queries, all rows for the other two
    np.testing.assert_array_equal(found, index.search(queries, 3, method="scan"))


@pytest.mark.parametrize("kernel", kernels())
def test_built_alike_in_c_and_numpy(kernel: Any, tmp_path: Path) -> None:
    """A counting sort: keys rise, rows rise within a key, and every code is there."""
    codes = codes_of("few", 4_000, 72, 6)
    for table in build(codes, tmp_path / "t.bin", 7).tables:
        arrays = [np.empty_like(array) for array in (table.offsets, table.rows, table.codes)]
        kernel.build(type(table)(table.first_bit, table.key_bits, *arrays), codes)
        np.testing.assert_array_equal(arrays[0], table.offsets)
        np.testing.assert_array_equal(arrays[1], table.rows)
        np.testing.assert_array_equal(arrays[2], table.codes)
        bits = np.unpackbits(codes, axis=1, bitorder="little")  # as bits are counted in a key
        part = bits[:, table.first_bit : table.first_bit + table.key_bits]
        keys = (part.astype(np.int64) << np.arange(table.key_bits)).sum(axis=1)
        np.testing.assert_array_equal(table.rows, np.argsort(keys, kind="stable"))
        np.testing.assert_array_equal(np.diff(table.offsets), np.bincount(keys, minlength=2**table.key_bits))


@pytest.mark.parametrize("n_bits", [8, 16, 64, 128, 256, 512])
@pytest.mark.parametrize("n", [0, 1, 1_000, 10**5, 10**6, 10**7, 2**32 - 1])
def test_keys_are_the_bits_of_a_code(n_bits: int, n: int) -> None:
    widths = key_widths(n_bits, n)
    assert sum(widths) == n_bits
    assert max(widths) - min(widths) <= 1
    assert 1 <= min(widths) <= max(widths) <= 28


@pytest.mark.parametrize(("n", "n_tables"), [(10**5, 5), (10**6, 4), (10**7, 3), (10**8, 3)])
def test_as_many_tables_as_measured_quickest_at_64_bits(n: int, n_tables: int) -> None:
    assert len(key_widths(64, n)) == n_tables


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tables, codes: HammingIndex(codes).search(codes, 1, method="mih"), "there are no tables"),
        (lambda tables, codes: HammingIndex(codes).search(codes, 1, method="lsh"), "method is 'lsh'; wanted auto"),
        (
            lambda tables, codes: HammingIndex(codes[:9], tables=tables),
            "tables of 10 codes of 64 bits; wanted at most 9",
        ),
        (lambda tables, codes: HammingIndex(codes[:, :4].copy(), tables=tables), "of 64 bits; wanted at most 10 of 32"),
        (lambda tables, codes: HammingIndex(np.asfortranarray(codes), tables=tables), "gaps between their rows"),
        (lambda tables, codes: key_widths(520, 10), "multi-index hashing takes up to 512"),
        (lambda tables, codes: key_widths(64, 2**32), "multi-index hashing takes up to 4294967295"),
        (lambda tables, codes: key_widths(64, 10, 2), "2 tables of 64-bit codes; wanted 3 to 64"),
    ],
)
def test_what_cannot_be_hashed_is_refused_in_one_line(call: Any, message: str, tmp_path: Path) -> None:
    codes = codes_of("random", 10, 64, 7)
    with pytest.raises(CodesError) as caught:
        call(build(codes, tmp_path / "t.bin"), codes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not native.SOURCES.is_dir() or shutil.which("cc") is None, reason="no sources or no C compiler")
@pytest.mark.parametrize(
    "options",
    [
        ["-O3"],
        ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        ["-O1", "-g", "-fsanitize=thread"],
        ["-O3", "-DDUCH_NO_THREADS"],
    ],
    ids=["fast", "address, undefined", "thread", "no threads"],
)
def test_the_c_code_is_clean_and_equals_a_plain_loop(tmp_path: Path, options: list[str]) -> None:
    run_c_check(tmp_path / "mih_check", options)


@pytest.mark.slow
@pytest.mark.skipif(not native.SOURCES.is_dir() or shutil.which("valgrind") is None, reason="no sources or no valgrind")
def test_the_c_code_is_clean_under_valgrind(tmp_path: Path) -> None:
    command = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full"]
    run_c_check(tmp_path / "mih_check", ["-O1", "-g"], command)


def run_c_check(program: Path, options: list[str], under: Sequence[str] = ()) -> None:
    sources = [Path(__file__).with_name("mih_check.c"), native.SOURCES / "mih.c", native.SOURCES / "hamming.c"]
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pthread"]
    subprocess.run(["cc", *warnings, *options, f"-I{native.SOURCES}", *sources, "-o", program], check=True)
    levels = subprocess.run([*under, program], check=True, capture_output=True, text=True).stdout.split()
    assert levels[-1] == "portable"
