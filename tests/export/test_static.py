"""Rounding of convolutions: what GPTQ is shown is what the kernel sees, and the graph's weights are what it chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from duch_export.quantize import static
from duch_export.quantize.surgery import weights_of
from duch_export.session import open_session


def convolution(
    *,
    kernel: tuple[int, int] = (3, 3),
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
) -> onnx.ModelProto:
    """x (n, 4, 9, 8) -> relaxed, one convolution with 5 outputs, or 4 if it is grouped."""
    outputs = 5 if group == 1 else 4
    weights = np.random.default_rng(0).normal(size=(outputs, 4 // group, *kernel)).astype(np.float32)
    options = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["pixels"], ["x"], name="x"),
            helper.make_node("Conv", ["x", "w"], ["relaxed"], name="conv", **options),
        ],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 4, 9, 8])],
        [helper.make_tensor_value_info("relaxed", TensorProto.FLOAT, ["n", outputs, "h", "w"])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": (1, 1), "strides": (1, 2)},
        {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 2, 1)},
        {"strides": (2, 2), "pads": (2, 2, 2, 2), "dilations": (2, 2)},
    ],
)
def test_places_times_weights_are_the_convolution(options: dict[str, tuple[int, ...]]) -> None:
    model = convolution(**options)
    images = np.random.default_rng(1).normal(size=(2, 4, 9, 8)).astype(np.float32).clip(0)
    (wanted,) = open_session(model).run(None, {"pixels": images})  # (n, o, h, w)
    weights = weights_of(model)["w"]
    seen = static._places(images, model.graph.node[1], weights.shape[2:], np.random.default_rng(0))
    found = seen @ weights.reshape(len(weights), -1).T
    # Places come in random order, all of them as there are fewer than are drawn.
    rows = wanted.transpose(0, 2, 3, 1).reshape(-1, len(weights))
    np.testing.assert_allclose(found[np.lexsort(found.T)], rows[np.lexsort(rows.T)], rtol=1e-4, atol=1e-5)


def test_places_of_large_images_are_drawn() -> None:
    images = np.zeros((3, 4, 90, 80), np.float32)
    assert static._places(images, convolution().graph.node[1], (3, 3), np.random.default_rng(0)).shape == (3 * 64, 36)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("weight_bits", [7, 8])
def test_weights_are_those_that_rounding_chose(group: int, weight_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []

    def remember(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        chosen.append(static_round(*arguments))
        return chosen[-1]

    static_round = static.round_weights
    monkeypatch.setattr(static, "round_weights", remember)
    feeds = [{"pixels": image[None]} for image in np.random.default_rng(2).normal(size=(20, 4, 9, 8)).astype("f")]
    model = static.quantize_static(convolution(group=group), feeds, weight_bits=weight_bits)
    found = [value for value in weights_of(model).values() if value.dtype == np.int8 and value.ndim == 4]
    assert len(found) == 1
    if group == 1:
        numbers, _ = chosen[0]  # (c k k, o)
        np.testing.assert_array_equal(found[0].reshape(5, -1).T, numbers)
    else:
        assert not chosen, "a grouped convolution is left to the quantizer"
