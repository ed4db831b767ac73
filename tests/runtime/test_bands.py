"""Bands and ranges are the scene's own only where they are plain; else the error says what to say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from duch.errors import ConfigError, SceneError
from duch.geo.settings import ChipSettings
from duch.ids import Window

from .some_scenes import ramp, rasterio, write_scene

from duch.geo.bands import bands_of, ranges_of, read_window  # isort: skip
from duch.geo.gdal import open_raster  # isort: skip


def chosen(path: Path, **settings: Any) -> tuple[Any, Any]:
    wanted = ChipSettings(**settings)
    with open_raster(path) as dataset:
        bands = bands_of(dataset, wanted, path.name)
        return bands, ranges_of(dataset, bands, wanted, path.name)


@pytest.mark.parametrize(
    ("colors", "bands"),
    [
        (("red", "green", "blue"), (1, 2, 3)),
        (("red", "green", "blue", "alpha"), (1, 2, 3)),
        (("blue", "green", "red", "nir"), (3, 2, 1)),
        (("nir", "red", "green", "blue"), (2, 3, 4)),
        (("gray", "undefined", "undefined"), (1, 2, 3)),
    ],
)
def test_bytes_of_red_green_and_blue_need_no_words(
    tmp_path: Path, colors: tuple[str, ...], bands: tuple[int, ...]
) -> None:
    file = write_scene(tmp_path / "a.tif", (len(colors), 9, 9), dtype="uint8", colors=colors)
    assert chosen(file) == (bands, None)
    assert chosen(file, bands=(2,)) == ((2,), None)
    assert chosen(file, ranges=((0, 99),)) == (bands, ((0, 99),))


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"values": (1, 9, 9), "dtype": "uint8"}, r"uint8 in the band 1, .* --bands 1$"),
        ({"values": (2, 9, 9), "dtype": "uint8"}, r"uint8 in the bands 1, 2, .* --bands 1$"),
        (
            {"values": (3, 9, 9), "dtype": "uint8", "colors": ("nir", "red", "green")},
            "in the bands 1 nir, 2 red, 3 green, ",
        ),
        (
            {"values": (4, 9, 9), "descriptions": ["B02", "B03", "B04", "two\nlines"], "colors": ["gray"] * 4},
            r"uint16 in the bands 1 B02, 2 B03, 3 B04, 4 two\\nlines, .* --bands 3,2,1$",
        ),
        ({"values": (3, 9, 9), "colors": ("blue", "green", "red")}, r"--bands 3,2,1$"),
        ({"values": (3, 9, 9), "colors": ("red", "green", "blue")}, r"--bands 1,2,3$"),
        ({"values": (40, 9, 9)}, r"11, 12, \.\.\., and no bands"),
        (
            {"values": (4, 9, 9), "dtype": "uint8", "colors": ("cyan", "magenta", "yellow", "black")},
            "1 cyan, 2 magenta, 3 yellow, 4 black",
        ),
    ],
)
def test_other_bands_have_to_be_named(tmp_path: Path, known: dict[str, Any], told: str) -> None:
    file = write_scene(tmp_path / "a.tif", **known)
    with pytest.raises(ConfigError, match=rf"^a\.tif holds .*{told}"):
        chosen(file)


def test_names_of_bands_that_are_no_text(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 9, 9), descriptions=["NAME", "b", "c"])
    file.write_bytes(file.read_bytes().replace(b"NAME", b"N\xe4ME"))
    with pytest.raises(ConfigError, match=r"in the bands 1, 2, 3, and"):
        chosen(file)


def test_a_scene_without_those_bands_is_left_out(tmp_path: Path) -> None:
    one, three = write_scene(tmp_path / "1.tif", (1, 9, 9)), write_scene(tmp_path / "3.tif", (3, 9, 9))
    with pytest.raises(SceneError, match=r"^1\.tif has 1 band; wanted bands 4, 3, 2$"):
        chosen(one, bands=(4, 3, 2))
    with pytest.raises(SceneError, match=r"^3\.tif has 3 bands; wanted band 4$"):
        chosen(three, bands=(4,))


def test_a_container_of_no_bands() -> None:
    with pytest.raises(SceneError, match=r"^a has no bands"):
        bands_of(SimpleNamespace(count=0), ChipSettings(), "a")


def test_what_is_no_brightness(tmp_path: Path) -> None:
    numbers = write_scene(tmp_path / "c.tif", ramp(1, 9, 9, "float32").astype(np.complex64))
    with pytest.raises(SceneError, match=r"^band 1 of c\.tif holds complex64 numbers; wanted real ones$"):
        chosen(numbers, bands=(1,))
    table = write_scene(tmp_path / "p.tif", (1, 9, 9), dtype="uint8")
    with rasterio.open(table, "r+") as scene:
        scene.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    for bands in (None, (1,)):
        with pytest.raises(SceneError, match=r"^band 1 of p\.tif holds places in a colour table; .* -expand rgb$"):
            chosen(table, bands=bands)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int8", "uint32", "float32", "float64"])
def test_no_range_is_guessed(tmp_path: Path, dtype: str) -> None:
    values = np.empty((4, 100, 101), dtype=dtype)
    values[:] = np.arange(101)
    values[1, :50] = 120  # the most there is, in a band that is not asked for
    file = write_scene(tmp_path / "a.tif", values)
    message = (
        f"a.tif holds {dtype} and no value range is given; the 2nd and 98th percentiles of its bands 4, 3, 1 "
        "are 2 to 98, so try --range 2:98, or --percentile 2:98"
    )
    with pytest.raises(ConfigError) as caught:
        chosen(file, bands=(4, 3, 1))
    assert str(caught.value) == message


def test_bits_that_are_not_used_need_a_range(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", np.ones((1, 20, 20), dtype=np.uint8), NBITS="4")
    with pytest.raises(ConfigError, match=r"no value range is given; name one, such as --range 0:3000$"):
        chosen(file, bands=(1,))


def test_percentiles_are_of_data_in_all_bands(tmp_path: Path) -> None:
    values = np.full((2, 50, 101), 7, dtype=np.int16)
    values[:, 0] = np.arange(101) * 10
    values[:, 1:] = -9999
    values[1] += np.where(values[1] == -9999, 0, 1000).astype(np.int16)
    file = write_scene(tmp_path / "a.tif", np.concatenate([values, values[:1]]), nodata=-9999)
    assert chosen(file, bands=(1,), percentiles=(2, 98)) == ((1,), ((20, 980),))
    both = np.concatenate([np.arange(101) * 10, np.arange(101) * 10, np.arange(101) * 10 + 1000])
    low, high = np.percentile(both, (5, 95))
    assert chosen(file, bands=(1, 2, 3), percentiles=(5, 95))[1] == ((pytest.approx(low), pytest.approx(high)),)


@pytest.mark.parametrize(("value", "told"), [(0, "has no data to take percentiles of"), (5, r"are both 5; wanted")])
def test_nothing_to_take_percentiles_of(tmp_path: Path, value: int, told: str) -> None:
    file = write_scene(tmp_path / "a.tif", np.full((1, 20, 20), value, dtype=np.uint16), nodata=0)
    with pytest.raises(SceneError, match=told):
        chosen(file, bands=(1,), percentiles=(2, 98))
    with pytest.raises(ConfigError, match="such as --range 0:3000"):
        chosen(file, bands=(1,))


@pytest.mark.parametrize("shape", [(1500, 1700), (1, 2_500_000), (2_500_000, 1), (3, 800_000)])
def test_percentiles_of_a_large_scene_come_from_all_over_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = np.linspace(0, 10_000, shape[0] * shape[1]).reshape(1, *shape).astype(np.uint16)
    file = write_scene(tmp_path / "a.tif", values, tiled=False, compress="none")
    ((low, high),) = chosen(file, bands=(1,), percentiles=(10, 90))[1]
    assert abs(low - 1000) < 100
    assert abs(high - 9000) < 100


HALF = np.arange(20 * 30).reshape(20, 30) % 2 == 0


def data(path: Path, bands: tuple[int, ...] = (1, 2, 3)) -> np.ndarray[Any, Any]:
    """Where the scene has data, (3, 20, 30)."""
    with open_raster(path) as dataset:
        values, valid = read_window(dataset, bands, Window(0, 0, 30, 20), path.name)
    return np.broadcast_to(valid, values.shape)


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        *(("uint8", 0), ("uint8", 255), ("int16", -9999), ("uint32", 2**32 - 1), ("float32", -9999)),
        *(("float32", np.nan), ("float32", float(np.finfo(np.float32).min)), ("float64", 1e300)),
    ],
)
def test_nodata_values(tmp_path: Path, dtype: str, nodata: float, cog: bool) -> None:
    values = np.full((3, 20, 30), 7, dtype=dtype)
    values[1, HALF] = nodata
    valid = data(write_scene(tmp_path / "a.tif", values, nodata=nodata, cog=cog, blocksize=128))
    np.testing.assert_array_equal(valid, np.stack([~(HALF & False), ~HALF, ~(HALF & False)]))


def test_not_a_number_is_no_data_whatever_the_nodata_value(tmp_path: Path) -> None:
    values = np.full((3, 20, 30), 7, dtype=np.float32)
    values[2, HALF] = np.nan
    values[0, 0, :3] = [np.inf, -np.inf, -1]
    for nodata in (None, -1):
        valid = data(write_scene(tmp_path / "a.tif", values, nodata=nodata))
        np.testing.assert_array_equal(valid[2], ~HALF)
        assert valid[0, 0, :3].tolist() == [True, True, nodata is None]


@pytest.mark.parametrize("nodata", ["-9999", "0.5000", "1e+20", "nan"])
def test_nodata_values_that_the_type_does_not_have(tmp_path: Path, nodata: str) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 20, 30), nodata=65535)
    raw = file.read_bytes()
    before, own, after = raw.rpartition(b"65535\0")
    file.write_bytes(before + nodata.encode()[:5].ljust(len(own), b"\0") + after)
    with rasterio.open(file) as scene:
        assert scene.nodata != 65535
    assert data(file).all()


@pytest.mark.parametrize("kind", ["inside", "beside", "alpha", "partial alpha"])
def test_masks(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.tif"
    if "alpha" in kind:
        values = np.full((4, 20, 30), 9, dtype=np.uint8)
        values[3] = np.where(HALF, 1 if kind == "partial alpha" else 255, 0)
        write_scene(file, values, colors=("red", "green", "blue", "alpha"))
    elif kind == "inside":
        write_scene(file, (3, 20, 30), mask=HALF)
    else:
        write_scene(file, (3, 20, 30))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(file, "r+") as scene:
            scene.write_mask(HALF)
        assert (tmp_path / "a.tif.msk").exists()
    np.testing.assert_array_equal(data(file), np.stack([HALF] * 3))


def test_what_a_sparse_file_leaves_out(tmp_path: Path) -> None:
    values = np.zeros((3, 64, 64), dtype=np.uint16)
    values[:, :16] = 5
    for nodata in (0, None):
        file = write_scene(tmp_path / "a.tif", values, nodata=nodata, blocksize=16, SPARSE_OK="TRUE")
        with open_raster(file) as dataset:
            read, valid = read_window(dataset, (1,), Window(0, 0, 64, 64), "a.tif")
        np.testing.assert_array_equal(read, values[:1])
        assert int(valid.sum()) == (16 * 64 if nodata == 0 else 64 * 64)


def test_bands_of_several_types_are_read_in_one_that_holds_them(tmp_path: Path) -> None:
    write_scene(tmp_path / "8.tif", (1, 20, 30), dtype="uint8")
    write_scene(tmp_path / "16.tif", np.full((1, 20, 30), -3, dtype=np.int16))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (kind, name) in enumerate([("Byte", "8.tif"), ("Int16", "16.tif")], 1)
    )
    file = tmp_path / "a.vrt"
    file.write_text(f'<VRTDataset rasterXSize="30" rasterYSize="20">{bands}</VRTDataset>')
    with open_raster(file) as dataset:
        values, _ = read_window(dataset, (2, 1, 1), Window(0, 0, 30, 20), "a.vrt")
    assert values.dtype == np.int16
    assert (values[0] == -3).all()
    np.testing.assert_array_equal(values[1], ramp(1, 20, 30, "uint8")[0])
