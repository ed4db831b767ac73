"""`duch info`: what it says of each kind of folder, and of what is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from duch.bundle import Gate, read_bundle
from duch.cli import main
from duch.errors import CheckpointError, DuchError, GalleryError, InputError
from duch.gallery import Gallery, Tile
from duch.info import describe

from .resigned import TINY, resigned

CONFIG: dict[str, Any] = {
    "format": "duch-checkpoint",
    "format_version": 1,
    "train": {"n_bits": 64, "width": 512, "epochs": 18, "seed": 42, "image_encoder": "tiny", "text_encoder": "tiny"},
    "split_sha256": "ab" * 32,
    "facts": {"dataset": "scenes", "images": {"train": 2000, "query": 400, "gallery": 1600}},
    "image": {"preprocessing": {"size": 64}, "backbone": {"model_type": "resnet"}},
    "text": {"preprocessing": {"max_tokens": 48, "pad_id": 0}, "backbone": {"model_type": "bert"}},
}
PARITY = {
    "image": {"samples": 128, "bundle_to_fp32": {"bits": 0.9976, "codes": 0.867}, "ms_bundle": 0.67, "ms_fp32": 1.09},
    "text": {"samples": 99, "bundle_to_fp32": {"bits": 0.9996, "codes": 0.977}, "ms_bundle": 0.27, "ms_torch": 1.56},
}


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def line(output: str, label: str) -> str:
    """The value beside a label."""
    (found,) = [one for one in output.splitlines() if one.startswith(f"{label}  ")]
    return found.removeprefix(label).strip()


def checkpoint(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "model.safetensors").write_bytes(bytes(7_420_760))
    return folder


def gallery(folder: Path, hint: Path | None, *, root: Path | None = None) -> Path:
    tiny = read_bundle(TINY)
    facts: dict[str, Any] = {"fingerprint": tiny.fingerprint, "n_bits": tiny.n_bits, "root": root, "bundle_hint": hint}
    with Gallery.writer(folder, create=True, **facts) as writer:
        tiles = [Tile(id=f"{n}.png", modality="image", uri=f"{n}.png") for n in range(5)]
        tiles += [Tile(id=f"t{n}", modality="text", text="a river") for n in range(2)]
        writer.append(np.zeros((7, 4), np.uint8), tiles)
        writer.append(np.ones((1, 4), np.uint8), tiles[:1])  # replaces one
    return folder


def test_bundle_tells_what_it_is(tmp_path: Path) -> None:
    facts = {"train": CONFIG["train"], "facts": CONFIG["facts"], "versions": {"duch": "0.1.0", "torch": "2.13.0"}}
    folder = resigned(tmp_path / "b", report={"parity": PARITY}, provenance=facts)
    output = duch("info", folder).stdout
    assert line(output, "bundle") == str(folder)
    assert line(output, "codes") == "32 bits"
    assert line(output, "fingerprint") == read_bundle(TINY).fingerprint
    assert line(output, "export") == "passed its tests"
    assert line(output, "image") == "fp32 by recipe fp32, 32 x 32 pixels"
    assert line(output, "text") == "fp32 by recipe fp32, up to 48 tokens, pad id 0"
    told = "0.9976 of bits as fp32, 0.867 of codes, 128 inputs, 0.67 ms here, 1.09 ms fp32"
    assert line(output, "image measured") == told
    assert "0.27 ms here, 1.56 ms torch" in line(output, "text measured")
    assert line(output, "trained on") == "scenes: train 2000, query 400, gallery 1600 images"
    assert line(output, "training") == "encoders tiny and tiny, width 512, epochs 18, seed 42"
    assert line(output, "made with") == "duch 0.1.0, torch 2.13.0"
    size = (folder / "image.onnx").stat().st_size
    assert f"image.onnx {size / 1e3:.1f} kB" in line(output, "files")


def test_bundle_that_failed_its_export_says_why(tmp_path: Path) -> None:
    folder = resigned(tmp_path / "b", gate=Gate(False, ("image: .91 of bits; wanted .98", "text: one code depends")))
    result = duch("info", folder)
    assert result.exit_code == 0
    assert line(result.stdout, "export").startswith("FAILED its tests")
    assert "image: .91 of bits; wanted .98\n" in result.stdout
    assert "text: one code depends\n" in result.stdout


def test_json_holds_all_of_a_bundle(tmp_path: Path) -> None:
    folder = resigned(tmp_path / "b", report={"parity": PARITY})
    raw = json.loads(duch("info", folder, "--json").stdout)
    assert raw["kind"] == "bundle"
    assert raw["report"] == {"parity": PARITY}
    assert raw["gate"] == {"passed": True, "failures": []}
    assert raw["graphs"]["text"]["golden_budget"] == 0
    assert raw["files"] == {file.name: file.stat().st_size for file in folder.iterdir()}


def test_checkpoint_is_read_as_json(tmp_path: Path) -> None:
    output = duch("info", checkpoint(tmp_path / "c")).stdout
    assert line(output, "checkpoint") == str(tmp_path / "c")
    assert line(output, "codes") == "64 bits"
    assert line(output, "image") == "resnet, size 64"
    assert line(output, "text") == "bert, max_tokens 48, pad_id 0"
    assert line(output, "trained on").startswith("scenes: train 2000")
    assert "model.safetensors 7.4 MB" in line(output, "files")


def test_checkpoint_of_feature_files_has_no_encoders(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", image={"n_features": 512}, text={"n_features": 768})
    assert line(duch("info", folder).stdout, "image") == "no encoder, 512 features from a file"


def test_checkpoint_with_a_loss_that_is_no_number_is_valid_json(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", facts={"last_epoch": {"loss": float("nan")}})
    raw = json.loads(duch("info", folder, "--json").stdout, parse_constant=pytest.fail)
    assert raw["provenance"]["facts"]["last_epoch"]["loss"] is None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"format": "duch-checkpoint", "format_version": 2}, "format 2"),
        ({"format": "duch-checkpoint", "format_version": "1"}, "not the config of a duch checkpoint"),
        ({"model_type": "bert"}, "not the config of a duch checkpoint"),
        ([], "no JSON object"),
    ],
)
def test_config_of_something_else_is_named(tmp_path: Path, config: Any, told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DuchError, match=told):
        describe(tmp_path)


def test_unfinished_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"train": {}, "data_sha256": "ab"}))
    with pytest.raises(CheckpointError, match=r"unfinished training run.*--resume"):
        describe(tmp_path)


def test_gallery_tells_its_tiles_and_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    folder = gallery(tmp_path / "g", TINY, root=tmp_path / "images")
    output = duch("info", folder).stdout
    assert line(output, "gallery") == str(folder)
    assert line(output, "codes") == "32 bits"
    assert line(output, "tiles") == "5 images, 2 texts, 1 removed"
    assert line(output, "fingerprint") == read_bundle(TINY).fingerprint
    assert line(output, "bundle").endswith("tiny_bundle: matches")
    assert line(output, "images in") == str(tmp_path / "images")
    raw = json.loads(duch("info", folder, "--json").stdout)
    assert raw["tiles"] == {"image": 5, "text": 2}
    assert raw["files"]["codes-1.bin"] == 64 + 8 * 4


def test_gallery_tells_what_became_of_its_bundle(tmp_path: Path) -> None:
    hint = tmp_path / "bundle"
    shutil.copytree(TINY, hint, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    folder = gallery(tmp_path / "g", hint)
    assert describe(folder)["bundle"]["state"] == "matches"
    (hint / "text.onnx").write_bytes(b"x")
    assert "cannot be used: " in describe(folder)["bundle"]["state"]
    shutil.rmtree(hint)
    assert describe(folder)["bundle"]["state"] == "missing"
    resigned(hint, text_onnx=b"another graph")
    assert describe(folder)["bundle"]["state"].startswith("another one: fingerprint ")


def test_gallery_without_bundle_and_root(tmp_path: Path) -> None:
    output = duch("info", gallery(tmp_path / "g", None)).stdout
    assert line(output, "bundle") == "not remembered"
    assert line(output, "images in").startswith("no folder")
    lost = duch("info", gallery(tmp_path / "lost", None, root=tmp_path / "no")).stdout
    assert line(lost, "images in").endswith(": missing")


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "dataset"])
def test_anything_else_is_one_line_with_the_three_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_text("x")
    elif kind != "nothing":
        path.mkdir()
    if kind == "dataset":
        for name in ("images", "dataset.json", "a.txt", "b.txt"):
            (path / name).write_text("{}")
    result = duch("info", path)
    assert result.exit_code == 1
    (told,) = result.stderr.splitlines()
    found = {
        "nothing": "does not exist",
        "file": "is a file",
        "empty": "holds nothing",
        "dataset": "holds a.txt, b.txt, dataset.json and 1 more",
    }
    assert found[kind] in told
    for kind_known in ("a bundle (manifest.json)", "a checkpoint (config.json)", "a gallery (catalog.sqlite)"):
        assert kind_known in told


def test_damaged_bundle_and_gallery_are_errors_of_theirs(tmp_path: Path) -> None:
    folder = resigned(tmp_path / "b")
    (folder / "text.onnx").write_bytes(b"x")
    result = duch("info", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "text.onnx has sha256" in result.stderr
    (tmp_path / "catalog.sqlite").write_text("no database")
    with pytest.raises(GalleryError):
        describe(tmp_path)


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "line\nbreak", 10**400, [], {}, None, True, "x" * 100_000])
def test_values_of_a_file_cannot_harm_the_terminal(tmp_path: Path, hostile: Any) -> None:
    nested = {"parity": {"image": {"bundle_to_fp32": {"bits": hostile}, "samples": hostile}, "text": hostile}}
    facts = {"train": hostile, "facts": {"dataset": hostile, "images": hostile}, "versions": {"duch": hostile}}
    made = resigned(tmp_path / "b", report=nested, provenance=facts)
    train = {"n_bits": hostile, "image_encoder": hostile, "width": hostile}
    trained = checkpoint(tmp_path / "c", train=train, facts=hostile, image=hostile, text={"preprocessing": hostile})
    for folder in (made, trained):
        result = duch("info", folder)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.stdout
        assert "\nbreak" not in result.stdout
        assert len(result.stdout) < 5_000
        assert json.loads(duch("info", folder, "--json").stdout)["kind"] in ("bundle", "checkpoint")


def test_what_is_nested_too_deeply_to_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: Any = []  # Python 3.12 and later read deeper JSON than they write
    for _ in range(5000):
        deep = [deep]
    monkeypatch.setattr("duch.info.describe", lambda _: {"report": deep})
    result = duch("info", TINY, "--json")
    assert result.exit_code == 1
    assert result.stderr == "duch: a JSON file is nested too deeply to be shown\n"


def test_empty_path_is_refused() -> None:
    with pytest.raises(InputError):
        describe("/dev/null/x")
    assert "is empty" in duch("info", "").stderr
