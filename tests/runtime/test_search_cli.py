"""duch search: queries of several parts, files that it writes, its table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from duch.bundle import read_bundle
from duch.cli import main
from duch.codes import pack_codes
from duch.encoder import Encoder
from duch.errors import ConfigError
from duch.filters import time_us
from duch.gallery import Gallery, Tile
from duch.hits_table import hits_table
from duch.ids import Window, chip_id

from .resigned import TINY
from .some_hits import some_hit

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 40, 200), "grey": (128, 128, 128)}
NOON = time_us("2024-06-01T12:00:05.25")


def duch(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def fails(result: Result, *words: str) -> None:
    """It said one line on stderr with these words, and ended with 1."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and gallery/: an image a colour, each at a place and a time, and chips of a scene that is not there."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "images").mkdir()
    tiles = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (40, 36), colour).save(folder / "images" / f"{name}.png")
        known: dict[str, Any] = {"footprint": (10.0 * number, 45.0, 10.0 * number + 0.5, 45.5)} if number else {}
        tiles.append(
            Tile(
                id=f"{name}.png",
                modality="image",
                uri=f"{name}.png",
                time_us=NOON + number if number < 3 else None,
                attributes={"cloud_cover": 10.5 * number, "eo:cloud_cover": number, "sensor": f"S2{'AB'[number % 2]}"},
                **known,
            )
        )
    for number in range(4):
        place = (179.5 + 0.1 * number, -18.0, -179.9 + 0.1 * number, -17.0)
        window = Window(56 * number, 0, 224, 224)
        tiles.append(Tile(id=chip_id("s.tif", window), modality="image", uri="s.tif", time_us=NOON, footprint=place))
    encoder = Encoder(TINY)
    codes = encoder.encode_images([folder / "images" / f"{name}.png" for name in COLOURS])
    chips = np.random.default_rng(0).integers(0, 256, (4, encoder.n_bits // 8), dtype=np.uint8)
    about = {"fingerprint": encoder.bundle.fingerprint, "n_bits": encoder.n_bits}
    with Gallery.writer(folder / "gallery", create=True, root=folder / "images", bundle_hint=TINY, **about) as out:
        out.append(np.concatenate([codes, chips]), tiles)
    return folder


def found(*arguments: str | Path) -> dict[str, Any]:
    result = duch("search", *arguments, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


# --- queries ---


def test_parts_are_named_in_the_json_and_added_up(world: Path) -> None:
    image = world / "images" / "red.png"
    arguments = (
        "--words",
        "a port",
        "--image",
        image,
        "--tile",
        "blue.png",
        "--not-words",
        "clouds",
        "--not-tile",
        "grey.png",
    )
    told = found(world / "gallery", "a river", *arguments)
    assert told["query"] == f"a river + a port + {image} + blue.png - clouds - grey.png"
    assert told["parts"] == {
        "texts": ["a river", "a port"],
        "images": [str(image)],
        "tiles": ["blue.png"],
        "not_texts": ["clouds"],
        "not_tiles": ["grey.png"],
    }
    assert {hit["id"] for hit in told["hits"]} & {"blue.png", "grey.png"} == set()
    assert len(told["hits"]) == 6
    encoder = Encoder(TINY)
    with Gallery.open(world / "gallery") as gallery:
        signs = 2.0 * np.unpackbits(gallery.codes, axis=1) - 1

        def of_image(name: str) -> np.ndarray:
            pixels = Image.open(world / "images" / name).resize((encoder.image.size,) * 2)
            return encoder.relaxed_pixels(np.asarray(pixels)[None])[0].astype(np.float64)

        texts = encoder.relaxed_texts(["a river", "a port", "clouds"]).astype(np.float64)
        blue, grey = signs[2] * np.abs(of_image("blue.png")), signs[3] * np.abs(of_image("grey.png"))
        liked = (texts[0] + texts[1] + of_image("red.png") + blue) / 4
        code = pack_codes(liked - (texts[2] + grey) / 2 / 2 >= 0)
        distances = np.bitwise_count(gallery.codes ^ code).sum(axis=1)
    assert [hit["distance"] for hit in told["hits"]] == sorted(np.delete(distances, [2, 3]).tolist())


def test_a_query_of_one_part_is_told_as_ever(world: Path) -> None:
    assert found(world / "gallery", "a river")["query"] == "a river"
    image = world / "images" / "red.png"
    told = found(world / "gallery", "--image", image)
    assert (told["query"], told["parts"]) == (str(image), {"images": [str(image)]})
    assert told["hits"][0]["id"] == "red.png"
    assert found(world / "gallery", "--words", "a river")["hits"] == found(world / "gallery", "a river")["hits"]


def test_a_tile_finds_others_and_not_itself(world: Path) -> None:
    told = found(world / "gallery", "--tile", "s.tif#56,0,224,224", "-k", "9")
    assert told["query"] == "s.tif#56,0,224,224"
    assert len(told["hits"]) == 7
    assert told["hits"][0]["rank"] == 1
    assert "s.tif#56,0,224,224" not in {hit["id"] for hit in told["hits"]}


def test_pictures_of_named_tiles_are_those_below_the_root(world: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(world / "gallery", tmp_path / "gallery")  # its own root is not there
    query = ("--tile", "red.png", "--not-tile", "blue.png")
    told = found(copy, *query, "--root", world / "images", "--bundle", TINY)
    assert [hit["distance"] for hit in told["hits"]] == [
        hit["distance"] for hit in found(world / "gallery", *query)["hits"]
    ]


def test_bad_queries_are_one_line(world: Path) -> None:
    gallery = world / "gallery"
    fails(duch("search", gallery), "nothing to look for; wanted words")
    fails(duch("search", gallery, "--not-words", "clouds"), "nothing to look for, only what hits are to be unlike")
    fails(duch("search", gallery, "--tile", "none.png"), "gallery has no tile 'none.png'")
    fails(duch("search", gallery, "--tile", ""), "'--tile' is empty")
    fails(duch("search", gallery, "a river", "--not-tile", ""), "'--not-tile' is empty")
    fails(duch("search", gallery, "--tile", "\udcff"), "no UTF-8")
    fails(duch("search", gallery, "a river", "--not-image", world / "none.png"), "none.png does not exist")
    fails(duch("search", gallery, "a river", "--not-words", "a river"), "'a river' is both liked and not")
    fails(duch("search", gallery, "a river", "-k", "20000", "--max-overlap", "0.5"), "at most 10,000")
    assert duch("search", gallery, "a river", "--max-overlap", "1.5").exit_code == 2
    assert duch("search", gallery, "a river", "--max-overlap", "nan").exit_code == 2


def test_words_that_the_model_cannot_spell_are_told_of_all_parts(world: Path) -> None:
    result = duch("search", world / "gallery", "a river ☃", "--not-words", "♥")
    assert "'☃', '♥'" in result.stderr


# --- filters and overlap ---


def test_hits_that_overlap_a_nearer_one_are_left_out(world: Path) -> None:
    chips = [hit for hit in found(world / "gallery", "a river")["hits"] if "window" in hit]
    assert [hit["window"] for hit in chips if hit["id"] == "s.tif#56,0,224,224"] == [[56, 0, 224, 224]]
    for share, n in (("0", 1), ("0.3", 2), ("0.8", 4)):
        told = found(world / "gallery", "a river", "--max-overlap", share)
        left = [hit["id"] for hit in told["hits"] if "window" in hit]
        assert left[0] == chips[0]["id"]
        assert len(left) <= n
        assert len(told["hits"]) == 4 + len(left)
    assert len(left) == 4


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("cloud_cover < 20 AND sensor = 'S2A'", {"red.png"}),
        ('"eo:cloud_cover" >= 2', {"blue.png", "grey.png"}),
        ("eo:cloud_cover = 1", {"green.png"}),
        # An attack is a text, an attribute that no tile has, or no expression at all.
        ("sensor = 'S2A'' OR 1=1 --'", set()),
        ("sensor = '''; DROP TABLE tiles; --'", set()),
        ("\"sensor') OR 1=1 --\" = 'S2A'", set()),
        ('"x\'); DELETE FROM tiles; --" IS NOT NULL', set()),
        ('"x$.sensor" IS NOT NULL', set()),
    ],
)
def test_expressions_on_attributes_of_chips(world: Path, where: str, ids: set[str]) -> None:
    assert {hit["id"] for hit in found(world / "gallery", "a river", "--where", where)["hits"]} == ids
    assert found(world / "gallery", "a river")["n_tiles"] == 8


@pytest.mark.parametrize(
    "where",
    [
        "sensor = 'S2A' OR 1=1",
        "sensor = 'S2A'; DROP TABLE tiles",
        "1=1",
        "sensor = 'S2A' UNION SELECT id FROM tiles",
        "sensor = 'S2A' --",
        "sensor = (SELECT sensor FROM tiles)",
        "load_extension('x') = 1",
        "x = 'a' OR ''=''",
        '"x"" OR 1=1 --" = 1',
        "sensor = ?",
        "sensor = 'S2A' /* */",
        "sensor GLOB '*'",
    ],
)
def test_sql_that_is_no_expression_is_one_line(world: Path, where: str) -> None:
    fails(duch("search", world / "gallery", "a river", "--where", where), "wanted")
    assert found(world / "gallery", "a river")["n_tiles"] == 8


# --- the table ---


def test_the_table_shows_time_and_place_where_they_are_known(world: Path) -> None:
    lines = duch("search", world / "gallery", "a river").stdout.splitlines()
    assert lines[0].split() == ["rank", "distance", "time", "longitude", "latitude", "id"]
    assert len(lines) == 9
    by_id = {line[57:]: line for line in lines[1:]}
    assert by_id["red.png"][13:].split() == ["2024-06-01T12:00:05Z", "red.png"]
    assert by_id["grey.png"][13:].split() == ["30.2500", "45.2500", "grey.png"]
    assert by_id["green.png"][13:].split() == ["2024-06-01T12:00:05Z", "10.2500", "45.2500", "green.png"]
    assert by_id["s.tif#0,0,224,224"][13:].split()[1:3] == ["179.8000", "-17.5000"]
    assert by_id["s.tif#168,0,224,224"][13:].split()[1:3] == ["-179.9000", "-17.5000"]
    assert max(map(len, lines)) <= 100


def test_a_place_off_the_map_is_blank_in_the_table() -> None:
    near, far = hits_table([some_hit(footprint=(8, 47, 9, 48)), some_hit(2, footprint=(0, 1e300, 1, 1e300))])[1:]
    assert near.split()[2:4] == ["8.5000", "47.5000"]
    assert len(far) == len(near)


def test_the_table_is_plain_where_neither_is_known(world: Path) -> None:
    lines = duch("search", world / "gallery", "a river", "--id", "red.png", "--until", "2030-01-01").stdout.splitlines()
    assert lines[0].split() == ["rank", "distance", "time", "id"]
    lines = duch("search", world / "gallery", "a river", "--id", "grey.png").stdout.splitlines()
    assert lines[0].split() == ["rank", "distance", "longitude", "latitude", "id"]
    assert lines[1].endswith("grey.png")
    lines = duch("search", world / "gallery", "a river", "--id", "nowhere").stdout.splitlines()
    assert lines == ["rank distance  id"]


# --- files ---


def test_all_files_at_once(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    files = {"sheet": "s.png", "html": "p.html", "geojson": "h.geojson", "geoparquet": "h.parquet", "stac": "i.json"}
    options = [part for name, file in files.items() for part in (f"--{name}", tmp_path / file)]
    result = duch("search", world / "gallery", "a river", "-k", "5", *options)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 6
    assert [f"wrote {tmp_path / file}" in result.stderr for file in files.values()] == [True] * 5
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(files.values())
    ids = [hit["id"] for hit in found(world / "gallery", "a river", "-k", "5")["hits"]]
    assert [feature["id"] for feature in json.loads((tmp_path / "h.geojson").read_bytes())["features"]] == ids
    assert len(json.loads((tmp_path / "i.json").read_bytes())["features"]) == 5
    assert "a river" in (tmp_path / "p.html").read_text()
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 600
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "h.parquet")["id"].to_pylist() == ids


@pytest.mark.parametrize("name", ["geojson", "stac"])
def test_maps_go_to_stdout_instead_of_the_table(world: Path, name: str) -> None:
    result = duch("search", world / "gallery", "a river", f"--{name}", "-")
    assert json.loads(result.stdout)["type"] == "FeatureCollection"
    assert "8 of 8 tiles" in result.stderr


def test_an_empty_answer_is_an_empty_map(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "h.geojson"
    result = duch("search", world / "gallery", "a river", "--where", "nothing = 1", "--geojson", out)
    assert result.exit_code == 0
    assert json.loads(out.read_bytes()) == {"type": "FeatureCollection", "features": []}


def test_files_that_cannot_be_are_refused_before_the_model_is_loaded(world: Path, tmp_path: Path) -> None:
    (tmp_path / "area.geojson").write_text('{"type": "Point", "coordinates": [10.2, 45.2]}')
    (tmp_path / "ids.json").write_text("red.png\n")
    (tmp_path / "folder.json").mkdir()
    before = {file: file.read_bytes() for file in world.rglob("*") if file.is_file()}
    image = world / "images" / "red.png"
    for options, said in (
        (["--geojson", "-", "--stac", "-"], "--geojson - and --stac - both write to stdout"),
        (["--geojson", "-", "--json"], "--geojson - and --json both write to stdout"),
        (["--geojson", tmp_path / "x.shp"], "x.shp ends in '.shp'; wanted .geojson or .json"),
        (["--geoparquet", tmp_path / "x.csv"], "wanted .parquet or .geoparquet"),
        (["--stac", tmp_path / "x"], "ends in ''; wanted .json or .geojson for --stac"),
        (["--html", tmp_path / "x.pdf"], "wanted .html or .htm"),
        (["--html", "-"], "- ends in ''; wanted .html"),
        (["--html", tmp_path / "no" / "x.html"], "no does not exist, so"),
        (["--stac", tmp_path / "folder.json"], "is a folder; wanted a file"),
        (["--geojson", world / "gallery" / "x.json"], "inside the gallery; wanted a file elsewhere"),
        (["--geojson", tmp_path / "x.json", "--stac", tmp_path / "." / "x.json"], "--geojson and --stac both write"),
        (["--geojson", tmp_path / "ids.json", "--ids", tmp_path / "ids.json"], "is read by the search"),
        (["--not-image", image, "--sheet", image], "is read by the search"),
        (["--geojson", ""], "is empty"),
    ):
        fails(duch("search", world / "gallery", "a river", "--bundle", tmp_path / "none", *options), said)
    assert {file: file.read_bytes() for file in world.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["blue.png", "s.tif"])
def test_files_of_the_gallery_are_not_drawn_over(world: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(world, tmp_path / "copy")
    (copy / "images" / "s.tif").write_text("a scene")
    (copy / "images" / "sheet.png").write_text("an older sheet")
    (tmp_path / "link").symlink_to(copy / "images")
    file = copy / "images" / name
    before = file.read_bytes()
    search = ("search", copy / "gallery", "a river", "--bundle", TINY)
    fails(duch(*search, "--sheet", file), f"{name} is a file of the gallery, and --sheet would replace it")
    fails(duch(*search, "--sheet", tmp_path / "link" / name), "is a file of the gallery")
    assert file.read_bytes() == before
    assert duch(*search, "--sheet", copy / "images" / "sheet.png").exit_code == 0


def test_a_format_that_cannot_hold_a_sheet_is_told(world: Path, tmp_path: Path) -> None:
    result = duch("search", world / "gallery", "a river", "--sheet", tmp_path / "x.xbm")
    fails(result, "x.xbm cannot be drawn: cannot write mode RGB as XBM; wanted .png")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_stdout_is_told(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from duch.search_outputs import Outputs

    monkeypatch.setattr("sys.stdout", None)
    for outputs in (Outputs(as_json=True), Outputs(geojson=Path("-"))):
        with pytest.raises(ConfigError, match="stdout, which is closed"):
            outputs.check(world / "gallery", [])


def test_the_area_of_a_search_is_not_replaced_by_its_hits(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("shapely")
    area = tmp_path / "area.geojson"
    area.write_text('{"type": "Point", "coordinates": [10.2, 45.2]}')
    arguments = ("search", world / "gallery", "a river", "--geometry", area)
    fails(duch(*arguments, "--geojson", area), "area.geojson is read by the search, and --geojson would replace it")
    assert duch(*arguments).stdout.splitlines()[1].endswith("green.png")


def test_the_bundle_stays_that_of_the_gallery(world: Path) -> None:
    told = json.loads(duch("search", world / "gallery", "a river", "--stac", "-").stdout)
    assert read_bundle(TINY).fingerprint in json.dumps(told)


def test_chips_of_a_scene_are_found_drawn_and_searched_with(tmp_path: Path) -> None:
    pytest.importorskip("rasterio", exc_type=ImportError)
    pytest.importorskip("shapely")
    from duch.geo.chips import read_chip

    from .some_scenes import write_scene

    (tmp_path / "scenes").mkdir()
    scene = write_scene(tmp_path / "scenes" / "S2A_20240601T101010.tif", (4, 96, 160), place="utm 60 over 180")
    pattern = r"^(?P<sensor>S2[AB])_(?P<time>\w+)\.tif"
    cut = ("--chip", "32", "--bands", "4,3,2", "--range", "0:1500", "--pattern", pattern)
    assert duch("index", TINY, scene.parent, tmp_path / "g", *cut).exit_code == 0

    told = found(tmp_path / "g", "a river", "-k", "20", "--where", "sensor = 'S2A' AND nodata < 0.1")
    assert told["n_selected"] == len(told["hits"]) == 15
    one = told["hits"][3]
    assert one["id"].endswith("#" + ",".join(map(str, one["window"])))
    assert one["time_us"] == time_us("2024-06-01T10:10:10Z")
    assert any(hit["footprint"][0] > hit["footprint"][2] for hit in told["hits"]), "one crosses the antimeridian"

    # A chip that is compared with what is not liked counts by its pixels.
    others = found(tmp_path / "g", "--tile", one["id"], "--not-words", "clouds", "-k", "20")["hits"]
    assert {hit["id"] for hit in others} == {hit["id"] for hit in told["hits"]} - {one["id"]}
    encoder = Encoder(TINY)
    pixels = read_chip(scene, Window(*one["window"]), one["attributes"]).resize((encoder.image.size,) * 2)
    relaxed = encoder.relaxed_pixels(np.asarray(pixels)[None]) - encoder.relaxed_texts(["clouds"]) / 2
    with Gallery.open(tmp_path / "g") as gallery:
        distances = np.bitwise_count(gallery.codes ^ pack_codes(relaxed >= 0)).sum(axis=1)
    assert [hit["distance"] for hit in others] == [int(distances[hit["seq"]]) for hit in others]

    result = duch("search", tmp_path / "g", "--tile", one["id"], "-k", "4", "--sheet", tmp_path / "s.png")
    assert result.exit_code == 0
    with Image.open(tmp_path / "s.png") as sheet:
        colours = np.unique(np.asarray(sheet.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 500, "the chips are drawn"

    area = {"type": "Polygon", "coordinates": [[[179.5, 8], [180.5, 8], [180.5, 10], [179.5, 10], [179.5, 8]]]}
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    assert found(tmp_path / "g", "a river", "--geometry", tmp_path / "area.geojson")["n_selected"] == 15
