"""A plain map of the footprints of hits, as SVG: equirectangular, fitted to them, with a graticule.

Longitudes are counted on from the west end of the map, so that it has no seam where footprints are. SVG units are
pixels of a map that is 560 wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from .captions import distance_text
from .display import printable
from .geojson import geometry_of
from .tile import Hit

_WIDTH, _LEAST_HEIGHT, _MOST_HEIGHT = 560, 300, 600
_MARGIN = 0.12  # of the footprints' extent, on each side
_LEAST_EXTENT = 0.002  # degrees; a single point has none
_LEAST_MARK = 9  # a footprint that would be smaller both ways gets a dot
_DOT = 4.5
_LABEL_HEIGHT, _DIGIT = 14, 7
_LINES_APART = 105  # the least distance of two lines of the graticule
_STEPS = (*(factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)), 1, 2, 5, 10, 15, 30, 45, 90)
_KM = 111.2  # of a degree of latitude

Point = tuple[float, float]
Line = list[Point]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Footprint:
    """A hit with the rings of its footprint, or its line or point, in degrees."""

    hit: Hit
    lines: list[Line]


@dataclass(frozen=True)
class _View:
    """From degrees to pixels: what is at the upper left corner, and pixels a degree across and down."""

    west: float
    north: float
    across: float
    down: float
    height: float

    def at(self, x: float, y: float) -> Point:
        return (x - self.west) * self.across, (self.north - y) * self.down


def footprint_map(hits: Sequence[Hit]) -> str:
    """The map as an `<svg>` element; empty where no hit has a footprint.

    Each footprint is a link `map-RANK` to `hit-RANK` with the attribute `data-rank`; the best lie on top.
    """
    footprints = _unrolled([_Footprint(hit, lines) for hit in hits if (lines := _lines(hit))])
    if not footprints:
        return ""
    view = _view(footprints)
    marks, labelled = [], list[Box]()
    for footprint in footprints:
        marks.append(_mark(footprint, view, labelled))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {view.height:g}" role="group" aria-label="Map of the footprints">'
        f'<g class="graticule" aria-hidden="true">{"".join(_graticule(view))}</g>{"".join(reversed(marks))}'
        f'<g class="scale" aria-hidden="true">{_scale(view)}</g></svg>'
    )


def _lines(hit: Hit) -> list[Line]:
    """The lines of a hit's footprint; none where it has no place that could be drawn."""
    geometry = geometry_of(hit)
    if geometry is None:
        return []
    lines = list(_lines_in(geometry["coordinates"]))
    on_the_map = all(abs(x) <= 360 and abs(y) <= 90 for line in lines for x, y in line)
    return lines if on_the_map else []


def _lines_in(coordinates: Sequence[Any]) -> Iterator[Line]:
    if not isinstance(coordinates[0], list):
        yield [(coordinates[0], coordinates[1])]
    elif not isinstance(coordinates[0][0], list):
        yield [(x, y) for x, y in coordinates]
    else:
        for part in coordinates:
            yield from _lines_in(part)


def _unrolled(footprints: list[_Footprint]) -> list[_Footprint]:
    """The same with longitudes that rise from the west end of the map, which lies after the widest empty span."""
    spans = sorted((min(x for x, _ in line), max(x for x, _ in line)) for each in footprints for line in each.lines)
    if not spans:
        return []
    start, reach = spans[0]
    widest = -math.inf
    for west, east in [*spans[1:], (spans[0][0] + 360, math.inf)]:
        if west - reach > widest:
            widest, start = west - reach, west
        reach = max(reach, east)

    def moved(line: Line) -> Line:
        middle = (min(x for x, _ in line) + max(x for x, _ in line)) / 2
        turns = 360 * math.floor((middle - start) / 360)
        return [(x - turns, y) for x, y in line]

    return [_Footprint(each.hit, [moved(line) for line in each.lines]) for each in footprints]


def _view(footprints: list[_Footprint]) -> _View:
    """The part of the world that holds all footprints with a margin."""
    xs = [x for each in footprints for line in each.lines for x, _ in line]
    ys = [y for each in footprints for line in each.lines for _, y in line]
    middle = (min(ys) + max(ys)) / 2
    narrow = max(0.1, math.cos(math.radians(middle)))  # degrees of longitude, as long as one of latitude
    width, height = (max(xs) - min(xs)) * narrow, max(ys) - min(ys)
    margin = _MARGIN * max(width, height, _LEAST_EXTENT)
    width, height = width + 2 * margin, height + 2 * margin
    pixels = min(_MOST_HEIGHT, max(_LEAST_HEIGHT, round(_WIDTH * height / width)))
    down = min(_WIDTH / width, pixels / height)
    across = down * narrow
    # Beyond a pole there is nothing to see.
    north = max(min(middle + pixels / down / 2, 90 + margin), pixels / down - 90 - margin)
    return _View(
        west=(min(xs) + max(xs) - _WIDTH / across) / 2,
        north=north,
        across=across,
        down=down,
        height=pixels,
    )


def _mark(footprint: _Footprint, view: _View, labelled: list[Box]) -> str:
    hit = footprint.hit
    lines = [[view.at(x, y) for x, y in line] for line in footprint.lines]
    xs, ys = [x for line in lines for x, _ in line], [y for line in lines for _, y in line]
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    shape = f'<path d="{"".join(map(_path, lines))}"/>'
    if any(_on_cut(pair) for line in footprint.lines for pair in pairwise(line)):
        edge = "".join(_path([view.at(*point) for point in run]) for line in footprint.lines for run in _uncut(line))
        shape = shape.replace("<path", '<path class="inside"') + f'<path class="edge" d="{edge}"/>'
    if max(width, height) < _LEAST_MARK:
        shape += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}"/>'
    label = f"{hit.rank}"
    label_width = _DIGIT * len(label)
    if width < label_width + 6 or height < _LABEL_HEIGHT + 2:
        x += max(width / 2, _DOT) + label_width / 2 + 3  # beside it
    box = (x - label_width / 2, y - _LABEL_HEIGHT / 2, x + label_width / 2, y + _LABEL_HEIGHT / 2)
    if not any(_meet(box, other) for other in labelled):
        labelled.append(box)
        shape += f'<text x="{x:.1f}" y="{y:.1f}" aria-hidden="true">{label}</text>'
    title = f"{hit.rank}: {distance_text(hit)}, {escape(printable(hit.id))}"
    return (
        f'<a id="map-{label}" class="footprint" data-rank="{label}" href="#hit-{label}">'
        f"<title>{title}</title>{shape}</a>"
    )


def _on_cut(pair: tuple[Point, Point]) -> bool:
    """Whether a side of a ring runs along the antimeridian or a pole, where footprints are cut and do not end."""
    (ax, ay), (bx, by) = pair
    return (ax == bx and ax % 360 == 180) or (ay == by and abs(ay) == 90)


def _uncut(line: Line) -> list[Line]:
    """The runs of a ring's sides that are no cuts."""
    runs = [line[:1]]
    for pair in pairwise(line):
        if _on_cut(pair):
            runs.append([])
        runs[-1].append(pair[1])
    return [run for run in runs if len(run) > 1]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _path(line: Line) -> str:
    """A line as SVG path data, to a tenth of a pixel and without repeated points; closed where its ends meet."""
    points = list(dict.fromkeys(f"{x:.1f} {y:.1f}" for x, y in line))
    return f"M{'L'.join(points)}{'Z' if line[0] == line[-1] else ''}"


def _graticule(view: _View) -> Iterator[str]:
    south = view.north - view.height / view.down
    top, bottom = (view.at(0, max(-90, min(90, edge)))[1] for edge in (view.north, south))
    step = _step(view.across)
    for x in _multiples(view.west, view.west + _WIDTH / view.across, step):
        at = view.at(x, 0)[0]
        yield f'<path d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>'
        if 24 < at < _WIDTH - 30:
            label = _degrees((x + 180) % 360 - 180, step, "W", "E")
            yield f'<text class="lon" x="{at:.1f}" y="{view.height - 7:g}">{label}</text>'
    step = _step(view.down)
    for y in _multiples(max(-90, south), min(90, view.north), step):
        at = view.at(0, y)[1]
        yield f'<path d="M0 {at:.1f}H{_WIDTH}"/>'
        if 14 < at < view.height - 26:
            yield f'<text class="lat" x="6" y="{at - 5:.1f}">{_degrees(y, step, "S", "N")}</text>'


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


def _scale(view: _View) -> str:
    """A bar of a round length, where a kilometre is the same everywhere on the map to a few per cent."""
    if view.height / view.down > 20:
        return ""
    length = max(
        factor * 10.0**power
        for power in range(-4, 4)
        for factor in (1, 2, 5)
        if factor * 10.0**power * view.down / _KM <= 130
    )
    left, right, y = _WIDTH - 16 - length * view.down / _KM, _WIDTH - 16, 20
    label = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    text = f'<text x="{(left + right) / 2:.1f}" y="{y + 17}">{label}</text>'
    return f'<path d="M{left:.1f} {y - 4}V{y}H{right}V{y - 4}"/>{text}'
