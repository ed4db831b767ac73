"""The tiny bundle with other content and right digests, as whoever may write bundles could make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from duch.bundle import Bundle, read_bundle, write_bundle

TINY = Path(__file__).parents[1] / "tiny_bundle"


def resigned(folder: Path, source: Bundle | None = None, **changes: Any) -> Path:
    """Write a bundle, by default the tiny one, to another folder; `golden` may name single members that are changed."""
    bundle = source or read_bundle(TINY)
    content: dict[str, Any] = {
        "n_bits": bundle.n_bits,
        "image": bundle.image,
        "text": bundle.text,
        "image_onnx": (bundle.path / "image.onnx").read_bytes(),
        "text_onnx": (bundle.path / "text.onnx").read_bytes(),
        "tokenizer_json": bundle.tokenizer_json(),
        "golden": bundle.golden(),
        "image_graph": bundle.manifest.image_graph,
        "text_graph": bundle.manifest.text_graph,
    }
    if isinstance(changes.get("golden"), Mapping):
        changes["golden"] = replace(content["golden"], **changes["golden"])
    return write_bundle(folder, **(content | changes)).path
