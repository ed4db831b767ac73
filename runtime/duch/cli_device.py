"""duch info, selftest, bench: look at anything, ask whether this device is fit, and how fast it is."""

from __future__ import annotations

import click


@click.command()
def info() -> None:
    """Tell what a bundle, checkpoint or gallery is."""


@click.command()
def selftest() -> None:
    """Tell whether this device is fit to run BUNDLE."""


@click.command()
def bench() -> None:
    """Measure how fast this device runs BUNDLE."""
