"""What runs through a graph: its inner tensors on calibration inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from duch_export.session import Feed, open_session


def watch(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed], *, together: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the values of some float tensors, for so many inputs at a time; each runs alone, so nothing is padded.

    Shape: rows of channels (r, d), or maps (n, d, h, w).
    """
    if not names:
        return  # asked for nothing, onnxruntime would give all outputs
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {item.name for item in (*model.graph.output, *model.graph.input)}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = open_session(watched)
    for start in range(0, len(feeds), together):
        runs = [session.run(list(names), feed) for feed in feeds[start : start + together]]
        yield {
            name: np.concatenate([_rows(value) for value in values]) for name, *values in zip(names, *runs, strict=True)
        }


def _rows(value: NDArray[Any]) -> NDArray[Any]:
    return value if value.ndim == 4 else value.reshape(-1, value.shape[-1])
