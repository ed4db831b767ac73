"""Checkpoint in, bundle out: what the edge then reads, and which folders are left alone."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import load_file, save_file

from duch.bundle import Bundle, read_bundle
from duch.codes import binarize, pack_codes
from duch.encoder import Encoder
from duch.errors import BundleError, CheckpointError, DatasetError
from duch.info import describe
from duch.info_table import info_table
from duch.preprocess import TextPreprocessing, Tokenizer, image_to_pixels
from duch.selftest import selftest
from duch_export import golden as golden_module
from duch_export.build import export_bundle, export_checkpoint
from duch_export.cli import export
from duch_export.config import ExportConfig, Thresholds
from duch_training.checkpoint import Checkpoint, save_checkpoint
from duch_training.splits import Split


@pytest.fixture(scope="module")
def int8_command(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    # Codes of random weights lie nearer to zero than those of a training, so more of them flip.
    config = folder.with_name("export.toml")
    config.write_text("[gate]\nimage_bits = 0.95\ntext_bits = 0.95\ntop10 = 0.5\nretrieval_loss = 0.1\n")
    return folder, CliRunner().invoke(export, [str(checkpoint_folder), str(folder), "--config", str(config), "--json"])


@pytest.fixture(scope="module")
def fp32_command(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("fp32") / "bundle"
    return folder, CliRunner().invoke(export, [str(checkpoint_folder), str(folder), "--recipe", "fp32"])


@pytest.fixture(scope="module")
def int8(int8_command: tuple[Path, Result]) -> Bundle:
    return read_bundle(int8_command[0])


@pytest.fixture(scope="module")
def fp32(fp32_command: tuple[Path, Result]) -> Bundle:
    return read_bundle(fp32_command[0])


def test_command_prints_json(int8_command: tuple[Path, Result]) -> None:
    folder, result = int8_command
    assert result.exit_code == 0, result.output
    raw = json.loads(result.stdout)
    assert raw["fingerprint"] == read_bundle(folder).fingerprint
    assert raw["graphs"]["text"]["recipe"] == "per-token-u8s7"
    assert raw["gate"] == {"passed": True, "failures": []}
    assert raw["parity"]["text"]["samples"] == 40
    assert (folder.with_name("bundle-report") / "report.md").is_file()


def test_command_prints_the_table_on_stdout_and_progress_on_stderr(fp32_command: tuple[Path, Result]) -> None:
    folder, result = fp32_command
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("graph")
    assert "onnx fp32" in result.stdout
    assert "tracing the image graph" in result.stderr
    assert read_bundle(folder).fingerprint[:16] in result.stderr


@pytest.mark.slow
def test_a_model_that_learnt_little_is_exported_and_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    hasher = copy.deepcopy(checkpoint.hasher)
    with torch.no_grad():
        hasher.text_head.layers[3].bias.fill_(100)
    save_checkpoint(tmp_path / "checkpoint", dataclasses.replace(checkpoint, hasher=hasher))
    arguments = [str(tmp_path / "checkpoint"), str(tmp_path / "bundle"), "--recipe", "fp32"]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 0, result.output
    assert "text: 100% of the bits are the same in all codes of torch too: the model has learnt little" in result.stderr
    assert "image: 1" not in result.stderr


def test_fp32_bundle_gives_torchs_codes_to_the_encoder(checkpoint: Checkpoint, fp32: Bundle) -> None:
    encoder = Encoder(fp32)
    pixels, captions = checkpoint.heldout_pixels, checkpoint.heldout_captions
    with torch.inference_mode():
        wanted = checkpoint.hasher.relax_images(torch.from_numpy(pixels)).numpy()
        ids, mask = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)(captions)
        wanted_texts = checkpoint.hasher.relax_texts(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    assert np.array_equal(encoder.encode_pixels(pixels), pack_codes(binarize(wanted)))
    assert np.array_equal(encoder.encode_texts(captions), pack_codes(binarize(wanted_texts)))
    np.testing.assert_allclose(encoder.relaxed_texts(captions), wanted_texts, atol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_golden_inputs_give_golden_codes_on_the_edge(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(kind)
    golden, encoder = bundle.golden(), Encoder(bundle)
    assert np.array_equal(encoder.encode_pixels(golden.pixels), golden.image_codes)
    assert np.array_equal(encoder.encode_texts(golden.captions), golden.text_codes)
    assert np.array_equal(pack_codes(binarize(golden.text_relaxed)), golden.text_codes)
    for file, pixels in zip((golden.png, golden.jpeg), golden.pixels, strict=True):
        image = Image.open(io.BytesIO(file))
        assert min(image.size) > bundle.image.size
        assert image.width != image.height
        assert np.array_equal(image_to_pixels(image, bundle.image), pixels)


def test_int8_bundle_needs_nothing_of_ours(int8: Bundle) -> None:
    """A host written from BUNDLE.md gives the same codes, by graphs of ONNX's own operators."""
    host = Path(__file__).parents[1] / "runtime" / "bare_host.py"
    done = subprocess.run([sys.executable, "-I", host, int8.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    codes = Encoder(int8).encode_texts(int8.golden().captions)
    assert found["text_codes"] == [code.tobytes().hex() for code in codes]
    assert not {"duch", "torch", "onnx"}.intersection(found["packages"])
    for name in ("image", "text"):
        model = onnx.load(int8.path / f"{name}.onnx", load_external_data=False)
        assert [item.domain for item in model.opset_import] == [""]
        assert model.opset_import[0].version <= 20
        assert model.ir_version == 10
        assert {node.domain for node in model.graph.node} == {""}
        assert not {"If", "Loop", "Scan"}.intersection(node.op_type for node in model.graph.node)
        assert not model.functions
        assert not any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer)


def test_device_commands_know_a_real_checkpoint_and_its_bundle(checkpoint_folder: Path, int8: Bundle) -> None:
    trained = describe(checkpoint_folder)
    assert (trained["kind"], trained["n_bits"]) == ("checkpoint", int8.n_bits)
    assert trained["preprocessing"]["image"] == {"size": int8.image.size}
    assert "made up" in info_table(trained)
    assert "of bits as fp32" in info_table(describe(int8.path))
    assert [check.name for check in selftest(int8.path).failed] == []


def test_golden_captions_hold_accents_cjk_and_a_long_one(int8: Bundle) -> None:
    golden = int8.golden()
    text = "".join(golden.captions)
    assert any("à" <= letter <= "ÿ" for letter in text)
    assert any("一" <= letter <= "鿿" for letter in text)
    lengths = golden.attention_mask.sum(axis=1)
    assert lengths.max() >= int8.text.max_tokens - 4
    ids, mask = Tokenizer(int8.tokenizer_json(), int8.text)(golden.captions)
    assert np.array_equal(ids, golden.input_ids)
    assert np.array_equal(mask, golden.attention_mask)


def test_golden_captions_fit_a_model_that_reads_little(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer(checkpoint.tokenizer_json, TextPreprocessing(max_tokens=6))
    captions = golden_module.fit_captions(tokenizer)
    assert tokenizer(captions)[0].shape[1] <= 6


def test_sentence_gets_one_code_whatever_its_companions(checkpoint: Checkpoint, int8: Bundle) -> None:
    encoder, captions = Encoder(int8), checkpoint.heldout_captions
    alone = np.concatenate([encoder.encode_texts([caption]) for caption in captions])
    assert np.array_equal(encoder.encode_texts(captions), alone)


def test_manifest_tells_recipes_report_and_origin(int8: Bundle) -> None:
    manifest = int8.manifest
    assert (manifest.image_graph.recipe, manifest.image_graph.batch_invariant) == ("static-u8s7", True)
    assert (manifest.text_graph.recipe, manifest.text_graph.batch_invariant) == ("per-token-u8s7", True)
    report = manifest.report["parity"]
    for side in ("image", "text"):
        assert report[side]["fp32_to_torch"] == {"bits": 1.0, "codes": 1.0}
        assert 0.95 < report[side]["bundle_to_fp32"]["bits"] <= 1
        assert report[side]["bytes_bundle"] == (int8.path / f"{side}.onnx").stat().st_size
        assert report[side]["ms_bundle"] > 0
        assert report[side]["batch_invariance"] == 1
    assert report["threads"] == 1
    assert manifest.provenance["train"]["n_bits"] == int8.n_bits
    assert manifest.provenance["export"]["target"] == "any"
    assert manifest.provenance["export"]["gate"]["image_bits"] == 0.95
    assert "torch" in manifest.provenance["versions"]
    assert manifest.provenance["split_sha256"] == Split(("a",), ("b",), ("c",), "public", 0).sha256


@pytest.mark.slow
def test_exporting_again_gives_the_same_fingerprint(checkpoint_folder: Path, fp32: Bundle, tmp_path: Path) -> None:
    again = export_bundle(checkpoint_folder, tmp_path / "b", config=ExportConfig(recipe="fp32"))
    assert again.bundle.fingerprint == fp32.fingerprint


def test_bad_folders_are_refused_before_any_work(checkpoint_folder: Path, tmp_path: Path, fp32: Bundle) -> None:
    steps: list[str] = []
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="no bundle"):
        export_bundle(checkpoint_folder, tmp_path, overwrite=True, on_progress=steps.append)
    with pytest.raises(BundleError, match="--overwrite"):
        export_bundle(checkpoint_folder, fp32.path, on_progress=steps.append)
    for report, words in ((tmp_path, "holds thesis.txt"), (tmp_path / "b" / "report", "in the bundle")):
        with pytest.raises(BundleError, match=words):
            export_bundle(checkpoint_folder, tmp_path / "b", report_folder=report, on_progress=steps.append)
    assert steps == []
    with pytest.raises(CheckpointError):
        export_bundle(tmp_path / "nothing", tmp_path / "b")
    assert os.listdir(tmp_path) == ["thesis.txt"]


def without_samples(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, heldout_pixels=checkpoint.heldout_pixels[:0], heldout_captions=[])


def diverged(checkpoint: Checkpoint) -> Checkpoint:
    hasher = copy.deepcopy(checkpoint.hasher)
    with torch.no_grad():
        hasher.text_head.layers[0].weight[3, 1] = torch.nan
    return dataclasses.replace(checkpoint, hasher=hasher)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_samples, "holds 0 held-out images and 0 captions"),
        (diverged, "text_head.layers.0.weight hold NaN or infinity"),
    ],
)
def test_a_checkpoint_that_proves_nothing_is_refused_before_any_graph(
    checkpoint: Checkpoint, change: Callable[[Checkpoint], Checkpoint], words: str, tmp_path: Path
) -> None:
    steps: list[str] = []
    with pytest.raises(CheckpointError, match=words):
        export_checkpoint(change(checkpoint), tmp_path / "b", on_progress=steps.append)
    assert steps == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("pixels", "captions", "words"),
    [
        (np.zeros((2, 20, 20, 3), np.uint8), ["a", "b"], r"heldout samples are uint8 \(2, 20, 20, 3\); wanted uint8"),
        (np.zeros((2, 32, 32, 3), np.float32), ["a", "b"], "heldout samples are float32"),
        (np.zeros((2, 32, 32, 3), np.uint8), ["a", 2], "heldout captions are no list of sentences"),
        (np.zeros((2, 32, 32, 3), np.uint8), ["a", " "], "heldout captions are no list of sentences"),
    ],
)
def test_samples_that_do_not_fit_the_encoders_are_a_broken_checkpoint(
    checkpoint_folder: Path, pixels: np.ndarray, captions: list[object], words: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint_folder, tmp_path / "checkpoint")
    calibration = load_file(folder / "samples.safetensors")["calibration"]
    save_file({"calibration": calibration, "heldout": pixels}, folder / "samples.safetensors")
    (folder / "samples.json").write_text(json.dumps({"calibration": ["a"], "heldout": captions}))
    with pytest.raises(CheckpointError, match=words):
        export_bundle(folder, tmp_path / "b")


def test_places_of_the_training_machine_stay_there(checkpoint: Checkpoint, fp32_graphs: object, tmp_path: Path) -> None:
    config = dataclasses.replace(
        checkpoint.config,
        image_encoder="/home/ada/models/resnet",
        text_encoder="org/name",
        thesaurus="/home/ada/w.toml",
    )
    elsewhere = dataclasses.replace(checkpoint, config=config)
    bundle = export_checkpoint(elsewhere, tmp_path / "b", config=ExportConfig("fp32")).bundle
    train = bundle.manifest.provenance["train"]
    assert (train["image_encoder"], train["text_encoder"], train["thesaurus"]) == ("resnet", "org/name", "w.toml")
    assert b"/home/ada" not in (bundle.path / "manifest.json").read_bytes()


def test_a_dataset_that_cannot_be_read_is_told_before_any_graph(checkpoint_folder: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(DatasetError):
        export_bundle(checkpoint_folder, tmp_path / "b", data=tmp_path / "nothing", on_progress=steps.append)
    assert steps == ["reading the checkpoint"]
    assert os.listdir(tmp_path) == []


def test_half_precision_keeps_the_bits(checkpoint: Checkpoint, fp32_graphs: object, tmp_path: Path) -> None:
    exported = export_checkpoint(
        checkpoint, tmp_path / "b", config=ExportConfig("fp16", gate=Thresholds(same_bits=0.99))
    )
    for graph, info in (
        (exported.parity.image, exported.bundle.manifest.image_graph),
        (exported.parity.text, exported.bundle.manifest.text_graph),
    ):
        assert info.precision == graph.precision == "fp16"
        assert graph.bytes_bundle < 0.7 * graph.bytes_fp32
        assert graph.batch_invariance == 1


def test_the_common_recipe_is_measured_and_admits_that_batches_count(
    checkpoint: Checkpoint, fp32_graphs: object, tmp_path: Path
) -> None:
    pytest.importorskip("optimum.onnxruntime")
    exported = export_checkpoint(checkpoint, tmp_path / "b", config=ExportConfig("optimum"), force=True)
    assert not exported.bundle.manifest.text_graph.batch_invariant
    assert exported.parity.text.batch_invariance < 1
    assert exported.parity.text.encoder_to_graph.codes == 1, "the encoder runs each sentence alone"
    assert not any("batches" in failure for failure in exported.gate.failures)
    assert "codes of the text graph depend on their batch" in (exported.report / "report.md").read_text()


@pytest.mark.slow
def test_overwriting_replaces_the_bundle(checkpoint_folder: Path, tmp_path: Path) -> None:
    first = export_bundle(checkpoint_folder, tmp_path / "b", config=ExportConfig("fp32")).bundle
    second = export_bundle(checkpoint_folder, tmp_path / "b", force=True, overwrite=True).bundle
    assert first.fingerprint != second.fingerprint
    assert sorted(os.listdir(tmp_path)) == ["b", "b-report"]
