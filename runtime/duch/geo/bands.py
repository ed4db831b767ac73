"""Which bands of a scene become red, green and blue, and which of their values black and full brightness.

What the settings leave open is never guessed: the error shows what the scene holds, and what to say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from duch.display import printable
from duch.errors import ConfigError, SceneError
from duch.ids import Window

from .gdal import environment, gdal_errors
from .settings import ChipSettings, Range
from .values import range_of

_SAMPLE = 2_000_000  # values that percentiles are taken from; a scene holds hundreds of millions
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
        inside = len(dataset.subdatasets)
        raise SceneError(
            f"{name} has no bands, but {inside} rasters inside; wanted one raster, so write it to a GeoTIFF of its own"
        )
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
    million values at even distances.

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

    A value is no data where GDAL's mask (nodata value, alpha, mask band) is 0 or where it is NaN. Blocks that a sparse
    file leaves out are no data if it has a nodata value, and zeros else.

    Shape: -> (n, h, w) of the bands' common type, and (n, h, w) or (1, h, w).

    Raises:
        SceneError: the file is damaged or cut off.
    """
    part = RasterWindow(window.x, window.y, window.w, window.h)
    return _read(dataset, bands, name, (window.h, window.w), window=part)


def _sample(dataset: Any, bands: tuple[int, ...], name: str) -> NDArray[Any]:
    """Values that are data, at even distances in the scene."""
    wanted = _SAMPLE // len(bands)
    step = max(1.0, (dataset.width * dataset.height / wanted) ** 0.5)
    height = max(1, int(dataset.height / step))
    width = max(1, min(int(dataset.width / step), wanted // height))
    height = min(height, wanted // width)  # of a scene that is one pixel wide
    values, valid = _read(dataset, bands, name, (height, width))
    return values[np.broadcast_to(valid, values.shape)]


def _read(
    dataset: Any, bands: tuple[int, ...], name: str, shape: tuple[int, int], **window: Any
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    dtype = np.result_type(*(dataset.dtypes[band - 1] for band in bands))
    flags = {flag.name for band in bands for flag in dataset.mask_flag_enums[band - 1]}
    masked = [bands[0]] if "per_dataset" in flags else list(bands)
    with environment(), gdal_errors(f"{name} is damaged or cut off", dataset.name):
        values = dataset.read(list(bands), out_shape=(len(bands), *shape), out_dtype=dtype, **window)
        if flags == {"all_valid"}:
            valid = np.broadcast_to(np.True_, (1, *shape))
        else:
            valid = dataset.read_masks(masked, out_shape=(len(masked), *shape), **window) != 0
    if dtype.kind == "f":
        valid = valid & ~np.isnan(values)
    return values, valid


def _which_bands(dataset: Any, colors: list[str], name: str) -> str:
    words = []
    for band, color in enumerate(colors[:_SHOWN_BANDS], 1):
        told = [printable(text) for text in (dataset.descriptions[band - 1],) if text]
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
