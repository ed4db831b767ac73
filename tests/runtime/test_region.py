"""Bounding boxes and spans of time against a naive loop over the tiles, in C and in NumPy."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duch import columns_file, native, region
from duch.columns_file import GROUP_ROWS, Columns
from duch.errors import FilterError
from duch.tile import StoredTile

FINGERPRINT = "ab" * 32
BOTH = [name for name in ("numpy", "portable") if name in native.levels()]


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    before = native.level()
    yield
    native.set_level(before)


def columns_of(folder: Path, places: list[tuple[Any, int | None]], first_row: int = 0) -> Columns:
    """A real columns file with these footprints and times, the rows before them being noise."""
    tiles = [
        StoredTile(id="x", modality="image", footprint=footprint, time_us=time, seq=seq, code_crc=0)
        for seq, (footprint, time) in enumerate(places)
    ]
    noise = np.zeros(first_row, dtype=columns_file.ROW)
    return mapped(folder, np.concatenate([noise, columns_file.table_of(tiles)]))


def mapped(folder: Path, table: np.ndarray) -> Columns:
    """A real columns file with these rows."""
    file = folder / "columns-1.bin"
    file.write_bytes(columns_file.header(FINGERPRINT, 1))
    descriptor = os.open(file, os.O_RDWR)
    columns_file.write_rows(descriptor, 0, table)
    columns = Columns(descriptor, len(table))
    os.close(descriptor)
    return columns


def spans(west: float, east: float) -> list[tuple[float, float]]:
    """A range of longitudes as one or two ranges that do not cross the antimeridian."""
    return [(west, east)] if west <= east else [(west, math.inf), (-math.inf, east)]


def is_inside(footprint: Any, time: int | None, bbox: Any, since: int | None, until: int | None) -> bool:
    if (since is not None or until is not None) and time is None:
        return False
    if (since is not None and time < since) or (until is not None and time >= until):
        return False
    if bbox is None:
        return True
    if footprint is None or footprint[1] > bbox[3] or footprint[3] < bbox[1]:
        return False
    return any(a <= d and c <= b for a, b in spans(footprint[0], footprint[2]) for c, d in spans(bbox[0], bbox[2]))


# Few values, so that edges touch.
LONGITUDES = st.sampled_from([-180.0, -179.5, -10.0, -0.0, 0.0, 0.1, 10.0, 179.5, 180.0])
LATITUDES = st.sampled_from([-90.0, -45.5, 0.0, 0.1, 60.0, 90.0])
BOXES = st.tuples(LONGITUDES, LATITUDES, LONGITUDES, LATITUDES).map(
    lambda box: (box[0], min(box[1], box[3]), box[2], max(box[1], box[3]))
)
TIMES = st.sampled_from([-(2**63) + 1, -1, 0, 1, 5, 2**63 - 1])
PLACES = st.tuples(st.one_of(st.none(), BOXES), st.one_of(st.none(), TIMES))


@given(
    places=st.lists(PLACES, max_size=30),
    first_row=st.sampled_from([0, 1, GROUP_ROWS - 10, GROUP_ROWS * 2]),
    bbox=st.one_of(st.none(), BOXES),
    span=st.tuples(st.one_of(st.none(), TIMES), st.one_of(st.none(), TIMES)),
)
@example(places=[(None, None), (None, 2**63 - 1)], first_row=0, bbox=None, span=(None, -(2**63) + 1))
@example(places=[((170.0, 0.0, -170.0, 1.0), None)], first_row=0, bbox=(175.0, 0.0, -175.0, 1.0), span=(None, None))
@settings(max_examples=100, deadline=None)
def test_the_mask_equals_a_naive_loop(
    tmp_path_factory: pytest.TempPathFactory, places: Any, first_row: int, bbox: Any, span: Any
) -> None:
    columns = columns_of(tmp_path_factory.mktemp("columns"), places, first_row)
    limits = {"bbox": bbox, "since_us": span[0], "until_us": span[1]}
    expected = [is_inside(footprint, time, bbox, *span) for footprint, time in places]
    for level in BOTH:
        native.set_level(level)
        mask = region.select(columns, **limits)
        assert (mask.dtype, mask.shape) == (np.bool_, (columns.n,))
        assert mask[first_row:].tolist() == expected, level
        noise = is_inside((0.0, 0.0, 0.0, 0.0), 0, bbox, *span)
        assert mask[:first_row].tolist() == [noise] * first_row, level
    rows = np.arange(first_row, columns.n)
    assert region.inside(columns.take(rows), **limits).tolist() == expected


@pytest.mark.parametrize("level", BOTH)
def test_a_box_across_the_antimeridian_takes_both_sides(tmp_path: Path, level: str) -> None:
    fiji = (177.0, -19.0, -178.0, -16.0)
    tiles = [(178.0, -18.0, 178.1, -17.9), (-179.0, -18.0, -178.9, -17.9), (0.0, -18.0, 0.1, -17.9), fiji]
    native.set_level(level)
    columns = columns_of(tmp_path, [(tile, None) for tile in tiles])
    assert region.select(columns, bbox=fiji).tolist() == [True, True, False, True]
    assert region.select(columns, bbox=(-180.0, -90.0, 180.0, 90.0)).tolist() == [True] * 4
    assert region.select(columns, bbox=(-178.95, -90.0, -170.0, 90.0)).tolist() == [False, True, False, True]


@given(
    seqs=st.one_of(
        st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted),
        st.tuples(st.integers(0, 9), st.integers(0, 40)).map(lambda run: list(range(run[0], sum(run)))),
    ),
    wanted=st.lists(st.integers(-2, 2**62), unique=True, max_size=3).flatmap(
        lambda far: st.lists(st.integers(0, 61), unique=True).map(lambda near: [*{*near, *far}])
    ),
    first_row=st.sampled_from([0, GROUP_ROWS - 10]),
)
@example(seqs=[0, 5], wanted=[5], first_row=0)
@settings(max_examples=100, deadline=None)
def test_rows_are_found_by_seq(
    tmp_path_factory: pytest.TempPathFactory, seqs: list[int], wanted: list[int], first_row: int
) -> None:
    table = np.zeros(first_row + len(seqs), dtype=columns_file.ROW)
    table["seq"] = [*range(-first_row, 0), *seqs]
    columns = mapped(tmp_path_factory.mktemp("columns"), table)
    expected = [row for row, seq in enumerate(table["seq"].tolist()) if seq in set(wanted)]
    assert columns.rows_of(wanted).tolist() == expected


def test_an_empty_gallery_has_an_empty_mask(tmp_path: Path) -> None:
    assert region.select(columns_of(tmp_path, []), bbox=(0.0, 0.0, 1.0, 1.0)).shape == (0,)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"bbox": (0, 10, 1, 5)}, "0,10,1,5; wanted west, south, east, north with -90 <= south <= north <= 90"),
        ({"bbox": (0, -91, 1, 5)}, "-90 <= south"),
        ({"bbox": (-181, 0, 1, 5)}, "from -180 to 180"),
        ({"bbox": (0, 0, 190, 5)}, "from -180 to 180"),
        ({"bbox": (0, 0, math.nan, 5)}, "wanted four numbers"),
        ({"bbox": (0, 0, math.inf, 5)}, "wanted four numbers"),
        ({"bbox": (0, 0, 1)}, "wanted four numbers"),
        ({"since_us": 5, "until_us": 5}, "wanted since before until"),
        ({"since_us": 2**63}, "64 bits"),
        ({"until_us": -(2**63)}, "64 bits"),
    ],
)
def test_a_region_that_is_none_is_one_line(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(FilterError) as caught:
        region.check(**limits)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(len(BOTH) < 2, reason="no native library")
def test_the_c_function_refuses_what_it_cannot_read() -> None:
    native.set_level("portable")
    library = native.library()
    assert library is not None
    groups = np.zeros(1, dtype=columns_file.GROUP)
    out = np.zeros(GROUP_ROWS, dtype=np.uint8)

    def select(groups: int | None, out: int | None, bounds: Any) -> int:
        return int(
            library.region_select(
                ctypes.c_void_p(groups),
                ctypes.c_size_t(5),
                ctypes.byref(bounds) if bounds else None,
                ctypes.c_void_p(out),
            )
        )

    any_time = region._Bounds(0, 0, 0, 0, 0, 1, 0, 1)
    place = groups.ctypes.data
    assert select(place, out.ctypes.data, any_time) == 0
    assert out.sum() == 5
    assert select(None, out.ctypes.data, any_time) == -1
    assert select(place, None, any_time) == -1
    assert select(place, out.ctypes.data, None) == -1
    assert select(place + 1, out.ctypes.data, any_time) == -1
    assert select(place, out.ctypes.data, region._Bounds(0, 0, 0, 0, -(2**63), 1, 0, 1)) == -1


@pytest.mark.skipif(len(BOTH) < 2, reason="no native library")
def test_what_the_c_function_refuses_is_no_answer(tmp_path: Path) -> None:
    native.set_level("portable")
    columns = columns_of(tmp_path, [((0.0, 0.0, 1.0, 1.0), None)])
    odd = np.zeros(columns_file.GROUP.itemsize + 1, dtype=np.uint8)[1:].view(columns_file.GROUP)
    columns.groups = odd  # which no mapped file is
    with pytest.raises(RuntimeError, match="refused"):
        region.select(columns, bbox=(0.0, 0.0, 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.skipif(not native.SOURCES.is_dir() or shutil.which("cc") is None, reason="no sources or no C compiler")
@pytest.mark.parametrize(
    "options", [["-O3"], ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]]
)
def test_the_c_function_is_clean_and_equals_a_plain_loop(tmp_path: Path, options: list[str]) -> None:
    program = tmp_path / "region_check"
    sources = [Path(__file__).with_name("region_check.c"), native.SOURCES / "region.c"]
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["cc", *warnings, *options, f"-I{native.SOURCES}", *sources, "-o", program], check=True)
    subprocess.run([program], check=True)
