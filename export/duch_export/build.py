"""A checkpoint folder -> a bundle folder: graphs, quantize, golden, parity, gate, report, write."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from duch.bundle import Bundle, Gate, GraphInfo, check_writable, write_bundle
from duch.codes import PackedCodes
from duch.display import display_path
from duch.errors import CheckpointError, GateError
from duch.preprocess import Tokenizer
from duch_training.checkpoint import Checkpoint, load_checkpoint

from .config import ExportConfig
from .gate import checks, judge
from .golden import make_golden
from .graph import export_image_graph, export_text_graph
from .parity import Graphs, ParityReport, check_heldout, measure, read_parts
from .quantize import Recipe, Target, quantize_image, quantize_text
from .report import Findings, check_report_folder, report_folder_of, write_report


@dataclass(frozen=True)
class Exported:
    """What an export made: the bundle, read back and verified, how it measured, and where that is told."""

    bundle: Bundle
    parity: ParityReport
    report: Path

    @property
    def gate(self) -> Gate:
        """Whether the bundle passed; one that did not was forced."""
        return self.bundle.manifest.gate


def export_bundle(
    checkpoint_folder: str | os.PathLike[str],
    bundle_folder: str | os.PathLike[str],
    *,
    config: ExportConfig | None = None,
    data: Path | None = None,
    report_folder: Path | None = None,
    force: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a checkpoint, if its bundle passes the tests that the config asks for.

    Args:
        checkpoint_folder: written by `duch train`.
        bundle_folder: missing or empty, or a bundle if `overwrite`.
        config: recipe and thresholds; by default those of `ExportConfig`.
        data: the data set that the checkpoint was trained on, to compare answers by class on its query and gallery
            parts; by default they are compared among the held-out pairs.
        report_folder: where the report goes, missing or an older report; by default beside the bundle.
        force: write a bundle that fails too, its manifest saying so.
        overwrite: replace a bundle that is there; nothing of it is touched before the new one is whole.
        on_progress: told each step as it begins.

    Raises:
        GateError: the bundle fails; the report is written, and no bundle.
        CheckpointError: the checkpoint cannot be used.
        DatasetError: the data set cannot be used.
        BundleError: a folder must not be replaced, or a graph cannot be exported.
        MissingPackageError: the recipe needs an extra that is not installed.
    """
    check_writable(bundle_folder, overwrite=overwrite)
    check_report_folder(report_folder_of(bundle_folder, report_folder), bundle_folder)
    on_progress("reading the checkpoint")
    return export_checkpoint(
        load_checkpoint(Path(checkpoint_folder)),
        bundle_folder,
        config=config,
        data=data,
        report_folder=report_folder,
        force=force,
        overwrite=overwrite,
        on_progress=on_progress,
    )


def export_checkpoint(
    checkpoint: Checkpoint,
    bundle_folder: str | os.PathLike[str],
    *,
    config: ExportConfig | None = None,
    data: Path | None = None,
    report_folder: Path | None = None,
    force: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a checkpoint that is loaded already; see `export_bundle`."""
    config = config or ExportConfig()
    report_folder = report_folder_of(bundle_folder, report_folder)
    _check_usable(checkpoint)
    dataset = None if data is None else read_parts(checkpoint, data)
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    image, text = _graphs(checkpoint, tokenizer, config, on_progress)
    golden = make_golden(
        image.bundle,
        text.bundle,
        image=checkpoint.image,
        tokenizer=tokenizer,
    )
    write = functools.partial(
        write_bundle,
        n_bits=checkpoint.hasher.n_bits,
        image=checkpoint.image,
        text=checkpoint.text,
        image_onnx=image.bundle.SerializeToString(deterministic=True),
        text_onnx=text.bundle.SerializeToString(deterministic=True),
        tokenizer_json=checkpoint.tokenizer_json,
        golden=golden,
        image_graph=_with_budget(image.info, golden.image_codes, config.gate.golden_flips),
        text_graph=_with_budget(text.info, golden.text_codes, config.gate.golden_flips),
    )
    on_progress("comparing the bundle with torch and ONNX fp32")
    with tempfile.TemporaryDirectory(prefix="duch-export-") as scratch:
        # What is measured are the files that a box would load; they get their name only if they pass.
        candidate = write(Path(scratch, "bundle"))
        parity = measure(checkpoint, image=image, text=text, bundle=candidate, dataset=dataset)
    gate = judge(parity, config.gate)
    on_progress("writing the report")
    findings = Findings(
        name=display_path(Path(os.path.abspath(bundle_folder)).name),
        fingerprint=candidate.fingerprint,
        n_bits=candidate.n_bits,
        dataset=str(checkpoint.facts.get("dataset", "unknown")),
        config=config,
        parity=parity,
        checks=checks(parity, config.gate),
        forced=force,
    )
    write_report(report_folder, findings)
    if not (gate.passed or force):
        raise GateError(
            f"the bundle failed {len(gate.failures)} of its tests, so it was not written: {'; '.join(gate.failures)}; "
            f"see {display_path(report_folder / 'report.md')}, or write it all the same with --force"
        )
    on_progress("writing the bundle")
    bundle = write(
        bundle_folder,
        gate=gate,
        report={"parity": parity.to_json()},
        provenance=_provenance(checkpoint, config),
        overwrite=overwrite,
    )
    return Exported(bundle, parity, report_folder)


def _check_usable(checkpoint: Checkpoint) -> None:
    """Say early what would be told badly, or after minutes."""
    check_heldout(checkpoint)
    for name, weights in checkpoint.hasher.named_parameters():
        if not weights.isfinite().all():
            raise CheckpointError(
                f"the checkpoint's weights {name} hold NaN or infinity, so its training went astray; train it again, "
                "with a smaller learning rate say"
            )


def _graphs(
    checkpoint: Checkpoint, tokenizer: Tokenizer, config: ExportConfig, on_progress: Callable[[str], None]
) -> tuple[Graphs, Graphs]:
    """The image graph and the text graph, as exported and as quantized."""
    recipe, target = Recipe(config.recipe), Target(config.target)
    on_progress("tracing the image graph")
    image_fp32 = export_image_graph(checkpoint.hasher, size=checkpoint.image.size)
    on_progress("tracing the text graph")
    text_fp32 = export_text_graph(checkpoint.hasher, max_tokens=checkpoint.text.max_tokens)
    if recipe is not Recipe.FP32:
        on_progress(f"quantizing to {recipe} with {len(checkpoint.calibration_pixels)} calibration images")
    image = quantize_image(image_fp32, recipe, checkpoint.calibration_pixels, target)
    sentences = [tokenizer([caption], truncate=True) for caption in checkpoint.calibration_captions]
    feeds = [{"input_ids": ids, "attention_mask": mask} for ids, mask in sentences]
    text = quantize_text(text_fp32, recipe, feeds, target)
    return Graphs(image_fp32, image.model, image.info), Graphs(text_fp32, text.model, text.info)


def _with_budget(info: GraphInfo, golden_codes: PackedCodes, share: float) -> GraphInfo:
    """The graph with its budget of golden bits. Shape: (m, b / 8)."""
    return dataclasses.replace(info, golden_budget=math.ceil(share * golden_codes.size * 8))


def _provenance(checkpoint: Checkpoint, config: ExportConfig) -> dict[str, Any]:
    """Where a bundle comes from, for people."""
    versions = {package: metadata.version(package) for package in ("duch", "torch", "onnx", "onnxruntime")}
    train = dataclasses.asdict(checkpoint.config)
    for key, value in train.items():
        # Places of the training machine, which need not be this one, are nobody else's business.
        if isinstance(value, str) and (os.path.isabs(value) or os.path.isdir(value)):
            train[key] = Path(value).name
    facts = {"split_sha256": checkpoint.split.sha256, "facts": checkpoint.facts}
    return json.loads(
        json.dumps({"versions": versions, "train": train, "export": config.to_dict(), **facts}, default=str)
    )
