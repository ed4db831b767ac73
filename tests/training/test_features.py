"""Features once and for all: frozen encoders through the cache, feature files in their place, scaling, bad input."""

import copy
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from duch.cli import main
from duch.errors import CheckpointError, ConfigError, DatasetError, DuchError
from duch.preprocess import Tokenizer
from duch_training.checkpoint import load_checkpoint, load_heads
from duch_training.data import load_pixels, read_dataset
from duch_training.device import MixedPrecision
from duch_training.evaluate import evaluate
from duch_training.feature_cache import FeatureCache
from duch_training.features import ImageFeatures, SideFeatures, TextFeatures, fit_scaling
from duch_training.model import FeatureScaler
from duch_training.presets import load_config
from duch_training.train import compute_features, train
from duch_training.views import CaptionViews

CPU = MixedPrecision(torch.device("cpu"), "fp32")
HEADS = {"epochs": 3, "batch_size": 16, "width": 32, "n_bits": 16, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def loaded(checkpoint):
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def pixels(dataset, loaded):
    return load_pixels(read_dataset(dataset), loaded.image)[1]


@pytest.fixture(scope="module")
def files(dataset, loaded, pixels, tmp_path_factory):
    """Feature files of the colour tiles, made by the encoders of a checkpoint."""
    folder = tmp_path_factory.mktemp("files")
    captions = [caption for item in read_dataset(dataset).images for caption in item.captions]
    cache = FeatureCache(folder / "cache")
    images = ImageFeatures(loaded.hasher.image_encoder, pixels, cache=cache, precision=CPU)
    texts = TextFeatures(
        loaded.hasher.text_encoder, captions, loaded.tokenizer_json, loaded.text, cache=cache, precision=CPU
    )
    for name, rows in (
        ("image_emb", images.originals()),
        ("image_emb_aug", images.views("basic", 0)),
        ("caption_emb", texts.originals()),
        ("caption_emb_aug", texts.views(CaptionViews("words"), 0)),
    ):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file[name.removesuffix("_aug")] = rows.numpy()
    shutil.rmtree(folder / "cache")
    return folder


def test_features_are_those_of_the_encoder_and_the_second_time_come_from_disk(loaded, pixels, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path, shard_rows=10)
    encoder = loaded.hasher.image_encoder
    first = ImageFeatures(encoder, pixels, cache=cache, precision=CPU).originals()
    with torch.no_grad():
        expected = encoder(torch.from_numpy(pixels))
    assert torch.allclose(first, expected, atol=1e-5)
    source = ImageFeatures(encoder, pixels, cache=cache, precision=CPU)
    monkeypatch.setattr(encoder, "forward", lambda *_: pytest.fail("it runs once"))
    assert torch.equal(source.originals(), first)
    with pytest.raises(pytest.fail.Exception, match="it runs once"):
        source.views("basic", 1)


@pytest.mark.parametrize("change", ["weights", "pixels", "precision"])
def test_other_weights_or_images_are_other_features(loaded, pixels, tmp_path, change):
    cache = FeatureCache(tmp_path)
    encoder = loaded.hasher.image_encoder
    first = ImageFeatures(encoder, pixels, cache=cache, precision=CPU).originals()
    precision = MixedPrecision(torch.device("cpu"), "fp32")
    if change == "weights":
        encoder = copy.deepcopy(encoder)
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.5)
    elif change == "pixels":
        pixels = pixels[::-1].copy()
    else:
        precision.name = "bf16"
    ImageFeatures(encoder, pixels, cache=cache, precision=precision).originals()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    again = ImageFeatures(loaded.hasher.image_encoder, pixels, cache=cache, precision=CPU).originals()
    assert torch.equal(again, first) == (change != "pixels")


def test_captions_of_any_script_have_features_in_their_own_order(loaded, tmp_path):
    texts = ["a lake", "湖と森", "un château près d'une forêt très verte et très grande", "озеро", "🛰", "a lake"]
    source = TextFeatures(
        loaded.hasher.text_encoder,
        texts,
        loaded.tokenizer_json,
        loaded.text,
        cache=FeatureCache(tmp_path),
        precision=CPU,
    )
    features = source.originals()
    tokenizer = Tokenizer(loaded.tokenizer_json, loaded.text)
    for text, row in zip(texts, features, strict=True):
        with torch.no_grad():
            alone = loaded.hasher.text_encoder(*map(torch.from_numpy, tokenizer([text])))[0]
        assert torch.allclose(row, alone, atol=1e-5)
    assert torch.equal(features[0], features[5])


def test_scaling_looks_at_training_rows_unless_it_is_the_public_codes():
    generator = torch.Generator().manual_seed(0)
    side = SideFeatures(torch.randn(50, 8, generator=generator) * 3 + 1, torch.randn(50, 8, generator=generator) - 4)
    training = list(range(10))
    scaler = FeatureScaler()
    rows = fit_scaling(scaler, side, training, "scalar")
    assert scaler(rows.features).mean().item() == pytest.approx(0, abs=1e-5)
    assert scaler(rows.features).std().item() == pytest.approx(1, rel=1e-5)
    assert torch.equal(rows.views, side.views[:10])

    rows = fit_scaling(scaler, side, training, "whole-file")
    expected = [(part - part.mean()) / part.std() for part in (side.features, side.views)]
    assert torch.allclose(scaler(rows.features), expected[0][:10], atol=1e-5)
    assert torch.allclose(scaler(rows.views), expected[1][:10], atol=1e-5)

    scaler = FeatureScaler()
    assert torch.equal(scaler(fit_scaling(scaler, side, training, "none").features), side.features[:10])


@pytest.mark.parametrize(
    "method", ["default", *(pytest.param(method, marks=pytest.mark.slow) for method in ("paper", "official-code"))]
)
def test_heads_trained_on_files_are_scored_on_files(dataset, files, tmp_path, method):
    config = load_config("features", method=method, **HEADS | {"epochs": 8})
    trained = train(dataset, tmp_path / "out", config, features=files)
    assert load_heads(tmp_path / "out").heads.n_bits == trained.heads.n_bits == 16
    result = evaluate(tmp_path / "out", dataset, features=files)
    assert result.scores["t2i"]["map_first_relevant@20"] > 0.8
    assert result.facts["leaks"] == {"i": 0, "t": 0}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "run.json", "model.safetensors", "split.json", "losses.csv", "losses.png",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="no encoders"):
        load_checkpoint(tmp_path / "out")
    with pytest.raises(CheckpointError, match="no encoders"):
        evaluate(tmp_path / "out", dataset)


@pytest.mark.slow
def test_files_need_no_images_and_give_the_same_heads_as_encoders_that_are_frozen(dataset, checkpoint, files, tmp_path):
    changes = HEADS | {"image_views": "none", "text_views": "none", "captions": "one"}
    config = load_config("edge", image_encoder=str(checkpoint), text_encoder=str(checkpoint), **changes)
    train(dataset, tmp_path / "encoders", config)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(dataset / "dataset.json", bare)
    train(bare, tmp_path / "files", load_config("features", **changes), features=files)
    ours, theirs = load_heads(tmp_path / "files").heads, load_heads(tmp_path / "encoders").heads
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs.state_dict()[name], atol=1e-4), name


@pytest.mark.slow
def test_a_stopped_run_on_files_resumes_to_the_same_heads(dataset, files, tmp_path, monkeypatch):
    import duch_training.trainer

    config = load_config("features", **HEADS, learn_temperature=True, discriminator="public", first_codes="random")
    train(dataset, tmp_path / "whole", config, features=files)
    monkeypatch.setattr(duch_training.trainer, "_SAVE_EVERY_S", 0)
    epoch = duch_training.trainer.Trainer._epoch

    def stopped(self, number, shared):
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number, shared)

    monkeypatch.setattr(duch_training.trainer.Trainer, "_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "broken", config, features=files)
    monkeypatch.setattr(duch_training.trainer.Trainer, "_epoch", epoch)
    with pytest.raises(CheckpointError, match="unfinished run"):
        load_heads(tmp_path / "broken")
    train(dataset, tmp_path / "broken", config, features=files, resume=True)
    whole, broken = (load_heads(tmp_path / name).heads.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    same = train(dataset, tmp_path / "broken", config, features=files, resume=True)
    assert same.split == load_heads(tmp_path / "whole").split


def test_frozen_features_are_kept_in_a_cache_and_the_temporary_one_goes(dataset, checkpoint, tmp_path, monkeypatch):
    config = load_config("edge", image_encoder=str(checkpoint), text_encoder=str(checkpoint), **HEADS)
    compute_features(dataset, tmp_path / "cache", config)
    kept = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(kept) == 3, "images, their views, captions; a sibling is a view already"
    train(dataset, tmp_path / "out", config, cache=tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == kept, "the same options find all of it"
    train(dataset, tmp_path / "other", config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "other", "out"]
    with pytest.raises(ConfigError, match="both encoders are trained"):
        compute_features(dataset, tmp_path / "cache", load_config("tiny"))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_views": "one-of", "text_views": "rules", "fresh_views": True},
        {"image_views": "none", "text_views": "sibling", "feature_scaling": "whole-file"},
        {"image_views": "aug-center", "text_views": "words", "feature_scaling": "whole-file", "fresh_views": True},
    ],
)
@pytest.mark.slow
def test_every_choice_trains_behind_frozen_encoders(dataset, checkpoint, tmp_path, changes):
    config = load_config("edge", image_encoder=str(checkpoint), text_encoder=str(checkpoint), **HEADS | changes)
    result = train(dataset, tmp_path / "out", config)
    assert np.isfinite(result.facts["last_epoch"]["loss"])
    assert load_checkpoint(tmp_path / "out").hasher.image_scaler.std.item() != 1


def spoilt(files, folder, name, change):
    """A copy of the feature files with one of them changed."""
    shutil.copytree(files, folder)
    key = name.removesuffix("_aug")
    with h5py.File(folder / f"{name}.h5", "r") as file:
        rows = file[key][:]
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file[key] = change(rows)
    return folder


def with_nan(rows):
    rows[3, 1] = np.nan
    return rows


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("image_emb", with_nan, "row 3"),
        ("caption_emb_aug", with_nan, "row 3"),
        ("image_emb", lambda rows: rows[:-1], "63 rows"),
        ("caption_emb", lambda rows: rows[:64], "64 rows"),
        ("image_emb_aug", lambda rows: rows[:, :-1], "by the same encoder"),
    ],
)
def test_features_that_do_not_fit_are_one_line_and_leave_nothing_behind(dataset, files, tmp_path, name, change, words):
    folder = spoilt(files, tmp_path / "spoilt", name, change)
    config = load_config("features", text_views="words", **HEADS)
    with pytest.raises(DatasetError, match=words) as caught:
        train(dataset, tmp_path / "out", config, features=folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_features_of_another_width_are_not_scored(dataset, files, tmp_path):
    train(dataset, tmp_path / "out", load_config("features", **HEADS), features=files)
    narrow = spoilt(files, tmp_path / "narrow", "image_emb", lambda rows: rows[:, :-1])
    with pytest.raises(DuchError, match="by the same encoder"):
        evaluate(tmp_path / "out", dataset, features=narrow)


def test_few_images_train_and_one_is_refused(make_dataset, tmp_path):
    def only(n):
        return lambda content: content.update(images=content["images"][:n])

    few = make_dataset(tmp_path / "few", change=only(10))
    config = load_config("tiny", epochs=1, image_size=32, width=16, n_bits=16, batch_size=256)
    assert train(few, tmp_path / "out", config).facts["images"] == {"train": 5, "query": 1, "gallery": 4}
    one = make_dataset(tmp_path / "one", change=only(1))
    with pytest.raises(DatasetError, match="wanted at least 2, 1 and 1"):
        train(one, tmp_path / "none", config)
    assert not (tmp_path / "none").exists()


def test_the_command_takes_features_and_a_method(dataset, files, tmp_path):
    def duch(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    options = ["--features", files, "--method", "official-code", "--epochs", 2, "--width", 32, "--n-bits", 16]
    made = duch("train", dataset, tmp_path / "out", *options)
    assert made.exit_code == 0, made.output
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["train"]
    assert (settings["image_encoder"], settings["balance"], settings["reduction"]) == ("features", "code", "sum")
    assert "t2i" in duch("evaluate", tmp_path / "out", dataset, "--features", files, "--ties", "seq").output
    refused = duch("export", tmp_path / "out", tmp_path / "bundle")
    assert refused.exit_code == 1
    assert "no encoders" in refused.output
    both = duch("train", dataset, tmp_path / "both", *options, "--train-image-encoder")
    assert both.exit_code == 1
    assert "no network to train" in both.output
