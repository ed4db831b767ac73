"""The grid: every variant trains, tables say what was measured, a stopped grid goes on, no label chooses a setting."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from duch.cli import main
from duch.errors import ConfigError, DatasetError, DuchError
from duch_training.ablation import VARIANTS
from duch_training.ablation.grid import ablate
from duch_training.ablation.inputs import Inputs, heads_config
from duch_training.ablation.pool import kept_result, make_and_keep, run_all
from duch_training.ablation.runs import Run, bit_statistics, check_labels, score
from duch_training.ablation.tune import partner_rank, tune
from duch_training.data import read_dataset
from duch_training.presets import load_config
from duch_training.splits import make_split

QUICK = load_config("features", epochs=4, batch_size=16, width=32, n_bits=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def files(dataset, tmp_path_factory):
    """Feature files of the colour tiles: the class as noisy numbers, other ones for images and captions."""
    folder = tmp_path_factory.mktemp("features")
    items = read_dataset(dataset).images
    classes = sorted({item.label for item in items})
    generator = np.random.default_rng(0)
    centres = {side: generator.normal(0, 1, (len(classes), d)) for side, d in (("image", 24), ("caption", 12))}
    for suffix in ("", "_aug"):
        for side, times in (("image", 1), ("caption", 5)):
            numbers = np.repeat([classes.index(item.label) for item in items], times)
            rows = centres[side][numbers] + generator.normal(0, 0.4, (len(numbers), centres[side].shape[1]))
            with h5py.File(folder / f"{side}_emb{suffix}.h5", "w") as file:
                file[f"{side}_emb"] = rows.astype(np.float16)
    return folder


@pytest.fixture(scope="module")
def inputs(dataset, files):
    from duch_training.ablation.inputs import read_inputs

    return read_inputs(dataset, files, QUICK, [QUICK], features=files)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_makes_settings_that_hold(name):
    config = VARIANTS[name].config(heads_config(load_config("edge")), n_bits=32, seed=5)
    assert (config.n_bits, config.seed, config.split_seed) == (32, 5, 42)


@pytest.mark.slow
def test_a_grid_is_made_once_and_its_table_holds_what_the_runs_found(dataset, files, tmp_path):
    names = ["default", "itq", "no-balance"]
    table = ablate(dataset, tmp_path, QUICK, bits=[8, 16], seeds=2, variants=names, features=files, jobs=1)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(written) == 3 * 2 * 2 - 2
    assert "- itq-16-0: 32 pairs of 24 image and 12 text features have 12 canonical components; wanted 16" in table
    for file in ("map-against-bits.png", "precision-recall.png", "losses.png", "bits.png"):
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")
    runs = [json.loads((tmp_path / "runs" / f"default-8-{seed}.json").read_text()) for seed in (0, 1)]
    means = [np.mean([run["scores"][d]["map_first_relevant@20"] for d in ("i2t", "t2i")]) for run in runs]
    assert f"| default | {np.mean(means):.3f} ±{np.std(means, ddof=1):.3f} |" in table
    assert f"chance {runs[0]['chance']['map@20']:.3f}" in table
    with open(tmp_path / "results.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "itq" and row["score"] == "map@20"]
    assert len(rows) == 2 * 4, "seeds, directions"

    (tmp_path / "runs" / "itq-8-1.json").write_text("{")
    assert ablate(dataset, tmp_path, QUICK, bits=[8, 16], seeds=2, variants=names, features=files, jobs=1) == table
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert {name for name in again if written.get(name) != again[name]} == {"itq-8-1.json"}, "the broken one alone"


@pytest.mark.slow
def test_processes_make_the_results_that_one_alone_makes(dataset, files, tmp_path):
    grid = {"bits": [16], "seeds": 2, "variants": ["default", "itq", "djsrh"], "features": files}
    tables = [ablate(dataset, tmp_path / str(jobs), QUICK.replace(n_bits=8), **grid, jobs=jobs) for jobs in (1, 2)]
    assert tables[0] == tables[1]
    assert "- itq-16-1: 32 pairs" in tables[0]
    assert sorted(path.name for path in (tmp_path / "2").iterdir() if "inputs" in path.name) == []


def test_results_of_other_settings_or_data_are_made_anew(inputs, tmp_path):
    run = Run("default", VARIANTS["default"], QUICK)
    make_and_keep(run, tmp_path, inputs)
    assert kept_result(run, tmp_path, inputs) is not None
    assert kept_result(Run("default", run.variant, QUICK.replace(temperature=7.0)), tmp_path, inputs) is None
    more = Inputs(inputs.dataset, inputs.split, inputs.arrays | {"image/jitter": inputs.arrays["image"]}, {})
    assert kept_result(run, tmp_path, more) is not None, "a wider grid reads other views too"
    other = Inputs(inputs.dataset, inputs.split, inputs.arrays | {"text": inputs.arrays["text"] + 1}, {})
    assert kept_result(run, tmp_path, other) is None


def test_a_run_repeats_bit_for_bit(inputs):
    found = [Run("default", VARIANTS["default"], QUICK).make(inputs) for _ in range(2)]
    for name in ("scores", "bits", "radius"):
        assert found[0][name] == found[1][name]
    assert [row["loss"] for row in found[0]["losses"]] == [row["loss"] for row in found[1]["losses"]]


class Known:
    """Codes that are the features' first bits; text features are image features here."""

    def relax_image_features(self, features):
        return features[:, :16]

    relax_text_features = relax_image_features


@pytest.fixture
def mirrored(inputs):
    """Inputs whose captions have the features of their image, so that Known finds every partner at distance 0."""
    image = np.random.default_rng(1).normal(0, 1, (64, 16)).astype(np.float32)
    arrays = {"image": image, "text": np.repeat(image, 5, axis=0)}
    return Inputs(inputs.dataset, inputs.split, arrays, {})


def test_partners_that_have_the_same_code_rank_first_and_shuffled_ones_by_chance(mirrored):
    ids = list(mirrored.split.train)
    assert partner_rank(Known(), mirrored, ids) == 0
    shuffled = np.random.default_rng(0).permutation(mirrored.arrays["text"])
    other = Inputs(mirrored.dataset, mirrored.split, mirrored.arrays | {"text": shuffled}, {})
    assert partner_rank(Known(), other, ids) == pytest.approx(0.5, abs=0.12)
    constant = Inputs(mirrored.dataset, mirrored.split, {k: np.ones_like(v) for k, v in other.arrays.items()}, {})
    assert partner_rank(Known(), constant, ids) == 0.5


def test_codes_that_are_exact_score_as_their_relaxed_codes_and_instances_are_found(mirrored):
    found = score(Known(), mirrored)
    assert found["scores"]["t2i"]["instance_recall@1"] == 1
    signs = Inputs(
        mirrored.dataset, mirrored.split, {k: np.sign(v).astype(np.float32) for k, v in mirrored.arrays.items()}, {}
    )
    found = score(Known(), signs)
    assert found["ceiling"]["t2i"]["map@20"] == pytest.approx(found["scores"]["t2i"]["map@20"], abs=1e-6)


def test_bit_statistics_are_those_of_numpy(mirrored):
    found = bit_statistics(Known(), mirrored)["i"]
    rows = [row for row, item in enumerate(mirrored.dataset.images) if item.id in set(mirrored.split.gallery)]
    bits = np.where(mirrored.arrays["image"][rows] >= 0, 1, -1)
    assert found["mean"] == pytest.approx(bits.mean(0), abs=1e-4)
    correlation = np.abs(np.corrcoef(bits, rowvar=False))
    assert found["correlation"] == pytest.approx((correlation.sum() - 16) / (16 * 15))


def test_tuning_ranks_settings_by_held_out_partners_and_never_opens_labels_queries_or_gallery(
    dataset, files, tmp_path, monkeypatch
):
    def here(work, dataset_path, inputs, config, out, *, jobs):
        # What is neither trained on nor held out is spoilt: if it were read, losses would be NaN and ranks by chance.
        rows = {row for row, item in enumerate(inputs.dataset.images) if item.id in set(inputs.split.train)}
        captions = {5 * row + i for row in rows for i in range(5)}
        arrays = {name: array.copy() for name, array in inputs.arrays.items()}
        for name, array in arrays.items():
            kept = rows if name.startswith("image") else captions
            array[[row for row in range(len(array)) if row not in kept]] = np.nan
        spoilt = Inputs(_without_labels(inputs.dataset), inputs.split, arrays, {})
        return [job.make(spoilt) for job in work], {}

    monkeypatch.setattr("duch_training.ablation.tune.run_all", here)
    monkeypatch.setattr("duch_training.ablation.tune._FEWEST", 2)
    choices = {"learning_rate": [1e-6, 1e-2]}
    table = tune(dataset, tmp_path, QUICK, choices=choices, seeds=1, features=files)
    rows = [line for line in table.splitlines() if line.startswith("| 0.01") or line.startswith("| 1e-06")]
    assert rows[0].startswith("| 0.01"), "training beats no training"
    assert float(rows[0].split("|")[2]) < 30


def _without_labels(data):
    from dataclasses import replace

    return replace(data, images=tuple(replace(item, label=None) for item in data.images))


def test_commands_run_and_say_what_is_wrong(dataset, files, tmp_path, monkeypatch):
    def duch(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    monkeypatch.setattr("duch_training.ablation.tune._FEWEST", 2)
    small = ["--features", files, "--epochs", 2, "--width", 16, "--batch-size", 16, "--jobs", 1]
    made = duch("ablate", dataset, tmp_path / "a", *small, "--bits", "16", "--seeds", 1, "--variants", "default")
    assert made.exit_code == 0, made.output
    assert "| default |" in made.output
    tuned = duch("tune", dataset, tmp_path / "t", *small, "--n-bits", 16, "--seeds", 1, "--try", "temperature=1,2")
    assert tuned.exit_code == 0, tuned.output
    assert tuned.output.count("\n| ") == 4
    for arguments, words in (
        (["ablate", dataset, tmp_path / "b", *small, "--variants", "deflaut"], "deflaut"),
        (["ablate", dataset, tmp_path / "b", *small, "--bits", "16,x"], "no whole number"),
        (["ablate", dataset, tmp_path / "b", *small, "--bits", "12"], "multiple of 8"),
        (["ablate", dataset, tmp_path / "b", "--preset", "tiny"], "must be frozen"),
        (["tune", dataset, tmp_path / "b", *small, "--try", "temprature=1"], "SETTING=VALUE"),
        (["tune", dataset, tmp_path / "b", *small, "--try", "temperature=hot"], "no float"),
        (["tune", dataset, tmp_path / "b", *small, "--try", "temperature=1", "--try", "temperature=2"], "named twice"),
        (["tune", dataset, tmp_path / "b", *small, "--try", "seed=1,2"], "seed changes nothing"),
        (["ablate", dataset, files / "image_emb.h5", *small], "cannot be a folder"),
        (["ablate", dataset, tmp_path / "b", "--features", files, "--preset", "tiny"], "wanted no --preset"),
        (["ablate", dataset, tmp_path / "b", "--preset", "features"], "no network"),
    ):
        result = duch(*arguments)
        assert result.exit_code in (1, 2)
        assert words in result.output


def test_a_dataset_without_classes_cannot_be_ablated(inputs):
    bare = Inputs(_without_labels(inputs.dataset), inputs.split, inputs.arrays, {})
    with pytest.raises(DatasetError, match="32 of 32 query and gallery images of colours have no class"):
        check_labels(bare)
    check_labels(inputs)


def test_views_that_cannot_be_had_are_named_and_left_out(dataset, files, tmp_path):
    names = ["default", "aug-center-views"]
    table = ablate(dataset, tmp_path, QUICK, bits=[16], seeds=1, variants=names, features=files, jobs=1)
    assert "## Not run" in table
    assert "- aug-center-views: it reads the views that `default` reads" in table
    bare = tmp_path / "bare"
    shutil.copytree(files, bare)
    (bare / "image_emb_aug.h5").unlink()
    with pytest.raises(DuchError, match=r"image_emb_aug\.h5 is missing"):
        tune(dataset, tmp_path, QUICK, choices={"image_views": ["jitter"]}, seeds=1, features=bare)


@pytest.mark.slow
def test_an_ablation_runs_on_encoders_of_a_checkpoint_and_their_views(dataset, checkpoint, tmp_path):
    config = load_config("edge", image_encoder=str(checkpoint), text_encoder=str(checkpoint), epochs=3, width=32)
    names = ["default", "one-of-views", "rules-views", "djsrh", "jdsh", "hyperplanes", "official-code"]
    table = ablate(dataset, tmp_path, config, bits=[16], seeds=1, variants=names)
    assert all(f"| {name} |" in table for name in names)
    shutil.rmtree(tmp_path / "runs")
    assert ablate(dataset, tmp_path, config, bits=[16], seeds=1, variants=names) == table, "features were kept"


def test_encoders_that_are_trained_cannot_be_ablated(dataset, tmp_path):
    with pytest.raises(ConfigError, match="must be frozen"):
        ablate(dataset, tmp_path, load_config("tiny"), bits=[16], seeds=1, variants=["default"])


def test_the_split_stays_while_seeds_change(dataset):
    data = read_dataset(dataset)
    runs = [VARIANTS["default"].config(QUICK, n_bits=16, seed=seed) for seed in (0, 1)]
    splits = {make_split(data, seed=config.split_seed).sha256 for config in runs}
    assert len(splits) == 1


def test_the_rows_that_are_compared_with_take_nothing_from_the_runs_own_settings():
    odd = QUICK.replace(
        learn_temperature=True, contrastive_form="cross-modal", codes_update="batch", gradient_penalty=0.0,
        decorrelation_weight=0.1, adversary="text", discriminator="public", balance="code", first_codes="random",
        feature_scaling="none", text_views="words", schedule="cosine", weight_decay=0.1, learning_rate=1.0,
    )  # fmt: skip
    for name in ("paper", "official-code"):
        ours, theirs = (VARIANTS[name].config(base, n_bits=16, seed=0) for base in (QUICK, odd))
        assert ours == theirs


class Failing:
    """A job that fails in its own way, in another process."""

    def __init__(self, name, error):
        self.name, self.error, self.file_name = name, error, f"{name}.json"

    def made_of(self, inputs):
        return {}

    def make(self, inputs):
        if self.error:
            raise self.error
        return {"variant": self.name}


def test_a_run_that_fails_in_any_way_is_one_line_and_the_others_are_made(dataset, inputs, tmp_path):
    from duch_training.ablation.pool import make_folder

    make_folder(tmp_path)
    work = [
        Failing("good", None),
        Failing("bad", RuntimeError("CUDA out of memory\nTried to allocate")),
        Failing("worse", DuchError("the loss is nan")),
    ]
    results, failed = run_all(work, dataset, inputs, QUICK, tmp_path, jobs=1)
    assert [result["variant"] for result in results] == ["good"]
    assert failed == {"bad": "CUDA out of memory Tried to allocate", "worse": "the loss is nan"}
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    with pytest.raises(DuchError, match="no run succeeded; bad: CUDA"):
        run_all(work[1:], dataset, inputs, QUICK, tmp_path / "runs" / "..", jobs=1)


def test_one_caption_an_image_still_has_a_text_view(dataset, inputs):
    from duch_training.sides import view_kinds

    data = read_dataset(dataset)
    assert view_kinds(QUICK, data) == ("aug-center", "none"), "siblings are views"
    assert view_kinds(QUICK.replace(captions="one"), data) == ("aug-center", "words")
    few = Inputs(data, inputs.split, inputs.arrays, {}).dataset
    assert view_kinds(QUICK, _with_one_caption(few)) == ("aug-center", "words")


def _with_one_caption(data):
    from dataclasses import replace

    first, *others = data.images
    return replace(data, images=(replace(first, captions=first.captions[:1]), *others))
