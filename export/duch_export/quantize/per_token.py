"""int8 for transformers: each token's row of an activation gets its own scale at run time.

    x (n, t, d) -> x / smooth -> amax of each row -> uint8 -> MatMulInteger -> times amax, times scale of column, + bias

A row's scale is its own affair, so a sentence's code does not depend on its companions, as it does when one scale is
taken of the whole batch (`dynamic`). Standard ONNX operators only. Three known means against the error:

    SmoothQuant (Xiao et al., arXiv 2211.10438): strong channels of x are weakened, their weights strengthened
    GPTQ: weights are rounded for what they do to calibration sentences (`rounding`)
    after GELU and ReLU, which have a least value, all 8 bits lie above it

Embeddings keep int8 rows with a scale each. Shapes: n batch, t tokens, d inputs, o outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from duch_export.session import Feed

from .rounding import round_weights
from .surgery import exact_nodes, rebuilt, split_gemm, weights_of
from .watch import watch

_SMOOTHING = 0.5  # share of the strength that goes from x to the weights; 0.65 and 0.35 kept .0001 to .0056 fewer bits
# Share of the mean channel's strength that each is taken to have. One that calibration never saw speak would else be
# strengthened most of all, and drown its row when it does: with 8 sentences .9821 of the bits on held-out ones, .9987
# with this; on sentences about other things .8828 and .9785.
_LEAST_STRENGTH = 0.1
_FLOORS = {"Gelu": 0.1701, "Relu": 0.0}  # no value of theirs is below minus this
_TOGETHER = 8  # inputs whose activations are held at once
_SMALL_TABLE = 10_000  # values of an embedding that is left as it is


def quantize_per_token(model: onnx.ModelProto, calibration: Sequence[Feed], *, weight_bits: int) -> onnx.ModelProto:
    """An fp32 graph with int8 linear layers and embeddings.

    Args:
        model: the fp32 graph.
        calibration: inputs, one sentence each, without padding.
        weight_bits: 7 or 8.
    """
    plain = split_gemm(model)
    layers = _linear_layers(plain)
    seen = _look(plain, [layer.source for layer in layers], calibration)
    made_by = {name: node.op_type for node in plain.graph.node for name in node.output}
    constants = weights_of(plain)
    first = {layer.nodes[0].name: layer for layer in layers}
    replaced = {node.name for layer in layers for node in layer.nodes}
    graph = _Graph()
    for node in plain.graph.node:
        if node.name in first:
            layer = first[node.name]
            _add_linear(graph, layer, seen[layer.source], _FLOORS.get(made_by.get(layer.source, "")), weight_bits)
        elif node.name in replaced:
            continue
        elif node.op_type == "Gather" and _is_table(constants.get(node.input[0])):
            _add_embedding(graph, node, constants[node.input[0]])
        else:
            graph.nodes.append(node)
    return rebuilt(plain, graph.nodes, graph.constants)


@dataclass(frozen=True)
class _Linear:
    """The linear layers that read one tensor, as one: query, key and value of an attention are.

    Attributes:
        source: the tensor, (n, t, d) or (n, d).
        weights: (d, o), side by side.
        bias: (o,).
        outputs: each layer's tensor and its width.
        nodes: what they replace.
    """

    source: str
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    outputs: list[tuple[str, int]]
    nodes: list[onnx.NodeProto]


@dataclass
class _Seen:
    """What calibration saw of a tensor.

    Attributes:
        largest: absolute value of each channel, (d,).
        squares: sum of each row's outer product with itself, (d, d).
    """

    largest: NDArray[np.float32]
    squares: NDArray[np.float32]


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def _linear_layers(model: onnx.ModelProto) -> list[_Linear]:
    """Products with a constant matrix before `relaxed`, with the bias that is added to them, grouped by input."""
    constants, exact = weights_of(model), set(exact_nodes(model))
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    groups: dict[str, list[tuple[onnx.NodeProto, onnx.NodeProto | None, NDArray[Any]]]] = {}
    for node in model.graph.node:
        weights = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None or weights.ndim != 2 or node.name in exact or node.input[0] in constants:
            continue
        followers = readers.get(node.output[0], [])
        add = followers[0] if len(followers) == 1 and followers[0].op_type == "Add" else None
        bias = None if add is None else _other_constant(add, node.output[0], constants)
        if add is None or bias is None:
            add, bias = None, np.zeros(weights.shape[1])
        groups.setdefault(node.input[0], []).append((node, add, bias))
    return [
        _Linear(
            source=source,
            weights=np.concatenate([constants[node.input[1]] for node, _, _ in group], axis=1).astype(np.float64),
            bias=np.concatenate([bias for _, _, bias in group]).astype(np.float64),
            outputs=[((add or node).output[0], len(bias)) for node, add, bias in group],
            nodes=[part for node, add, _ in group for part in (node, add) if part is not None],
        )
        for source, group in groups.items()
    ]


def _other_constant(add: onnx.NodeProto, name: str, constants: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
    """The vector that a node adds to the tensor `name`, if it is a constant."""
    other = add.input[1] if add.input[0] == name else add.input[0]
    value = constants.get(other)
    return value if value is not None and value.ndim == 1 else None


def _look(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for watched in watch(model, names, feeds, together=_TOGETHER):
        for name, values in watched.items():
            rows = np.concatenate([value.reshape(-1, value.shape[-1]) for value in values])  # (r, d)
            largest, squares = np.abs(rows).max(axis=0), rows.T @ rows
            if name in seen:
                largest, squares = np.maximum(seen[name].largest, largest), seen[name].squares + squares
            seen[name] = _Seen(largest, squares)
    return seen


def _add_linear(graph: _Graph, layer: _Linear, seen: _Seen, floor: float | None, weight_bits: int) -> None:
    x = layer.source
    least = max(_LEAST_STRENGTH * seen.largest.mean(), 1e-5)
    strength = np.maximum(seen.largest, least) ** _SMOOTHING
    weight_strength = np.maximum(np.abs(layer.weights).max(axis=1), 1e-5) ** (1 - _SMOOTHING)
    smooth = strength / weight_strength  # (d,)
    numbers, scales = round_weights(
        layer.weights * smooth[:, None], seen.squares / np.outer(smooth, smooth), largest=2 ** (weight_bits - 1) - 1
    )
    bias = layer.bias
    rows = graph.add("Mul", [x, graph.constant(f"{x}.unsmooth", 1 / smooth)], f"{x}.smooth")
    if floor is None:
        levels, zero = 127, 128
        size = graph.add("Abs", [rows], f"{x}.abs")
    else:
        levels, zero = 255, 0
        lift = floor / smooth  # (d,): nothing is below 0 any more
        bias = bias - lift @ (numbers * scales)
        size = rows = graph.add("Add", [rows, graph.constant(f"{x}.lift", lift)], f"{x}.lifted")
    size = graph.add("ReduceMax", [size, graph.constant("last_axis", [-1], np.int64)], f"{x}.max", keepdims=1)
    size = graph.add("Max", [size, graph.constant("least_size", 1e-6)], f"{x}.amax")  # (n, t, 1); a row of zeros is one
    rows = graph.add("Div", [rows, size], f"{x}.unit")
    zero_point = graph.constant(f"zero_{zero}", zero, np.uint8)
    rows = graph.add("QuantizeLinear", [rows, graph.constant(f"step_{levels}", 1 / levels), zero_point], f"{x}.uint8")
    sums = graph.add("MatMulInteger", [rows, graph.constant(f"{x}.int8", numbers, np.int8), zero_point], f"{x}.int32")
    sums = graph.add("Cast", [sums], f"{x}.sums", to=TensorProto.FLOAT)
    sums = graph.add("Mul", [sums, size], f"{x}.by_row")
    sums = graph.add("Mul", [sums, graph.constant(f"{x}.scales", scales / levels)], f"{x}.by_column")
    outputs = [name for name, _ in layer.outputs]
    together = outputs[0] if len(outputs) == 1 else f"{x}.together"
    graph.add("Add", [sums, graph.constant(f"{x}.bias", bias)], together)
    if len(outputs) > 1:
        widths = graph.constant(f"{x}.widths", [width for _, width in layer.outputs], np.int64)
        graph.nodes.append(helper.make_node("Split", [together, widths], outputs, name=f"{x}.split", axis=-1))


def _is_table(value: NDArray[Any] | None) -> bool:
    return value is not None and value.dtype == np.float32 and value.ndim == 2 and value.size >= _SMALL_TABLE


def _add_embedding(graph: _Graph, gather: onnx.NodeProto, table: NDArray[np.float32]) -> None:
    name, output = gather.input[0], gather.output[0]
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)  # (rows, 1)
    numbers = graph.constant(f"{name}.int8", np.round(table / scales), np.int8)
    rows = graph.add("Gather", [numbers, gather.input[1]], f"{output}.int8")
    rows = graph.add("Cast", [rows], f"{output}.numbers", to=TensorProto.FLOAT)
    size = graph.add("Gather", [graph.constant(f"{name}.scales", scales), gather.input[1]], f"{output}.scales")
    graph.add("Mul", [rows, size], output)
