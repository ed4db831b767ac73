"""fp16 storage: large constants in half the bytes, codes as good as equal."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from duch_export.parity import agreement
from duch_export.quantize.half import store_in_half
from duch_export.session import open_session
from duch_training.checkpoint import Checkpoint


def test_halves_the_size_and_keeps_the_codes(checkpoint: Checkpoint, image_fp32: onnx.ModelProto) -> None:
    half = store_in_half(image_fp32)
    assert half.ByteSize() < 0.6 * image_fp32.ByteSize()
    feed = {"pixels": checkpoint.heldout_pixels}
    ours, theirs = (open_session(model).run(["codes"], feed)[0] for model in (half, image_fp32))
    assert agreement(ours, theirs).bits > 0.998
    large = [item for item in half.graph.initializer if np.prod(item.dims) >= 1024]
    assert large
    assert {item.data_type for item in large} == {TensorProto.FLOAT16}


def test_tables_are_cast_after_they_are_read_and_huge_constants_stay() -> None:
    rng = np.random.default_rng(0)
    table, mask = rng.normal(size=(500, 4)).astype(np.float32), np.full((1, 2000), -3e38, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="g"),
            helper.make_node("ReduceMax", ["mask"], ["least"], name="m"),
            helper.make_node("Max", ["rows", "least"], ["y"], name="a"),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(mask, "mask")],
    )
    half = store_in_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert [node.op_type for node in half.graph.node] == ["Gather", "Cast", "ReduceMax", "Max"]
    assert {item.name: item.data_type for item in half.graph.initializer} == {
        "table.half": TensorProto.FLOAT16,
        "mask": TensorProto.FLOAT,
    }
    ids = np.array([3, 499])
    (found,) = open_session(half).run(None, {"ids": ids})
    np.testing.assert_array_equal(found, table[ids].astype(np.float16).astype(np.float32))
