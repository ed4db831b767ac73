"""The part of the world that a map shows, in SVG units: pixels of a map that is 560 wide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH = 560
_LEAST_HEIGHT, _MOST_HEIGHT = 300, 600
_MARGIN = 0.12  # of the extent of what is shown, on each side
_LEAST_MARGIN = 0.0005  # degrees, for a point has no extent; keeps the bar of the scale at some metres
_LINES_APART = 105  # the least distance of two lines of the graticule
_STEPS = (*(factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)), 1, 2, 5, 10, 15, 30, 45, 90)
_KM = 111.2  # of a degree of latitude
_LONGEST_BAR = 130

Point = tuple[float, float]


@dataclass(frozen=True)
class MapView:
    """From degrees to pixels, equirectangular.

    Attributes:
        west: longitude of the left edge; longitudes count on from it, beyond 180 too.
        north: latitude of the upper edge.
        across: pixels of a degree of longitude.
        down: pixels of a degree of latitude.
        height: pixels of the map.
    """

    west: float
    north: float
    across: float
    down: float
    height: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> MapView:
        """The view that holds all points, as (longitude, latitude) in degrees, with a margin."""
        xs, ys = zip(*points, strict=True)
        middle = (min(ys) + max(ys)) / 2
        narrow = max(0.1, math.cos(math.radians(middle)))  # a degree of longitude, in degrees of latitude
        width, height = (max(xs) - min(xs)) * narrow, max(ys) - min(ys)
        margin = max(_MARGIN * max(width, height), _LEAST_MARGIN)
        width, height = width + 2 * margin, height + 2 * margin
        pixels = min(_MOST_HEIGHT, max(_LEAST_HEIGHT, round(WIDTH * height / width)))
        down = min(WIDTH / width, pixels / height)
        across = down * narrow
        # Beyond a pole there is nothing to see.
        north = max(min(middle + pixels / down / 2, 90 + margin), pixels / down - 90 - margin)
        return cls(
            west=(min(xs) + max(xs) - WIDTH / across) / 2,
            north=north,
            across=across,
            down=down,
            height=pixels,
        )

    def at(self, x: float, y: float) -> Point:
        """Where a longitude and a latitude are drawn."""
        return (x - self.west) * self.across, (self.north - y) * self.down

    def graticule(self) -> str:
        """Meridians and parallels, with their degrees."""
        return "".join((*self._meridians(), *self._parallels()))

    def _meridians(self) -> Iterator[str]:
        top, bottom = (self.at(0, max(-90, min(90, edge)))[1] for edge in (self.north, self._south))
        step = _step(self.across)
        for x in _multiples(self.west, self.west + WIDTH / self.across, step):
            at = self.at(x, 0)[0]
            yield f'<path d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>'
            if 24 < at < WIDTH - 30:
                label = _degrees((x + 180) % 360 - 180, step, "W", "E")
                yield f'<text class="lon" x="{at:.1f}" y="{self.height - 7:g}">{label}</text>'

    def _parallels(self) -> Iterator[str]:
        step = _step(self.down)
        for y in _multiples(max(-90, self._south), min(90, self.north), step):
            at = self.at(0, y)[1]
            yield f'<path d="M0 {at:.1f}H{WIDTH}"/>'
            if 14 < at < self.height - 26:
                yield f'<text class="lat" x="6" y="{at - 5:.1f}">{_degrees(y, step, "S", "N")}</text>'

    @property
    def _south(self) -> float:
        return self.north - self.height / self.down

    def scale(self) -> str:
        """A bar of a round length; none where a kilometre is not about the same everywhere on the map."""
        if self.height / self.down > 20:
            return ""
        pixels = self.down / _KM
        lengths = [factor * 10.0**power for power in range(-4, 4) for factor in (1, 2, 5)]
        length = max(length for length in lengths if length * pixels <= _LONGEST_BAR)
        left, right, y = WIDTH - 16 - length * pixels, WIDTH - 16, 20
        label = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
        text = f'<text x="{(left + right) / 2:.1f}" y="{y + 17}">{label}</text>'
        return f'<path d="M{left:.1f} {y - 4}V{y}H{right}V{y - 4}"/>{text}'


def _step(pixels: float) -> float:
    return next((step for step in _STEPS if step * pixels >= _LINES_APART), _STEPS[-1])


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _degrees(angle: float, step: float, negative: str, positive: str) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    size = f"{abs(angle):.{decimals}f}"
    if float(size) in (0, 180):
        return f"{float(size):.0f}°"
    return f"{size}° {negative if angle < 0 else positive}"
