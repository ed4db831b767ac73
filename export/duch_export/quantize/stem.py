"""The first convolution of a network, on blocks of 2 x 2 pixels as 12 channels: the same sums, at a better shape.

A stem such as ResNet's, 7 x 7 with stride 2 on three channels, has few channels and many places, which int8 kernels are
slowest at: it took 25 % of a ResNet-18's time for 6 % of its products. With the pixels of each block as channels, and
the weights moved alongside, it is 4 x 4 with stride 1. Shapes: n images, s size, k kernel, o outputs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .surgery import options_of, rebuilt, weights_of

_ELEMENTWISE = ("Cast", "Sub", "Div", "Mul", "Add")


def block_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose stem works on blocks, or the graph itself where its stem is of another kind.

    The kind: `pixels` uint8 (n, s, s, 3) with s even -> Transpose -> normalisation by channel -> Conv with stride 2.
    """
    path = _stem(model)
    if path is None:
        return model
    transpose, *normalise, convolution = path
    constants = weights_of(model)
    weights = constants[convolution.input[1]]  # (o, 3, k, k)
    size, kernel = _size(model), weights.shape[2]
    padding = options_of(convolution).get("pads", (0,))[0]
    before = padding % 2  # zeros in front of the kernel, so that it starts with a block
    after = (kernel + before) % 2
    blocks = (kernel + before + after) // 2
    left = (padding + before) // 2
    right = (size + 2 * padding - kernel) // 2 + 1 - size // 2 - left + blocks - 1
    wide = np.pad(weights, ((0, 0), (0, 0), (before, after), (before, after)))
    wide = wide.reshape(len(wide), 3, blocks, 2, blocks, 2).transpose(0, 3, 5, 1, 2, 4)
    new = {
        "stem.blocks": np.array([0, size // 2, 2, size // 2, 2, 3]),
        "stem.channels": np.array([0, size // 2, size // 2, 12]),
        "stem.weights": wide.reshape(len(wide), 12, blocks, blocks),
    }
    nodes = [
        helper.make_node("Reshape", ["pixels", "stem.blocks"], ["stem.in_blocks"]),
        helper.make_node("Transpose", ["stem.in_blocks"], ["stem.turned"], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Reshape", ["stem.turned", "stem.channels"], ["stem.pixels"]),
        # Apart from the one above, as onnxruntime cancels it against that of its own layout of convolutions.
        helper.make_node("Transpose", ["stem.pixels"], [transpose.output[0]], perm=[0, 3, 1, 2]),
    ]
    for node in normalise:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in constants and constants[name].ndim == 4:
                copy.input[position] = f"stem.{name}"
                new[copy.input[position]] = np.tile(constants[name], (1, 4, 1, 1))
        nodes.append(copy)
    inputs = [convolution.input[0], "stem.weights", *convolution.input[2:]]
    pads = [left, left, right, right]
    nodes.append(helper.make_node("Conv", inputs, list(convolution.output), name=convolution.name, pads=pads))
    replaced = {node.name for node in path}
    return rebuilt(model, [*nodes, *(node for node in model.graph.node if node.name not in replaced)], new)


def _stem(model: onnx.ModelProto) -> list[onnx.NodeProto] | None:
    """The nodes from `pixels` to the first convolution, if all of them are of the kind that is known here."""
    constants = weights_of(model)
    path: list[onnx.NodeProto] = []
    name = "pixels"
    while not path or path[-1].op_type != "Conv":
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Transpose", "Conv", *_ELEMENTWISE):
            return None
        path.append(readers[0])
        name = readers[0].output[0]
    transpose, *normalise, convolution = path
    others = [name for node in normalise for name in node.input if name in constants]
    if sum(len(node.input) - 1 for node in normalise) != len(others):
        return None
    options, weights = options_of(convolution), constants.get(convolution.input[1])
    known = (
        transpose.op_type == "Transpose"
        and list(options_of(transpose).get("perm", ())) == [0, 3, 1, 2]
        and all(node.op_type in _ELEMENTWISE for node in normalise)
        and all(constants[name].shape in ((), (1,), (1, 3, 1, 1)) for name in others)
        and weights is not None
        and weights.shape[1:2] == (3,)
        and weights.shape[2] == weights.shape[3]
        and list(options.get("strides", ())) == [2, 2]
        and list(options.get("dilations", (1, 1))) == [1, 1]
        and len(set(options.get("pads", (0, 0, 0, 0)))) == 1
        and options.get("auto_pad", b"NOTSET") == b"NOTSET"
        and _size(model) % 2 == 0
    )
    return path if known else None


def _size(model: onnx.ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
