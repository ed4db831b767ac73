"""Which bands of a scene become red, green and blue, and which of their values black and full brightness.

What the settings leave open is never guessed: the error shows what the scene holds, and what to say.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.display import printable
from duch.errors import ConfigError, SceneError
from duch.ids import Window

from .gdal import environment, gdal_errors
from .settings import ChipSettings, Range
from .values import range_of

_SAMPLE = 2_000_000  # values that percentiles are taken from; a scene holds hundreds of millions
_RUNS = 16  # along each axis
_SHOWN_BANDS = 12
_RGB = ("red", "green", "blue")
_USUAL = (2.0, 98.0)


def bands_of(dataset: Any, settings: ChipSettings, name: str) -> tuple[int, ...]:
    """Numbers of the bands to read, counted from 1: one, or three for red, green and blue.

    Args:
        dataset: open for reading.
        settings: says which, or leaves it to the scene.
        name: of the scene, for errors.

    Raises:
        ConfigError: the settings name no bands, and the scene is not plainly red, green and blue in 8 bits.
        SceneError: the scene does not have the bands, or they hold what is no brightness.
    """
    if not dataset.count:
        raise SceneError(f"{name} has no bands; wanted one raster in a file")
    colors = [color.name for color in dataset.colorinterp]
    if settings.bands is not None:
        bands = settings.bands
    elif set(dataset.dtypes) == {"uint8"} and all(colors.count(color) == 1 for color in _RGB):
        bands = tuple(colors.index(color) + 1 for color in _RGB)
    elif dataset.dtypes == ("uint8",) * 3 and set(colors) <= {"undefined", "gray", *_RGB}:
        bands = (1, 2, 3)
    elif "palette" in colors:
        bands = (colors.index("palette") + 1,)  # refused below
    else:
        raise ConfigError(_which_bands(dataset, colors, name))
    check_bands(dataset, bands, name)
    return bands


def check_bands(dataset: Any, bands: tuple[int, ...], name: str) -> None:
    """Refuse a scene that does not have these bands, or holds in them what is no brightness.

    Raises:
        SceneError: which it is.
    """
    if max(bands) > dataset.count:
        has = "1 band" if dataset.count == 1 else f"{dataset.count} bands"
        raise SceneError(f"{name} has {has}; wanted {_bands_text(bands)}")
    for band in bands:
        dtype = dataset.dtypes[band - 1]
        if np.dtype(dtype).kind not in "iuf":
            raise SceneError(f"{_bands_text((band,))} of {name} holds {dtype} numbers; wanted real ones")
        if dataset.colorinterp[band - 1].name == "palette":
            raise SceneError(
                f"{_bands_text((band,))} of {name} holds places in a colour table; wanted values, so write them "
                "with gdal_translate -expand rgb"
            )


def ranges_of(dataset: Any, bands: tuple[int, ...], settings: ChipSettings, name: str) -> tuple[Range, ...] | None:
    """The value ranges to use: one for all bands, or one for each; None for the values as they are.

    Percentiles are taken of all the bands together, so that colours keep their proportions, and of at most two
    million values from all over the scene.

    Raises:
        ConfigError: the settings name none, and the bands are not 8 bits deep.
        SceneError: the scene has no two values to take percentiles of.
    """
    if settings.ranges is not None:
        return settings.ranges
    if settings.percentiles is not None:
        measured = range_of(_sample(dataset, bands, name), settings.percentiles)
        low, high = settings.percentiles
        if measured is None:
            raise SceneError(f"{name} has no data to take percentiles of; wanted some, or a --range")
        if measured[0] >= measured[1]:
            raise SceneError(
                f"the percentiles {low:g} and {high:g} of {name} are both {measured[0]:g}; wanted values that differ, "
                "or a --range"
            )
        return (measured,)
    if is_8_bits(dataset, bands):
        return None
    held = " and ".join(sorted({str(dataset.dtypes[band - 1]) for band in bands}))
    measured = range_of(_sample(dataset, bands, name), _USUAL)
    if measured is None or measured[0] >= measured[1]:
        advice = "name one, such as --range 0:3000"
    else:
        low, high = measured
        advice = (
            f"the 2nd and 98th percentiles of its {_bands_text(bands)} are {low:g} to {high:g}, so try "
            f"--range {low:g}:{high:g}, or --percentile 2:98"
        )
    raise ConfigError(f"{name} holds {held} and no value range is given; {advice}")


def is_8_bits(dataset: Any, bands: tuple[int, ...]) -> bool:
    """Whether values can be taken as they are: 8 bits, and all of them used."""
    return all(
        dataset.dtypes[band - 1] == "uint8" and dataset.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", "8") == "8"
        for band in bands
    )


def read_window(
    dataset: Any, bands: tuple[int, ...], window: Window, name: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of bands in a window that lies in the scene, and where they are data.

    A value is no data where it is the nodata value or NaN, or where a mask or alpha is 0. Blocks that a sparse file
    leaves out hold the nodata value if there is one, and zeros else.

    Shape: -> (n, h, w) of the bands' common type, and (n, h, w) or (1, h, w).

    Raises:
        SceneError: the file is damaged or cut off.
    """
    part = ((window.y, window.y + window.h), (window.x, window.x + window.w))
    flags = {flag.name for band in bands for flag in dataset.mask_flag_enums[band - 1]}
    valid: NDArray[np.bool_] = np.broadcast_to(np.True_, (1, window.h, window.w))
    with environment(), gdal_errors(f"{name} is damaged or cut off", dataset.name):
        if len({dataset.dtypes[band - 1] for band in bands}) == 1:
            values = dataset.read(list(bands), window=part)
        else:  # rasterio reads no two types at once
            values = np.stack([dataset.read(band, window=part) for band in bands])
        if "per_dataset" in flags:
            valid = dataset.read_masks([bands[0]], window=part) != 0
    if "nodata" in flags:
        # GDAL's own mask of it would decode every block once more, and takes five times as long as that.
        nodata = [dataset.nodatavals[band - 1] for band in bands]
        valid = np.stack([_differs(level, missing) for level, missing in zip(values, nodata, strict=True)])
    if values.dtype.kind == "f":
        valid = valid & ~np.isnan(values)
    return values, valid


def _differs(values: NDArray[Any], missing: float | None) -> NDArray[np.bool_]:
    """Where values are not the nodata value, which need not be one that their type can hold."""
    if missing is None or (values.dtype.kind in "iu" and not _is_one_of(values.dtype, missing)):
        return np.ones(values.shape, dtype=bool)
    there: NDArray[np.bool_] = values != values.dtype.type(missing)
    return there


def _is_one_of(dtype: np.dtype[Any], number: float) -> bool:
    """Whether an integer type has this number."""
    return float(number).is_integer() and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _sample(dataset: Any, bands: tuple[int, ...], name: str) -> NDArray[Any]:
    """Values that are data, from windows spread evenly over the scene: few blocks of a file have to be read."""
    most = _SAMPLE // len(bands)
    rows = min(dataset.height, math.isqrt(most))
    columns = min(dataset.width, most // rows)
    rows = min(dataset.height, most // columns)  # more of them in a narrow scene
    parts = []
    for top, height in _spread(dataset.height, rows):
        for left, width in _spread(dataset.width, columns):
            values, valid = read_window(dataset, bands, Window(left, top, width, height), name)
            parts.append(values[np.broadcast_to(valid, values.shape)])
    return np.concatenate(parts)


def _spread(length: int, wanted: int) -> list[tuple[int, int]]:
    """About so many places of an axis in a few runs at even distances, as (first, number)."""
    if wanted == length:
        return [(0, length)]
    runs = min(_RUNS, wanted)
    return [(run * (length - wanted // runs) // max(1, runs - 1), wanted // runs) for run in range(runs)]


def _which_bands(dataset: Any, colors: list[str], name: str) -> str:
    try:
        descriptions = dataset.descriptions
    except UnicodeDecodeError:
        descriptions = [None] * len(colors)
    words = []
    for band, color in enumerate(colors[:_SHOWN_BANDS], 1):
        told = [printable(text) for text in (descriptions[band - 1],) if text]
        told += [color] if color not in ("undefined", "gray") else []
        words.append(f"{band} {' '.join(told)}".rstrip())
    more = ", ..." if len(colors) > _SHOWN_BANDS else ""
    held = " and ".join(sorted(set(dataset.dtypes)))
    if all(color in colors for color in _RGB):
        example = ",".join(str(colors.index(color) + 1) for color in _RGB)
    else:
        example = "3,2,1" if len(colors) >= 3 else "1"
    bands = "band" if len(colors) == 1 else "bands"
    return (
        f"{name} holds {held} in the {bands} {', '.join(words)}{more}, and no bands are named; "
        f"say which are red, green and blue, or which one is grey, such as --bands {example}"
    )


def _bands_text(bands: tuple[int, ...]) -> str:
    return f"{'band' if len(bands) == 1 else 'bands'} {', '.join(map(str, bands))}"
