"""What is measured of a bundle: agreement, margins, batches, answers, and that each shows the fault it is there for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from duch.bundle import GraphInfo
from duch.codes import pack_codes
from duch.errors import CheckpointError, DatasetError
from duch.preprocess import Tokenizer
from duch_export.parity import Graphs, ParityReport, agreement, latency, measure, on_dataset, on_pairs, read_parts
from duch_export.parity.compare import Margins, codes_are_signs, constant_bits, margins, unchanged
from duch_export.parity.engines import Feed, GraphCoder, Outputs
from duch_export.parity.retrieval import standard_error
from duch_export.parity.samples import BATCH_SIZES, ImageSamples, TextSamples
from duch_training.checkpoint import Checkpoint
from duch_training.coders import TorchCoder
from duch_training.evaluate import evaluate
from duch_training.splits import Split

from .faults import lean_on_the_batch, swap_bit_order, with_weight

FP32 = GraphInfo(precision="fp32", recipe="fp32", batch_invariant=True)

Measured = Callable[..., ParityReport]


def outputs(relaxed: list[list[float]]) -> Outputs:
    values = np.array(relaxed, np.float32)
    return Outputs(pack_codes(values >= 0), values)


def test_agreement_counts_bits_and_whole_codes() -> None:
    ours, theirs = np.array([[0b11110000], [0b00000000]], np.uint8), np.array([[0b11110001], [0b00000000]], np.uint8)
    assert agreement(ours, theirs).bits == 15 / 16
    assert agreement(ours, theirs).codes == 1 / 2


def test_margins_are_those_of_the_bits_that_flip() -> None:
    fp32 = outputs([[0.01, -0.02, 0.9, -0.9, 0.5, 0.5, 0.5, 0.5]])
    flipped = pack_codes(np.array([[0, 1, 0, 0, 1, 1, 1, 1]]))
    found = margins(fp32, flipped)
    assert (found.bits, found.flips) == (8, 3)
    assert found.flips_near_zero == pytest.approx(2 / 3)
    assert found.all_near_zero == 2 / 8
    assert found.flip_quantiles[2] == pytest.approx(0.02)
    assert (found.flip_histogram[0], found.flip_histogram[18], sum(found.flip_histogram)) == (2, 1, 3)
    assert (found.all_histogram[10], sum(found.all_histogram)) == (4, 8)


def test_nothing_that_flips_has_no_margin() -> None:
    found = margins(fp32 := outputs([[0.01, -0.02, 0.9, -0.9, 0.5, 0.5, 0.5, 1.0]]), fp32.codes)
    assert (found.flips, found.flips_near_zero, found.flip_quantiles, sum(found.flip_histogram)) == (0, None, (), 0)
    assert found.all_histogram[-1] == 1 + found.all_histogram[-2] - 2, "1.0 belongs to the last bin"


def test_constant_bits_tell_nothing() -> None:
    codes = pack_codes(np.array([[0, 1, 0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 1, 0, 1, 0]]))
    assert constant_bits(codes) == 0.5
    assert constant_bits(codes[:1]) == 1


def test_codes_are_signs_with_the_first_bit_in_the_highest_place() -> None:
    sound = outputs([[0.0, -1, -1, -1, -1, -1, -1, -1], [-1, -1, -1, -1, -1, -1, -1, 1]])
    assert codes_are_signs(sound) == 1
    assert codes_are_signs(Outputs(sound.codes[::-1].copy(), sound.relaxed)) == 0


def test_codes_that_lean_on_their_batch_are_found() -> None:
    def first_decides(feed: Feed) -> Outputs:
        codes = feed["pixels"][:, :1]
        return Outputs(np.where(codes == codes[0], codes, 0).astype(np.uint8), codes.astype(np.float32))

    samples = ImageSamples(np.arange(1, 33, dtype=np.uint8)[:, None])
    alone = samples.pixels.copy()
    for size, batches in samples.batches().items():
        assert unchanged(first_decides, alone, batches) == pytest.approx(1 / int(size))


@pytest.fixture(scope="module")
def texts(checkpoint: Checkpoint) -> tuple[TextSamples, list[np.ndarray]]:
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    captions = checkpoint.heldout_captions
    return TextSamples(captions, tokenizer), [tokenizer([caption])[0][0] for caption in captions]


def test_text_batches_look_at_every_sentence_as_it_is(texts: tuple[TextSamples, list[np.ndarray]]) -> None:
    samples, tokens = texts
    batches = samples.batches()
    assert [name.split()[0] for name in batches] == [str(size) for size in BATCH_SIZES] * 2
    for name, feeds in batches.items():
        seen = set()
        for rows, feed in feeds:
            assert len(feed["input_ids"]) == int(name.split()[0])
            seen.update(rows.tolist())
            for row, ids, mask in zip(rows, feed["input_ids"], feed["attention_mask"], strict=False):
                assert np.array_equal(ids[: mask.sum()], tokens[row])
                assert (mask[: mask.sum()] == 1).all()
        assert seen == set(range(len(tokens)))


def test_companions_are_of_one_length_or_so_long_that_there_is_padding(
    texts: tuple[TextSamples, list[np.ndarray]],
) -> None:
    samples, _ = texts
    for name, feeds in samples.batches().items():
        for rows, feed in feeds:
            padded = (feed["attention_mask"][: len(rows)] == 0).any(axis=1)
            assert padded.all() if "padding" in name else not padded.any()
            assert feed["attention_mask"][-1].all(), "a companion fills its row"


def test_a_sentence_alone_is_not_padded(texts: tuple[TextSamples, list[np.ndarray]]) -> None:
    samples, tokens = texts
    feed = samples.feed(np.array([3]))
    assert np.array_equal(feed["input_ids"], tokens[3][None])
    assert feed["attention_mask"].all()


def pair_codes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {side: rng.integers(0, 256, size=(count, 4), dtype=np.uint8) for side in "it"}


def test_the_same_codes_lose_nothing() -> None:
    codes = pair_codes(np.random.default_rng(0), 30)
    found = on_pairs({"torch": codes, "fp32": codes, "bundle": codes}, [f"caption {i}" for i in range(30)])
    for direction in found.directions.values():
        assert (direction.loss, direction.standard_error, direction.top10) == (0, 0, 1)
        assert direction.top10_counts == (0,) * 10 + (30,)
    assert sorted(found.directions) == ["i2t", "t2i"]


def test_other_answers_are_a_loss_query_by_query() -> None:
    """Partners share a code in fp32; in the bundle two texts have changed places."""
    side = np.arange(24, dtype=np.uint8)[:, None].repeat(4, axis=1)
    swapped = side.copy()
    swapped[[0, 23]] = side[[23, 0]]
    fp32 = {"i": side, "t": side}
    found = on_pairs({"torch": fp32, "fp32": fp32, "bundle": {"i": side, "t": swapped}}, [str(i) for i in range(24)])
    t2i = found.directions["t2i"]
    assert t2i.map_fp32 == t2i.map_torch == 1
    assert t2i.loss == pytest.approx(t2i.map_fp32 - t2i.map_bundle)
    assert 1 / 24 < t2i.loss <= 2 / 24
    assert t2i.standard_error > 0
    assert t2i.top10_counts[10] == 22
    assert t2i.top10 < 1


def test_a_pair_with_the_same_caption_is_right_too() -> None:
    codes = {"i": np.array([[0], [255]], np.uint8), "t": np.array([[255], [0]], np.uint8)}
    engines = dict.fromkeys(("torch", "fp32", "bundle"), codes)
    assert on_pairs(engines, ["one", "two"]).directions["t2i"].map_fp32 == 0.5
    assert on_pairs(engines, ["one", "one"]).directions["t2i"].map_fp32 == 1


def test_standard_error_is_that_of_a_mean() -> None:
    differences = np.array([0.0, 0.1, 0.2, -0.1])
    assert standard_error(differences) == pytest.approx(np.std(differences, ddof=1) / 2)
    assert standard_error(differences[:1]) == 0


def test_engines_take_turns_and_the_first_run_does_not_count() -> None:
    calls: list[tuple[str, int]] = []

    def engine(name: str) -> Callable[[Feed], Outputs]:
        def run(feed: Feed) -> Outputs:
            calls.append((name, int(feed["pixels"])))
            return outputs([[0.0] * 8])

        return run

    found = latency.median_ms([engine("a"), engine("b")], [{"pixels": np.array(i)} for i in range(3)])
    assert len(found) == 2
    assert calls[:2] == [("a", 0), ("b", 0)]
    assert calls[2:8] == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert len(calls) == 2 + 2 * latency.ROUNDS


def test_fp32_graphs_equal_torch_in_every_respect(checkpoint: Checkpoint, fp32_report: ParityReport) -> None:
    for graph in fp32_report.graphs.values():
        for same in (graph.fp32_to_torch, graph.bundle_to_fp32, graph.encoder_to_graph, graph.encoder_to_torch):
            assert (same.bits, same.codes) == (1, 1)
        assert set(graph.batches.values()) == {1.0}
        assert (graph.codes_are_signs, graph.not_a_number, graph.margins.flips) == (1, 0, 0)
        assert graph.constant_bits == graph.constant_bits_torch
        assert graph.samples == len(checkpoint.heldout_captions)
        assert min(graph.ms_torch, graph.ms_fp32, graph.ms_bundle, graph.batch_ms_torch, graph.batch_ms_bundle) > 0
    assert all(direction.loss == 0 for direction in fp32_report.retrieval.directions.values())


def test_a_report_is_plain_json(fp32_report: ParityReport) -> None:
    raw = json.loads(json.dumps(fp32_report.to_json(), allow_nan=False))
    assert raw["image"]["bundle_to_fp32"] == {"bits": 1.0, "codes": 1.0}
    assert raw["threads"] == 1
    assert raw["cpu"]["architecture"]
    assert raw["retrieval"]["directions"]["t2i"]["top10"] == 1


def test_a_swapped_bit_order_shows(measured: Measured, image_fp32: onnx.ModelProto) -> None:
    report = measured(image=swap_bit_order(image_fp32))
    assert report.image.fp32_to_torch.bits == 1
    assert report.image.bundle_to_fp32.bits < 0.8
    assert report.image.bundle_to_torch == report.image.bundle_to_fp32
    assert report.image.codes_are_signs < 0.2
    assert report.image.encoder_to_graph.bits == 1
    assert report.text.bundle_to_fp32.bits == report.text.codes_are_signs == 1
    assert report.retrieval.directions["t2i"].top10 < 0.9


def test_codes_that_are_no_number_show(measured: Measured, text_fp32: onnx.ModelProto) -> None:
    last = next(node for node in reversed(text_fp32.graph.node) if node.op_type == "Gemm").input[2]
    report = measured(text=with_weight(text_fp32, last, lambda bias: np.full_like(bias, np.nan)))
    assert report.text.not_a_number == 40 * 32
    assert report.text.constant_bits == 1
    assert json.dumps(report.to_json(), allow_nan=False)


def test_a_batch_that_changes_codes_shows(measured: Measured, text_fp32: onnx.ModelProto) -> None:
    report = measured(text=lean_on_the_batch(text_fp32))
    assert report.text.bundle_to_fp32.bits == 1, "alone, each code is right"
    assert report.text.batch_invariance == min(report.text.batches.values()) < 0.9
    assert report.text.encoder_to_graph.codes < 1
    alone = dataclasses.replace(FP32, batch_invariant=False)
    assert measured(text=lean_on_the_batch(text_fp32), info=alone).text.encoder_to_graph.codes == 1


def test_a_graph_that_left_torch_shows(
    checkpoint: Checkpoint, measured: Measured, image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto
) -> None:
    head = next(node for node in reversed(image_fp32.graph.node) if node.op_type == "Gemm").input[1]
    report = measured(image=with_weight(image_fp32, head, lambda weight: -weight))
    assert report.image.bundle_to_torch.bits < 0.6
    assert report.image.encoder_to_torch.bits < 0.6
    assert report.image.margins.flips_near_zero is not None
    assert report.image.margins.flips_near_zero < 0.9


@pytest.mark.parametrize("count", [0, 3])
def test_samples_that_are_no_pairs_prove_nothing(
    checkpoint: Checkpoint, image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto, count: int
) -> None:
    odd = dataclasses.replace(checkpoint, heldout_captions=checkpoint.heldout_captions[:count])
    graphs = {"image": Graphs(image_fp32, image_fp32, FP32), "text": Graphs(text_fp32, text_fp32, FP32)}
    with pytest.raises(CheckpointError, match=f"40 held-out images and {count} captions"):
        measure(odd, **graphs, bundle=None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dataset(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """A data set of 24 images in 3 classes, and the checkpoint with a split of it."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "images").mkdir()
    rng = np.random.default_rng(5)
    lines = ["image,caption,label"]
    for number in range(24):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        label = "abc"[number % 3]
        lines += [f"{number}.png,{words},{label}" for words in (f"green {label * 3} field", f"many {number} cars")]
    (folder / "dataset.csv").write_text("\n".join(lines))
    names = [f"{number}.png" for number in range(24)]
    split = Split(tuple(names[:4]), tuple(names[4:12]), tuple(names[12:]), "public", 0)
    return dataclasses.replace(checkpoint, split=split), folder / "dataset.csv"


def test_answers_on_a_dataset_are_scored_as_duch_evaluate_scores_them(
    dataset: tuple[Checkpoint, Path],
    checkpoint_folder: Path,
    image_fp32: onnx.ModelProto,
    text_fp32: onnx.ModelProto,
    tmp_path: Path,
) -> None:
    checkpoint, path = dataset
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    graphs, torch = GraphCoder(image_fp32, text_fp32, tokenizer), TorchCoder(checkpoint)
    broken = GraphCoder(swap_bit_order(image_fp32), text_fp32, tokenizer)
    found = on_dataset({"torch": torch, "fp32": graphs, "bundle": broken}, read_parts(checkpoint, path))
    (tmp_path / "split.json").write_text(json.dumps(checkpoint.split.to_dict()))
    wanted = evaluate(checkpoint_folder, path, split_path=tmp_path / "split.json")
    assert (found.queries, found.gallery) == (8, 12)
    for name, direction in found.directions.items():
        assert direction.map_torch == pytest.approx(wanted.scores[name]["map@20"])
        assert direction.map_fp32 == direction.map_torch
    assert found.directions["t2t"].loss == 0
    assert found.directions["i2i"].top10 == 1, "the order of bits changes no distance on its own side"
    assert found.directions["t2i"].top10 < 1


def test_a_dataset_without_classes_is_one_line(dataset: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    checkpoint, path = dataset
    rows = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    (path.parent / "bare.csv").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match=r"have no class.*without --data"):
        read_parts(checkpoint, path.parent / "bare.csv")


def test_margins_compare_by_value() -> None:
    one = margins(outputs([[0.1] * 8]), pack_codes(np.zeros((1, 8))))
    assert isinstance(one, Margins)
    assert one == margins(outputs([[0.1] * 8]), pack_codes(np.zeros((1, 8))))
