"""Changes to graphs that must not change what they compute."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from duch_export.quantize.surgery import exact_nodes, rebuilt, split_gemm, through_files, weights_of
from duch_export.session import open_session


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
    assert [node.op_type for node in split.graph.node] == ["MatMul", "Add"][: 1 + bias]
    assert [node.op_type for node in model.graph.node] == ["Gemm"], "the original is left alone"
    x = rng.normal(size=(3, 6)).astype(np.float32)
    ours, theirs = (open_session(one).run(None, {"x": x})[0] for one in (split, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_exact_nodes_are_sign_and_packing(text_fp32: onnx.ModelProto) -> None:
    kinds = {node.name: node.op_type for node in text_fp32.graph.node}
    assert [kinds[name] for name in exact_nodes(text_fp32)] == ["GreaterOrEqual", "Cast", "MatMul", "Cast"]


def test_rebuilt_keeps_the_constants_that_are_read(text_fp32: onnx.ModelProto) -> None:
    same = rebuilt(text_fp32, text_fp32.graph.node, {"unread": np.zeros(3)})
    assert weights_of(same).keys() == weights_of(text_fp32).keys()
    assert not same.graph.value_info


def test_a_full_disk_is_told_as_such(text_fp32: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * text_fp32.ByteSize()))
    with pytest.raises(OSError, match="No space left on device"):
        through_files(text_fp32, lambda source, target: None)
