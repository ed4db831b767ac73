"""A checkpoint folder -> a bundle folder: graph, quantize, parity, golden, write."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from duch.bundle import Bundle, check_writable, write_bundle
from duch.preprocess import Tokenizer
from duch_training.checkpoint import Checkpoint, load_checkpoint

from .golden import make_golden
from .graph import export_image_graph, export_text_graph
from .parity import ParityReport, measure
from .quantize import Recipe, quantize_image, quantize_text


@dataclass(frozen=True)
class Exported:
    """What an export made: the bundle, read back and verified, and how it measured."""

    bundle: Bundle
    parity: ParityReport


def export_bundle(
    checkpoint_folder: str | os.PathLike[str],
    bundle_folder: str | os.PathLike[str],
    *,
    recipe: Recipe | str = Recipe.INT8,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a checkpoint.

    Args:
        checkpoint_folder: written by `duch train`.
        bundle_folder: missing or empty, or a bundle if `overwrite`.
        recipe: int8 or fp32.
        overwrite: replace a bundle that is there; nothing of it is touched before the new one is whole.
        on_progress: told each step as it begins.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        BundleError: the folder must not be replaced, or a graph cannot be exported.
        MissingPackageError: the recipe needs an extra that is not installed.
    """
    check_writable(bundle_folder, overwrite=overwrite)
    on_progress("reading the checkpoint")
    checkpoint = load_checkpoint(Path(checkpoint_folder))
    return export_checkpoint(
        checkpoint, bundle_folder, recipe=Recipe(recipe), overwrite=overwrite, on_progress=on_progress
    )


def export_checkpoint(
    checkpoint: Checkpoint,
    bundle_folder: str | os.PathLike[str],
    *,
    recipe: Recipe,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a checkpoint that is loaded already; see `export_bundle`."""
    hasher, tokenizer = checkpoint.hasher, Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    on_progress("tracing the image graph")
    image_fp32 = export_image_graph(hasher, size=checkpoint.image.size)
    on_progress("tracing the text graph")
    text_fp32 = export_text_graph(hasher, max_tokens=checkpoint.text.max_tokens)
    if recipe is not Recipe.FP32:
        on_progress(f"quantizing to {recipe} with {len(checkpoint.calibration_pixels)} calibration images")
    image = quantize_image(image_fp32, recipe, checkpoint.calibration_pixels)
    text = quantize_text(text_fp32, recipe)
    on_progress("comparing with torch and ONNX fp32")
    parity = measure(
        hasher,
        image_fp32=image_fp32,
        image_bundle=image.model,
        image_info=image.info,
        text_fp32=text_fp32,
        text_bundle=text.model,
        text_info=text.info,
        pixels=checkpoint.heldout_pixels,
        captions=checkpoint.heldout_captions,
        tokenizer=tokenizer,
    )
    on_progress("writing the bundle")
    bundle = write_bundle(
        bundle_folder,
        n_bits=hasher.n_bits,
        image=checkpoint.image,
        text=checkpoint.text,
        image_onnx=image.model.SerializeToString(deterministic=True),
        text_onnx=text.model.SerializeToString(deterministic=True),
        tokenizer_json=checkpoint.tokenizer_json,
        golden=make_golden(image.model, text.model, image=checkpoint.image, tokenizer=tokenizer),
        image_graph=image.info,
        text_graph=text.info,
        report={"parity": parity.to_json()},
        provenance=_provenance(checkpoint),
        overwrite=overwrite,
    )
    return Exported(bundle, parity)


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where a bundle comes from, for people."""
    versions = {package: metadata.version(package) for package in ("duch", "torch", "onnx", "onnxruntime")}
    config = dataclasses.asdict(checkpoint.config)
    for key in ("image_encoder", "text_encoder"):
        if os.path.isdir(config[key]):
            config[key] = Path(config[key]).name  # folders of the training machine are nobody else's business
    facts = {"split_sha256": checkpoint.split.sha256, "facts": checkpoint.facts}
    return json.loads(json.dumps({"versions": versions, "train": config, **facts}, default=str))
