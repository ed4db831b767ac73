"""duch export."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from duch.bundle import check_writable
from duch.errors import needs_extra
from duch.options import PATH


@click.command()
@click.argument("checkpoint", type=PATH)
@click.argument("bundle", type=PATH)
@click.option(
    "--recipe",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="int8: static for images, dynamic for text (needs duch[optimum]); fp32: as trained.",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the parity report as JSON.")
def export(checkpoint: Path, bundle: Path, recipe: str, overwrite: bool, as_json: bool) -> None:
    """Export CHECKPOINT to BUNDLE, the folder that the edge loads.

    BUNDLE holds two ONNX graphs, the tokenizer, golden codes and a manifest. The printed table compares the codes of
    torch, ONNX fp32 and the chosen recipe on training samples that were held out of calibration.
    """
    check_writable(bundle, overwrite=overwrite)  # before torch takes seconds to import
    with _quiet_libraries():
        with needs_extra("export", "duch export"):
            from .build import export_bundle
        exported = export_bundle(
            checkpoint,
            bundle,
            recipe=recipe,
            overwrite=overwrite,
            on_progress=lambda step: click.echo(f"{step} ...", err=True),
        )
    if as_json:
        manifest = exported.bundle.manifest
        result = {
            "bundle": str(bundle),
            "fingerprint": manifest.fingerprint,
            "n_bits": manifest.n_bits,
            "graphs": {"image": asdict(manifest.image_graph), "text": asdict(manifest.text_graph)},
            "parity": exported.parity.to_json(),
        }
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo(exported.parity.table())
    click.echo(f"wrote {bundle}, fingerprint {exported.bundle.fingerprint[:16]}", err=True)


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
