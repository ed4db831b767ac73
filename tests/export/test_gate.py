"""The gate refuses what must not fly, by its reason, and writes no bundle; --force marks what it lets through."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.processors import TemplateProcessing

from duch.bundle import Bundle, GraphInfo, read_bundle, write_bundle
from duch.encoder import Encoder
from duch.errors import GateError
from duch_export import build
from duch_export.build import export_checkpoint
from duch_export.config import ExportConfig, Thresholds
from duch_export.gate import checks, judge
from duch_export.graph import export_image_graph
from duch_export.parity import Agreement, Direction, ParityReport
from duch_export.quantize import QuantizedGraph
from duch_training.checkpoint import Checkpoint

from .faults import lean_on_the_batch, swap_bit_order

Graphs = tuple[onnx.ModelProto, onnx.ModelProto]
FP32 = ExportConfig(recipe="fp32")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a third of the time of a small export, and have tests of their own."""
    monkeypatch.setattr("duch_export.report.folder.draw", lambda *_: None)


def refused(checkpoint: Checkpoint, folder: Path, config: ExportConfig = FP32) -> str:
    """Export what must fail: no bundle, but a report. -> the reasons."""
    with pytest.raises(GateError) as caught:
        export_checkpoint(checkpoint, folder / "bundle", config=config)
    assert os.listdir(folder) == ["bundle-report"]
    text = (folder / "bundle-report" / "report.md").read_text()
    assert "No bundle was written" in text
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_bundle_passes(checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "bundle", config=FP32)
    assert exported.gate.passed
    assert exported.gate.failures == ()
    assert sorted(os.listdir(tmp_path)) == ["bundle", "bundle-report"]
    golden, manifest = exported.bundle.golden(), exported.bundle.manifest
    assert manifest.image_graph.golden_budget == -(-golden.image_codes.size * 8 * 2 // 100)
    assert manifest.text_graph.golden_budget == -(-golden.text_codes.size * 8 * 2 // 100)


def test_a_wrong_normalisation_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of -1 to 1 where the encoder was trained on those of ImageNet."""
    other = copy.deepcopy(checkpoint.hasher)
    other.image_encoder.mean.fill_(0.5)
    other.image_encoder.std.fill_(0.5)
    assert not torch.equal(other.image_encoder.mean, checkpoint.hasher.image_encoder.mean)
    wrong = export_image_graph(other, size=checkpoint.image.size)
    monkeypatch.setattr(build, "export_image_graph", lambda *_, **__: wrong)
    reasons = refused(checkpoint, tmp_path)
    assert "image: bits of ONNX fp32 that equal torch's: found 0." in reasons
    assert "text:" not in reasons


def test_a_saturating_recipe_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrated on images that are nearly black, every activation of a real one is cut at the top of its range."""
    quantize = build.quantize_image

    def on_dark(model: onnx.ModelProto, recipe: Any, pixels: np.ndarray, *more: Any) -> QuantizedGraph:
        return quantize(model, recipe, pixels // 64, *more)

    monkeypatch.setattr(build, "quantize_image", on_dark)
    loose = Thresholds(text_bits=0.9, image_bits=0.95)
    reasons = refused(checkpoint, tmp_path, ExportConfig(recipe="int8", gate=loose))
    assert "image: bits of the int8 graph that equal ONNX fp32's: found 0." in reasons
    assert "i2t: first ten hits that stay" in reasons


def test_a_swapped_bit_order_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = GraphInfo("fp32", "fp32", batch_invariant=True)
    swapped = QuantizedGraph(swap_bit_order(fp32_graphs[0]), info)
    monkeypatch.setattr(build, "quantize_image", lambda *_: swapped)
    assert "image: packed codes that are the signs of the relaxed codes: found 0." in refused(checkpoint, tmp_path)


def test_a_bit_order_swapped_on_both_sides_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the answers are the same ones, and only the format is wrong."""
    info = GraphInfo("fp32", "fp32", batch_invariant=True)
    images, texts = (QuantizedGraph(swap_bit_order(graph), info) for graph in fp32_graphs)
    monkeypatch.setattr(build, "quantize_image", lambda *_: images)
    monkeypatch.setattr(build, "quantize_text", lambda *_: texts)
    reasons = refused(checkpoint, tmp_path)
    assert "image: packed codes" in reasons
    assert "text: packed codes" in reasons
    assert "hits" not in reasons


def pads_as_words(tokenizer_json: str) -> str:
    """The tokenizer that pads each sentence by three tokens, and calls them part of it."""
    tokenizer = RawTokenizer.from_str(tokenizer_json)
    names = ("[CLS]", "[SEP]", "[PAD]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP] [PAD] [PAD] [PAD]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    return tokenizer.to_str()


def test_a_tokenizer_with_other_padding_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any, tokenizer_json: str, **more: Any) -> Bundle:
        return write_bundle(*arguments, tokenizer_json=pads_as_words(tokenizer_json), **more)

    monkeypatch.setattr(build, "write_bundle", write)
    reasons = refused(checkpoint, tmp_path)
    assert "text: bits of the encoder, from files, that equal the graph's: found 0." in reasons
    assert "image:" not in reasons
    assert "ONNX fp32 that equal" not in reasons, "the graphs themselves are sound"


def leaning(graphs: Graphs, monkeypatch: pytest.MonkeyPatch, *, claims: bool) -> None:
    info = GraphInfo("fp32", "leaning", batch_invariant=claims)
    monkeypatch.setattr(build, "quantize_text", lambda *_: QuantizedGraph(lean_on_the_batch(graphs[1]), info))


def test_a_graph_that_claims_what_batches_belie_is_refused(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaning(fp32_graphs, monkeypatch, claims=True)
    reasons = refused(checkpoint, tmp_path)
    assert "text: codes alone as in batches (least: " in reasons
    assert "text: bits of the fp32 graph that equal ONNX fp32's" not in reasons


def test_a_graph_that_admits_it_passes_and_the_report_says_so(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaning(fp32_graphs, monkeypatch, claims=False)
    exported = export_checkpoint(checkpoint, tmp_path / "bundle", config=FP32)
    assert exported.gate.passed
    assert "codes of the text graph depend on their batch" in (exported.report / "report.md").read_text()
    captions = checkpoint.heldout_captions
    encoder = Encoder(exported.bundle)
    alone = np.concatenate([encoder.encode_texts([caption]) for caption in captions])
    assert np.array_equal(encoder.encode_texts(captions), alone)


def test_force_writes_a_bundle_that_says_what_it_failed(
    checkpoint: Checkpoint, fp32_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaning(fp32_graphs, monkeypatch, claims=True)
    exported = export_checkpoint(checkpoint, tmp_path / "bundle", config=FP32, force=True)
    gate = read_bundle(tmp_path / "bundle").manifest.gate
    assert not gate.passed
    assert gate == exported.gate
    assert any("alone as in batches" in failure for failure in gate.failures)
    assert "written by force" in (exported.report / "report.md").read_text()


def test_the_command_tells_the_reasons_in_a_line_and_leaves_the_old_bundle(
    checkpoint_folder: Path, fp32_graphs: Graphs, tmp_path: Path
) -> None:
    from duch.cli import main

    command = ["export", str(checkpoint_folder), str(tmp_path / "bundle"), "--recipe", "fp32"]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.output
    before = read_bundle(tmp_path / "bundle")
    failed = CliRunner().invoke(main, [*command, "--overwrite", "--gate-max-mb", "0.1"])
    assert failed.exit_code == 1
    assert failed.stdout == ""
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(
        "duch: the bundle failed 1 of its tests, so it was not written: size of both graphs: found 0."
    )
    assert "wanted at most 0.1 MB" in last
    assert "--force" in last
    assert read_bundle(tmp_path / "bundle") == before
    assert not json.loads((tmp_path / "bundle-report" / "report.json").read_text())["passed"]
    forced = CliRunner().invoke(main, [*command, "--overwrite", "--gate-max-mb", "0.1", "--force"])
    assert forced.exit_code == 0
    assert "failed: size of both graphs" in forced.stderr
    assert not read_bundle(tmp_path / "bundle").manifest.gate.passed


def graph_with(report: ParityReport, side: str, **changes: Any) -> ParityReport:
    return dataclasses.replace(report, **{side: dataclasses.replace(getattr(report, side), **changes)})


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"fp32_to_torch": Agreement(0.998, 0.9)}, "bits of ONNX fp32 that equal torch's: found 0.99800, wanted"),
        ({"bundle_to_fp32": Agreement(0.9989, 0.9)}, "bits of the fp32 graph that equal ONNX fp32's: found 0.99890"),
        (
            {"bundle_to_fp32": Agreement(0.9989, 0.9), "precision": "fp16"},
            "bits of the fp16 graph that equal ONNX fp32's: found 0.99890, wanted at least 0.999",
        ),
        (
            {"bundle_to_fp32": Agreement(0.979999, 0.5), "precision": "int8"},
            "bits of the int8 graph that equal ONNX fp32's: found 0.97999, wanted at least 0.98",
        ),
        ({"encoder_to_graph": Agreement(0.99, 0.9)}, "bits of the encoder, from files, that equal the graph's: found"),
        ({"codes_are_signs": 0.975}, "packed codes that are the signs of the relaxed codes: found 0.97500, wanted"),
        ({"not_a_number": 3}, "relaxed values that are no number: found 3, wanted none"),
        (
            {"constant_bits": 0.5, "constant_bits_torch": 0.125},
            "bits that never change: found 50.0% of 40 codes, wanted at most 5.0% more than torch's 12.5%",
        ),
        (
            {"batch_invariance": 0.975, "batches": {"2": 1.0, "9": 0.975}},
            "codes alone as in batches (least: 9): found 0.97500, wanted at least 1",
        ),
    ],
)  # fmt: skip
def test_each_test_of_a_graph_fails_by_its_line(
    fp32_report: ParityReport, side: str, changes: dict[str, Any], failure: str
) -> None:
    gate = judge(graph_with(fp32_report, side, **changes), Thresholds())
    assert not gate.passed
    assert len(gate.failures) == 1
    assert gate.failures[0].startswith(f"{side}: {failure}")


def test_what_reaches_every_threshold_exactly_passes(fp32_report: ParityReport) -> None:
    edge = {"bundle_to_fp32": Agreement(0.98, 0.3), "constant_bits": 0.25, "constant_bits_torch": 0.2}
    report = graph_with(fp32_report, "text", precision="int8", **edge)
    assert judge(report, Thresholds()).passed


@pytest.mark.parametrize(
    ("loss", "error", "top10", "passes"),
    [
        (0.004, 0.0, 1.0, True),
        (0.006, 0.0, 1.0, False),
        (0.025, 0.0101, 1.0, True),  # within two standard errors of the threshold
        (0.026, 0.0101, 1.0, False),
        (-0.5, 0.0, 1.0, True),
        (0.0, 0.0, 0.69, False),
    ],
)
def test_a_loss_of_answers_counts_beyond_two_standard_errors(
    fp32_report: ParityReport, loss: float, error: float, top10: float, passes: bool
) -> None:
    direction = Direction(0.5, 0.5, 0.5 - loss, loss, error, top10, (0,) * 10 + (40,))
    retrieval = dataclasses.replace(fp32_report.retrieval, directions={"t2i": direction})
    gate = judge(dataclasses.replace(fp32_report, retrieval=retrieval), Thresholds())
    assert gate.passed is passes
    assert len(gate.failures) == (0 if passes else 1)


def test_size_and_speed_are_judged_only_where_asked_for(fp32_report: ParityReport) -> None:
    report = graph_with(fp32_report, "image", ms_fp32=1.0, ms_bundle=2.0, bytes_bundle=3_000_000)
    report = graph_with(report, "text", ms_fp32=3.0, ms_bundle=1.0, bytes_bundle=1_000_000)
    assert judge(report, Thresholds()).passed
    assert judge(report, Thresholds(max_mb=4)).passed
    assert judge(report, Thresholds(max_mb=3.9)).failures == (
        "size of both graphs: found 4.0 MB, wanted at most 3.9 MB",
    )
    slow = judge(report, Thresholds(faster_than_fp32=2)).failures
    assert slow == ("image: faster than ONNX fp32: found 0.50 times, wanted 2 times",)


def test_every_check_has_a_name_of_its_own(fp32_report: ParityReport) -> None:
    names = [check.name for check in checks(fp32_report, Thresholds(max_mb=1, faster_than_fp32=1))]
    assert len(names) == len(set(names)) >= 20
