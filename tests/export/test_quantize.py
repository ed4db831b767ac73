"""The recipes: which network gets which, what the manifest says of it, and that codes stay close."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from transformers import ViTConfig, ViTModel

from duch.errors import BundleError, MissingPackageError
from duch.preprocess import Tokenizer
from duch_export.graph import export_image_graph
from duch_export.parity import agreement
from duch_export.quantize import Recipe, Target, exact_nodes, quantize_image, quantize_text
from duch_export.quantize.surgery import weights_of
from duch_export.session import Feed, open_session
from duch_training.checkpoint import Checkpoint
from duch_training.encoders import ImageEncoder
from duch_training.model import CrossModalHasher


@pytest.fixture(scope="module")
def sentences(checkpoint: Checkpoint) -> list[Feed]:
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    tokens = [tokenizer([caption]) for caption in checkpoint.calibration_captions]
    return [{"input_ids": ids, "attention_mask": mask} for ids, mask in tokens]


@pytest.fixture(scope="module")
def image_int8(checkpoint: Checkpoint, image_fp32: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_image(image_fp32, Recipe.INT8, checkpoint.calibration_pixels).model


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_convolutions_compute_in_int8(image_fp32: onnx.ModelProto, image_int8: onnx.ModelProto) -> None:
    int8_weights = {item.name for item in image_int8.graph.initializer if item.data_type == TensorProto.INT8}
    quantized = {
        node.output[0]
        for node in image_int8.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in int8_weights
    }
    for kind in ("Conv", "Gemm"):
        nodes = [node for node in image_int8.graph.node if node.op_type == kind]
        assert len(nodes) == operators(image_fp32)[kind] > 0
        assert all(node.input[1] in quantized for node in nodes), f"a {kind} kept its float weights"
    assert operators(image_int8)["QuantizeLinear"] > 0
    assert image_int8.ByteSize() < 0.5 * image_fp32.ByteSize()


def test_packing_stays_exact(image_int8: onnx.ModelProto) -> None:
    kinds = {node.name: node.op_type for node in image_int8.graph.node}
    assert [kinds[name] for name in exact_nodes(image_int8)] == ["GreaterOrEqual", "Cast", "MatMul", "Cast"]


def test_convolutions_have_one_scale_a_channel(image_int8: onnx.ModelProto) -> None:
    shapes = {item.name: tuple(item.dims) for item in image_int8.graph.initializer}
    scales = [
        shapes[node.input[1]]
        for node in image_int8.graph.node
        if node.op_type == "DequantizeLinear" and len(shapes.get(node.input[0], ())) == 4
    ]
    assert scales
    assert all(shape and shape[0] > 1 for shape in scales)


def largest_weight(model: onnx.ModelProto) -> int:
    matrices = [value for name, value in weights_of(model).items() if value.dtype == np.int8 and value.ndim > 1]
    return max(int(np.abs(matrix.astype(int)).max()) for matrix in matrices)


@pytest.mark.parametrize(("target", "largest"), [(Target.ANY, 63), (Target.VNNI, 127), (Target.ARM64, 127)])
def test_target_decides_the_bits_of_a_weight(
    checkpoint: Checkpoint, image_fp32: onnx.ModelProto, target: Target, largest: int
) -> None:
    image = quantize_image(image_fp32, Recipe.INT8, checkpoint.calibration_pixels, target)
    assert largest_weight(image.model) == largest
    assert image.info.recipe == f"static-u8s{target.weight_bits}"


def test_image_codes_stay_close_and_their_own(
    checkpoint: Checkpoint, image_fp32: onnx.ModelProto, image_int8: onnx.ModelProto
) -> None:
    pixels, session = checkpoint.heldout_pixels, open_session(image_int8)
    (wanted,) = open_session(image_fp32).run(["codes"], {"pixels": pixels})
    codes, relaxed = session.run(["codes", "relaxed"], {"pixels": pixels})
    assert agreement(codes, wanted).bits > 0.95
    assert np.array_equal(codes, np.packbits(relaxed >= 0, axis=1))
    alone = [session.run(["codes"], {"pixels": pixels[i : i + 1]})[0] for i in range(len(pixels))]
    assert np.array_equal(codes, np.concatenate(alone))


def test_standard_operators_only(image_int8: onnx.ModelProto) -> None:
    assert {node.domain for node in image_int8.graph.node} == {""}
    assert [item.domain for item in image_int8.opset_import] == [""]
    assert image_int8.ir_version == 10


@pytest.mark.parametrize(
    ("recipe", "precision", "name", "invariant"),
    [
        (Recipe.INT8, "int8", "per-token-u8s7", True),
        (Recipe.OPTIMUM, "int8", "optimum-any", False),
        (Recipe.FP16, "fp16", "fp16-storage", True),
        (Recipe.FP32, "fp32", "fp32", True),
    ],
)
def test_manifest_names_the_recipe_of_the_text_graph(
    text_fp32: onnx.ModelProto, sentences: list[Feed], recipe: Recipe, precision: str, name: str, invariant: bool
) -> None:
    if recipe is Recipe.OPTIMUM:
        pytest.importorskip("optimum.onnxruntime")
    quantized = quantize_text(text_fp32, recipe, sentences)
    info = quantized.info
    assert (info.precision, info.recipe, info.batch_invariant) == (precision, name, invariant)
    assert (quantized.model is text_fp32) == (recipe is Recipe.FP32)


@pytest.mark.parametrize("target", list(Target))
def test_optimums_recipe_scales_by_the_batch(text_fp32: onnx.ModelProto, target: Target) -> None:
    pytest.importorskip("optimum.onnxruntime")
    model = quantize_text(text_fp32, Recipe.OPTIMUM, [], target).model
    found = operators(model)
    assert found["DynamicQuantizeLinear"] > 0
    assert found["MatMulInteger"] == 18, "two layers of six products and attention's two, and the head's two"
    assert {node.domain for node in model.graph.node} == {""}


def test_vision_transformers_are_quantized_per_token(checkpoint: Checkpoint) -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(image_size=32, patch_size=8, attn_implementation="eager", **small)
    encoder = ImageEncoder(ViTModel(config, add_pooling_layer=False))
    hasher = CrossModalHasher(encoder, checkpoint.hasher.text_encoder, n_bits=32, width=64).eval()
    fp32 = export_image_graph(hasher, size=32)
    image = quantize_image(fp32, Recipe.INT8, checkpoint.calibration_pixels)
    assert image.info.recipe == "per-token-u8s7"
    assert operators(image.model)["MatMulInteger"] == 10
    feed = {"pixels": checkpoint.heldout_pixels}
    ours, wanted = (open_session(model).run(["relaxed"], feed)[0] for model in (image.model, fp32))
    assert np.abs(ours - wanted).max() < 0.1 * np.abs(wanted).max()


def test_missing_optimum_names_the_extra(text_fp32: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"needs the package optimum.*duch\[optimum\]"):
        quantize_text(text_fp32, Recipe.OPTIMUM, [])


def test_no_calibration_samples_is_an_error(image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto) -> None:
    with pytest.raises(BundleError, match="no calibration images"):
        quantize_image(image_fp32, Recipe.INT8, np.zeros((0, 32, 32, 3), np.uint8))
    with pytest.raises(BundleError, match="no calibration sentences"):
        quantize_text(text_fp32, Recipe.INT8, [])


def test_what_a_quantizer_raises_is_one_line(
    checkpoint: Checkpoint, image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto, sentences: list[Feed]
) -> None:
    with pytest.raises(BundleError, match=r"^the image graph cannot be quantized: .*; try --recipe fp32") as caught:
        quantize_image(image_fp32, Recipe.INT8, checkpoint.calibration_pixels[:, :20])
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"^the text graph cannot be quantized: "):
        quantize_text(text_fp32, Recipe.INT8, [{"input_ids": sentences[0]["input_ids"]}])
