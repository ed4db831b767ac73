"""fp32 graphs -> int8 graphs. What comes after `relaxed` (sign and packing) is exact and is never quantized.

    image: static QDQ. Activations get one scale each from calibration pixels, weights one a channel.
    text:  dynamic. Weights int8, activations scaled at run time from the whole batch, by optimum's quantizer.

Static int8 is too coarse for the activations of a transformer (bit agreement .917 against .972, measured on MiniLM);
dynamic int8 has no fast convolution in onnxruntime (4 times slower than fp32). Hence one recipe a side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from duch.bundle import GraphInfo
from duch.errors import BundleError, DuchError, needs_extra, one_line


class Recipe(StrEnum):
    """What `duch export --recipe` takes: both graphs in int8, or both left in fp32."""

    INT8 = "int8"
    FP32 = "fp32"


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph as it goes into the bundle, and what the manifest says of it."""

    model: onnx.ModelProto
    info: GraphInfo


FP32 = GraphInfo(precision="fp32", recipe="fp32", batch_invariant=True)
IMAGE_INT8 = GraphInfo(precision="int8", recipe="static-qdq-u8s8", batch_invariant=True)
# Dynamic scales come from the whole batch, so a code depends on its companions.
TEXT_INT8 = GraphInfo(precision="int8", recipe="optimum", batch_invariant=False)

# Between the first convolution and the head all of these run in int8 in onnxruntime. Normalisation stays in fp32.
_IMAGE_OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]
_TEXT_OPERATORS = ["MatMul", "Gather"]

_CALIBRATION_BATCH = 16


def quantize_image(model: onnx.ModelProto, recipe: Recipe, calibration_pixels: NDArray[np.uint8]) -> QuantizedGraph:
    """The image graph by a recipe.

    Args:
        model: the fp32 graph.
        recipe: INT8 or FP32, which changes nothing.
        calibration_pixels: uint8 (c, s, s, 3) from the training split; 64 and more are enough.

    Raises:
        BundleError: no calibration pixels, or the graph cannot be quantized.
    """
    if recipe is Recipe.FP32:
        return QuantizedGraph(model, FP32)
    if len(calibration_pixels) == 0:
        raise BundleError("no calibration images; int8 wants 64 or more of them in the checkpoint, or --recipe fp32")

    def run(source: Path, target: Path) -> None:
        prepared = source.with_name("prepared.onnx")
        # Symbolic shape inference is not needed here and fails on transformers.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Pixels(calibration_pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_IMAGE_OPERATORS,
            nodes_to_exclude=exact_nodes(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QUInt8,  # S8S8 convolutions are 2.5 times slower on x86
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # The last layer's output is what the sign is taken of: 8 bits there cost .9900 against .9935 of the bits.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )

    return QuantizedGraph(_through_files(model, run), IMAGE_INT8)


def quantize_text(model: onnx.ModelProto, recipe: Recipe) -> QuantizedGraph:
    """The text graph by a recipe.

    Args:
        model: the fp32 graph.
        recipe: INT8 or FP32, which changes nothing.

    Raises:
        MissingPackageError: the extra [optimum] is not installed.
        BundleError: the graph cannot be quantized.
    """
    if recipe is Recipe.FP32:
        return QuantizedGraph(model, FP32)
    with needs_extra("optimum", "the int8 recipe of the text graph"):
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

    plain = split_gemm(model)

    def run(source: Path, target: Path) -> None:
        config = AutoQuantizationConfig.avx512_vnni(
            is_static=False,
            per_channel=True,
            nodes_to_exclude=exact_nodes(plain),
            operators_to_quantize=_TEXT_OPERATORS,
        )
        quantizer = ORTQuantizer.from_pretrained(source.parent, file_name=source.name)
        written = quantizer.quantize(config, save_dir=source.parent / "quantized", file_suffix="")
        next(Path(written).glob("*.onnx")).rename(target)

    return QuantizedGraph(_through_files(plain, run), TEXT_INT8)


def exact_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes behind `relaxed`: sign and packing, which must stay exact."""
    behind, names = {"relaxed"}, []
    for node in model.graph.node:  # in topological order, as ONNX demands
        if behind.intersection(node.input):
            behind.update(node.output)
            names.append(node.name)
    return names


def split_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with each Gemm as MatMul and Add: dynamic int8 exists for MatMul only.

    Recorded shapes of inner tensors are dropped, as the quantizer would trip over them.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {item.name: item for item in result.graph.initializer}
    nodes = []
    for node in result.graph.node:
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        plain = not options.get("transA") and options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        inputs = list(node.input)
        if options.get("transB"):
            turned = numpy_helper.to_array(weights[inputs[1]]).T  # (in, out)
            inputs[1] += ".T"
            if inputs[1] not in weights:
                weights[inputs[1]] = numpy_helper.from_array(np.ascontiguousarray(turned), inputs[1])
                result.graph.initializer.append(weights[inputs[1]])
        has_bias = len(inputs) == 3
        product = f"{node.output[0]}.product" if has_bias else node.output[0]
        nodes.append(helper.make_node("MatMul", inputs[:2], [product], name=f"{node.name}.matmul"))
        if has_bias:
            nodes.append(helper.make_node("Add", [product, inputs[2]], list(node.output), name=f"{node.name}.add"))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]
    used = {name for node in nodes for name in node.input}
    kept = [item for item in result.graph.initializer if item.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    return result


class _Pixels(CalibrationDataReader):
    """Feeds calibration pixels a batch at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        starts = range(0, len(pixels), _CALIBRATION_BATCH)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{"pixels": pixels[start : start + _CALIBRATION_BATCH]} for start in starts]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _through_files(model: onnx.ModelProto, run: Callable[[Path, Path], None]) -> onnx.ModelProto:
    """Run a quantizer that reads and writes files.

    Raises:
        BundleError: it fails.
    """
    with tempfile.TemporaryDirectory(prefix="duch-export-") as scratch:
        source, target = Path(scratch, "fp32.onnx"), Path(scratch, "int8.onnx")
        onnx.save(model, source)
        try:
            run(source, target)
            result = onnx.load(target)
        except DuchError:
            raise
        except Exception as error:  # quantizers raise nearly anything
            raise BundleError(
                f"the {model.graph.input[0].name} graph cannot be quantized: {one_line(error)[:300]}; try --recipe fp32"
            ) from error
    result.ir_version = model.ir_version
    del result.graph.value_info[:]  # of no use to onnxruntime
    del result.metadata_props[:]
    # The optimizer declares every domain that onnxruntime knows; a host without them could refuse the graph.
    used = {node.domain for node in result.graph.node}
    opsets = [item for item in result.opset_import if item.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(opsets)
    return result
