"""Static int8 for convolutional networks: QDQ, U8 activations, S8 weights with one scale a channel.

Each activation gets one scale from calibration images. Weights are rounded by GPTQ for what they do to places of these
images (`rounding`): .9935 -> .9955 of the bits on our scenes, .9943 -> .9976 on RSSCN7, with 7-bit weights. S8S8
convolutions would be 2.5 times slower on x86. Shapes: n images, c channels, h and w their places, k kernel, o outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process

from duch_export.session import Feed

from .rounding import round_weights
from .stem import block_stem
from .surgery import exact_nodes, options_of, through_files, weights_of
from .watch import watch

# Between the first convolution and the head all of these run in int8 in onnxruntime. Normalisation stays in fp32.
_OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]

_BATCH = 16
_PLACES = 64  # of each image and layer that GPTQ looks at


def quantize_static(model: onnx.ModelProto, calibration: Sequence[Feed], *, weight_bits: int) -> onnx.ModelProto:
    """An fp32 graph in static int8.

    Args:
        model: the fp32 graph.
        calibration: inputs, one image each.
        weight_bits: 7 or 8.
    """

    def run(source: Path, target: Path) -> None:
        prepared = source.with_name("prepared.onnx")
        # Symbolic shape inference is not needed here and fails on transformers.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        plain = onnx.load(prepared)
        scales = _round_layers(plain, calibration, weight_bits)
        onnx.save(plain, prepared)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Calibration(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=exact_nodes(plain),
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Percentile and entropy gave the same bits within .0010 on our two trained encoders, and take longer.
            calibrate_method=CalibrationMethod.MinMax,
            # The last layer's output is what the sign is taken of: 8 bits there cost .9900 against .9935 of the bits.
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                "TensorQuantOverrides": scales,
            },
        )

    return through_files(block_stem(model), run)


class _Calibration(CalibrationDataReader):
    """Feeds calibration inputs a batch at a time."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._batches = (feeds[start : start + _BATCH] for start in range(0, len(feeds), _BATCH))

    def get_next(self) -> Feed | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: np.concatenate([feed[name] for feed in batch]) for name in batch[0]}


def _round_layers(
    model: onnx.ModelProto, calibration: Sequence[Feed], weight_bits: int
) -> dict[str, list[dict[str, Any]]]:
    """Round the weights of a graph in place. Returns their scales as onnxruntime's quantizer takes them.

    Grouped convolutions are left to the quantizer, which rounds to the nearest.
    """
    weights = weights_of(model)
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and node.input[1] in weights]
    layers = [node for node in layers if options_of(node).get("group", 1) == 1 and not options_of(node).get("transA")]
    generator = np.random.default_rng(0)
    squares: dict[str, NDArray[np.float32]] = {}
    for values in watch(model, list(dict.fromkeys(node.input[0] for node in layers)), calibration, together=_BATCH):
        for node in layers:
            rows = np.concatenate(values[node.input[0]])  # (n, c, h, w), or (n, d) of a Gemm
            if node.op_type == "Conv":
                rows = _places(rows, node, weights[node.input[1]].shape[2:], generator)
            squares[node.name] = squares.get(node.name, 0) + rows.T @ rows
    rounded, overrides = {}, {}
    for node in layers:
        name = node.input[1]
        outputs_first = node.op_type == "Conv" or bool(options_of(node).get("transB"))
        matrix = weights[name].reshape(len(weights[name]), -1).T if outputs_first else weights[name]  # (c k k, o)
        numbers, scales = round_weights(matrix, squares[node.name], 2 ** (weight_bits - 1) - 1)
        matrix = (numbers * scales).astype(np.float32)
        rounded[name] = matrix.T.reshape(weights[name].shape) if outputs_first else matrix
        overrides[name] = [
            {
                "axis": 0 if outputs_first else 1,
                "quant_type": QuantType.QInt8,
                "scale": np.float32(scale),
                "zero_point": np.int8(0),
            }
            for scale in scales
        ]
    for item in model.graph.initializer:
        if item.name in rounded:
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded[item.name]), item.name))
    return overrides


def _places(
    images: NDArray[Any], convolution: onnx.NodeProto, kernel: tuple[int, ...], generator: np.random.Generator
) -> NDArray[Any]:
    """What the kernel sees at some places. Shape: (n, c, h, w) -> (places, c k k)."""
    options = options_of(convolution)
    top, left, bottom, right = options.get("pads", (0, 0, 0, 0))
    (down, across), (tall, wide) = options.get("strides", (1, 1)), options.get("dilations", (1, 1))
    padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
    span = ((kernel[0] - 1) * tall + 1, (kernel[1] - 1) * wide + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    windows = windows[:, :, ::down, ::across, ::tall, ::wide]  # (n, c, h, w, k, k)
    height, width = windows.shape[2:4]
    chosen = generator.choice(height * width, min(_PLACES, height * width), replace=False)
    seen = windows[:, :, chosen // width, chosen % width]  # (n, c, places, k, k)
    return seen.transpose(0, 2, 1, 3, 4).reshape(-1, seen.shape[1] * kernel[0] * kernel[1])
