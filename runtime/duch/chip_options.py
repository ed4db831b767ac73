"""The options that say how scenes are cut into chips: of `duch index` and `duch watch`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .errors import ConfigError

if TYPE_CHECKING:
    from .geo.settings import ChipSettings


def bands_of(text: str) -> tuple[int, ...]:
    """Numbers of bands, such as 4,3,2.

    Raises:
        ConfigError: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
        raise ConfigError(f"--bands is {text!r}; wanted one or three numbers from 1 on, such as 4,3,2")
    return tuple(map(int, parts))


def ranges_of(text: str) -> tuple[tuple[float, float], ...]:
    """Value ranges, such as 0:3000 or 0:3000,0:2500,0:2000.

    Raises:
        ConfigError: it is something else.
    """
    return tuple(_pair(part, f"--range is {text!r}; wanted LOW:HIGH, such as 0:3000") for part in text.split(","))


def percentiles_of(text: str) -> tuple[float, float]:
    """Two percentiles, such as 2:98.

    Raises:
        ConfigError: it is something else.
    """
    return _pair(text, f"--percentile is {text!r}; wanted LOW:HIGH, such as 2:98")


def _pair(text: str, message: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        pair = float(low), float(high)
    except ValueError:
        raise ConfigError(message) from None
    if any(map(math.isnan, pair)):
        raise ConfigError(message)
    return pair


def _by(parse: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda _context, _parameter, text: None if text is None else parse(text)


# Without defaults, so that one that is given without --chip is noticed; `ChipSettings` has them.
_OPTIONS = (
    click.option(
        "--chip", type=int, metavar="PIXELS", help="Cut rasters of any size into chips of so many pixels a side."
    ),
    click.option("--overlap", type=float, metavar="SHARE", help="Share of a chip's side that the next one covers too."),
    click.option(
        "--edge",
        type=click.Choice(["shift", "pad", "drop"]),
        help="A chip that would reach beyond the scene is shifted back inside (so by default), padded or dropped.",
    ),
    click.option(
        "--bands",
        callback=_by(bands_of),
        metavar="R,G,B",
        help="Bands for red, green and blue, from 1 on, or one band for grey; not needed for 8-bit RGB.",
    ),
    click.option(
        "--range",
        "ranges",
        callback=_by(ranges_of),
        metavar="LOW:HIGH",
        help="Values that become black and full brightness, such as 0:3000, or 0:3000,0:2500,0:2000 band by band; "
        "not needed for 8 bits.",
    ),
    click.option(
        "--percentile",
        "percentiles",
        callback=_by(percentiles_of),
        metavar="LOW:HIGH",
        help="Take the range of each scene from these percentiles of its values, such as 2:98.",
    ),
    click.option(
        "--max-nodata",
        type=float,
        metavar="SHARE",
        help="Leave out chips with a larger share of pixels without data, by default 0.5.",
    ),
    click.option("--gsd", type=float, metavar="METRES", help="Resample to this ground sampling distance."),
    click.option("--crs", metavar="NAME", help="Coordinate system of scenes that name none, such as EPSG:32633."),
    click.option(
        "--unlocated", is_flag=True, default=None, help="Take scenes too that have no place on the map; else skipped."
    ),
    click.option(
        "--pattern",
        metavar="REGEX",
        help="Looked for in the file name: its group `time` is the time of acquisition, other named groups are "
        "attributes.",
    ),
)


# Field of `ChipSettings` -> its option.
_FIELDS = {name: f"--{name.replace('_', '-')}" for name in ("overlap", "edge", "bands", "max_nodata", "gsd", "crs")}
_FIELDS |= {"ranges": "--range", "percentiles": "--percentile", "unlocated": "--unlocated", "pattern": "--pattern"}


def chip_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --chip and all that goes with it: `chips`, the `ChipSettings`, None without --chip."""

    @wraps(command)
    def with_chips(*arguments: Any, chip: int | None, **options: Any) -> Any:
        given = {name: value for name in _FIELDS if (value := options.pop(name)) is not None}
        if chip is None and given:
            name = _FIELDS[next(iter(given))]
            raise ConfigError(f"{name} is given without --chip; wanted a size of chips too, such as --chip 224")
        return command(*arguments, chips=None if chip is None else _settings(chip, given), **options)

    for option in reversed(_OPTIONS):
        with_chips = option(with_chips)
    return with_chips


def _settings(size: int, given: dict[str, Any]) -> ChipSettings:
    from .geo.settings import ChipSettings

    return ChipSettings(size=size, **given)
