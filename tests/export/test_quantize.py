"""int8 graphs: integer arithmetic is really there, codes stay close, sign and packing stay exact."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from duch.errors import BundleError, MissingPackageError
from duch.preprocess import Tokenizer
from duch_export.parity import agreement, open_session
from duch_export.quantize import Recipe, exact_nodes, quantize_image, quantize_text, split_gemm
from duch_training.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def image_int8(checkpoint: Checkpoint, image_fp32: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_image(image_fp32, Recipe.INT8, checkpoint.calibration_pixels).model


@pytest.fixture(scope="module")
def text_int8(text_fp32: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_text(text_fp32, Recipe.INT8).model


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def packing_is_exact(model: onnx.ModelProto) -> bool:
    """GreaterOrEqual, Cast, MatMul, Cast between `relaxed` and `codes`, in float."""
    behind = {node.name: node.op_type for node in model.graph.node}
    return [behind[name] for name in exact_nodes(model)] == ["GreaterOrEqual", "Cast", "MatMul", "Cast"]


def test_image_graph_computes_in_int8(image_fp32: onnx.ModelProto, image_int8: onnx.ModelProto) -> None:
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
    assert packing_is_exact(image_int8)


def test_image_weights_have_one_scale_a_channel(image_int8: onnx.ModelProto) -> None:
    shapes = {item.name: tuple(item.dims) for item in image_int8.graph.initializer}
    scales = [
        shapes[node.input[1]]
        for node in image_int8.graph.node
        if node.op_type == "DequantizeLinear" and len(shapes.get(node.input[0], ())) == 4
    ]
    assert scales
    assert all(shape and shape[0] > 1 for shape in scales)


def test_text_graph_computes_in_int8(text_fp32: onnx.ModelProto, text_int8: onnx.ModelProto) -> None:
    found = operators(text_int8)
    weighted = {item.name for item in split_gemm(text_fp32).graph.initializer}
    matmuls = [n for n in split_gemm(text_fp32).graph.node if n.op_type == "MatMul" and n.input[1] in weighted]
    assert found["MatMulInteger"] >= len(matmuls) - 1, "all but packing"
    assert found["DynamicQuantizeLinear"] > 0
    assert found["Gemm"] == 0
    assert text_int8.ByteSize() < 0.6 * text_fp32.ByteSize()
    assert packing_is_exact(text_int8)


def test_int8_graphs_use_standard_operators_only(image_int8: onnx.ModelProto, text_int8: onnx.ModelProto) -> None:
    for model in (image_int8, text_int8):
        assert {node.domain for node in model.graph.node} == {""}
        assert [item.domain for item in model.opset_import] == [""]
        assert model.ir_version == 10


def test_image_codes_stay_close(
    checkpoint: Checkpoint, image_fp32: onnx.ModelProto, image_int8: onnx.ModelProto
) -> None:
    feed = {"pixels": checkpoint.heldout_pixels}
    (wanted,), (codes,) = (open_session(model).run(["codes"], feed) for model in (image_fp32, image_int8))
    assert agreement(codes, wanted).bits > 0.95


def test_image_codes_do_not_depend_on_the_batch(checkpoint: Checkpoint, image_int8: onnx.ModelProto) -> None:
    session, pixels = open_session(image_int8), checkpoint.heldout_pixels
    (together,) = session.run(["codes"], {"pixels": pixels})
    alone = [session.run(["codes"], {"pixels": pixels[i : i + 1]})[0] for i in range(len(pixels))]
    assert np.array_equal(together, np.concatenate(alone))


def test_text_codes_stay_close(checkpoint: Checkpoint, text_fp32: onnx.ModelProto, text_int8: onnx.ModelProto) -> None:
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    sessions = open_session(text_fp32), open_session(text_int8)
    codes: list[list[np.ndarray]] = [[], []]
    for caption in checkpoint.heldout_captions:
        input_ids, attention_mask = tokenizer([caption])
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        for session, found in zip(sessions, codes, strict=True):
            found.append(session.run(["codes"], feed)[0])
    assert agreement(np.concatenate(codes[1]), np.concatenate(codes[0])).bits > 0.95


def test_packed_codes_of_int8_are_the_signs_of_its_own_relaxed_codes(
    checkpoint: Checkpoint, image_int8: onnx.ModelProto
) -> None:
    codes, relaxed = open_session(image_int8).run(["codes", "relaxed"], {"pixels": checkpoint.heldout_pixels})
    assert np.array_equal(codes, np.packbits(relaxed >= 0, axis=1))


def test_fp32_recipe_changes_nothing(image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto) -> None:
    image = quantize_image(image_fp32, Recipe.FP32, np.zeros((0, 32, 32, 3), np.uint8))
    text = quantize_text(text_fp32, Recipe.FP32)
    assert image.model is image_fp32
    assert text.model is text_fp32
    assert image.info == text.info
    assert (image.info.precision, image.info.batch_invariant) == ("fp32", True)


def test_dynamic_int8_is_marked_as_depending_on_the_batch(text_fp32: onnx.ModelProto) -> None:
    info = quantize_text(text_fp32, Recipe.INT8).info
    assert (info.precision, info.recipe, info.batch_invariant) == ("int8", "optimum", False)


def test_missing_optimum_names_the_extra(text_fp32: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"needs the package optimum.*duch\[optimum\]"):
        quantize_text(text_fp32, Recipe.INT8)


def test_no_calibration_images_is_an_error(image_fp32: onnx.ModelProto) -> None:
    with pytest.raises(BundleError, match="no calibration images"):
        quantize_image(image_fp32, Recipe.INT8, np.zeros((0, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_split_gemm_computes_the_same(trans_b: int, bias: bool) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 6) if trans_b else (6, 5)).astype(np.float32)
    initializers = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(5, np.float32), "b")]
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node("Gemm", inputs, ["y"], name="g", transB=trans_b)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    split = split_gemm(model)
    onnx.checker.check_model(split)
    assert "Gemm" not in operators(split)
    assert operators(model)["Gemm"] == 1, "the original is left alone"
    x = rng.normal(size=(3, 6)).astype(np.float32)
    ours, theirs = (open_session(one).run(None, {"x": x})[0] for one in (split, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
