"""Faults put into graphs, for the tests that must see them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper


def with_weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """A copy of a graph with one weight changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (item,) = [item for item in copy.graph.initializer if item.name == name]
    item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(item))), name))
    return copy


def swap_bit_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose packed codes have the least significant bit first; `relaxed` is as before."""
    (cast,) = [node for node in model.graph.node if "codes" in node.output]
    (product,) = [node for node in model.graph.node if cast.input[0] in node.output]
    return with_weight(model, product.input[1], lambda p: p.reshape(-1, 8, p.shape[1])[:, ::-1].reshape(p.shape))


def lean_on_the_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose relaxed codes are pulled halfway to the mean of their batch: alone, a code is what it was."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == "relaxed":
                    names[place] = "alone"
    first = next(i for i, node in enumerate(copy.graph.node) if "alone" in node.input)
    copy.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "batch_axis"))
    pull = [
        helper.make_node("ReduceMean", ["alone", "batch_axis"], ["batch_mean"], keepdims=1),
        helper.make_node("Mean", ["alone", "batch_mean"], ["relaxed"]),
    ]
    nodes = list(copy.graph.node)
    nodes[first:first] = pull
    for node in nodes[first + 2 :]:
        for place, name in enumerate(node.input):
            if name == "alone":
                node.input[place] = "relaxed"
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
