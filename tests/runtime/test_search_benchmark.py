"""The benchmark of the search: it must refuse an engine that finds something else."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("click")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("search_engines")


CODES = np.array([[0b0001], [0b0010], [0b0111], [0b1111]], dtype=np.uint8)
QUERY = np.array([[0]], dtype=np.uint8)
WANTED = (np.array([[1, 1, 3]]), np.array([[0, 1, 2]]))


@pytest.mark.parametrize(
    ("distances", "rows", "exact"),
    [
        ([1, 1, 4], [0, 1, 2], False),  # another distance
        ([1, 1, 3], [0, 1, 3], False),  # a row that is farther away than told
        ([1, 1, 3], [0, 0, 2], False),  # a row twice
        ([1, 1, 3], [0, -1, 2], False),
        ([1, 1, 3], [1, 0, 2], True),  # another order of equal distances
    ],
)
def test_other_results_are_refused(engines: ModuleType, distances: list[int], rows: list[int], exact: bool) -> None:
    with pytest.raises(engines.OtherResultsError):
        engines.check_same(CODES, QUERY, WANTED, (np.array([distances]), np.array([rows])), exact=exact)


def test_a_peer_may_order_equal_distances_otherwise(engines: ModuleType) -> None:
    engines.check_same(CODES, QUERY, WANTED, (np.array([[1, 1, 3]]), np.array([[1, 0, 2]])), exact=False)


def test_all_engines_that_are_here_find_the_same(tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    options = ["--n", "2000", "--bits", "64,256", "--queries", "1,16", "--k", "10", "--threads", "1"]
    options += ["--seconds", "0.01", "--no-tables", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "search.py"), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(file.read_text())["cases"]
    assert len(cases) == 8  # data x bits x queries
    for case in cases:
        names = [row["engine"] for row in case["rows"]]
        assert "NumPy, ours" in names
        assert ("read" in names) == (case["queries"] == 1)
        assert all(row["ms"] > 0 for row in case["rows"])
