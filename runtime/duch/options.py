"""Parameters that the commands of all packages share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .errors import InputError

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MOST_THREADS = 1024  # more would be a slip of the keyboard


class PathType(click.Path):
    """A path, which may name nothing yet. What cannot be read is told by whoever reads it."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path: it comes from an unset variable of the shell, and would mean the current folder.

        Raises:
            InputError: the path is empty.
        """
        if not os.fspath(value):
            name = param.get_error_hint(ctx) if param is not None and ctx is not None else "a path"
            raise InputError(f"{name} is empty; wanted a path, so look at the variable it comes from")
        return super().convert(value, param, ctx)


PATH = PathType()


class Number(click.FloatRange):
    """A number in a range. A `FloatRange` also takes nan, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse nan."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


expect_fingerprint_option = click.option("--expect-fingerprint", metavar="HEX", help="Refuse any bundle but this one.")


def provider_options(command: _Command) -> _Command:
    """Add --provider, --allow-fallback and --threads: `providers`, `allow_fallback` and `threads` of an `Encoder`."""
    for option in (
        click.option(
            "--threads",
            default=0,
            show_default=True,
            type=click.IntRange(0, _MOST_THREADS),
            help="Threads of the image graph, and images decoded at once; 0: one per core.",
        ),
        click.option(
            "--allow-fallback",
            is_flag=True,
            help="Where a provider is not there, run on the next one, and at last on the CPU.",
        ),
        click.option(
            "--provider",
            "providers",
            multiple=True,
            default=("cpu",),
            show_default=True,
            metavar="NAME",
            help="What the graphs run on: cpu, cuda, tensorrt, openvino, coreml, or a full name of onnxruntime's. "
            "May be given again, the preferred one first.",
        ),
    ):
        command = option(command)
    return command
