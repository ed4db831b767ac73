"""Parameters that the commands of all packages share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .errors import InputError


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
