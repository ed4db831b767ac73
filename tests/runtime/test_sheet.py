"""Contact sheets, checked by their pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch import sheet as module
from duch.errors import ConfigError, ImageError
from duch.sheet import contact_sheet
from duch.tile import Hit

PAPER, CARD, EMPTY = (245, 246, 248), (228, 235, 248), (217, 220, 225)
SIZE = 100


def hit(rank: int, path: Path | None = None, **known: Any) -> Hit:
    facts = {"id": f"tile-{rank}.png", "modality": "image", "distance": rank, **known}
    return Hit(rank=rank, seq=rank, path=path, **facts)


@pytest.fixture
def red(tmp_path: Path) -> Path:
    file = tmp_path / "red.png"
    Image.new("RGB", (30, 60), (200, 10, 10)).save(file)
    return file


def cell(sheet: Image.Image, column: int, row_from_below: int = 0) -> tuple[int, int, int]:
    """The colour near the top right corner of a cell, where no text is."""
    x = 28 + column * (SIZE + 18) + SIZE - 12
    y = sheet.height - 28 - (SIZE + 46) - row_from_below * (SIZE + 46 + 18) + 12
    return sheet.getpixel((x, y))  # type: ignore[return-value]


def ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    """How many pixels of a region differ from the paper."""
    return int((np.asarray(sheet.crop(box)) != PAPER).any(axis=2).sum())


def test_each_kind_of_hit_has_its_own_cell(red: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    hits = [hit(1, red), hit(2), hit(3, broken), hit(4, modality="text", text="two ships", id="text:1")]
    sheet = contact_sheet("ships", hits, columns=4, tile_size=SIZE)
    assert sheet.mode == "RGB"
    assert sheet.width == 2 * 28 + 4 * SIZE + 3 * 18
    assert [cell(sheet, i) for i in range(4)] == [(200, 10, 10), EMPTY, EMPTY, CARD]


def test_hits_fill_rows_in_order_of_rank(red: Path) -> None:
    hits = [hit(rank, red if rank in (1, 5) else None) for rank in range(1, 6)]
    sheet = contact_sheet("ships", hits, columns=3, tile_size=SIZE)
    assert [cell(sheet, i, 1) for i in range(3)] == [(200, 10, 10), EMPTY, EMPTY]
    assert [cell(sheet, i, 0) for i in range(3)] == [EMPTY, (200, 10, 10), PAPER]


def test_every_hit_is_labelled(red: Path) -> None:
    sheet = contact_sheet("ships", [hit(1, red), hit(2, red)], columns=2, tile_size=SIZE)
    for column in range(2):
        left, top = 28 + column * (SIZE + 18), sheet.height - 28 - 46
        rank = (left, top + 4, left + 20, top + 26)
        distance = (left + 60, top + 4, left + SIZE, top + 26)
        name = (left, top + 28, left + SIZE, top + 46)
        assert all(ink(sheet, box) > 5 for box in (rank, distance, name))


def test_place_and_time_stand_below_the_id_where_they_are_known(red: Path) -> None:
    place, time = {"footprint": (8.5, 47.0, 8.6, 47.1)}, {"time_us": 0}
    plain, one, both = (
        contact_sheet("ships", [hit(1, red), hit(2, red, **known)], columns=2, tile_size=SIZE)
        for known in ({}, place, place | time)
    )
    assert (one.height - plain.height, both.height - plain.height) == (18, 36)
    left = 28 + SIZE + 18
    for sheet, lines in ((one, 1), (both, 2)):
        for line in range(lines):
            bottom = sheet.height - 28 - 18 * (lines - line - 1)
            assert ink(sheet, (left, bottom - 18, left + SIZE, bottom)) > 5
            assert ink(sheet, (28, bottom - 17, 28 + SIZE, bottom)) == 0  # nothing is known of the first
    alone = contact_sheet("ships", [hit(1, red), hit(2, red, **time)], columns=2, tile_size=SIZE)
    assert alone.height == one.height


def test_rows_with_captions_do_not_lie_on_each_other(red: Path) -> None:
    known = {"footprint": (8.5, 47.0, 8.6, 47.1), "time_us": 0}
    sheet = contact_sheet("ships", [hit(rank, red, **known) for rank in (1, 2)], columns=1, tile_size=SIZE)
    lower = sheet.height - 28 - 46 - 36 - SIZE
    upper = lower - 18 - 46 - 36 - SIZE
    for top in (upper, lower):
        assert sheet.getpixel((28 + SIZE // 2, top + 2)) == (200, 10, 10)
        assert sheet.getpixel((28 + SIZE // 2, top - 2)) == PAPER


def test_a_chip_is_drawn_through_its_window(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    from .some_scenes import write_scene

    values = np.zeros((3, 64, 96), dtype=np.uint8)
    values[:, 16:48, 32:64] = np.array([200, 10, 10])[:, None, None]
    scene = write_scene(tmp_path / "scene.tif", values)
    facts: dict[str, Any] = {"uri": "scene.tif", "attributes": {"bands": [1, 2, 3], "chip": 32}}
    hits = [hit(1, scene, id="scene.tif#32,16,32,32", **facts), hit(2, scene, id="scene.tif#900,16,32,32", **facts)]
    sheet = contact_sheet("ships", hits, columns=2, tile_size=SIZE)
    assert [cell(sheet, i) for i in range(2)] == [(200, 10, 10), EMPTY]


def test_the_query_stands_above_the_hits(red: Path) -> None:
    short = contact_sheet("a", [hit(1)], tile_size=SIZE)
    long = contact_sheet("ships in the harbour " * 5, [hit(1)], tile_size=SIZE)
    assert long.height > short.height
    assert ink(short, (28, 40, 100, 80)) > 20
    for query in (red, Image.open(red), np.asarray(Image.open(red))):
        assert contact_sheet(query, [hit(1)], tile_size=SIZE).getpixel((28 + 50, 28 + 50)) == (200, 10, 10)


def test_a_string_is_a_sentence_even_if_it_names_a_file(red: Path) -> None:
    assert contact_sheet(str(red), [hit(1)], tile_size=SIZE).getpixel((28 + 50, 28 + 50)) != (200, 10, 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word " * 10_000,
        "x" * 20_000,
        "word " * 50 + "x" * 300_000,
        "line\nbreak\0",
        "où é 日本 💥",
        "\u202eabc",
        "% {0} <b>",
    ],
    ids=["empty", "long", "one long word", "a long word at last", "control", "unicode", "right to left", "markup"],
)
@pytest.mark.parametrize("system_font", [True, False])
def test_any_text_fits(text: str, system_font: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not system_font:
        monkeypatch.setattr(module, "_system_font", lambda: None)
    hits = [hit(1, modality="text", text=text, id=text or "x"), hit(2, id=text or "x")]
    sheet = contact_sheet(text, hits, columns=2, tile_size=SIZE)
    assert sheet.height < 500
    right = (sheet.width - 27, 0, sheet.width, sheet.height)
    assert ink(sheet, right) == 0  # nothing runs off the page


def test_without_a_system_font_accents_are_dropped_and_not_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_system_font", lambda: None)
    plain = contact_sheet("ou est le bateau", [hit(1)], tile_size=SIZE)
    accents = contact_sheet("où est lé bateau", [hit(1)], tile_size=SIZE)
    assert plain.tobytes() == accents.tobytes()


def test_no_hits_is_said(red: Path) -> None:
    sheet = contact_sheet("ships", [], tile_size=SIZE)
    assert ink(sheet, (28, sheet.height - 28 - 40, 120, sheet.height - 28)) > 20


def test_settings_and_queries_that_make_no_sheet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="columns is 0; wanted at least 1"):
        contact_sheet("a", [hit(1)], columns=0)
    with pytest.raises(ConfigError, match="tile size is 9; wanted at least 64"):
        contact_sheet("a", [hit(1)], tile_size=9)
    with pytest.raises(
        ConfigError, match=r"a sheet of 5,000 hits has .* pixels from top to bottom, wanted at most 65,500"
    ):
        contact_sheet("a", [hit(1)] * 5_000)
    with pytest.raises(ImageError, match="does not exist"):
        contact_sheet(tmp_path / "none.png", [hit(1)])
