"""Every `duch` command of the README runs, in the README's order, in one folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import dropwhile
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    words = [shlex.split(line) for line in lines]
    return [list(dropwhile(lambda word: "=" in word, line)) for line in words]  # without what it sets for one command


def test_the_readme_names_no_command_that_is_not_known_here() -> None:
    assert {command[0] for command in commands()} == {"make", "duch", "pip"}
    makefile = (README.parent / "Makefile").read_text()
    for command in commands():
        if command[0] == "make":
            assert f"\n{command[1]}:" in makefile


def test_the_readme_links_to_files_that_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (README.parent / target).exists(), target


@pytest.mark.slow
def test_every_duch_command_of_the_readme_runs(tmp_path: Path, minilm: Path) -> None:
    import h5py
    from transformers import ResNetConfig, ResNetModel

    def duch(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "duch", *arguments],
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"duch {shlex.join(arguments)}\n{done.stderr}"

    duch("scenes", "my-tiles", "--count", "120")
    (tmp_path / "sentences.jsonl").write_text('{"text": "a harbour with many boats", "id": "h1"}\n')
    shutil.copy(next((tmp_path / "my-tiles" / "images").iterdir()), tmp_path / "tile.png")
    (tmp_path / "candidates.txt").write_text("".join(f"{i:05d}.png\n" for i in range(9)))
    area = [[10, 47], [11, 47], [11, 48], [10, 48], [10, 47]]
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [area]}))
    (tmp_path / "run.toml").write_text("epochs = 2\nbatch_size = 16\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "all-MiniLM-L6-v2").symlink_to(minilm)
    small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(small).save_pretrained(tmp_path / "models" / "resnet-18")
    (tmp_path / "tiles").symlink_to(tmp_path / "my-tiles" / "images")
    (tmp_path / "frozen.toml").write_text(
        'image_encoder = "models/resnet-18"\ntext_encoder = "models/all-MiniLM-L6-v2"\n'
        "train_image_encoder = false\ntrain_text_encoder = false\nepochs = 2\nwidth = 16\n"
    )
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(tmp_path / "my-tiles" / "dataset.json", published / "augmented_UCM.json")
    generator = np.random.default_rng(0)
    for name, rows in (
        ("image_emb_UCM_aug_center_crop_only", 120),
        ("image_emb_UCM_aug_aug_center", 120),
        ("caption_emb_UCM_aug", 600),
        ("caption_emb_UCM_aug_rb", 600),
    ):
        with h5py.File(published / f"{name}.h5", "w") as file:
            file[name[: name.index("_UCM")]] = generator.normal(size=(rows, 32)).astype(np.float16)

    ran = 0
    for program, *arguments in commands():
        if program != "duch":
            continue
        if arguments == ["index", "bundle", "tiles", "gallery"]:  # the box's own gallery
            shutil.rmtree(tmp_path / "gallery")
        duch(*arguments)
        ran += 1
    assert ran >= 22
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_demo_ends_with_its_result_and_its_pictures(tmp_path: Path) -> None:
    demo = README.parent / "examples" / "demo.py"
    done = subprocess.run(
        [sys.executable, str(demo), str(tmp_path / "demo"), "--count", "200", "--epochs", "2"],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pattern = r"RESULT t2i map@20 fp32=0\.\d{3} int8=0\.\d{3} chance=0\.\d{3}"
    assert re.fullmatch(pattern, done.stdout.splitlines()[-1])
    for picture in ("planes.png", "river.png", "tanks.png", "by-tile.png"):
        assert (tmp_path / "demo" / picture).read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "demo" / "map.geojson").read_bytes())["features"]) == 10
    assert "<svg" in (tmp_path / "demo" / "map.html").read_text(encoding="utf-8")
