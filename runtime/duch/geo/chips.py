"""Chips of a scene, cut out of it while it is read from top to bottom, and one chip read again.

Shapes: n chips of a batch; s their side after resampling; h, w rows and columns of a chip in the scene's own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from .settings import ChipSettings, Range
from .values import to_pixels
from .windows import MOST_PIXELS, Grid, grid_of

if TYPE_CHECKING:
    from PIL import Image

_ROWS_BYTES = 2**26  # of the rows that are kept while chips are cut from them
_BATCH_BYTES = 2**26
_MOST_BLOCK_ROWS = 4096


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
        SceneError: its ground sampling distance is needed and not known, or a chip would be too large.
    """
    return len(_grid(scene, settings))


def read_chips(scene: Scene, settings: ChipSettings, *, batch_size: int) -> Iterator[ChipBatch]:
    """Cut a scene into chips, without those that have too little data.

    Row by row; a scene too wide for that in sections from left to right, each of them row by row. A block of the file
    is read once, or once for each section that meets it.

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
    for lefts in _sections(scene, grid):
        rows = _Rows(scene, lefts[0], lefts[-1] + grid.width)
        for top in grid.tops:
            rows.move_to(top, top + grid.height)
            for left in lefts:
                window = Window(left, top, grid.width, grid.height)
                pixels, has_data = rows.part(window)
                nodata = 1 - np.count_nonzero(has_data) / (window.w * window.h)
                if nodata > settings.max_nodata:
                    continue
                batch.add(window, _chip(pixels, has_data, window, settings.size), nodata)
                if len(batch.windows) == most:
                    yield batch.done()
                    batch = _Batch(most, settings.size)
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
        return Image.fromarray(_chip(*_seen(*read_window(dataset, bands, inside, name), ranges), window, size))


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


def _seen(
    values: NDArray[Any], valid: NDArray[np.bool_], ranges: tuple[Range, ...] | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels of what is read, and where any band has data.

    Shape: (bands, rows, columns), twice -> (rows, columns, 3), (rows, columns).
    """
    has_data: NDArray[np.bool_] = np.any(valid, axis=0)
    return to_pixels(values, valid, ranges), has_data


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


def _block_rows(scene: Scene) -> int:
    """Rows in the blocks of the file; 1 where they are too many to be read at once."""
    rows = max(int(scene.dataset.block_shapes[band - 1][0]) for band in scene.bands)
    return rows if rows <= _MOST_BLOCK_ROWS else 1


def _sections(scene: Scene, grid: Grid) -> Iterator[Sequence[int]]:
    """The columns at which chips begin, in groups whose rows fit into memory."""
    pixel = sum(np.dtype(scene.dataset.dtypes[band - 1]).itemsize + 1 for band in scene.bands)
    across = _ROWS_BYTES // (pixel * (min(grid.height, scene.height) + _block_rows(scene)))
    lefts = grid.lefts
    first = 0
    for place, left in enumerate(lefts):
        if place > first and left + grid.width - lefts[first] > across:
            yield lefts[first:place]
            first = place
    if lefts:
        yield lefts[first:]


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


class _Rows:
    """Rows of a section of a scene. They are read by whole blocks, and kept for the chips below that share them.

    Kept are pixels: made once, and smaller than the values.
    """

    def __init__(self, scene: Scene, left: int, right: int) -> None:
        self._scene, self._left, self._right = scene, left, min(right, scene.width)
        self._block = _block_rows(scene)
        self._top = self._bottom = 0
        self._kept: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]] = []

    def move_to(self, top: int, bottom: int) -> None:
        """Have the rows from `top` on and before `bottom`, as far as the scene has them; never goes back."""
        if self._bottom <= top:
            self._kept, self._top = [], top
        else:
            ((pixels, has_data),) = self._kept
            self._kept, self._top = [(pixels[top - self._top :], has_data[top - self._top :])], top
        start = max(self._bottom, top)
        if min(bottom, self._scene.height) <= start:
            return
        end = min(-(-bottom // self._block) * self._block, self._scene.height)
        window = Window(self._left, start, self._right - self._left, end - start)
        self._kept.append(_seen(*self._scene.read_window(window), self._scene.ranges))
        self._bottom = end
        if len(self._kept) > 1:
            pixels_of, has_data_of = zip(*self._kept, strict=True)
            self._kept = [(np.concatenate(pixels_of), np.concatenate(has_data_of))]

    def part(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels of a chip in these rows, and where they have data; without what lies beyond the scene."""
        ((pixels, has_data),) = self._kept
        rows = slice(window.y - self._top, window.y - self._top + window.h)
        columns = slice(window.x - self._left, window.x - self._left + window.w)
        return pixels[rows, columns], has_data[rows, columns]
