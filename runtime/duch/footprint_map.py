"""A plain map of the footprints of hits, as SVG: equirectangular, fitted to them, with a graticule.

Longitudes are counted on from the west end of the map, so that it has no seam where footprints are.
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
from .map_view import WIDTH, MapView, Point
from .tile import Hit

_LEAST_MARK = 9  # pixels; a footprint that would be smaller both ways gets a dot
_DOT = 4.5
_LABEL_HEIGHT, _DIGIT = 14, 7

Line = list[Point]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Footprint:
    """A hit with the rings of its footprint, or its line or point, in degrees."""

    hit: Hit
    lines: list[Line]


def footprint_map(hits: Sequence[Hit]) -> str:
    """The map as an `<svg>` element; empty where no hit has a footprint.

    Each footprint is a link `map-RANK` to `hit-RANK` with the attribute `data-rank`; the best lie on top.
    """
    footprints = _unrolled([_Footprint(hit, lines) for hit in hits if (lines := _lines(hit))])
    if not footprints:
        return ""
    view = MapView.of([point for each in footprints for line in each.lines for point in line])
    labelled: list[Box] = []
    marks = [_mark(footprint, view, labelled) for footprint in footprints]
    return (
        f'<svg viewBox="0 0 {WIDTH} {view.height:g}" role="group" aria-label="Map of the footprints">'
        f'<g class="graticule" aria-hidden="true">{view.graticule()}</g>{"".join(reversed(marks))}'
        f'<g class="scale" aria-hidden="true">{view.scale()}</g></svg>'
    )


def _lines(hit: Hit) -> list[Line]:
    """The lines of a hit's footprint; none where it has no place on the map."""
    geometry = geometry_of(hit)
    return [] if geometry is None else list(_lines_in(geometry["coordinates"]))


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


def _mark(footprint: _Footprint, view: MapView, labelled: list[Box]) -> str:
    """A footprint as a link, with its rank where that lies on no label of a better one; `labelled` grows by it."""
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
