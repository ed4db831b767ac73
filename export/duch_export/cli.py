"""duch export."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from duch.bundle import check_writable
from duch.errors import needs_extra
from duch.options import PATH

from .config import THRESHOLDS, ExportConfig, Thresholds, load_config

if TYPE_CHECKING:
    from .build import Exported

_MANY_CONSTANT = 0.25  # share of bits that tell nothing, from which it is said


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every setting; one that is not given changes nothing."""
    settings = [spec for kind in (ExportConfig, Thresholds) for spec in dataclasses.fields(kind) if spec.metadata]
    for spec in reversed(settings):
        name = f"--{'gate-' if spec.name in THRESHOLDS else ''}{spec.name.replace('_', '-')}"
        choices = spec.metadata["choices"]
        kind: Any = click.Choice(choices) if choices else type(spec.default)
        help = f"{spec.metadata['help']}.  [default: {spec.default:g}]" if spec.name in THRESHOLDS else None
        help = help or f"{spec.metadata['help']}.  [default: {spec.default}]"
        command = click.option(name, spec.name, type=kind, default=None, help=help)(command)
    return command


@click.command()
@click.argument("checkpoint", type=PATH)
@click.argument("bundle", type=PATH)
@click.option("--config", "toml", type=PATH, help="TOML file of settings, thresholds in its table [gate].")
@click.option(
    "--data", type=PATH, help="Data set of CHECKPOINT, to compare mAP by class on its query and gallery parts."
)
@click.option("--report", type=PATH, help="Folder of the report.  [default: BUNDLE-report]")
@click.option("--force", is_flag=True, help="Write a bundle that fails its tests too; its manifest says so.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the parity report as JSON.")
@_config_options
def export(
    checkpoint: Path,
    bundle: Path,
    toml: Path | None,
    data: Path | None,
    report: Path | None,
    *,
    force: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Export CHECKPOINT to BUNDLE, the folder that the edge loads.

    BUNDLE holds two ONNX graphs, the tokenizer, golden codes and a manifest. Before it is written, its codes are
    compared with those of torch and of ONNX fp32, on training samples that were held out of calibration. If a threshold
    (--gate-...) is missed, the report is written and no bundle, and the exit code is 1.
    """
    config = load_config(toml, {name: value for name, value in settings.items() if value is not None})
    check_writable(bundle, overwrite=overwrite)  # before torch takes seconds to import
    with _quiet_libraries():
        with needs_extra("export", "duch export"):
            from .build import export_bundle
            from .report import summary
        exported = export_bundle(
            checkpoint,
            bundle,
            config=config,
            data=data,
            report_folder=report,
            force=force,
            overwrite=overwrite,
            on_progress=lambda step: click.echo(f"{step} ...", err=True),
        )
    click.echo(json.dumps(_as_json(bundle, exported), indent=2) if as_json else summary(exported.parity))
    for name, graph in exported.parity.graphs.items():
        if graph.constant_bits_torch > _MANY_CONSTANT:
            click.echo(
                f"{name}: {graph.constant_bits_torch:.0%} of the bits are the same in all codes of torch too: "
                "the model has learnt little, so train it longer or on more",
                err=True,
            )
    for failure in exported.gate.failures:
        click.echo(f"failed: {failure}", err=True)
    forced = ", which passed its tests" if exported.gate.passed else ", which failed its tests, by force"
    click.echo(f"wrote {bundle}, fingerprint {exported.bundle.fingerprint[:16]}{forced}", err=True)
    click.echo(f"wrote {exported.report / 'report.md'}", err=True)


def _as_json(bundle: Path, exported: Exported) -> dict[str, Any]:
    manifest = exported.bundle.manifest
    return {
        "bundle": str(bundle),
        "fingerprint": manifest.fingerprint,
        "n_bits": manifest.n_bits,
        "graphs": {"image": asdict(manifest.image_graph), "text": asdict(manifest.text_graph)},
        "gate": asdict(manifest.gate),
        "report": str(exported.report),
        "parity": exported.parity.to_json(),
    }


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep exporters and quantizers from talking about their own inner life; errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
