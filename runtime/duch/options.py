"""Parameters that the commands of all packages share."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .display import display_path
from .errors import FilterError, InputError

if TYPE_CHECKING:
    from .filters import Filters
    from .geo.area import Area

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


modality_option = click.option(
    "--in",
    "modality",
    type=click.Choice(["image", "text"]),
    help="Find only images or only sentences; by default images, or sentences where there are no images.",
)
max_overlap_option = click.option(
    "--max-overlap",
    type=Number(0, 1),
    metavar="SHARE",
    help="Leave out a hit that shares more than this part of its ground with a nearer one; 0: any ground.",
)
expect_fingerprint_option = click.option("--expect-fingerprint", metavar="HEX", help="Refuse any bundle but this one.")


def provider_options(command: _Command) -> _Command:
    """Add --provider, --allow-fallback and --threads: `providers`, `allow_fallback` and `threads` of an `Encoder`."""
    for option in (
        click.option(
            "--threads",
            default=0,
            show_default=True,
            type=click.IntRange(0, _MOST_THREADS),
            help="Threads of the image graph and of a search, and images decoded at once; 0: one per core.",
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


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --bbox, --geometry, --since, --until, --where, --id, --ids and --max-distance.

    They become `filters`, None where none is given.
    """

    @wraps(command)
    def with_filters(
        *arguments: Any,
        bbox: str | None,
        geometry: Path | None,
        since: str | None,
        until: str | None,
        where: str | None,
        tile_ids: tuple[str, ...],
        ids_file: Path | None,
        max_distance: int | None,
        **options: Any,
    ) -> Any:
        return command(
            *arguments,
            filters=_filters(bbox, geometry, since, until, where, tile_ids, ids_file, max_distance),
            **options,
        )

    for option in (
        click.option("--max-distance", type=click.IntRange(0), help="Find nothing farther than so many bits."),
        click.option("--ids", "ids_file", type=PATH, help="The same from a file, an id a line; - reads stdin."),
        click.option(
            "--id",
            "tile_ids",
            multiple=True,
            metavar="ID",
            callback=no_empty_id,
            help="Only this tile; may be given again.",
        ),
        click.option(
            "--where",
            metavar="EXPRESSION",
            help="Only tiles whose attributes fit, such as \"cloud < 10 AND sensor IN ('S2A', 'S2B')\": "
            "= <> < <= > >=, IN, BETWEEN, IS NULL, AND, OR, NOT.",
        ),
        click.option("--until", metavar="TIME", help="Only tiles from before this time."),
        click.option(
            "--since", metavar="TIME", help="Only tiles from this time on: ISO 8601, in UTC where it names no zone."
        ),
        click.option(
            "--geometry",
            type=PATH,
            metavar="FILE",
            help="Only tiles whose footprint's box meets an area: GeoJSON in degrees; - reads stdin.",
        ),
        click.option(
            "--bbox",
            metavar="W,S,E,N",
            help="Only tiles whose footprint meets this box, in degrees; W > E crosses the antimeridian.",
        ),
    ):
        with_filters = option(with_filters)
    return with_filters


def _filters(
    bbox: str | None,
    geometry: Path | None,
    since: str | None,
    until: str | None,
    where: str | None,
    tile_ids: tuple[str, ...],
    ids_file: Path | None,
    max_distance: int | None,
) -> Filters | None:
    if geometry is not None and ids_file is not None and str(geometry) == str(ids_file) == "-":
        raise InputError("both --geometry and --ids read stdin; wanted a file for one of them")
    ids = tile_ids if ids_file is None else (*tile_ids, *lines_of(ids_file))
    given = (bbox, geometry, since, until, where, max_distance)
    if given == (None,) * len(given) and not tile_ids and ids_file is None:
        return None
    # Imported late: they load numpy, and `duch search --help` does without it.
    from .filters import Filters, bbox_of, time_us
    from .where_parser import parse

    return Filters(
        bbox=None if bbox is None else bbox_of(bbox),
        area=None if geometry is None else _area_of(geometry),
        since_us=None if since is None else time_us(since),
        until_us=None if until is None else time_us(until),
        where=None if where is None else parse(where),
        ids=ids if tile_ids or ids_file is not None else None,
        max_distance=max_distance,
    )


def _area_of(file: Path) -> Area:
    from .geo.area import Area
    from .geo.area_geojson import MOST_BYTES

    content = content_of(file, "an area as GeoJSON", MOST_BYTES + 1)
    return Area.from_geojson(content, name="stdin" if str(file) == "-" else display_path(file))


def no_empty_id(ctx: click.Context, param: click.Parameter, tile_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option: refuse an empty id, which comes from an unset variable of the shell.

    Raises:
        InputError: one of the ids is empty.
    """
    if "" in tile_ids:
        name = param.get_error_hint(ctx)
        raise InputError(f"{name} is empty; wanted the id of a tile, so look at the variable it comes from")
    return tile_ids


def lines_of(file: Path) -> list[str]:
    """The lines of a text file that are not empty; of stdin where the file is called `-`.

    Raises:
        FilterError: a line is no UTF-8.
        InputError: stdin is closed.
    """
    raw = content_of(file, "ids, one a line")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "stdin" if str(file) == "-" else display_path(file)
        raise FilterError(f"line {raw.count(10, 0, error.start) + 1} of {name} is no UTF-8; wanted an id") from None
    # Not splitlines: an id may hold what Unicode takes for the end of a line.
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]


def content_of(file: Path, wanted: str, most: int = -1) -> bytes:
    """The bytes of a file, or of stdin where it is called `-`.

    Args:
        file: its path.
        wanted: what it should hold, for errors.
        most: read no more bytes than this; all of them where it is -1.

    Raises:
        InputError: stdin is closed.
        OSError: the file cannot be read.
    """
    if str(file) != "-":
        with file.open("rb") as stream:
            return stream.read(most)
    if sys.stdin is None:  # as Python has it where the shell closed it
        raise InputError(f"stdin is closed; wanted {wanted}")
    return sys.stdin.buffer.read(most)
