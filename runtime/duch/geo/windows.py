"""Where the chips of a scene lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duch.errors import SceneError
from duch.ids import Window

from .settings import ChipSettings, Edge

# Pixels of a scene in one chip: 5,792 a side. A chip and what its resampling needs then take below 1 GB.
MOST_PIXELS = 2**25
# A side of a chip before it is enlarged; fewer show nothing, and are likely a --gsd that was meant in degrees.
_FEWEST_PIXELS = 4
# In a scene. What is known of its chips is in memory until all of them are stored: 2.4 kB each, 1.3 GB.
MOST_CHIPS = 500_000


@dataclass(frozen=True)
class Grid:
    """The chips of a scene: one at each of the columns in each of the rows.

    Attributes:
        lefts: columns of the scene at which chips begin, rising.
        tops: rows of the scene at which chips begin, rising.
        width: of a chip, in pixels of the scene.
        height: likewise.
    """

    lefts: Sequence[int]
    tops: Sequence[int]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.lefts) * len(self.tops)

    def __iter__(self) -> Iterator[Window]:
        """Row by row."""
        for top in self.tops:
            for left in self.lefts:
                yield Window(left, top, self.width, self.height)


def grid_of(
    width: int,
    height: int,
    settings: ChipSettings,
    *,
    gsd: tuple[float, float] | None = None,
    name: str = "the scene",
) -> Grid:
    """The chips of a scene of this many pixels.

    Under the edge rules shift and pad they cover every pixel. No two are the same.

    Args:
        width: of the scene, in pixels.
        height: likewise.
        settings: size, overlap, edge rule and the ground sampling distance that is wanted.
        gsd: the scene's own ground sampling distance, across and down, in metres; needed where the settings name one.
        name: of the scene, for errors.

    Raises:
        SceneError: the scene's ground sampling distance is needed and not known, or chips would be too large, too
            small or too many.
    """
    across = down = settings.size
    if settings.gsd is not None:
        if gsd is None or not all(0 < own < math.inf for own in gsd):
            raise SceneError(f"the size of the pixels of {name} on the ground is not known; leave out --gsd for it")
        across, down = (round(min(settings.size * settings.gsd / own, MOST_PIXELS)) for own in gsd)
        if min(across, down) < _FEWEST_PIXELS:
            raise SceneError(
                f"a chip would be {across:,} x {down:,} pixels of {name}, which are {gsd[0]:.4g} x {gsd[1]:.4g} m; "
                f"wanted at least {_FEWEST_PIXELS} a side, so a larger --gsd, in metres"
            )
    if across * down > MOST_PIXELS:
        raise SceneError(
            f"a chip would be {across:,} x {down:,} pixels of {name}; wanted at most {MOST_PIXELS:,} in all, "
            "so make a coarser copy of it first, with gdal_translate -outsize"
        )
    lefts, tops = (
        _starts(length, side, max(1, round(side * (1 - settings.overlap))), settings.edge)
        for length, side in ((width, across), (height, down))
    )
    grid = Grid(lefts, tops, across, down)
    if len(grid) > MOST_CHIPS:
        raise SceneError(
            f"{name} would be cut into {len(grid):,} chips; wanted at most {MOST_CHIPS:,}, so larger ones, "
            "less overlap, or the scene in parts"
        )
    return grid


def _starts(length: int, side: int, stride: int, edge: Edge) -> Sequence[int]:
    """Where chips begin along one axis."""
    if length < side:
        return [] if edge == "drop" else [0]
    last, rest = divmod(length - side, stride)
    whole = range(0, last * stride + 1, stride)
    if not rest or edge == "drop":
        return whole
    return [*whole, length - side if edge == "shift" else (last + 1) * stride]
