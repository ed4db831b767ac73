"""duch info, selftest, bench: look at anything, ask whether this device is fit, and how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import PATH, provider_options


@click.command()
@click.argument("path", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: Path, *, as_json: bool) -> None:
    """Tell what a bundle, checkpoint or gallery is."""
    from .info import describe
    from .info_table import info_table

    description = describe(path)
    click.echo(json.dumps(description, indent=2) if as_json else info_table(description))


@click.command()
@click.argument("bundle", type=PATH)
@provider_options
@click.option("--expect-fingerprint", metavar="HEX", help="Refuse any bundle but this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def selftest(
    ctx: click.Context,
    bundle: Path,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    *,
    allow_fallback: bool,
    as_json: bool,
) -> None:
    """Tell whether this device is fit to run BUNDLE: exit code 0 if it is, else 1.

    The golden inputs of the bundle must give its golden codes. Speed is told, not judged.
    """
    from .selftest import selftest as test_bundle

    result = test_bundle(
        bundle,
        providers=providers,
        allow_fallback=allow_fallback,
        threads=threads,
        expect_fingerprint=expect_fingerprint,
    )
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else result.table())
    for check in result.failed:
        click.echo(f"duch: not fit: {check}", err=True)
    ctx.exit(0 if result.fit else 1)


@click.command()
def bench() -> None:
    """Measure how fast this device runs BUNDLE."""
