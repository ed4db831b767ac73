"""What runs through a graph: its inner tensors on calibration inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from duch_export.session import Feed, open_session


def watch(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed], *, together: int
) -> Iterator[dict[str, tuple[NDArray[Any], ...]]]:
    """Yield the values of some float tensors, for so many inputs at a time; each runs alone, so nothing is padded."""
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
        yield dict(zip(names, zip(*runs, strict=True), strict=True))
