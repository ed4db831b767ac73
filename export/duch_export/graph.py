"""A trained hasher -> two ONNX graphs in fp32, with normalisation, head, sign and packing inside.

    image: pixels uint8 (n, s, s, 3)                     -> codes uint8 (n, b / 8), relaxed float32 (n, b)
    text:  input_ids, attention_mask int64 (n, t)        -> the same two outputs

Shapes: n batch, s image size, t tokens, b = n_bits. Axes n and t are dynamic and carry these names.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import onnx
import torch
from torch import Tensor, nn

from duch.codes import check_n_bits
from duch.errors import BundleError, one_line

OPSET = 20  # newest that the exporter targets and onnxruntime 1.23 reads
IR_VERSION = 10  # onnx writes 14 by default, onnxruntime 1.31 reads up to 13


class Hasher(Protocol):
    """What a model needs to be exported; `duch_training.model.CrossModalHasher` has it."""

    n_bits: int

    def relax_images(self, pixels: Tensor) -> Tensor:
        """Shape: (n, s, s, 3) uint8 -> (n, b)."""
        ...

    def relax_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Shape: (n, t), (n, t) int64 -> (n, b)."""
        ...


class Pack(nn.Module):
    """Sign and packing as a matrix product, because ONNX has no packbits. Equals `duch.codes` bit by bit.

    Shape: (n, b) float -> (n, b / 8) uint8, most significant bit first, zero is 1.
    """

    places: Tensor

    def __init__(self, n_bits: int) -> None:
        super().__init__()
        bit = torch.arange(check_n_bits(n_bits))
        places = torch.zeros(n_bits, n_bits // 8)  # (b, b / 8): column j holds the places of byte j
        places[bit, bit // 8] = 2.0 ** (7 - bit % 8)
        self.register_buffer("places", places)

    def forward(self, relaxed: Tensor) -> Tensor:  # noqa: D102
        bits = (relaxed >= 0).to(torch.float32)  # (n, b)
        return (bits @ self.places).to(torch.uint8)  # (n, b / 8), sums of powers of two are exact in float32


class _ImageGraph(nn.Module):
    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        self.hasher = hasher
        self.pack = Pack(hasher.n_bits)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        relaxed = self.hasher.relax_images(pixels)  # (n, b)
        return self.pack(relaxed), relaxed


class _TextGraph(nn.Module):
    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        self.hasher = hasher
        self.pack = Pack(hasher.n_bits)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        relaxed = self.hasher.relax_texts(input_ids, attention_mask)  # (n, b)
        return self.pack(relaxed), relaxed


def export_image_graph(hasher: Hasher, *, size: int) -> onnx.ModelProto:
    """The image graph in fp32.

    Args:
        hasher: in eval mode, on the CPU.
        size: side of the square it takes.

    Raises:
        BundleError: the backbone cannot be exported.
    """
    n = torch.export.Dim("n")
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)  # a batch of 1 would be made a constant
    return _export(_ImageGraph(hasher), (pixels,), ["pixels"], {"pixels": {0: n}})


def export_text_graph(hasher: Hasher, *, max_tokens: int) -> onnx.ModelProto:
    """The text graph in fp32.

    Args:
        hasher: in eval mode, on the CPU.
        max_tokens: longest sequence that it takes.

    Raises:
        BundleError: the backbone cannot be exported.
    """
    n, t = torch.export.Dim("n"), torch.export.Dim("t", max=max_tokens)
    length = min(7, max_tokens)
    input_ids = torch.ones(2, length, dtype=torch.int64)
    attention_mask = torch.ones(2, length, dtype=torch.int64)
    attention_mask[1, length // 2 :] = 0  # a padded row, so that no shortcut for unpadded batches is traced
    axes = {0: n, 1: t}
    names = ["input_ids", "attention_mask"]
    return _export(_TextGraph(hasher), (input_ids, attention_mask), names, dict.fromkeys(names, axes))


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    input_names: list[str],
    dynamic_shapes: dict[str, dict[int, torch.export.Dim]],
) -> onnx.ModelProto:
    module.eval()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about axis names that two inputs share, and torch's own deprecations
            program = torch.onnx.export(
                module,
                example,
                input_names=input_names,
                output_names=["codes", "relaxed"],
                dynamic_shapes=dynamic_shapes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # tracing raises whatever the model's code raises
        raise BundleError(
            f"the graph of {input_names[0]} cannot be exported: {one_line(error)[:300]}; try another backbone"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export(dynamo=True) returned no program")
    model = program.model_proto
    model.ir_version = IR_VERSION
    for node in model.graph.node:
        # Stack traces of the exporting machine: its paths are nobody's business, and they outweigh a small graph.
        del node.metadata_props[:]
        node.doc_string = ""
    for item in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del item.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return model
