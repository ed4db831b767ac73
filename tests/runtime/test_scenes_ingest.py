"""Scenes cut into chips and indexed, with the tiny bundle, on real rasters."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from duch.encoder import Encoder
from duch.errors import ConfigError, GalleryError, InputError
from duch.filters import Filters
from duch.gallery import Gallery
from duch.gallery_writer import GalleryWriter
from duch.geo.ingest import ScenesProgress, ScenesReport, code_scene, index_scenes
from duch.geo.settings import ChipSettings
from duch.geo.stac import SceneSource
from duch.ids import id_to_path
from duch.ingest import index_images
from duch.repair import repair
from duch.tile import StoredTile, Tile
from duch.verify import verify

from .some_scenes import PLACES, ramp, rasterio, transform_at, write_scene

TINY = Path(__file__).parents[1] / "tiny_bundle"
SIDE = 32  # of the tiny bundle's images
RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY, threads=1)


def rgb(path: Path, height: int = 64, width: int = 96, seed: int = 0, **more: Any) -> Path:
    """A small 8-bit scene of patches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (3, -(-height // 8), -(-width // 8)), dtype=np.uint8)
    values = np.kron(patches, np.ones((1, 8, 8), dtype=np.uint8))[:, :height, :width]
    return write_scene(path, values, colors=RGB, **more)


def pixels_of(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as scene:
        return scene.read()  # type: ignore[no-any-return]


def chips(folder: Path) -> dict[str, tuple[bytes, StoredTile]]:
    """Code and tile of every live tile, by id, in seq order."""
    with Gallery.open(folder) as gallery:
        return {
            tile.id: (code.tobytes(), tile)
            for codes, tiles in gallery.batches()
            for code, tile in zip(codes, tiles, strict=True)
        }


def scenes_in(folder: Path) -> dict[str, int]:
    """How many chips each scene has."""
    found: dict[str, int] = {}
    for _, tile in chips(folder).values():
        found[tile.uri or ""] = found.get(tile.uri or "", 0) + 1
    return found


def run(encoder: Encoder, scenes: Path, gallery: Path, **more: Any) -> ScenesReport:
    settings = {name: more.pop(name) for name in list(more) if name in ChipSettings.__dataclass_fields__}
    return index_scenes(encoder, scenes, gallery, ChipSettings(**{"size": SIDE, **settings}), **more)


def counts(report: ScenesReport) -> tuple[int, ...]:
    return (
        *(report.added, report.replaced, report.unchanged, len(report.skipped), report.missing, report.removed),
        *(report.chips, report.chips_removed, report.chips_left_out),
    )


def message_of(kind: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a chip is ---


def test_each_chip_has_the_code_of_its_window(tmp_path: Path, encoder: Encoder) -> None:
    scene = rgb(tmp_path / "in" / "a.tif", 64, 80, tags={"TIFFTAG_DATETIME": "2024:06:01 10:20:30"})
    assert counts(run(encoder, scene.parent, tmp_path / "g")) == (1, 0, 0, 0, 0, 0, 6, 0, 0)
    found, values = chips(tmp_path / "g"), pixels_of(scene)
    windows = [(x, y) for y in (0, 32) for x in (0, 32, 48)]
    assert list(found) == [f"a.tif#{x},{y},32,32" for x, y in windows]
    about = os.stat(scene)
    for (x, y), (code, tile) in zip(windows, found.values(), strict=True):
        cut = np.moveaxis(values[:, y : y + 32, x : x + 32], 0, -1)
        assert code == encoder.encode_pixels(cut[None])[0].tobytes()
        assert (tile.uri, tile.modality, tile.window) == ("a.tif", "image", (x, y, 32, 32))
        assert (tile.size, tile.mtime_ns, tile.time_us) == (about.st_size, about.st_mtime_ns, 1717237230 * 10**6)
        geometry = tile.attributes["geometry"]
        ring = np.array(geometry["coordinates"][0])
        assert geometry["type"] == "Polygon"
        assert tile.footprint == pytest.approx((*ring.min(0), *ring.max(0)))
        known = {name: value for name, value in tile.attributes.items() if name != "geometry"}
        assert known == {
            "bands": [1, 2, 3],
            "chip": 32,
            "crs": "EPSG:32633",
            "gsd": pytest.approx(10, rel=0.01),
            "nodata": 0.0,
            "scene_chips": 6,
            "settings": ChipSettings(size=SIDE).digest,
        }
    (middle,), (latitude,) = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [500_000], [5_400_000])
    west, _, _, north = found["a.tif#0,0,32,32"][1].footprint or (0,) * 4
    east, south = (found["a.tif#48,32,32,32"][1].footprint or (0,) * 4)[2:0:-1]
    assert (west + east) / 2 == pytest.approx(middle)
    assert (south + north) / 2 == pytest.approx(latitude)
    with Gallery.open(tmp_path / "g") as gallery:
        assert (gallery.root, gallery.bundle_hint) == (scene.parent, TINY)


def test_sixteen_bits_are_scaled_by_the_range_and_bands_are_chosen(tmp_path: Path, encoder: Encoder) -> None:
    values = ramp(4, 40, 32)
    write_scene(tmp_path / "a.tif", values)
    report = run(encoder, tmp_path / "a.tif", tmp_path / "g", bands=(4, 3, 2), ranges=((100, 500),), edge="drop")
    assert report.chips == 1
    ((code, tile),) = chips(tmp_path / "g").values()
    chosen = np.moveaxis(values[[3, 2, 1], :32], 0, -1).astype(np.float64)
    scaled = np.clip(np.floor((chosen - 100) * 255 / 400 + 0.5), 0, 255).astype(np.uint8)
    assert code == encoder.encode_pixels(scaled[None])[0].tobytes()
    assert (tile.attributes["bands"], tile.attributes["range"]) == ([4, 3, 2], [[100, 500]])


def test_chips_of_another_size_are_resized_as_images_are(tmp_path: Path, encoder: Encoder) -> None:
    scene = rgb(tmp_path / "a.tif", 48, 48)
    run(encoder, scene, tmp_path / "g", size=48)
    ((code, tile),) = chips(tmp_path / "g").values()
    assert code == encoder.encode_images([np.moveaxis(pixels_of(scene), 0, -1)])[0].tobytes()
    assert tile.attributes["chip"] == 48


def test_a_scene_without_a_place_is_skipped_or_taken_without_footprints(tmp_path: Path, encoder: Encoder) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "in" / "nowhere.tif", place=None)
    report = run(encoder, tmp_path / "in", tmp_path / "g")
    assert [name for name, _ in report.skipped] == ["nowhere.tif"]
    assert "--unlocated" in report.skipped[0][1]
    run(encoder, tmp_path / "in", tmp_path / "g", unlocated=True)
    tiles = [tile for _, tile in chips(tmp_path / "g").values()]
    assert {tile.uri: tile.footprint is None for tile in tiles} == {"a.tif": False, "nowhere.tif": True}
    assert not any("geometry" in tile.attributes for tile in tiles if tile.uri == "nowhere.tif")


# --- again, and after changes ---


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Iterator[Any]:
        raise AssertionError("a scene was read")

    monkeypatch.setattr("duch.geo.chips.read_chips", refuse)
    monkeypatch.setattr("duch.geo.raster.open_scene", refuse)


def test_what_is_there_is_not_read_again(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "in" / "d" / "b.tif", seed=1)
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (2, 0, 0, 0, 0, 0, 12, 0, 0)
    before = chips(tmp_path / "g")
    no_reading(monkeypatch)
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (0, 0, 2, 0, 0, 0, 0, 0, 0)
    assert chips(tmp_path / "g") == before


def test_a_changed_scene_is_replaced_with_all_its_chips(tmp_path: Path, encoder: Encoder) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "in" / "b.tif", seed=1)
    run(encoder, tmp_path / "in", tmp_path / "g")
    of_b = [chip for name, chip in chips(tmp_path / "g").items() if name.startswith("b.tif")]
    rgb(tmp_path / "in" / "a.tif", 32, 80, seed=2)  # 0, 32, 48 instead of 0, 32, 64, and one row less
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (0, 1, 1, 0, 0, 0, 3, 4, 0)
    assert scenes_in(tmp_path / "g") == {"b.tif": 6, "a.tif": 3}
    fresh = run(encoder, tmp_path / "in", tmp_path / "fresh")
    assert fresh.chips == 9
    codes = {name: code for name, (code, _) in chips(tmp_path / "fresh").items()}
    assert {name: code for name, (code, _) in chips(tmp_path / "g").items()} == codes
    assert [chip for name, chip in chips(tmp_path / "g").items() if name.startswith("b.tif")] == of_b
    assert not verify(tmp_path / "g").problems


def test_other_settings_cut_every_scene_anew(tmp_path: Path, encoder: Encoder) -> None:
    scene = rgb(tmp_path / "a.tif")
    run(encoder, scene, tmp_path / "g")
    assert counts(run(encoder, scene, tmp_path / "g", overlap=0.5)) == (0, 1, 0, 0, 0, 0, 15, 0, 0)
    assert counts(run(encoder, scene, tmp_path / "g", overlap=0.5)) == (0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert counts(run(encoder, scene, tmp_path / "g", size=64)) == (0, 1, 0, 0, 0, 0, 2, 15, 0)
    assert list(chips(tmp_path / "g")) == ["a.tif#0,0,64,64", "a.tif#32,0,64,64"]


def remove_one(gallery: Path) -> None:
    with GalleryWriter(gallery) as writer:
        assert writer.remove(["a.tif#0,0,32,32"]) == 1


def damage_one(gallery: Path) -> None:
    with open(gallery / "codes-1.bin", "r+b") as file:
        file.seek(64 + 4 * 2)
        file.write(bytes(byte ^ 1 for byte in chips(gallery)["a.tif#64,0,32,32"][0]))
    assert repair(gallery).taken_out == ["a.tif#64,0,32,32"]


@pytest.mark.parametrize("take_out", [remove_one, damage_one])
def test_a_scene_that_lost_a_chip_comes_back_whole(
    tmp_path: Path, encoder: Encoder, take_out: Callable[[Path], None]
) -> None:
    rgb(tmp_path / "s/a.tif")
    rgb(tmp_path / "s/a.tif#b.tif", seed=1)
    run(encoder, tmp_path / "s", tmp_path / "g")
    whole = {name: code for name, (code, _) in chips(tmp_path / "g").items()}
    take_out(tmp_path / "g")
    assert len(chips(tmp_path / "g")) == len(whole) - 1
    report = run(encoder, tmp_path / "s", tmp_path / "g")
    assert (report.replaced, report.unchanged) == (1, 1)
    assert {name: code for name, (code, _) in chips(tmp_path / "g").items()} == whole


def test_scenes_that_are_gone_are_counted_and_pruned_and_nothing_else_is(tmp_path: Path, encoder: Encoder) -> None:
    scenes = tmp_path / "in"
    for number, name in enumerate(("a.tif", "b.tif", "d/c.tif")):
        rgb(scenes / name, seed=number)
    index_images(encoder, scenes, tmp_path / "g")  # the scenes as images
    run(encoder, scenes, tmp_path / "g")
    (scenes / "b.tif").unlink()
    (scenes / "d" / "c.tif").unlink()
    with pytest.raises(InputError, match="is no folder; wanted one for --prune"):
        run(encoder, scenes / "a.tif", tmp_path / "g", prune=True)  # nothing else would be looked at
    assert run(encoder, scenes / "d" / "..", tmp_path / "g").missing == 2
    report = run(encoder, scenes, tmp_path / "g", prune=True)
    assert (report.removed, report.chips_removed, report.missing) == (2, 12, 0)
    assert sorted(chips(tmp_path / "g")) == sorted(
        ["a.tif", "b.tif", "d/c.tif", *(f"a.tif#{x},{y},32,32" for x in (0, 32, 64) for y in (0, 32))]
    )
    assert index_images(encoder, scenes, tmp_path / "g", prune=True).removed == 2


def test_scenes_in_a_folder_that_cannot_be_read_are_not_pruned(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "in" / "shut" / "b.tif", seed=1)
    run(encoder, tmp_path / "in", tmp_path / "g")
    (tmp_path / "in" / "shut" / "b.tif").unlink()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if os.fsdecode(path).endswith("shut"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = run(encoder, tmp_path / "in", tmp_path / "g", prune=True)
    assert (report.removed, report.skipped) == (0, [("shut", "cannot be read: Permission denied")])


# --- scenes that cannot be used ---


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_a_broken_scene_is_skipped_and_its_former_chips_stay(tmp_path: Path, encoder: Encoder) -> None:
    for number, name in enumerate("abc"):
        rgb(tmp_path / "in" / f"{name}.tif", 96, 96, seed=number, compress="none")
    run(encoder, tmp_path / "in" / "b.tif", tmp_path / "g")
    before = chips(tmp_path / "g")
    cut(tmp_path / "in" / "b.tif", 0.7)
    cut(tmp_path / "in" / "c.tif", 0.7)
    report = run(encoder, tmp_path / "in", tmp_path / "g")
    assert (report.added, [name for name, _ in report.skipped]) == (1, ["b.tif", "c.tif"])
    assert report.skipped[0][1].endswith("; its former chips are kept")
    assert "kept" not in report.skipped[1][1]
    assert scenes_in(tmp_path / "g") == {"b.tif": 9, "a.tif": 9}
    assert {name: chips(tmp_path / "g")[name] for name in before} == before
    assert not report.in_vain


def test_a_scene_that_changes_while_it_is_read_is_not_taken(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = rgb(tmp_path / "a.tif")
    encode = encoder.encode_pixels

    def touch(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(pixels):
            os.utime(scene, ns=(0, 1))
        return encode(pixels)

    monkeypatch.setattr(encoder, "encode_pixels", touch)
    report = run(encoder, scene, tmp_path / "g", batch_size=1)
    assert report.in_vain
    assert "was changed while it was read" in report.skipped[0][1]
    assert chips(tmp_path / "g") == {}


def test_scenes_without_data_are_named_and_are_no_failure(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in" / "none.tif", np.zeros((3, 64, 64), np.uint8), colors=RGB, nodata=0)
    half = np.full((3, 32, 96), 7, np.uint8)
    half[:, :, :40] = 0
    write_scene(tmp_path / "in" / "half.tif", half, colors=RGB, nodata=0)
    report = run(encoder, tmp_path / "in", tmp_path / "g")
    assert counts(report) == (1, 0, 0, 1, 0, 0, 2, 0, 5)
    assert (report.empty, report.in_vain) == (1, False)
    assert "none of its 4 chips" in report.skipped[0][1]
    assert {name: tile.attributes["nodata"] for name, (_, tile) in chips(tmp_path / "g").items()} == {
        "half.tif#32,0,32,32": 0.25,
        "half.tif#64,0,32,32": 0.0,
    }
    assert not run(encoder, tmp_path / "in" / "none.tif", tmp_path / "other").in_vain
    # A scene that had chips, and now holds no data, has none any more.
    write_scene(tmp_path / "in" / "half.tif", np.zeros((3, 32, 96), np.uint8), colors=RGB, nodata=0)
    assert run(encoder, tmp_path / "in", tmp_path / "g").chips_removed == 2
    assert chips(tmp_path / "g") == {}


@pytest.mark.parametrize("size", [SIDE, 24])
def test_the_work_can_be_ended_in_a_scene_without_data(tmp_path: Path, encoder: Encoder, size: int) -> None:
    write_scene(tmp_path / "a.tif", np.zeros((3, 96, 64), dtype=np.uint8), nodata=0, colors=RGB)
    calls = []
    settings = ChipSettings(size=size)
    code_scene(
        encoder,
        SceneSource(tmp_path / "a.tif"),
        settings,
        uri="a.tif",
        on_progress=lambda part, chips: calls.append(chips),
    )
    assert calls == [0] * (1 + 96 // size)  # at the beginning, and after every row of chips


def test_without_a_usable_scene_no_gallery_is_made(tmp_path: Path, encoder: Encoder) -> None:
    gallery = tmp_path / "g"
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "bad" / name).write_bytes(b"no raster")
    for scenes, words in (
        ("none", "does not exist"),
        ("empty", "holds no scenes and 0 other files"),
        ("bad", "none of 2 scenes can be used; "),
        ("bad/a.tif", "a.tif cannot be read as a raster"),
    ):
        assert words in message_of(InputError, lambda scenes=scenes: run(encoder, tmp_path / scenes, gallery))
    assert "batch size is 0" in message_of(InputError, lambda: run(encoder, tmp_path, gallery, batch_size=0))
    write_scene(tmp_path / "deep.tif", (4, 40, 40))
    message_of(ConfigError, lambda: run(encoder, tmp_path / "deep.tif", gallery, bands=(4, 3, 2)))
    assert not gallery.exists()


def test_settings_that_do_not_fit_a_scene_end_the_run_and_what_is_done_is_safe(
    tmp_path: Path, encoder: Encoder
) -> None:
    rgb(tmp_path / "in" / "a.tif")
    write_scene(tmp_path / "in" / "b.tif", (3, 40, 40))
    assert "--range" in message_of(ConfigError, lambda: run(encoder, tmp_path / "in", tmp_path / "g", bands=(1, 2, 3)))
    assert scenes_in(tmp_path / "g") == {"a.tif": 6}


def test_an_id_that_belongs_to_another_tile_is_not_taken_away(tmp_path: Path, encoder: Encoder) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "in" / "b.tif", seed=1)
    others = [
        Tile(id="a.tif#0,0,32,32", modality="text", text="not a chip"),
        Tile(id="b.tif#32,0,32,32", modality="image", uri="b.tif#32,0,32,32"),
    ]
    with Gallery.writer(
        tmp_path / "g", fingerprint=encoder.bundle.fingerprint, n_bits=encoder.n_bits, create=True
    ) as out:
        out.append(np.zeros((2, encoder.n_bits // 8), dtype=np.uint8), others)
    report = run(encoder, tmp_path / "in", tmp_path / "g", root=tmp_path / "in")
    assert [name for name, _ in report.skipped] == ["a.tif", "b.tif"]
    assert "'a.tif#0,0,32,32'" in report.skipped[0][1]
    assert sorted(chips(tmp_path / "g")) == [tile.id for tile in others]


# --- names and places ---


@pytest.mark.parametrize("name", [b"a\nb.tif", b"a\xff.tif", b"%41#0,0,5,5.tif", "näh 日本.TIFF".encode(), b" .tif"])
def test_odd_names_lead_back_to_their_scenes(tmp_path: Path, encoder: Encoder, name: bytes) -> None:
    (tmp_path / "in").mkdir()
    scene = rgb(tmp_path / "plain.tif").rename(tmp_path / "in" / os.fsdecode(name))
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (1, 0, 0, 0, 0, 0, 6, 0, 0)
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (0, 0, 1, 0, 0, 0, 0, 0, 0)
    ((uri, n),) = scenes_in(tmp_path / "g").items()
    assert (tmp_path / "in" / id_to_path(uri), n) == (scene, 6)
    assert all(tile.window is not None for _, tile in chips(tmp_path / "g").values())
    scene.unlink()
    rgb(tmp_path / "in" / "other.tif")
    assert run(encoder, tmp_path / "in", tmp_path / "g", prune=True).removed == 1


def test_links_are_followed_and_not_round_in_circles(tmp_path: Path, encoder: Encoder) -> None:
    rgb(tmp_path / "in" / "a.tif")
    rgb(tmp_path / "elsewhere" / "b.tif", seed=1)
    (tmp_path / "in" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    report = run(encoder, tmp_path / "in", tmp_path / "g")
    assert scenes_in(tmp_path / "g") == {"a.tif": 6, "link/b.tif": 6}
    assert [name for name, _ in report.skipped] == ["gone.tif"]


def test_the_root_is_the_folder_or_the_galleries_own(tmp_path: Path, encoder: Encoder) -> None:
    rgb(tmp_path / "in" / "d" / "a.tif")
    rgb(tmp_path / "in" / "d" / "b.tif", seed=1)
    rgb(tmp_path / "out" / "c.tif", seed=2)
    run(encoder, tmp_path / "in" / "d" / "a.tif", tmp_path / "g", root=tmp_path / "in")
    run(encoder, tmp_path / "in" / "d", tmp_path / "g")
    assert scenes_in(tmp_path / "g") == {"d/a.tif": 6, "d/b.tif": 6}
    assert "is not inside the root" in message_of(InputError, lambda: run(encoder, tmp_path / "out", tmp_path / "g"))
    run(encoder, tmp_path / "out" / "c.tif", tmp_path / "other")
    assert scenes_in(tmp_path / "other") == {"c.tif": 6}


def test_a_special_file_is_no_scene(tmp_path: Path, encoder: Encoder) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    for place in ("pipe.tif", ""):
        text = message_of(InputError, lambda place=place: run(encoder, tmp_path / place, tmp_path / "g"))
        assert "no regular file" in text


# --- STAC ---


def stac_item(folder: Path, name: str, href: str, **properties: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": "2024-06-01T10:20:30Z", **properties},
        "links": [],
        "assets": {
            "visual": {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]},
            "index": {"href": "./index.html", "type": "text/html"},
        },
    }
    (folder / f"{name}.json").write_text(json.dumps(item))
    return folder / f"{name}.json"


def test_a_stac_item_says_when_and_by_whom(tmp_path: Path, encoder: Encoder) -> None:
    pytest.importorskip("pystac")
    rgb(tmp_path / "cat" / "data" / "a.tif")
    item = stac_item(tmp_path / "cat", "S2 one", "./data/a.tif", platform="sentinel-2a", **{"eo:cloud_cover": 12.5})
    assert counts(run(encoder, item, tmp_path / "g")) == (1, 0, 0, 0, 0, 0, 6, 0, 0)
    for _, tile in chips(tmp_path / "g").values():
        assert (tile.uri, tile.time_us) == ("data/a.tif", 1717237230 * 10**6)
        known = {name: tile.attributes[name] for name in ("sensor", "cloud_cover", "item")}
        assert known == {"sensor": "sentinel-2a", "cloud_cover": 12.5, "item": "S2 one"}
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.root == tmp_path / "cat"


def test_assets_outside_the_catalog_have_the_folder_that_holds_them_as_root(tmp_path: Path, encoder: Encoder) -> None:
    pytest.importorskip("pystac")
    for name in ("x/a", "y/b"):
        rgb(tmp_path / "data" / f"{name}.tif")
    items = [
        json.loads(stac_item(tmp_path / "cat", name[-1], f"../data/{name}.tif").read_text()) for name in ("x/a", "y/b")
    ]
    items.append(json.loads(stac_item(tmp_path / "cat", "far", "https://example.com/far.tif").read_text()))
    both = tmp_path / "cat" / "items.json"
    both.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    report = run(encoder, both, tmp_path / "g", asset="visual")
    assert scenes_in(tmp_path / "g") == {"x/a.tif": 6, "y/b.tif": 6}
    assert len(report.skipped) == 1
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.root == tmp_path / "data"
    text = message_of(InputError, lambda: run(encoder, tmp_path / "data", tmp_path / "g", asset="visual"))
    assert "--asset visual is for STAC" in text


# --- while it works ---


def test_progress_counts_chips_and_scenes(tmp_path: Path, encoder: Encoder) -> None:
    for number in range(3):
        rgb(tmp_path / "in" / f"{number}.tif", seed=number)
    run(encoder, tmp_path / "in" / "0.tif", tmp_path / "g")
    told: list[ScenesProgress] = []
    run(encoder, tmp_path / "in", tmp_path / "g", batch_size=4, on_progress=told.append)
    assert told[0] == ScenesProgress(0, 3, 0.0, 0)
    assert told[-1] == ScenesProgress(3, 3, 0.0, 12)
    assert [done.scenes + done.part for done in told] == sorted(done.scenes + done.part for done in told)
    assert [done.chips for done in told] == sorted(done.chips for done in told)
    assert any(0 < done.part < 1 for done in told)


def test_scenes_are_read_by_one_thread_and_one_batch_ahead(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duch.geo.chips
    import duch.geo.raster

    scene = rgb(tmp_path / "a.tif", 320, 320)
    threads, read, coded, ahead = set(), [], [], []
    read_chips, open_scene, encode = duch.geo.chips.read_chips, duch.geo.raster.open_scene, encoder.encode_pixels

    def reading(*args: Any, **more: Any) -> Iterator[Any]:
        for batch in read_chips(*args, **more):
            threads.add(threading.get_ident())
            read.append(len(batch.windows))
            yield batch

    def opening(*args: Any) -> Any:
        threads.add(threading.get_ident())
        return open_scene(*args)

    def encoding(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(pixels):
            ahead.append(len(read) - len(coded))
            coded.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(duch.geo.chips, "read_chips", reading)
    monkeypatch.setattr(duch.geo.raster, "open_scene", opening)
    monkeypatch.setattr(encoder, "encode_pixels", encoding)
    scene_chips = code_scene(encoder, SceneSource(scene), ChipSettings(size=SIDE), uri="a.tif", batch_size=8)
    assert read == coded
    assert sum(coded) == len(scene_chips.tiles) == 100
    assert max(ahead) <= 2  # this batch and the next
    assert len(threads) == 1
    assert threading.get_ident() not in threads


class _Stopped(Exception):
    pass


def test_what_ends_the_work_leaves_no_part_of_a_scene_and_no_thread(tmp_path: Path, encoder: Encoder) -> None:
    for name in "ab":
        rgb(tmp_path / "in" / f"{name}.tif")

    def stop(done: ScenesProgress) -> None:
        if done.scenes == 1 and done.part > 0.3:
            raise _Stopped

    with pytest.raises(_Stopped):
        run(encoder, tmp_path / "in", tmp_path / "g", batch_size=2, on_progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("duch-scene")]
    assert scenes_in(tmp_path / "g") == {"a.tif": 6}
    assert counts(run(encoder, tmp_path / "in", tmp_path / "g")) == (1, 0, 1, 0, 0, 0, 6, 0, 0)


def test_a_scene_whose_chips_cannot_be_stored_leaves_the_gallery_as_it_was(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = rgb(tmp_path / "a.tif")
    run(encoder, scene, tmp_path / "g")
    before = chips(tmp_path / "g")
    rgb(scene, seed=5)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("duch.generation.Generation.write", full)
    assert "6 tiles are safe" in message_of(GalleryError, lambda: run(encoder, scene, tmp_path / "g"))
    assert chips(tmp_path / "g") == before


INDEXER = """
import sys
from duch.encoder import Encoder
from duch.geo.ingest import index_scenes
from duch.geo.settings import ChipSettings
index_scenes(Encoder(sys.argv[1], threads=1), sys.argv[2], sys.argv[3], ChipSettings(size=32), batch_size=4,
             on_progress=lambda done: print(done.scenes, flush=True))
"""


@pytest.mark.parametrize(
    "lines", [17, pytest.param(2, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)]
)
def test_a_killed_run_leaves_whole_scenes_and_the_next_one_goes_on(
    tmp_path: Path, encoder: Encoder, lines: int
) -> None:
    for number in range(12):
        rgb(tmp_path / "in" / f"{number:02}.tif", seed=number)
    child = subprocess.Popen(
        [sys.executable, "-c", INDEXER, str(TINY), str(tmp_path / "in"), str(tmp_path / "g")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    done = [int(child.stdout.readline()) for _ in range(lines)][-1]
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=10)
    found = scenes_in(tmp_path / "g")
    assert set(found.values()) <= {6}
    assert done <= len(found) <= 12
    report = run(encoder, tmp_path / "in", tmp_path / "g")
    assert (report.unchanged, report.added) == (len(found), 12 - len(found))
    assert scenes_in(tmp_path / "g") == {f"{number:02}.tif": 6 for number in range(12)}


# --- from a place in a scene to a place on the map ---


@pytest.mark.parametrize("place", PLACES)
def test_what_is_planted_is_found_where_it_lies(tmp_path: Path, encoder: Encoder, place: str) -> None:
    shapely = pytest.importorskip("shapely")
    from shapely.geometry import shape

    rng = np.random.default_rng(len(place))
    values = np.full((4, 200, 170), 900, dtype=np.uint16) + rng.integers(0, 40, (4, 200, 170), dtype=np.uint16)
    values[:, :9] = values[:, :, -17:] = 0  # no data
    x, y = 3 * 16, 5 * 16
    planted = np.kron(rng.integers(1, 3000, (3, 4, 4)), np.ones((1, 8, 8), dtype=int))
    values[[3, 2, 1], y : y + 32, x : x + 32] = planted
    write_scene(tmp_path / "a.tif", values, place=place, nodata=0, cog=True, blocksize=128)
    ranges, settings = ((0.0, 3000.0),), {"bands": (4, 3, 2), "overlap": 0.5, "max_nodata": 0.25}
    report = run(encoder, tmp_path / "a.tif", tmp_path / "g", ranges=ranges, **settings)

    windows = [tile.window for _, tile in chips(tmp_path / "g").values() if tile.window is not None]
    share = {window: float((values[0, window.y :, window.x :][:32, :32] == 0).mean()) for window in windows}
    assert max(share.values()) <= 0.25
    assert report.chips + report.chips_left_out == 12 * 10
    assert len(share) == report.chips
    picture = np.floor(np.moveaxis(planted, 0, -1) * 255 / 3000 + 0.5).astype(np.uint8)
    with Gallery.open(tmp_path / "g") as gallery:
        hits = gallery.search(encoder.encode_pixels(picture[None]), 9, filters=Filters(max_distance=0))[0]
    (hit,) = [hit for hit in hits if hit.window == (x, y, 32, 32)]
    ground = shape(hit.attributes["geometry"])
    assert ground.is_valid
    crs, transform = PLACES[place][0], transform_at(place, 170, 200)

    def on_map(column: float, row: float) -> Any:
        (lon,), (lat,) = rasterio.warp.transform(crs, "EPSG:4326", *([part] for part in transform @ (column, row)))
        return shapely.Point((lon + 180) % 360 - 180, lat)

    inside = [(x + 1, y + 1), (x + 31, y + 1), (x + 31, y + 31), (x + 1, y + 31), (x + 16, y + 16)]
    outside = [(x - 1, y + 5), (x + 33, y + 5), (x + 5, y - 1), (x + 5, y + 33), (x - 1, y - 1)]
    assert all(ground.covers(on_map(*point)) for point in inside)
    assert not any(ground.covers(on_map(*point)) for point in outside)
