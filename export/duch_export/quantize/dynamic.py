"""Dynamic int8 by optimum's quantizer and its presets: the recipe that is commonly shipped, here for comparison.

One scale an activation is taken of the whole batch at run time, so a code depends on its companions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from duch.errors import needs_extra

from .surgery import exact_nodes, split_gemm, through_files

if TYPE_CHECKING:
    from . import Target

_OPERATORS = ["MatMul", "Gather"]


def quantize_dynamic(model: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    """An fp32 graph in dynamic int8.

    Args:
        model: the fp32 graph.
        target: chooses optimum's preset: avx2 (7-bit weights), avx512_vnni or arm64.

    Raises:
        MissingPackageError: the extra [optimum] is not installed.
    """
    with needs_extra("optimum", "the recipe optimum"):
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

    preset = {"any": "avx2", "vnni": "avx512_vnni", "arm64": "arm64"}[target]
    plain = split_gemm(model)

    def run(source: Path, written_to: Path) -> None:
        config = getattr(AutoQuantizationConfig, preset)(
            is_static=False,
            per_channel=True,
            nodes_to_exclude=exact_nodes(plain),
            operators_to_quantize=_OPERATORS,
            **({"reduce_range": True} if preset == "avx2" else {}),
        )
        quantizer = ORTQuantizer.from_pretrained(source.parent, file_name=source.name)
        written = quantizer.quantize(config, save_dir=source.parent / "quantized", file_suffix="")
        next(Path(written).glob("*.onnx")).rename(written_to)

    return through_files(plain, run)
