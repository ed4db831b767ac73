"""The loop: it learns, repeats bit for bit, resumes after a kill, and never leaves half a checkpoint."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duch.errors import CheckpointError, ConfigError, DatasetError, DuchError
from duch.preprocess import Tokenizer
from duch_training.checkpoint import load_checkpoint
from duch_training.evaluate import evaluate
from duch_training.presets import load_config
from duch_training.train import train
from duch_training.trainer import Trainer

SMALL = {"batch_size": 16, "image_size": 32, "width": 64, "n_bits": 32}


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def test_training_finds_the_class_of_a_tile_from_captions_alone(checkpoint, dataset):
    result = evaluate(checkpoint, dataset)
    assert result.scores["t2i"]["map@20"] > 0.9
    assert result.scores["i2t"]["map@20"] > 0.9
    assert result.chance["t2i"]["map@20"] < 0.5


def test_the_loss_falls_and_every_term_is_logged_and_drawn(checkpoint):
    with open(checkpoint / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    terms = ("loss", "inter", "image", "text", "adversarial", "quantization", "balance", "discriminator")
    assert len(rows) == 12
    assert all(np.isfinite(float(row[term])) for row in rows for term in terms)
    assert float(rows[-1]["inter"]) < float(rows[0]["inter"])
    assert (checkpoint / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_holds_all_that_export_needs_and_only_training_images(checkpoint, dataset):
    loaded = load_checkpoint(checkpoint)
    assert not loaded.hasher.training
    assert loaded.calibration_pixels.shape == loaded.heldout_pixels.shape == (16, 32, 32, 3)
    assert len(loaded.calibration_captions) == len(loaded.heldout_captions) == 16
    both = np.concatenate([loaded.calibration_pixels, loaded.heldout_pixels])
    assert len(np.unique(both.reshape(32, -1), axis=0)) == 32, "the two sets share no image"
    assert {p.name for p in checkpoint.iterdir()} == {
        "config.json", "run.json", "model.safetensors", "samples.safetensors", "samples.json",
        "tokenizer.json", "split.json", "losses.csv", "losses.png",
    }  # fmt: skip
    assert str(dataset) not in (checkpoint / "config.json").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(dataset, tmp_path):
    config = load_config("tiny", epochs=2, **SMALL)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(dataset, tmp_path / name, config.replace(seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


KILLED_RUN = """
import sys, pathlib
import duch_training.train as module
import duch_training.trainer
from duch_training.presets import load_config
duch_training.trainer._SAVE_EVERY_S = 0
module.train(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), load_config("tiny", epochs=8, **{small}))
"""


def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(dataset, tmp_path):
    config = load_config("tiny", epochs=8, **SMALL)
    train(dataset, tmp_path / "whole", config)
    broken = tmp_path / "broken"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    code = KILLED_RUN.replace("{small}", repr(SMALL))
    process = subprocess.Popen(
        [sys.executable, "-c", code, dataset, broken], env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (broken / "state.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (broken / "state.safetensors").exists()
    assert not (broken / "config.json").exists(), "the run was to be killed before its end"
    with pytest.raises(CheckpointError, match="--resume"):
        load_checkpoint(broken)
    with pytest.raises(CheckpointError, match="add --resume"):
        train(dataset, broken, config)
    with pytest.raises(CheckpointError, match="width = 64, now it is 32"):
        train(dataset, broken, config.replace(width=32), resume=True)
    train(dataset, broken, config, resume=True)
    assert same(weights(tmp_path / "whole"), weights(broken))
    with open(broken / "losses.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(1, 9)]


def test_a_finished_run_is_not_touched_without_being_asked(checkpoint, dataset, tmp_path):
    with pytest.raises(CheckpointError, match="finished checkpoint"):
        train(dataset, checkpoint, load_config("tiny"))
    (tmp_path / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="not empty"):
            train(dataset, tmp_path, load_config("tiny"), overwrite=overwrite)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_model_of_somebody_else_is_never_taken_for_a_checkpoint(dataset, minilm, tmp_path):
    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((minilm / file).read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="holds no duch checkpoint"):
            train(dataset, tmp_path, load_config("tiny"), overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_overwrite_replaces_a_checkpoint_but_nothing_beside_it(dataset, tmp_path):
    config = load_config("tiny", epochs=1, **SMALL)
    train(dataset, tmp_path / "out", config)
    first = weights(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"also holds notes\.txt"):
        train(dataset, tmp_path / "out", config, overwrite=True)
    (tmp_path / "out" / "notes.txt").unlink()
    train(dataset, tmp_path / "out", config.replace(seed=3), overwrite=True)
    assert not same(first, weights(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [31, 16, 2, 64])
def test_every_pair_gets_a_shared_code_in_every_epoch(dataset, tmp_path, batch_size, monkeypatch):
    shared_codes = []
    epoch = Trainer._epoch

    def watched(self, number, shared):
        row, shared = epoch(self, number, shared)
        shared_codes.append(shared)
        return row, shared

    monkeypatch.setattr(Trainer, "_epoch", watched)
    train(dataset, tmp_path / "out", load_config("tiny", **{**SMALL, "epochs": 1, "batch_size": batch_size}))
    (codes,) = shared_codes
    assert len(codes) == 32
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert (codes.sum(1) < 32).all(), "a row of ones is a pair that no batch held"


def test_a_run_is_not_resumed_on_other_images(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "set")
    config = load_config("tiny", epochs=1, **SMALL)
    train(folder, tmp_path / "out", config)
    kept = load_checkpoint(tmp_path / "out").split
    assert train(folder, tmp_path / "out", config, resume=True).split == kept, "a finished run stays as it is"
    image = folder / "images" / "lake_001.png"
    image.write_bytes((folder / "images" / "snow_003.png").read_bytes())
    with pytest.raises(CheckpointError, match="other images, captions or splits"):
        train(folder, tmp_path / "out", config, resume=True)


def test_a_bad_dataset_leaves_no_folder_behind(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "set")
    (folder / "images" / "lake_001.png").write_text("not an image")
    with pytest.raises(DatasetError, match="lake_001"):
        train(folder, tmp_path / "out", load_config("tiny", epochs=1, **SMALL))
    assert not (tmp_path / "out").exists()
    trained = train(folder, tmp_path / "out", load_config("tiny", epochs=1, **SMALL), skip_bad=True)
    assert trained.facts["skipped"] == 1


def test_an_overflowing_run_stops_with_advice(dataset, tmp_path):
    config = load_config("tiny", epochs=3, learning_rate=1e30, encoder_learning_rate=1e30, **SMALL)
    with pytest.raises(DuchError, match="lower --learning-rate"):
        train(dataset, tmp_path / "out", config)


def test_frozen_encoders_keep_their_weights_and_the_scaling_is_fitted_and_kept(dataset, minilm, tmp_path):
    config = load_config("tiny", epochs=2, text_encoder=str(minilm), train_text_encoder=False, **SMALL)
    train(dataset, tmp_path / "out", config)
    from transformers import AutoModel

    original = AutoModel.from_pretrained(minilm).state_dict()
    kept = weights(tmp_path / "out")
    name = "encoder.layer.3.attention.self.query.weight"
    assert torch.equal(kept[f"text_encoder.backbone.{name}"], original[name])
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.hasher.text_scaler.std.item() != 1
    ids, mask = Tokenizer(loaded.tokenizer_json, loaded.text)(["a large forest", "the whole tile is snow."])
    with torch.no_grad():
        features = loaded.hasher.text_encoder(torch.from_numpy(ids), torch.from_numpy(mask))
        scaled = loaded.hasher.text_scaler(features)
    assert abs(scaled.mean().item()) < 0.5
    assert 0.5 < scaled.std().item() < 2


@pytest.mark.parametrize(
    "changes",
    [
        {"captions": "one", "text_views": "words", "codes_update": "batch", "schedule": "step"},
        {"adversarial_weight": 0.0, "gradient_penalty": 0.0, "image_views": "none", "schedule": "constant"},
        {"split_rule": "stratified", "skip_twins": False, "batch_size": 31},
    ],
)
def test_every_choice_of_the_config_trains(dataset, tmp_path, changes):
    train(dataset, tmp_path / "out", load_config("tiny", epochs=1, **{**SMALL, **changes}))
    assert (tmp_path / "out" / "config.json").exists()


def test_a_device_that_is_not_there_is_one_line(dataset, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="not usable here"):
        train(dataset, tmp_path / "out", load_config("tiny", device="cuda"))
    train(dataset, tmp_path / "out", load_config("tiny", epochs=1, **SMALL))
    with pytest.raises(ConfigError, match="needs a GPU"):
        train(dataset, tmp_path / "out", load_config("tiny", precision="bf16", **SMALL), overwrite=True)
    load_checkpoint(tmp_path / "out")  # the old one is still whole


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "samples.safetensors"])
def test_a_damaged_checkpoint_is_one_line(checkpoint, tmp_path, file):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes()[: 100 if path.name == file else None])
    if file == "tokenizer.json":
        (copy / file).unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(copy)
    assert "\n" not in str(caught.value)


def test_a_newer_checkpoint_asks_for_an_upgrade(checkpoint, tmp_path):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format_version": 9}))
    with pytest.raises(CheckpointError, match="upgrade duch"):
        load_checkpoint(tmp_path)
