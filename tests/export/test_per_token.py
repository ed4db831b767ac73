"""The per-token recipe: what it computes, and that a sentence's code is its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from duch.codes import PackedCodes
from duch.preprocess import Tokenizer
from duch_export.parity import agreement
from duch_export.quantize.dynamic import quantize_dynamic
from duch_export.quantize.per_token import quantize_per_token
from duch_export.quantize.surgery import weights_of
from duch_export.session import Feed, open_session
from duch_training.checkpoint import Checkpoint


def feeds(checkpoint: Checkpoint, captions: list[str]) -> list[Feed]:
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    return [dict(zip(("input_ids", "attention_mask"), tokenizer([one]), strict=True)) for one in captions]


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint) -> list[Feed]:
    return feeds(checkpoint, checkpoint.heldout_captions)


@pytest.fixture(scope="module")
def text_int8(checkpoint: Checkpoint, text_fp32: onnx.ModelProto) -> onnx.ModelProto:
    return quantize_per_token(text_fp32, feeds(checkpoint, checkpoint.calibration_captions), weight_bits=7)


def codes(model: onnx.ModelProto, inputs: list[Feed]) -> PackedCodes:
    session = open_session(model)
    return np.concatenate([session.run(["codes"], feed)[0] for feed in inputs])


def test_every_linear_layer_is_int8_and_weights_have_seven_bits(
    text_fp32: onnx.ModelProto, text_int8: onnx.ModelProto
) -> None:
    found = Counter(node.op_type for node in text_int8.graph.node)
    # Two layers: query, key and value as one, attention's output, two of the feed-forward; and the head's two.
    assert found["MatMulInteger"] == 2 * 4 + 2
    assert found["Gemm"] == 0
    weights = weights_of(text_int8)
    matrices = [value for name, value in weights.items() if value.dtype == np.int8 and "embedding" not in name]
    assert max(np.abs(matrix.astype(int)).max() for matrix in matrices) == 63
    large = [name for name, value in weights.items() if value.dtype == np.float32 and value.size > 5000]
    assert not large, "left in fp32"
    assert text_int8.ByteSize() < 0.6 * text_fp32.ByteSize()


def test_only_standard_operators(text_int8: onnx.ModelProto) -> None:
    assert {node.domain for node in text_int8.graph.node} == {""}
    assert [item.domain for item in text_int8.opset_import] == [""]
    assert text_int8.ir_version == 10


def test_codes_stay_closer_than_those_of_one_scale_a_batch(
    text_fp32: onnx.ModelProto, text_int8: onnx.ModelProto, alone: list[Feed]
) -> None:
    pytest.importorskip("optimum.onnxruntime")
    wanted = codes(text_fp32, alone)
    ours = agreement(codes(text_int8, alone), wanted).bits
    assert ours > 0.97
    assert ours > agreement(codes(quantize_dynamic(text_fp32, "any"), alone), wanted).bits


def test_companions_and_padding_change_no_code(
    checkpoint: Checkpoint, text_int8: onnx.ModelProto, alone: list[Feed]
) -> None:
    tokenizer, session = Tokenizer(checkpoint.tokenizer_json, checkpoint.text), open_session(text_int8)
    wanted = codes(text_int8, alone)
    for size in (2, 9, 32):
        together = []
        for start in range(0, len(alone), size):
            ids, mask = tokenizer(checkpoint.heldout_captions[start : start + size])
            together.append(session.run(["codes"], {"input_ids": ids, "attention_mask": mask})[0])
        assert np.array_equal(np.concatenate(together), wanted)


def chain(activation: str) -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """x (n, t, 8) -> activation -> two linear layers on it, one without a bias -> `relaxed`, their sum."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node(activation, ["x"], ["inner"], name="activation"),
        helper.make_node("MatMul", ["inner", "w1"], ["p1"], name="p1"),
        helper.make_node("Add", ["b1", "p1"], ["y1"], name="y1"),
        helper.make_node("MatMul", ["inner", "w2"], ["y2"], name="y2"),
        helper.make_node("Sub", ["y1", "y2"], ["relaxed"], name="relaxed"),
    ]
    constants = {
        "w1": rng.normal(size=(8, 3)).astype(np.float32),
        "b1": rng.normal(size=3).astype(np.float32),
        "w2": rng.normal(size=(8, 3)).astype(np.float32),
    }
    constants["w1"][2] *= 30  # a strong channel, which smoothing must put right
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 8])],
        [helper.make_tensor_value_info("relaxed", TensorProto.FLOAT, ["n", "t", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model, rng.normal(size=(40, 5, 8)).astype(np.float32)


@pytest.mark.parametrize("activation", ["Identity", "Gelu", "Relu"])
@pytest.mark.parametrize("weight_bits", [7, 8])
def test_layer_is_the_float_layer_within_its_steps(activation: str, weight_bits: int) -> None:
    model, x = chain(activation)
    quantized = quantize_per_token(model, [{"x": one[None]} for one in x[:20]], weight_bits=weight_bits)
    found = Counter(node.op_type for node in quantized.graph.node)
    assert (found["MatMulInteger"], found["Split"], found["MatMul"]) == (1, 1, 0)
    assert found["Abs"] == (activation == "Identity"), "after GELU and ReLU all 8 bits lie above the least value"
    ours, wanted = (open_session(one).run(None, {"x": x[20:]})[0] for one in (quantized, model))
    error = np.abs(ours - wanted).max() / np.abs(wanted).max()
    assert error < (0.03 if weight_bits == 7 else 0.02)


def test_rows_of_zeros_give_the_bias() -> None:
    model, x = chain("Identity")
    quantized = quantize_per_token(model, [{"x": one[None]} for one in x], weight_bits=7)
    zeros = np.zeros((1, 2, 8), np.float32)
    ours, wanted = (open_session(one).run(None, {"x": zeros})[0] for one in (quantized, model))
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_row_does_not_feel_a_strong_neighbour() -> None:
    model, x = chain("Identity")
    session = open_session(quantize_per_token(model, [{"x": one[None]} for one in x], weight_bits=7))
    loud = np.concatenate([x[:1], 1000 * x[1:2]])
    np.testing.assert_array_equal(session.run(None, {"x": loud})[0][0], session.run(None, {"x": x[:1]})[0][0])


@pytest.mark.parametrize("activation", ["Identity", "Relu"])
def test_channel_that_calibration_never_heard_does_not_drown_its_row(activation: str) -> None:
    model, x = chain(activation)
    silent = x.copy()
    silent[..., 4] = 0
    quantized = quantize_per_token(model, [{"x": one[None]} for one in silent], weight_bits=8)
    ours, wanted = (open_session(one).run(None, {"x": np.abs(x)})[0] for one in (quantized, model))
    assert np.abs(ours - wanted).max() < 0.03 * np.abs(wanted).max()


def test_rows_of_tokens_may_lie_on_two_axes() -> None:
    """As in MobileViT, (n, patches, t, 8); sentences of different length in one go."""
    model, x = chain("Identity")
    for ends, width in ((model.graph.input, 8), (model.graph.output, 3)):
        ends[0].CopyFrom(helper.make_tensor_value_info(ends[0].name, TensorProto.FLOAT, ["n", "p", "t", width]))
    folded = [one.reshape(1, 1, 5, 8)[:, :, : 2 + number % 4] for number, one in enumerate(x)]
    quantized = quantize_per_token(model, [{"x": one} for one in folded], weight_bits=8)
    ours, wanted = (open_session(one).run(None, {"x": folded[3]})[0] for one in (quantized, model))
    assert np.abs(ours - wanted).max() < 0.02 * np.abs(wanted).max()
