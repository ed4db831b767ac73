"""Chips against the whole scene in memory, cut and scaled in the plainest way."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from duch.errors import SceneError
from duch.geo.settings import ChipSettings
from duch.geo.values import to_pixels
from duch.geo.windows import grid_of
from duch.ids import Window

from .some_scenes import ramp, rasterio, write_scene

from duch.geo import rows  # isort: skip
from duch.geo.chips import count_chips, read_chip, read_chips  # isort: skip
from duch.geo.raster import open_scene  # isort: skip

Array = np.ndarray[Any, Any]
RGB: dict[str, Any] = {"bands": (3, 2, 1), "ranges": ((0, 3000),)}


def all_chips(path: Path, wanted: ChipSettings, *, batch_size: int = 7) -> tuple[list[Window], Array, Array]:
    with open_scene(path, wanted) as scene:
        batches = list(read_chips(scene, wanted, batch_size=batch_size))
        assert sum(len(batch.windows) for batch in batches) <= count_chips(scene, wanted)
    assert all(len(batch.windows) == len(batch.pixels) == len(batch.nodata) <= batch_size for batch in batches)
    size = wanted.size
    return (
        [window for batch in batches for window in batch.windows],
        np.concatenate([np.empty((0, size, size, 3), np.uint8), *(batch.pixels for batch in batches)]),
        np.concatenate([np.empty(0), *(batch.nodata for batch in batches)]),
    )


def filtered(levels: Array, has_data: Array, size: int) -> Array:
    """Weighted means by a triangle as wide as two pixels of the coarser of both grids, (h, w, 3) -> (s, s, 3)."""

    def weights(length: int) -> Array:
        scale = length / size
        middles = (np.arange(size) + 0.5) * scale
        distance = np.abs(np.arange(length) + 0.5 - middles[:, None]) / max(scale, 1)
        triangle = np.maximum(0, 1 - distance)
        return triangle / triangle.sum(axis=1, keepdims=True)

    down, across = weights(levels.shape[0]), weights(levels.shape[1])
    total = down @ has_data @ across.T
    sums = np.stack([down @ (levels[..., band] * has_data) @ across.T for band in range(3)], axis=-1)
    return np.where(total[..., None] > 1e-4, sums / np.where(total > 1e-4, total, 1)[..., None], 0)


def naive(path: Path, wanted: ChipSettings) -> list[tuple[Window, Array, float]]:
    """Every chip that is kept, from the whole scene in memory; its levels are not rounded where they are resampled."""
    bands = list(wanted.bands or (1, 2, 3))
    with rasterio.open(path) as scene:
        values = scene.read(bands)
        valid = scene.read_masks(bands) != 0
        if values.dtype.kind == "f":
            valid &= ~np.isnan(values)
        own = [abs(scene.transform.a), abs(scene.transform.e)]
    _, height, width = values.shape
    pixels, has_data = to_pixels(values, valid, wanted.ranges), valid.any(axis=0)
    kept = []
    for window in grid_of(width, height, wanted, gsd=(own[0], own[1])):
        levels, data = np.zeros((window.h, window.w, 3)), np.zeros((window.h, window.w), dtype=bool)
        part = slice(window.y, window.y + window.h), slice(window.x, window.x + window.w)
        rows, columns = has_data[part].shape
        levels[:rows, :columns], data[:rows, :columns] = pixels[part], has_data[part]
        nodata = 1 - data.mean()
        if nodata <= wanted.max_nodata:
            same = window[2:] == (wanted.size, wanted.size)
            kept.append((window, levels if same else filtered(levels, data, wanted.size), nodata))
    return kept


def check(path: Path, wanted: ChipSettings, *, slack: float = 0, **more: Any) -> int:
    """Compare all chips with the naive ones, and some of them with the same chip read again alone."""
    windows, pixels, nodata = all_chips(path, wanted, **more)
    known = naive(path, wanted)
    assert sorted(windows) == sorted(window for window, _, _ in known)
    places = {window: place for place, window in enumerate(windows)}
    for number, (window, levels, share) in enumerate(known):
        place = places[window]
        assert np.abs(pixels[place] - levels).max() <= slack
        assert nodata[place] == pytest.approx(share, abs=1e-12)
        if number % 5:
            continue
        attributes = {"bands": list(wanted.bands or (1, 2, 3)), "chip": wanted.size}
        if wanted.ranges is not None:
            attributes["range"] = [list(pair) for pair in wanted.ranges]
        again = read_chip(path, window, attributes)
        assert again.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(again), pixels[place])
    return len(windows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@examples(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    wanted=st.builds(
        ChipSettings,
        size=st.integers(8, 60),
        overlap=st.sampled_from([0, 0.25, 0.6]),
        edge=st.sampled_from(["shift", "pad", "drop"]),
        bands=st.sampled_from([(3, 2, 1), (2,), (1, 1, 4)]),
        ranges=st.sampled_from([((0.0, 900.0),)]),
        max_nodata=st.sampled_from([0, 0.3, 1]),
    ),
    blocksize=st.sampled_from([16, 64]),
    tiled=st.booleans(),
    rows_bytes=st.sampled_from([1, 20_000, 2**26]),
    gaps=st.booleans(),
)
def test_same_as_from_memory(
    folder: Path,
    height: int,
    width: int,
    wanted: ChipSettings,
    blocksize: int,
    tiled: bool,
    rows_bytes: int,
    gaps: bool,
) -> None:
    values = ramp(4, height, width)
    if gaps:
        values[:, height // 3 : height // 2] = 0
        values[1, :, width // 2 :] = 0
    file = write_scene(folder / "a.tif", values, nodata=0, tiled=tiled, blocksize=blocksize)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_ROWS_BYTES", rows_bytes)
        check(file, wanted)


@pytest.mark.parametrize("edge", ["shift", "pad", "drop"])
@pytest.mark.parametrize("gsd", [10, 7, 33.3, 5])
@pytest.mark.parametrize("gaps", [False, True])
def test_another_ground_sampling_distance(tmp_path: Path, gsd: float, edge: Any, gaps: bool) -> None:
    values = ramp(3, 130, 170, scale=5)
    if gaps:
        values[:, 20:60, 30:90] = 0
    file = write_scene(tmp_path / "a.tif", values, nodata=0)
    # levels are rounded before and after they are scaled, and Pillow rounds between its two passes
    assert check(file, ChipSettings(size=32, overlap=0.25, gsd=gsd, edge=edge, max_nodata=1, **RGB), slack=1.1)


def test_pixels_without_data_lend_no_colour(tmp_path: Path) -> None:
    values = np.full((3, 64, 64), 2000, dtype=np.uint16)
    values[:, ::2] = 0
    values[:, :, 40:] = 0
    file = write_scene(tmp_path / "a.tif", values, nodata=0)
    _, pixels, nodata = all_chips(file, ChipSettings(size=32, gsd=20, edge="pad", max_nodata=1, **RGB))
    assert set(np.unique(pixels)) == {0, 170}
    assert (pixels[0, :, :19] == 170).all()
    assert nodata.tolist() == [1 - 32 * 40 / 64**2]


def test_bytes_are_given_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 100, 120), dtype=np.uint8)
    file = write_scene(tmp_path / "a.tif", values, compress="none")
    windows, pixels, nodata = all_chips(file, ChipSettings(size=40, edge="drop"))
    for window, chip in zip(windows, pixels, strict=True):
        part = values[:, window.y : window.y + 40, window.x : window.x + 40]
        np.testing.assert_array_equal(chip, part.transpose(1, 2, 0))
    assert not nodata.any()
    assert len(windows) == 6


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_type(tmp_path: Path, dtype: str) -> None:
    values = (ramp(3, 70, 80, "float64") - 300).astype(np.int16).astype(dtype)
    assert check(write_scene(tmp_path / "a.tif", values), ChipSettings(size=32, bands=(3, 2, 1), ranges=((-60, 90),)))


def test_floats_of_every_kind(tmp_path: Path) -> None:
    values = ramp(3, 70, 80, "float64")
    values[:, 10:20] = [[[np.nan]], [[np.inf]], [[-np.inf]]]
    values[:, 30:40] = np.nan
    values[0, 50:60], values[1, 50:60] = 1e300, -1e300
    file = write_scene(tmp_path / "a.tif", values)
    # Of five rows of chips the third has data in its last 8 of 16 rows, less than wanted.
    assert check(file, ChipSettings(size=16, max_nodata=0.4, **RGB)) == 20


@pytest.mark.parametrize(
    ("known", "more"),
    [
        ({"colors": ("red", "green", "blue", "alpha"), "dtype": "uint8", "values": (4, 70, 80)}, {"ranges": None}),
        ({"mask": np.arange(70 * 80).reshape(70, 80) % 5 > 1, "values": (3, 70, 80)}, {}),
        ({"cog": True, "blocksize": 128, "values": (3, 300, 280), "nodata": 60}, {}),
    ],
)
def test_masks_alpha_and_clouds(tmp_path: Path, known: dict[str, Any], more: dict[str, Any]) -> None:
    assert check(write_scene(tmp_path / "a.tif", **known), ChipSettings(size=32, **{**RGB, **more}))


@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (30_000, 1), (2, 3)])
def test_scenes_of_odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    file = write_scene(tmp_path / "a.tif", (3, *shape), tiled=False)
    wanted = ChipSettings(size=224, max_nodata=1, **RGB)
    windows, pixels, nodata = all_chips(file, wanted, batch_size=64)
    assert len(windows) == -(-max(shape) // 224)
    assert nodata[0] == pytest.approx(1 - min(224, shape[0]) * min(224, shape[1]) / 224**2)
    top = to_pixels(ramp(3, *shape)[[2, 1, 0]], np.ones((3, *shape), dtype=bool), wanted.ranges)
    np.testing.assert_array_equal(pixels[0, : shape[0], : shape[1]], top[:224, :224])
    assert not pixels[0, shape[0] :].any()


def test_no_data_at_all_gives_no_chips(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", np.zeros((3, 70, 80), dtype=np.uint16), nodata=0)
    assert all_chips(file, ChipSettings(size=32, **RGB))[0] == []
    windows, pixels, nodata = all_chips(file, ChipSettings(size=32, max_nodata=1, **RGB))
    assert (len(windows), pixels.max(), nodata.min()) == (9, 0, 1)


def test_a_block_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Window] = []
    from duch.geo.raster import Scene

    original = Scene.read_window

    def counted(self: Scene, window: Window) -> Any:
        read.append(window)
        return original(self, window)

    monkeypatch.setattr(Scene, "read_window", counted)
    file = write_scene(tmp_path / "a.tif", (3, 200, 130), blocksize=64)
    all_chips(file, ChipSettings(size=24, overlap=0.5, **RGB))
    assert read == [Window(0, top, 130, min(64, 200 - top)) for top in (0, 64, 128, 192)]


def test_a_batch_does_not_hold_the_rows_it_is_cut_from(tmp_path: Path) -> None:
    values = np.zeros((1, 2048, 4096), dtype=np.uint8)
    values[:, :, :32] = 1
    file = write_scene(tmp_path / "a.tif", values, nodata=0, blocksize=64)
    tracemalloc.start()
    windows, _, _ = all_chips(file, ChipSettings(size=32, bands=(1,)), batch_size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(windows) == 64
    assert peak < 10e6  # a row of blocks is 1 MB as pixels, and there are 32 of them


def test_batches_of_large_chips_are_small(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", np.full((3, 20, 8200), 9, dtype=np.uint8), compress="none")
    wanted = ChipSettings(size=4096, max_nodata=1)
    with open_scene(file, wanted) as scene:
        assert [len(batch.windows) for batch in read_chips(scene, wanted, batch_size=64)] == [1, 1, 1]


def test_the_values_of_a_large_chip_are_not_all_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ramp(3, 1200, 1200, "float64")
    file = write_scene(tmp_path / "a.tif", values, compress="none")
    wanted = ChipSettings(size=1200, bands=(1, 2, 3), ranges=((0, 3000),))
    _, expected, _ = all_chips(file, wanted)
    monkeypatch.setattr("duch.geo.rows._ROWS_BYTES", 2**22)
    tracemalloc.start()
    _, pixels, _ = all_chips(file, wanted, batch_size=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes  # 35 MB; the pixels take 4 MB, some times over
    assert np.array_equal(pixels, expected)


def test_rows_without_data_are_heard_of(tmp_path: Path) -> None:
    values = np.zeros((1, 96, 64), dtype=np.uint8)
    values[:, 32:64] = 1
    file = write_scene(tmp_path / "a.tif", values, nodata=0)
    wanted = ChipSettings(size=32, bands=(1,))
    with open_scene(file, wanted) as scene:
        batches = [(batch.windows, batch.pixels.shape) for batch in read_chips(scene, wanted, batch_size=64)]
    kept = [Window(0, 32, 32, 32), Window(32, 32, 32, 32)]
    assert batches == [([], (0, 32, 32, 3)), ([], (0, 32, 32, 3)), (kept, (2, 32, 32, 3))]


def test_a_scene_that_breaks_off_gives_an_error_not_black_chips(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 999, (3, 200, 130), dtype=np.uint16)
    file = write_scene(tmp_path / "a.tif", values, blocksize=64)
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 5000] = os.urandom(5000)
    file.write_bytes(raw)
    with pytest.raises(SceneError, match=r"/a\.tif is damaged or cut off: "):
        all_chips(file, ChipSettings(size=64, **RGB))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"bands": [1], "chip": 8, "range": [[1, 1]]},
        {"bands": [1], "chip": 8, "range": [[0, float("nan")]]},
        {"bands": [1], "chip": 8, "range": 5},
        {"bands": [1], "chip": 8, "range": [[0, 1, 2]]},
        {"bands": [], "chip": 8, "range": [[0, 1]]},
        {"bands": [0], "chip": 8, "range": [[0, 1]]},
        {"bands": [1, 2], "chip": 8, "range": [[0, 1]]},
        {"bands": "abc", "chip": 8, "range": [[0, 1]]},
        {"bands": None, "chip": 8, "range": [[0, 1]]},
        {"bands": [1e400], "chip": 8, "range": [[0, 1]]},
        {"bands": [1], "chip": 10**9, "range": [[0, 1]]},
        {"bands": [1], "chip": None, "range": [[0, 1]]},
    ],
)
def test_a_tile_that_does_not_say_how_it_was_read(tmp_path: Path, attributes: dict[str, Any]) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 20, 30))
    with pytest.raises(SceneError, match=r"a\.tif does not say how its chip was read: bands, range, chip$"):
        read_chip(file, Window(0, 0, 8, 8), attributes)


@pytest.mark.parametrize(
    ("window", "attributes", "told"),
    [
        (Window(0, 0, 8, 8), {"bands": [4], "chip": 8, "range": [[0, 1]]}, "has 3 bands; wanted band 4"),
        (Window(0, 0, 8, 8), {"bands": [1], "chip": 8}, "not 8 bits deep, and its chip names no range"),
        (Window(30, 0, 8, 8), {"bands": [1], "chip": 8, "range": [[0, 1]]}, "30 x 20 pixels; wanted the chip 30,0,8,8"),
        (Window(-9, 0, 8, 8), {"bands": [1], "chip": 8, "range": [[0, 1]]}, "wanted the chip -9,0,8,8"),
        (Window(0, 0, 0, 8), {"bands": [1], "chip": 8, "range": [[0, 1]]}, "wanted the chip 0,0,0,8"),
        (Window(0, 0, 10**9 - 1, 10**9 - 1), {"bands": [1], "chip": 8, "range": [[0, 1]]}, "wanted the chip"),
    ],
)
def test_a_chip_that_its_scene_no_longer_has(
    tmp_path: Path, window: Window, attributes: dict[str, Any], told: str
) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 20, 30))
    with pytest.raises(SceneError, match=rf"a\.tif .*{told}"):
        read_chip(file, window, attributes)


def test_a_window_that_begins_before_the_scene_is_padded(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 20, 30), dtype="uint8")
    chip = np.asarray(read_chip(file, Window(-3, -5, 12, 12), {"bands": [1], "chip": 12}))
    np.testing.assert_array_equal(chip[5:, 3:, 0], ramp(3, 20, 30, "uint8")[0, :7, :9])
    assert not chip[:5].any()
    assert not chip[:, :3].any()
