"""The stem on blocks computes what the stem computes, and other stems are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from duch_export.quantize.stem import block_stem
from duch_export.session import open_session


def network(
    *, kernel: int = 7, padding: int = 3, stride: int = 2, size: int = 24, mean: Any = None, branch: bool = False
) -> onnx.ModelProto:
    """pixels -> normalised by channel -> one convolution."""
    rng = np.random.default_rng(0)
    constants = {
        "mean": rng.normal(size=(1, 3, 1, 1)) if mean is None else np.asarray(mean),
        "std": np.float32(3.0),
        "w": rng.normal(size=(5, 3, kernel, kernel)),
        "b": rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["turned"], name="t", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["floats"], name="c", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"], name="s"),
        helper.make_node("Div", ["centred", "std"], ["normalised"], name="d"),
        helper.make_node(
            "Conv", ["normalised", "w", "b"], ["y"], name="conv", strides=[stride] * 2, pads=[padding] * 4
        ),
    ]
    if branch:
        nodes.append(helper.make_node("ReduceMax", ["normalised"], ["z"], name="other reader"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, "h", "w"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("kernel", "padding"), [(7, 3), (3, 1), (3, 0), (5, 2), (5, 0), (4, 1), (2, 0), (1, 0)])
@pytest.mark.parametrize("size", [24, 30])
def test_same_sums(kernel: int, padding: int, size: int) -> None:
    model = network(kernel=kernel, padding=padding, size=size)
    blocks = block_stem(model)
    (convolution,) = [node for node in blocks.graph.node if node.op_type == "Conv"]
    assert "stem.weights" in convolution.input
    pixels = np.random.default_rng(1).integers(0, 256, size=(2, size, size, 3), dtype=np.uint8)
    ours, wanted = (open_session(one).run(None, {"pixels": pixels})[0] for one in (blocks, model))
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "other", [{"stride": 1}, {"size": 25}, {"branch": True}, {"mean": np.ones((3, 24, 24))}], ids=str
)
def test_other_stems_are_left_alone(other: dict[str, Any]) -> None:
    model = network(**other)
    assert block_stem(model) is model


def test_a_real_network_has_the_stem(image_fp32: onnx.ModelProto) -> None:
    assert any("stem.weights" in node.input for node in block_stem(image_fp32).graph.node)
