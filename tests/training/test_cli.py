"""Training's commands as a user types them."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from duch.cli import main
from duch_training.config import TrainConfig

SMALL = ("--epochs", "2", "--batch-size", "16", "--image-size", "32", "--width", "64", "--n-bits", "32")


def duch(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(result, *words):
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("duch: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last


def test_scenes_train_and_evaluate_in_three_commands(tmp_path):
    scenes, checkpoint = tmp_path / "scenes", tmp_path / "checkpoint"
    drawn = duch("scenes", scenes, "--count", 80, "--size", 48)
    assert drawn.stdout == f"wrote 80 scenes and {scenes / 'dataset.json'}\n"
    trained = duch("train", scenes, checkpoint, *SMALL)
    assert trained.exit_code == 0, trained.stderr
    assert trained.stdout.startswith(f"{checkpoint}: 32 bits, 2 epochs on 40 of 80 images, loss ")
    table = duch("evaluate", checkpoint, scenes).stdout
    assert "map_first_relevant@20" in table
    assert "chance" in table
    content = json.loads(duch("evaluate", checkpoint, scenes, "--json").stdout)
    assert set(content["scores"]) == {"t2i", "i2t", "i2i", "t2t"}
    assert content["facts"]["n_gallery"] == 32


def test_options_override_the_toml_file_which_overrides_the_preset(dataset, tmp_path):
    toml = tmp_path / "run.toml"
    toml.write_text("epochs = 5\nn_bits = 16\nskip_twins = false\n")
    out = tmp_path / "out"
    result = duch(
        "train", dataset, out, "--config", toml, *SMALL, "--no-train-image-encoder", "--image-encoder", "tiny"
    )
    fails(result, "must be trained")
    assert duch("train", dataset, out, "--config", toml, *SMALL).exit_code == 0
    config = json.loads((out / "config.json").read_text())["train"]
    assert (config["epochs"], config["n_bits"], config["skip_twins"]) == (2, 32, False)


def test_every_setting_is_an_option_with_help():
    text = " ".join(duch("train", "--help").stdout.split())
    for spec in dataclasses.fields(TrainConfig):
        assert f"--{spec.name.replace('_', '-')}" in text


def test_bad_input_is_one_line(dataset, checkpoint, tmp_path):
    fails(duch("train", tmp_path / "none", tmp_path / "out"), "does not exist")
    (tmp_path / "dataset.json").write_text("{")
    fails(duch("train", tmp_path, tmp_path / "out"), "no JSON")
    fails(duch("train", dataset, checkpoint), "finished checkpoint")
    fails(duch("train", dataset, tmp_path / "out", "--resume"), "no run to resume")
    fails(duch("train", dataset, tmp_path / "out", "--text-encoder", tmp_path), "cannot be loaded")
    fails(duch("evaluate", tmp_path / "none", dataset), "does not exist")
    fails(duch("evaluate", checkpoint, tmp_path / "none"), "does not exist")
    fails(duch("evaluate", checkpoint, dataset, "--split", tmp_path / "none"), "does not exist")
    fails(duch("scenes", dataset), "dataset.json")
    fails(duch("scenes", tmp_path / "new", "--count", "3"), "3")
    assert not (tmp_path / "out").exists()


def test_without_classes_pairs_are_scored_and_map_is_refused_with_the_reason(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "set", change=lambda c: [image.pop("classname") for image in c["images"]])
    out = tmp_path / "out"
    assert duch("train", folder, out, *SMALL).exit_code == 0, "training needs no classes"
    scored = duch("evaluate", out, folder)
    assert scored.exit_code == 0
    assert "no class scores: 12 of 12" in scored.output
    assert "instance_recall@5" in scored.output
    assert "map@20" not in scored.output


def test_a_bundle_without_a_split_says_where_one_is(dataset):
    from pathlib import Path

    fails(duch("evaluate", Path(__file__).parents[1] / "tiny_bundle", dataset), "--split")


@pytest.mark.slow
def test_an_interrupt_ends_with_one_line_and_can_be_resumed(dataset, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "duch", "train", str(dataset), str(out), *SMALL, "--epochs", "200"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while not (out / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    fails(duch("evaluate", out, dataset), "unfinished run")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_checkpoint(dataset, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    out = tmp_path / "out"
    command = [sys.executable, "-m", "duch", "train", str(dataset), str(out), *SMALL]
    done = subprocess.run(command, preexec_fn=limit, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr.strip().splitlines()[-1]
    fails(duch("evaluate", out, dataset), "unfinished run")
    assert not list(out.glob(".*.writing"))


@pytest.mark.slow
def test_the_weak_pairs_are_learnt_well_above_chance(weak, tmp_path):
    out = tmp_path / "out"
    result = duch("train", weak, out, "--epochs", "10")
    assert result.exit_code == 0, result.stderr
    content = json.loads(duch("evaluate", out, weak, "--json").stdout)
    assert content["scores"]["t2i"]["map@20"] > 0.3 > 3 * content["chance"]["t2i"]["map@20"]
