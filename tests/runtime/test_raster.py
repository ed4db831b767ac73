"""Opening scenes: what makes a usable one, and each way in which one is not."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duch.errors import ConfigError, SceneError
from duch.geo.settings import ChipSettings
from duch.ids import Window

from .some_scenes import PLACES, ramp, transform_at, write_scene

from affine import Affine  # isort: skip
from rasterio.control import GroundControlPoint  # isort: skip
from duch.geo.raster import open_scene  # isort: skip

RGB = {"bands": (3, 2, 1), "ranges": ((0, 3000),)}


def opened(path: Path, **settings: Any) -> tuple[Any, ...]:
    with open_scene(path, ChipSettings(**(settings or RGB))) as scene:
        place = None if scene.georeference is None else scene.georeference.crs_name
        return scene.width, scene.height, scene.bands, scene.ranges, place


@pytest.mark.parametrize("place", PLACES)
def test_a_scene(tmp_path: Path, place: str) -> None:
    file = write_scene(tmp_path / "a.tif", (4, 60, 70), place=place, tags={"TIFFTAG_DATETIME": "2024:06:01 10:20:30"})
    with open_scene(file, ChipSettings(**RGB)) as scene:
        assert (scene.width, scene.height, scene.bands, scene.ranges) == (70, 60, (3, 2, 1), ((0, 3000),))
        assert scene.georeference is not None
        assert scene.georeference.crs_name == PLACES[place][0]
        assert scene.acquisition.time_us == 1_717_237_230_000_000
        assert (scene.size, scene.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
        values, valid = scene.read_window(Window(10, 20, 30, 40))
        np.testing.assert_array_equal(values, ramp(4, 60, 70)[[2, 1, 0], 20:60, 10:40])
        assert valid.all()


def test_a_rotated_scene_has_a_place(tmp_path: Path) -> None:
    turned = Affine(8.66, 10, 499_650, 5, -17.3, 5_400_300)
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), transform=turned)
    assert opened(file)[-1] == "EPSG:32633"


def test_a_scene_without_a_place(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), place=None)
    with pytest.raises(SceneError, match=r"a\.tif has no place on the map; .* --crs .* --unlocated$"):
        opened(file)
    assert opened(file, **RGB, unlocated=True)[-1] is None


def test_a_disk_that_cannot_be_read_is_one_scenes_matter(tmp_path: Path) -> None:
    (tmp_path / "a.tif").symlink_to("/proc/self/mem")  # a regular file whose first bytes are an I/O error
    with pytest.raises(SceneError, match=r"/a\.tif cannot be read: Input/output error$"):
        opened(tmp_path / "a.tif")


def test_a_coordinate_system_that_is_not_named(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), place=None, transform=transform_at("utm", 70, 60))
    with pytest.raises(SceneError, match=r"has no place on the map; .* --crs EPSG:NUMBER"):
        opened(file)
    assert opened(file, **RGB, crs="EPSG:32633")[-1] == "EPSG:32633"
    named = write_scene(tmp_path / "b.tif", (3, 60, 70), place="arctic")
    assert opened(named, **RGB, crs="EPSG:32633")[-1] == "EPSG:3413"


def test_ground_control_points_are_a_place(tmp_path: Path) -> None:
    corners = [GroundControlPoint(y, x, 500_000 + 10 * x, 5_400_000 - 10 * y) for y in (0, 60) for x in (0, 70)]
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), gcps=corners)
    assert opened(file)[-1] == "EPSG:32633"


def test_a_place_that_cannot_be_used_names_the_scene(tmp_path: Path) -> None:
    flat = Affine(10, 0, 500_000, 10, 0, 5_400_000)
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), transform=flat)
    with pytest.raises(SceneError, match=r"/a\.tif: .*has no inverse"):
        opened(file)
    with pytest.raises(SceneError, match=r"/a\.tif: .*"):
        opened(write_scene(file, (3, 60, 70)), **RGB, pattern=r"(?P<time>\d{8})")


def test_what_settings_leave_open_stops_the_run(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (4, 60, 70))
    with pytest.raises(ConfigError, match=r"/a\.tif holds uint16 in the bands 1, 2, 3, 4, and no bands"):
        opened(file, ranges=((0, 1),))
    with pytest.raises(ConfigError, match=r"/a\.tif holds uint16 and no value range"):
        opened(file, bands=(1, 2, 3))
    with pytest.raises(SceneError, match=r"/a\.tif has 4 bands; wanted band 5$"):
        opened(file, bands=(5,))


@pytest.mark.parametrize("how", ["grown", "touched", "replaced", "gone"])
def test_a_file_that_changes_meanwhile(tmp_path: Path, how: str) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 60, 70))
    known = os.stat(file)

    def change() -> None:
        if how == "grown":
            with open(file, "ab") as stream:
                stream.write(b"more")
            os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
        elif how == "touched":
            os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns + 1))
        elif how == "replaced":
            other = write_scene(tmp_path / "b.tif", (3, 60, 70))
            os.utime(other, ns=(known.st_atime_ns, known.st_mtime_ns))
            os.replace(other, file)
        else:
            file.unlink()

    message = r"/a\.tif (was changed while it was read|cannot be read: No such file)"
    with pytest.raises(SceneError, match=message), open_scene(file, ChipSettings(**RGB)):
        change()


def test_an_error_within_is_not_hidden_by_a_change(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 60, 70))

    def fail() -> None:
        file.unlink()
        raise KeyError("a bug")

    with pytest.raises(KeyError), open_scene(file, ChipSettings(**RGB)):
        fail()


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.9, 0.999])
def test_a_file_that_was_not_copied_whole(tmp_path: Path, share: float) -> None:
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), nodata=31000)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(SceneError, match=r"/a\.tif (is cut off: it has [\d,]+ of at least|cannot be read as a raster)"):
        opened(file)


def test_damage_within_is_told_when_it_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write_scene(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 999, (3, 60, 70), dtype=np.uint16))
    raw = bytearray(file.read_bytes())
    raw[2000:9000] = bytes(7000)
    file.write_bytes(raw)
    told: list[str] = []
    with open_scene(file, ChipSettings(**RGB)) as scene:

        def read() -> None:
            try:
                scene.read_window(Window(0, 0, 70, 60))
            except SceneError as error:
                told.append(str(error))

        read()
        # GDAL holds its settings, and where its messages go, for each thread.
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(told) == 2
    assert told[0].startswith(f"{file} is damaged or cut off: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_give_pixels_or_one_line(tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(seed)
    known: dict[str, Any] = [{}, {"cog": True, "blocksize": 128}, {"tiled": False}, {"tags": {"a": "b"}}][seed % 4]
    file = write_scene(tmp_path / "a.tif", (3, 60, 70), nodata=31000, **known)
    whole = file.read_bytes()
    told: list[str] = []
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(generator.choice((1, 2, 8))):
            content[generator.choice((generator.randrange(600), -generator.randrange(1, 800)))] = generator.randrange(
                256
            )
        file.write_bytes(content)
        try:
            with open_scene(file, ChipSettings(**RGB)) as scene:
                scene.read_window(Window(0, 0, min(70, scene.width), min(60, scene.height)))
        except SceneError as error:
            told.append(str(error))
    assert 0 < len(told) < 60
    assert all("\n" not in line and line.startswith(str(file)) for line in told)
    assert capfd.readouterr().out == ""


def test_blocks_that_memory_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duch.geo.raster._MOST_BLOCK_BYTES", 20_000)
    bands = write_scene(tmp_path / "a.tif", (3, 200, 200), blocksize=64, INTERLEAVE="BAND")
    assert opened(bands)[:2] == (200, 200)
    pixels = write_scene(tmp_path / "b.tif", (3, 200, 200), blocksize=64, INTERLEAVE="PIXEL")
    with pytest.raises(SceneError, match=r"kept in blocks of 64 x 64 pixels, 0 MB; .* TILED=YES$"):
        opened(pixels)
