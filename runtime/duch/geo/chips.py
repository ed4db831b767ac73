"""Chips of a scene, cut out of it while it is read from top to bottom, and one chip read again.

Shapes: n chips of a batch; s their side after resampling; h, w rows and columns of a chip in the scene's own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duch.display import display_path
from duch.errors import ConfigError, SceneError
from duch.ids import Window

from .bands import check_bands, is_8_bits, read_window
from .gdal import gdal_errors, open_raster
from .raster import Scene
from .rows import Rows, as_pixels, sections
from .settings import ChipSettings, Range
from .windows import MOST_PIXELS, Grid, grid_of

if TYPE_CHECKING:
    from PIL import Image

_BATCH_BYTES = 2**26


@dataclass(frozen=True)
class ChipBatch:
    """Some chips of a scene.

    Attributes:
        windows: where they lie in the scene.
        pixels: (n, s, s, 3) uint8.
        nodata: share of each one's pixels in which no band has data, (n,) float64.
    """

    windows: list[Window]
    pixels: NDArray[np.uint8]
    nodata: NDArray[np.float64]


def count_chips(scene: Scene, settings: ChipSettings) -> int:
    """How many chips a scene has, those without data too.

    Raises:
        SceneError: its ground sampling distance is needed and not known, or chips would be too large, too
            small or too many.
    """
    return len(_grid(scene, settings))


def read_chips(scene: Scene, settings: ChipSettings, *, batch_size: int) -> Iterator[ChipBatch]:
    """Cut a scene into chips, without those that have too little data.

    Row by row; a scene too wide for that in sections from left to right, each of them row by row. A block of the file
    is read once, or once for each section that meets it. A row of which no chip is kept is an empty batch, so that
    whoever wants to stop can do so in a scene without data too.

    Args:
        scene: open.
        settings: those it was opened with.
        batch_size: chips in a batch, fewer where they are so large that a batch would take more than 64 MB.

    Raises:
        SceneError: as `count_chips`; the file is damaged or cut off, and chips before that place have been given.
    """
    grid = _grid(scene, settings)
    most = max(1, min(batch_size, _BATCH_BYTES // (3 * settings.size**2)))
    batch = _Batch(most, settings.size)
    for lefts in sections(scene, grid):
        rows = Rows(scene, lefts[0], lefts[-1] + grid.width)
        for top in grid.tops:
            rows.move_to(top, top + grid.height)
            n_kept = 0
            for left in lefts:
                window = Window(left, top, grid.width, grid.height)
                pixels, has_data = rows.part(window)
                nodata = 1 - np.count_nonzero(has_data) / (window.w * window.h)
                if nodata > settings.max_nodata:
                    continue
                n_kept += 1
                batch.add(window, _chip(pixels, has_data, window, settings.size), nodata)
                if len(batch.windows) == most:
                    yield batch.done()
                    batch = _Batch(most, settings.size)
            if not n_kept:
                yield _Batch(0, settings.size).done()
    if batch.windows:
        yield batch.done()


def read_chip(path: Path, window: Window, attributes: Mapping[str, Any]) -> Image.Image:
    """Read one chip again: the very pixels that were coded, if the scene has not changed.

    Args:
        path: the scene.
        window: of the chip.
        attributes: of its tile; `bands`, `range` and `chip` count.

    Raises:
        SceneError: the scene cannot be read, does not have this window, or the attributes are not those of a chip.
    """
    from PIL import Image

    name = display_path(path)
    bands, ranges, size = _how_it_was_read(attributes, name)
    with open_raster(path) as dataset, gdal_errors(f"{name} cannot be read as a raster", dataset.name):
        check_bands(dataset, bands, name)
        if ranges is None and not is_8_bits(dataset, bands):
            raise SceneError(f"{name} is not 8 bits deep, and its chip names no range of values")
        inside = _inside(window, dataset.width, dataset.height)
        if not (inside.w > 0 < inside.h) or window.w * window.h > MOST_PIXELS:
            raise SceneError(
                f"{name} has {dataset.width} x {dataset.height} pixels; wanted the chip "
                f"{window.x},{window.y},{window.w},{window.h}"
            )
        return Image.fromarray(_chip(*as_pixels(*read_window(dataset, bands, inside, name), ranges), window, size))


def _how_it_was_read(attributes: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], tuple[Range, ...] | None, int]:
    """Bands, ranges and side from the attributes of a tile, which may come from a stranger's gallery."""
    try:
        ranges = attributes.get("range")
        known = ChipSettings(
            bands=tuple(int(band) for band in attributes["bands"]),
            ranges=None if ranges is None else tuple((float(low), float(high)) for low, high in ranges),
            size=int(attributes["chip"]),
        )
    except (ConfigError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise SceneError(f"the tile of {name} does not say how its chip was read: bands, range, chip") from error
    return known.bands or (), known.ranges, known.size


def _inside(window: Window, width: int, height: int) -> Window:
    """The part of a window that lies in the scene."""
    left, top = max(window.x, 0), max(window.y, 0)
    return Window(left, top, min(window.x + window.w, width) - left, min(window.y + window.h, height) - top)


def _chip(pixels: NDArray[np.uint8], has_data: NDArray[np.bool_], window: Window, size: int) -> NDArray[np.uint8]:
    """A chip, of its part in the scene.

    Shape: (rows, columns, 3), (rows, columns) -> (s, s, 3).
    """
    height, width = has_data.shape
    if (height, width) != (window.h, window.w):
        top, left = max(-window.y, 0), max(-window.x, 0)
        around = ((top, window.h - height - top), (left, window.w - width - left))
        pixels, has_data = np.pad(pixels, (*around, (0, 0))), np.pad(has_data, around)
    return pixels if (window.h, window.w) == (size, size) else _resized(pixels, has_data, size)


def _resized(pixels: NDArray[np.uint8], has_data: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """A chip in another number of pixels, by Pillow's bilinear filter, which averages when it shrinks.

    Pixels without data weigh nothing; where there are only such, the chip is black.

    Shape: (h, w, 3), (h, w) -> (s, s, 3).
    """
    from PIL import Image

    def resize(image: Image.Image) -> NDArray[Any]:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

    if has_data.all():
        return resize(Image.fromarray(pixels))
    weights = resize(Image.fromarray(has_data.astype(np.float32)))
    sums = np.stack(
        [resize(Image.fromarray(np.where(has_data, pixels[..., band], np.float32(0)))) for band in range(3)], axis=-1
    )
    some = weights > 1e-4
    means = sums / np.where(some, weights, 1)[..., None]
    return np.where(some[..., None], np.clip(np.rint(means), 0, 255), 0).astype(np.uint8)


def _grid(scene: Scene, settings: ChipSettings) -> Grid:
    gsd = None if scene.georeference is None else scene.georeference.gsd
    return grid_of(scene.width, scene.height, settings, gsd=gsd, name=display_path(scene.path))


class _Batch:
    """Chips, copied as they come: a view would hold the rows that it is cut from, whole."""

    def __init__(self, most: int, size: int) -> None:
        self.windows: list[Window] = []
        self._nodata: list[float] = []
        self._pixels = np.empty((most, size, size, 3), dtype=np.uint8)

    def add(self, window: Window, pixels: NDArray[np.uint8], nodata: float) -> None:
        self._pixels[len(self.windows)] = pixels
        self.windows.append(window)
        self._nodata.append(nodata)

    def done(self) -> ChipBatch:
        return ChipBatch(self.windows, self._pixels[: len(self.windows)], np.array(self._nodata))
