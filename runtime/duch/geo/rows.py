"""Rows of a scene as pixels, kept in memory for the chips that are cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.ids import Window

from .raster import Scene
from .settings import Range
from .values import to_pixels
from .windows import Grid

_ROWS_BYTES = 2**26  # of a section's rows while they are read: values and masks
_MOST_BLOCK_ROWS = 4096


def _block_rows(scene: Scene) -> int:
    """Rows in the blocks of the file; 1 where they are too many to be read at once."""
    rows = max(int(scene.dataset.block_shapes[band - 1][0]) for band in scene.bands)
    return rows if rows <= _MOST_BLOCK_ROWS else 1


def _pixel_bytes(scene: Scene) -> int:
    """Of the values of a pixel, and where they are data."""
    return sum(np.dtype(scene.dataset.dtypes[band - 1]).itemsize + 1 for band in scene.bands)


def sections(scene: Scene, grid: Grid) -> Iterator[Sequence[int]]:
    """The columns at which chips begin, in groups whose rows fit into memory."""
    across = _ROWS_BYTES // (_pixel_bytes(scene) * (min(grid.height, scene.height) + _block_rows(scene)))
    lefts = grid.lefts
    first = 0
    for place, left in enumerate(lefts):
        if place > first and left + grid.width - lefts[first] > across:
            yield lefts[first:place]
            first = place
    if lefts:
        yield lefts[first:]


class Rows:
    """Rows of a section of a scene. They are read by whole blocks, and kept for the chips below that share them.

    Kept are pixels: made once, and smaller than the values.
    """

    def __init__(self, scene: Scene, left: int, right: int) -> None:
        self._scene, self._left, self._right = scene, left, min(right, scene.width)
        self._block = _block_rows(scene)
        # Rows read at once: of large chips, the values take several times the memory of their pixels.
        at_once = _ROWS_BYTES // (_pixel_bytes(scene) * (self._right - left))
        self._piece = max(1, at_once // self._block) * self._block
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
        while start < end:
            stop = min(start - start % self._block + self._piece, end)
            window = Window(self._left, start, self._right - self._left, stop - start)
            self._kept.append(as_pixels(*self._scene.read_window(window), self._scene.ranges))
            start = stop
        self._bottom = end
        if len(self._kept) > 1:
            pixels_of, has_data_of = zip(*self._kept, strict=True)
            self._kept = [(np.concatenate(pixels_of), np.concatenate(has_data_of))]

    def part(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels of a chip in these rows, and where they have data; without what lies beyond the scene.

        Shape: -> (rows, columns, 3), (rows, columns).
        """
        ((pixels, has_data),) = self._kept
        rows = slice(window.y - self._top, window.y - self._top + window.h)
        columns = slice(window.x - self._left, window.x - self._left + window.w)
        return pixels[rows, columns], has_data[rows, columns]


def as_pixels(
    values: NDArray[Any], valid: NDArray[np.bool_], ranges: tuple[Range, ...] | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels of what is read, and where any band has data.

    Shape: (bands, rows, columns), twice -> (rows, columns, 3), (rows, columns).
    """
    has_data: NDArray[np.bool_] = np.any(valid, axis=0)
    return to_pixels(values, valid, ranges), has_data
