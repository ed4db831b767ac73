"""fp16 storage: half the size of fp32 and nearly its codes. onnxruntime turns the weights back when it loads them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .surgery import rebuilt, weights_of

_LARGE = 1024  # values; a Cast for less than that saves nothing


def store_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its large float32 constants stored as float16, and cast to float32 where they are used.

    Rows of an embedding are cast after they are gathered, the rest of the table never.
    """
    large = {
        name: array
        for name, array in weights_of(model).items()
        # Beyond fp16's range a weight would become infinite; such a constant, a mask's -3e38 say, stays.
        if array.dtype == np.float32 and array.size >= _LARGE and np.abs(array).max() <= np.finfo(np.float16).max
    }
    nodes: list[onnx.NodeProto] = []
    cast: set[str] = set()
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.op_type == "Gather" and node.input[0] in large:
            node.input[0] += ".half"
            rows = f"{node.output[0]}.half"
            nodes += [node, helper.make_node("Cast", [rows], list(node.output), to=TensorProto.FLOAT)]
            node.output[0] = rows
            continue
        for name in node.input:
            if name in large and name not in cast:
                nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
                cast.add(name)
        nodes.append(node)
    return rebuilt(model, nodes, {f"{name}.half": array.astype(np.float16) for name, array in large.items()})
