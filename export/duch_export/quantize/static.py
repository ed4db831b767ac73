"""Static int8 for convolutional networks: QDQ, U8 activations, S8 weights with one scale a channel.

Each activation gets one scale from calibration images. S8S8 convolutions would be 2.5 times slower on x86.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process

from duch_export.session import Feed

from .surgery import exact_nodes, through_files

# Between the first convolution and the head all of these run in int8 in onnxruntime. Normalisation stays in fp32.
_OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]

_BATCH = 16


def quantize_static(model: onnx.ModelProto, calibration: Sequence[Feed], *, weight_bits: int) -> onnx.ModelProto:
    """An fp32 graph in static int8.

    Args:
        model: the fp32 graph.
        calibration: inputs, one image each.
        weight_bits: 7 or 8.

    Raises:
        BundleError: the graph cannot be quantized.
    """

    def run(source: Path, target: Path) -> None:
        prepared = source.with_name("prepared.onnx")
        # Symbolic shape inference is not needed here and fails on transformers.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Calibration(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=exact_nodes(onnx.load(prepared)),
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Percentile and entropy gave the same bits within .0010 on our two trained encoders, and take longer.
            calibrate_method=CalibrationMethod.MinMax,
            # The last layer's output is what the sign is taken of: 8 bits there cost .9900 against .9935 of the bits.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )

    return through_files(model, run)


class _Calibration(CalibrationDataReader):
    """Feeds calibration inputs a batch at a time."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._batches = (feeds[start : start + _BATCH] for start in range(0, len(feeds), _BATCH))

    def get_next(self) -> Feed | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: np.concatenate([feed[name] for feed in batch]) for name in batch[0]}
