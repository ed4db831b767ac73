"""`duch index --chip`: from rasters to hits by the command line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from duch.cli import main
from duch.cli_common import scenes_bar
from duch.geo.ingest import ScenesProgress

from .some_scenes import ramp, write_scene

TINY = Path(__file__).parents[1] / "tiny_bundle"
CHIP = ("--chip", "32", "--threads", "1")


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def index(*arguments: str | Path) -> Result:
    return duch("index", TINY, *arguments, *CHIP)


def fails(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("duch: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in last


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("S2A_20240601T102030_x.tif", "S2B_20240608T102030_x.tif")):
        values = ramp(3, 64, 64, "uint8", scale=1 + number)
        write_scene(tmp_path / "in" / name, values, colors=("red", "green", "blue"))
    return tmp_path / "in"


def test_eight_bit_rgb_needs_nothing_but_the_size(scenes: Path, tmp_path: Path) -> None:
    result = index(scenes, tmp_path / "g")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'g'}: scenes 2 added, 0 unchanged; 8 chips added\n"
    assert index(scenes, tmp_path / "g").stdout.endswith("scenes 0 added, 2 unchanged; 0 chips added\n")
    found = json.loads(duch("search", tmp_path / "g", "a field", "-k", "99", "--json").stdout)
    hits = found["hits"] if isinstance(found, dict) else found
    assert len(hits) == 8
    assert {hit["uri"] for hit in hits} == {scene.name for scene in scenes.iterdir()}
    assert duch("gallery", "verify", tmp_path / "g").exit_code == 0


def test_counts_of_scenes_and_chips_are_told_as_json(scenes: Path, tmp_path: Path) -> None:
    half = np.zeros((3, 64, 64), dtype=np.uint8)
    half[:, :, 40:] = 9
    write_scene(scenes / "half.tif", half, colors=("red", "green", "blue"), nodata=0)
    (scenes / "broken.tif").write_bytes(b"no raster")
    (scenes / "notes.txt").touch()
    told = json.loads(index(scenes, tmp_path / "g", "--json").stdout)
    ((name, reason),) = told.pop("skipped")
    assert name == "broken.tif"
    assert reason.startswith("cannot be read as a raster")
    assert told == {
        "gallery": str(tmp_path / "g"),
        **{"added": 3, "replaced": 0, "unchanged": 0, "removed": 0, "missing": 0, "ignored": 1},
        **{"chips": 10, "chips_removed": 0, "chips_left_out": 2, "empty": 0},
    }
    (scenes / "half.tif").unlink()
    result = index(scenes, tmp_path / "g")
    assert "1 missing" in result.stdout
    assert "--prune" in result.stderr
    told = json.loads(index(scenes, tmp_path / "g", "--prune", "--json").stdout)
    assert (told["removed"], told["chips_removed"], told["missing"]) == (1, 2, 0)


def test_the_name_tells_time_and_sensor_to_searches(scenes: Path, tmp_path: Path) -> None:
    pattern = r"^(?P<sensor>S2[AB])_(?P<time>\d{8}T\d{6})_"
    assert index(scenes, tmp_path / "g", "--pattern", pattern).exit_code == 0
    result = duch(
        *("search", tmp_path / "g", "a field", "-k", "99", "--json"),
        *("--where", "sensor = 'S2B'", "--since", "2024-06-08", "--until", "2024-06-09"),
    )
    found = json.loads(result.stdout)
    hits = found["hits"] if isinstance(found, dict) else found
    assert {hit["uri"] for hit in hits} == {"S2B_20240608T102030_x.tif"}
    assert len(hits) == 4


def test_deep_scenes_are_refused_with_a_command_that_works(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "deep.tif", (4, 64, 64))
    fails(index(scene, tmp_path / "g"), "--bands 3,2,1")
    bands = ("--bands", "3,2,1")
    result = index(scene, tmp_path / "g", *bands)
    fails(result, "try --range ", "or --percentile 2:98")
    assert not (tmp_path / "g").exists()
    advised = result.stderr.partition("try --range ")[2].partition(",")[0]
    assert index(scene, tmp_path / "g", *bands, "--range", advised).exit_code == 0
    assert index(scene, tmp_path / "other", *bands, "--percentile", "2:98").exit_code == 0


def test_nothing_but_scenes_that_cannot_be_used_is_a_failure(scenes: Path, tmp_path: Path) -> None:
    assert index(scenes, tmp_path / "g").exit_code == 0
    for scene in scenes.iterdir():
        scene.write_bytes(b"no raster")
    result = index(scenes, tmp_path / "g")
    fails(result, "no scene could be used, 2 skipped")
    assert result.stderr.count("its former chips are kept") == 2
    fails(index(scenes, tmp_path / "new"), "none of 2 scenes can be used; ")
    assert not (tmp_path / "new").exists()


def test_scenes_images_and_sentences_share_a_gallery(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"text": "a field"}\n')
    result = index(scenes, tmp_path / "g", "--texts", tmp_path / "s.jsonl")
    assert result.exit_code == 0, result.output
    assert [line.partition(": ")[2] for line in result.stdout.splitlines()] == [
        "scenes 2 added, 0 unchanged; 8 chips added",
        "1 added, 0 unchanged",
    ]
    assert duch("index", TINY, scenes, tmp_path / "g").stdout.endswith(": 2 added, 0 unchanged\n")
    assert index(scenes, tmp_path / "g").stdout.endswith("scenes 0 added, 2 unchanged; 0 chips added\n")
    told = json.loads(index(scenes, tmp_path / "g", "--texts", tmp_path / "s.jsonl", "--json").stdout)
    assert (told["unchanged"], told["chips"]) == (3, 0)


def test_chips_that_were_removed_come_back_as_removed_images_do(scenes: Path, tmp_path: Path) -> None:
    index(scenes, tmp_path / "g")
    name = next(scene.name for scene in scenes.iterdir())
    assert duch("gallery", "remove", tmp_path / "g", f"{name}#0,0,32,32").exit_code == 0
    assert index(scenes, tmp_path / "g").stdout.endswith("scenes 0 added, 1 replaced, 1 unchanged; 4 chips added\n")
    write_scene(scenes / name, ramp(3, 64, 96, "uint8"), colors=("red", "green", "blue"))
    assert index(scenes, tmp_path / "g").stdout.endswith("scenes 0 added, 1 replaced, 1 unchanged; 6 chips added\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_tells_chips_and_scenes_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with scenes_bar() as on_progress:
        for scenes, part, chips in ((0, 0.0, 0), (0, 0.5, 1000), (1, 0.0, 1500), (1, 0.99, 2500), (3, 0.0, 2500)):
            on_progress(ScenesProgress(scenes, 3, part, chips))
    shown = terminal.getvalue()
    assert [word in shown for word in ("1,500 chips", "scene 2/3", "2,500 chips", "/s, ")] == [True] * 4
    percents = [int(text) for text in re.findall(r"(\d+)%", shown)]
    assert percents == sorted(percents)
    assert percents[-1] == 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["GALLERY", "--texts", "x.jsonl", "--chip", "32"], "--chip is given without scenes"),
        (["SCENES", "GALLERY", "--asset", "visual"], "--asset is given without --chip"),
        (["SCENES", "GALLERY", "--overlap", "0.5"], "--overlap is given without --chip"),
        (["SCENES", "GALLERY", "--chip", "32", "--asset", "visual"], "--asset visual is for STAC"),
        (["SCENES/none.tif", "GALLERY", "--chip", "32"], "does not exist; wanted a folder of scenes, a raster or"),
        (["SCENES", "GALLERY", "--chip", "32", "--root", "GALLERY"], "wanted a root that holds it"),
    ],
)
def test_options_that_do_not_fit_are_one_line(scenes: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    places = [text.replace("SCENES", str(scenes)).replace("GALLERY", str(tmp_path / "g")) for text in arguments]
    fails(duch("index", TINY, *places), words)
    assert not (tmp_path / "g").exists()


WITHOUT_RASTERIO = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rasterio", "pystac", "shapely"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nowhere())
from duch.cli import main
main()
"""


def test_without_its_extra_one_line_says_which_to_install(scenes: Path, tmp_path: Path) -> None:
    arguments = ["index", TINY, scenes, tmp_path / "g", *CHIP]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RASTERIO, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "rasterio" in done.stderr
    assert "pip install 'duch[geo]'" in done.stderr
    assert not (tmp_path / "g").exists()
