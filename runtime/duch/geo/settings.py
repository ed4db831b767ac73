"""How scenes are cut into chips and turned into pixels."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Literal

from duch.errors import ConfigError

from .acquisition import check_pattern

# What happens at the right and lower edge, where a whole chip would reach beyond the scene.
Edge = Literal["shift", "pad", "drop"]
Range = tuple[float, float]

_LARGEST_SIDE = 5_792  # pixels: its square is just within `windows.MOST_PIXELS`


@dataclass(frozen=True, kw_only=True)
class ChipSettings:
    """What decides the chips of a scene, their pixels and which of them are kept.

    Attributes:
        size: side of a chip in pixels; of the pixels after resampling, where there is a `gsd`.
        overlap: share of a chip's side that the next one covers too, from 0 and below 1.
        edge: a chip that would reach beyond the scene is shifted back inside, padded with pixels without data, or
            dropped. A scene smaller than a chip is padded where it would be shifted.
        bands: numbers of the bands for red, green and blue, counted from 1, or of one band for grey; None for the
            scene's own red, green and blue, which must be 8 bits deep.
        ranges: values that become black and full brightness, one pair for all bands or one for each; None for the
            values as they are, which must be 8 bits deep.
        percentiles: take the range of each scene from these percentiles of its values, such as (2, 98).
        max_nodata: a chip with a larger share of pixels without data is left out.
        gsd: ground sampling distance to resample to, in metres; None for the scene's own.
        crs: coordinate system of scenes that name none, such as "EPSG:32633"; None leaves such scenes out.
        unlocated: take scenes that have no place on the map too; their chips have no footprint.
        pattern: regular expression found in a scene's file name; its group `time` is the time of acquisition in ISO
            8601 (basic or extended, UTC where it names no zone), every other named group an attribute.

    Raises:
        ConfigError: a value out of its range.
    """

    size: int = 224
    overlap: float = 0.0
    edge: Edge = "shift"
    bands: tuple[int, ...] | None = None
    ranges: tuple[Range, ...] | None = None
    percentiles: tuple[float, float] | None = None
    max_nodata: float = 0.5
    gsd: float | None = None
    crs: str | None = None
    unlocated: bool = False
    pattern: str | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.size <= _LARGEST_SIDE:
            raise ConfigError(f"the chip is {self.size} pixels; wanted 8 to {_LARGEST_SIDE}")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"the overlap is {self.overlap}; wanted a share from 0 and below 1, such as 0.25")
        if self.stride < 1:
            raise ConfigError(
                f"with an overlap of {self.overlap} a chip of {self.size} pixels lies where the one before it does; "
                "wanted less, such as 0.25"
            )
        if self.edge not in ("shift", "pad", "drop"):
            raise ConfigError(f"the edge rule is {self.edge!r}; wanted shift, pad or drop")
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise ConfigError(f"the bands are {self.bands}; wanted one or three numbers from 1 on, such as 4,3,2")
        if self.ranges is not None:
            self._check_ranges(self.ranges)
        if self.percentiles is not None:
            low, high = self.percentiles
            if self.ranges is not None:
                raise ConfigError("both a range and percentiles are given; wanted one of them")
            if not 0 <= low < high <= 100:
                raise ConfigError(f"the percentiles are {low:g}:{high:g}; wanted two that rise, from 0 to 100")
        if not 0 <= self.max_nodata <= 1:
            raise ConfigError(f"the largest share without data is {self.max_nodata}; wanted 0 to 1")
        if self.gsd is not None and not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"the ground sampling distance is {self.gsd}; wanted metres above 0")
        if self.pattern is not None:
            self._check_pattern(self.pattern)

    def _check_ranges(self, ranges: tuple[Range, ...]) -> None:
        if len(ranges) not in (1, 3):
            raise ConfigError(f"{len(ranges)} value ranges are given; wanted one, or one for each of three bands")
        if self.bands is not None and len(self.bands) == 1 and len(ranges) == 3:
            raise ConfigError("three value ranges are given for one band; wanted one")
        for low, high in ranges:
            if not (low < high and math.isfinite(high - low)):
                raise ConfigError(f"the value range is {low:g}:{high:g}; wanted two numbers that rise, such as 0:3000")

    def _check_pattern(self, pattern: str) -> None:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ConfigError(f"the pattern {pattern!r} is no regular expression: {error}") from None
        if not groups:
            raise ConfigError(
                f"the pattern {pattern!r} has no named group; "
                r"wanted some, such as '^(?P<sensor>S2[AB])_.*_(?P<time>\d{8}T\d{6})_'"
            )
        check_pattern(pattern)

    @property
    def stride(self) -> int:
        """Pixels from one chip to the next."""
        return round(self.size * (1 - self.overlap))

    @property
    def digest(self) -> str:
        """Eight hex digits; a scene whose chips bear others is coded anew."""
        # 3000 and 3000.0 are equal, and JSON writes them differently.
        known = json.loads(json.dumps(asdict(self)), parse_int=float)
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]
