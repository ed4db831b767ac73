"""fp32 graphs -> the graphs of a bundle, by a recipe for each kind of network.

    int8     convolutions   static: one scale for each activation, found on calibration images (`static`)
             transformers   per token: each row of an activation gets its own scale, when it is run (`per_token`)
    optimum  as int8, but text by the recipe that everyone ships: one scale for the whole batch (`dynamic`)
    fp16     weights stored in 16 bits, arithmetic in fp32 (`half`)
    fp32     as trained

Static int8 is too coarse for the activations of a transformer (bit agreement .917 against .984 per token, measured on
MiniLM), and dynamic int8 convolutions are 4 times slower than fp32 ones in onnxruntime. What comes after `relaxed`,
sign and packing, is exact and is never quantized.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
from numpy.typing import NDArray

from duch.bundle import GraphInfo
from duch.errors import BundleError, DuchError, one_line
from duch_export.session import Feed

from .dynamic import quantize_dynamic
from .half import store_in_half
from .per_token import quantize_per_token
from .static import quantize_static
from .surgery import exact_nodes

__all__ = ["QuantizedGraph", "Recipe", "Target", "exact_nodes", "quantize_image", "quantize_text"]


class Recipe(StrEnum):
    """What `duch export --recipe` takes."""

    INT8 = "int8"
    OPTIMUM = "optimum"
    FP16 = "fp16"
    FP32 = "fp32"


class Target(StrEnum):
    """Processors that a bundle is meant for.

    `any` uses 7 of the weights' 8 bits. On x86-64 without VNNI two products of a byte by a byte are added in 16 bits,
    which overflow with 8: codes would differ between two ground stations. The others use all 8.
    """

    ANY = "any"
    VNNI = "vnni"
    ARM64 = "arm64"

    @property
    def weight_bits(self) -> int:
        """Bits of a quantized weight."""
        return 7 if self is Target.ANY else 8


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph as it goes into the bundle, and what the manifest says of it."""

    model: onnx.ModelProto
    info: GraphInfo


@contextmanager
def _as_bundle_error(name: str) -> Iterator[None]:
    """Tell in one line what a quantizer raises, which is nearly anything."""
    try:
        yield
    except (DuchError, OSError):  # a full disk is no fault of the graph
        raise
    except Exception as error:
        raise BundleError(
            f"the {name} graph cannot be quantized: {one_line(error)[:300]}; try --recipe fp32"
        ) from error


@_as_bundle_error("image")
def quantize_image(
    model: onnx.ModelProto, recipe: Recipe, calibration_pixels: NDArray[np.uint8], target: Target = Target.ANY
) -> QuantizedGraph:
    """The image graph by a recipe.

    Args:
        model: the fp32 graph.
        recipe: which.
        calibration_pixels: uint8 (c, s, s, 3) from the training split; 64 and more are enough.
        target: processors that it is meant for.

    Raises:
        BundleError: no calibration images, or the graph cannot be quantized.
    """
    calibration = [{"pixels": pixels[None]} for pixels in calibration_pixels]
    if recipe in (Recipe.INT8, Recipe.OPTIMUM) and not _is_transformer(model):
        _check_calibration(calibration, "images")
        info = GraphInfo("int8", f"static-u8s{target.weight_bits}", batch_invariant=True)
        return QuantizedGraph(quantize_static(model, calibration, weight_bits=target.weight_bits), info)
    return _quantize(model, Recipe.INT8 if recipe is Recipe.OPTIMUM else recipe, calibration, target, "images")


@_as_bundle_error("text")
def quantize_text(
    model: onnx.ModelProto, recipe: Recipe, calibration: Sequence[Feed], target: Target = Target.ANY
) -> QuantizedGraph:
    """The text graph by a recipe.

    Args:
        model: the fp32 graph.
        recipe: which.
        calibration: inputs from the training split, one sentence each and without padding.
        target: processors that it is meant for.

    Raises:
        MissingPackageError: the recipe needs the extra [optimum], which is not installed.
        BundleError: no calibration sentences, or the graph cannot be quantized.
    """
    return _quantize(model, recipe, calibration, target, "sentences")


def _quantize(
    model: onnx.ModelProto, recipe: Recipe, calibration: Sequence[Feed], target: Target, kind: str
) -> QuantizedGraph:
    match recipe:
        case Recipe.FP32:
            return QuantizedGraph(model, GraphInfo("fp32", "fp32", batch_invariant=True))
        case Recipe.FP16:
            return QuantizedGraph(store_in_half(model), GraphInfo("fp16", "fp16-storage", batch_invariant=True))
        case Recipe.OPTIMUM:
            info = GraphInfo("int8", f"optimum-{target}", batch_invariant=False)
            return QuantizedGraph(quantize_dynamic(model, target), info)
        case Recipe.INT8:
            _check_calibration(calibration, kind)
            info = GraphInfo("int8", f"per-token-u8s{target.weight_bits}", batch_invariant=True)
            return QuantizedGraph(quantize_per_token(model, calibration, weight_bits=target.weight_bits), info)


def _check_calibration(calibration: Sequence[Feed], kind: str) -> None:
    if not calibration:
        raise BundleError(f"no calibration {kind}; int8 wants 64 or more of them in the checkpoint, or --recipe fp32")


def _is_transformer(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "Softmax" for node in model.graph.node)
