"""What the recipes share: reading and changing graphs, and running tools that want files."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_COPIES = 4  # of a graph, as files; 3.0 were seen of an encoder with convolutions


def exact_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes behind `relaxed`: sign and packing, which must stay exact."""
    behind, names = {"relaxed"}, []
    for node in model.graph.node:  # in topological order, as ONNX demands
        if behind.intersection(node.input):
            behind.update(node.output)
            names.append(node.name)
    return names


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The constants of a graph by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def options_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name; those with their default value may be missing."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def rebuilt(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], constants: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """A copy with other nodes; constants of the old graph and new ones are kept where a node reads them, and none
    makes them.

    Recorded shapes of inner tensors are dropped: they may be wrong now, and quantizers trip over them.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    for number, node in enumerate(result.graph.node):
        node.name = node.name or f"{node.op_type}.{number}"
    made = {name for node in result.graph.node for name in node.output}
    read = {name for node in result.graph.node for name in node.input} - made
    kept = [item for item in model.graph.initializer if item.name in read and item.name not in constants]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    result.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name)
        for name, array in constants.items()
        if name in read
    )
    del result.graph.value_info[:]
    onnx.checker.check_model(result)
    return result


def split_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with each Gemm as MatMul and Add, which is all that the recipes of transformers look for."""
    weights, turned, nodes = weights_of(model), {}, []
    for node in model.graph.node:
        options = options_of(node)
        plain = not options.get("transA") and options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        inputs = list(node.input)
        if options.get("transB"):
            inputs[1] += ".T"
            turned[inputs[1]] = weights[node.input[1]].T  # (in, out)
        has_bias = len(inputs) == 3
        product = f"{node.output[0]}.product" if has_bias else node.output[0]
        nodes.append(helper.make_node("MatMul", inputs[:2], [product], name=f"{node.name}.matmul"))
        if has_bias:
            nodes.append(helper.make_node("Add", [product, inputs[2]], list(node.output), name=f"{node.name}.add"))
    return rebuilt(model, nodes, turned)


def through_files(model: onnx.ModelProto, run: Callable[[Path, Path], None]) -> onnx.ModelProto:
    """Run a quantizer that reads and writes files.

    Raises:
        OSError: no space left for them.
    """
    with tempfile.TemporaryDirectory(prefix="duch-export-") as scratch:
        # On a full disk onnxruntime writes a graph short, and what reads it next speaks of corrupt data.
        if shutil.disk_usage(scratch).free < _COPIES * model.ByteSize():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())
        source, target = Path(scratch, "fp32.onnx"), Path(scratch, "int8.onnx")
        onnx.save(model, source)
        run(source, target)
        result = onnx.load(target)
    result.ir_version = model.ir_version
    del result.graph.value_info[:]  # of no use to onnxruntime
    del result.metadata_props[:]
    # The optimizer declares every domain that onnxruntime knows; a host without them could refuse the graph.
    used = {node.domain for node in result.graph.node}
    opsets = [item for item in result.opset_import if item.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(opsets)
    return result
