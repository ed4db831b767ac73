"""The grid of chips against a naive walk along an axis, and against what each edge rule promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.errors import SceneError
from duch.geo.settings import ChipSettings
from duch.geo.windows import MOST_CHIPS, MOST_PIXELS, Grid, grid_of
from duch.ids import Window

SIDES = st.integers(1, 90)
CHIPS = st.builds(ChipSettings, size=st.integers(8, 40), overlap=st.sampled_from([0, 0.1, 0.25, 0.5, 0.8]))
EDGES = pytest.mark.parametrize("edge", ["shift", "pad", "drop"])


def with_edge(chips: ChipSettings, edge: Any) -> ChipSettings:
    return ChipSettings(size=chips.size, overlap=chips.overlap, edge=edge)


def naive(length: int, side: int, stride: int, edge: str) -> list[int]:
    """Walk on by the stride until the end is covered."""
    starts, at = [], 0
    while True:
        if at + side > length:
            if edge == "drop":
                return starts
            starts.append(max(length - side, 0) if edge == "shift" else at)
            return starts
        starts.append(at)
        if at + side == length:
            return starts
        at += stride


@EDGES
@given(width=SIDES, height=SIDES, chips=CHIPS)
def test_same_as_a_walk_row_by_row(width: int, height: int, chips: ChipSettings, edge: str) -> None:
    grid = grid_of(width, height, with_edge(chips, edge))
    side = chips.size
    wanted = [
        Window(x, y, side, side)
        for y in naive(height, side, chips.stride, edge)
        for x in naive(width, side, chips.stride, edge)
    ]
    assert list(grid) == wanted
    assert len(grid) == len(wanted) == len(set(wanted))


@EDGES
@given(width=SIDES, height=SIDES, chips=CHIPS)
def test_what_is_covered(width: int, height: int, chips: ChipSettings, edge: str) -> None:
    covered = np.zeros((height, width), dtype=int)
    grid = grid_of(width, height, with_edge(chips, edge))
    for x, y, w, h in grid:
        assert x >= 0 <= y
        if edge == "drop" or (edge == "shift" and width >= w and height >= h):
            assert x + w <= width
            assert y + h <= height
        covered[y : y + h, x : x + w] += 1
    if edge != "drop":
        assert covered.all()
    elif width >= chips.size <= height:
        # what drop leaves out is less than a stride at either edge
        assert covered[: height - chips.stride + 1, : width - chips.stride + 1].all()
    if edge != "shift" and not chips.overlap:
        assert covered.max(initial=0) <= 1


@given(columns=st.integers(1, 6), rows=st.integers(1, 6), chips=CHIPS, edge=st.sampled_from(["shift", "pad", "drop"]))
def test_a_scene_that_chips_fill_exactly_knows_no_edge(columns: int, rows: int, chips: ChipSettings, edge: str) -> None:
    width, height = (chips.size + chips.stride * (n - 1) for n in (columns, rows))
    grid = grid_of(width, height, with_edge(chips, edge))
    assert (len(grid.lefts), len(grid.tops)) == (columns, rows)
    one_more = grid_of(width + 1, height, with_edge(chips, edge))
    assert len(one_more.lefts) == columns + (edge != "drop")


@pytest.mark.parametrize(("edge", "count"), [("shift", 1), ("pad", 1), ("drop", 0)])
@pytest.mark.parametrize("shape", [(1, 1), (223, 223), (1, 224), (224, 1)])
def test_a_scene_smaller_than_a_chip(shape: tuple[int, int], edge: Any, count: int) -> None:
    assert list(grid_of(*shape, ChipSettings(edge=edge))) == [Window(0, 0, 224, 224)] * count


def test_a_line_of_100_000_pixels() -> None:
    grid = grid_of(100_000, 1, ChipSettings())
    assert (len(grid.lefts), grid.lefts[-1], list(grid.tops)) == (447, 100_000 - 224, [0])


@pytest.mark.parametrize(
    ("own", "sides", "stride"),
    [
        ((10, 10), (100, 100), 75),
        ((5, 20), (200, 50), 150),
        ((3, 3), (333, 333), 250),
        ((250, 10), (4, 100), 3),
        ((0.5, 225), (2000, 4), 1500),
    ],
)
def test_another_ground_sampling_distance(own: tuple[float, float], sides: tuple[int, int], stride: int) -> None:
    grid = grid_of(5000, 5000, ChipSettings(size=100, overlap=0.25, gsd=10), gsd=own)
    assert (grid.width, grid.height) == sides
    assert grid.lefts[1] == stride


@pytest.mark.parametrize("own", [None, (0, 10), (10, float("inf")), (float("nan"), 1)])
def test_a_ground_sampling_distance_that_is_not_known(own: Any) -> None:
    with pytest.raises(SceneError, match=r"pixels of a\.tif on the ground is not known; leave out --gsd"):
        grid_of(500, 500, ChipSettings(gsd=10), gsd=own, name="a.tif")
    assert isinstance(grid_of(500, 500, ChipSettings(), gsd=own), Grid)


@pytest.mark.parametrize("own", [(1e9, 10), (10, 1000)])
def test_a_chip_of_hardly_a_pixel(own: tuple[float, float]) -> None:
    with pytest.raises(SceneError, match=r"pixels of a\.tif, which are .* m; wanted at least 4 a side, .* in metres"):
        grid_of(500, 500, ChipSettings(size=100, gsd=10), gsd=own, name="a.tif")


@pytest.mark.parametrize("own", [0.1, 1e-300])
def test_a_chip_too_large_for_memory(own: float) -> None:
    with pytest.raises(SceneError, match=rf"pixels of a\.tif; wanted at most {MOST_PIXELS:,} .* coarser copy"):
        grid_of(100, 100, ChipSettings(gsd=1000), gsd=(own, own), name="a.tif")


def test_more_chips_than_memory_holds() -> None:
    assert len(grid_of(8 * MOST_CHIPS, 8, ChipSettings(size=8))) == MOST_CHIPS
    with pytest.raises(SceneError, match=r"a\.tif would be cut into 500,001 chips; wanted at most 500,000"):
        grid_of(8 * MOST_CHIPS + 8, 8, ChipSettings(size=8), name="a.tif")
