"""Graphs under onnxruntime while they are exported and measured."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

THREADS = 1  # a query comes alone, and one core is what all machines have

Feed = dict[str, NDArray[Any]]  # graph input -> array


def open_session(model: onnx.ModelProto | bytes, *, threads: int = THREADS) -> Any:
    """An onnxruntime session on the CPU; 0 threads are one per core."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
