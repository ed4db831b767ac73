"""What surrounds a subject: fields, woods, roads, rivers, houses, small car parks. Each call records what it drew.

Backdrops are painted before the subject, which covers part of them; fillers after it, where the ground is still free.
"""

from __future__ import annotations

import math

from duch_training.scenes.canvas import WATER, Canvas, Frame, shade
from duch_training.scenes.props import (
    ROOFS,
    bend,
    beyond,
    blob,
    car,
    field_colour,
    furrows,
    house,
    road,
    roof_colour,
    traffic,
    tree,
    trees,
    water,
)


def side_field(c: Canvas) -> None:
    """Crops or bare soil on one side of the tile."""
    f, outline = beyond(c, c.between(14, 30))
    furrows(c, f, outline, field_colour(c)[1], c.between(1.6, 3.2))
    c.facts.add("beside", "field")


def side_woods(c: Canvas) -> None:
    """Woods on one side of the tile."""
    f, outline = beyond(c, c.between(22, 32))
    floor = shade(c.crowns[0], 0.72)
    c.area(outline, floor, shade(floor, 0.85), soft=0.6)
    for _ in range(150):
        x, y = f.at(c.between(-62, 62), c.between(24, 62))
        if c.inside(x, y, -2):
            tree(c, x, y, c.between(1.6, 2.8))
    c.facts.add("beside", "woods")


def side_road(c: Canvas) -> None:
    """A road near one edge, with a few cars."""
    f = c.frame()
    side = f.turned(0, c.between(28, 40), 0)
    points = bend(c, side, c.between(0, 4))
    width = c.between(2.6, 4.2)
    road(c, points, width)
    traffic(c, points, c.whole(0, 5), width / 4)
    c.facts.add("beside", "road")


def cross_road(c: Canvas) -> None:
    """A road, paved or not, across the tile."""
    dirt = c.chance(0.35)
    points = bend(c, c.frame(22), c.between(0, 9))
    width = c.between(1.6, 2.4) if dirt else c.between(2.6, 4.6)
    road(c, points, width, dirt=dirt)
    if not dirt:
        traffic(c, points, c.whole(0, 5), width / 4)
    c.facts.add("crossed", "dirt road" if dirt else "road")


def cross_river(c: Canvas) -> None:
    """A narrow stream across the tile."""
    name = c.pick(*WATER)
    points = bend(c, c.frame(26), c.between(4, 10))
    width = c.between(3, 5.5)
    c.line(points, shade(c.crowns[0], 1.05), width + 1.6)
    c.line(points, WATER[name][0], width)
    c.reserve_line(points, width + 2)
    c.facts.add("crossed", "stream")


def pond(c: Canvas) -> None:
    """A small pond where there is room."""
    r = c.between(4, 7)
    if place := c.spot(r * 1.2, margin=2):
        water(c, blob(c, *place, r), c.pick(*WATER))
        c.facts.add("beside", "pond")


def houses(c: Canvas) -> None:
    """One to five houses where there is room; counted under "houses"."""
    roof = c.pick(*ROOFS)
    angle = c.between(0, math.pi)
    for _ in range(c.whole(1, 5)):
        w, d = c.between(5, 7.5), c.between(4, 5.5)
        if place := c.spot(4.6):
            house(c, Frame(*place, angle + c.pick(0, math.pi / 2)), w, d, roof_colour(c, roof))
            c.facts.count("houses")


def small_parking(c: Canvas) -> None:
    """A small car park where there is room."""
    if place := c.spot(7.5, tries=60, margin=5):
        f = Frame(*place, c.between(0, math.pi))
        c.fill(f.box(-8, -5, 8, 5), c.asphalt)
        for row in (-3.1, 3.1):
            for i in range(-4, 5):
                c.line([f.at(i * 1.7, row - 1.5), f.at(i * 1.7, row + 1.5)], (206, 206, 202), 0.2)
                if i < 4 and c.chance(0.6):
                    car(c, f.turned(i * 1.7 + 0.85, row, math.pi / 2), k=0.95)
        c.reserve(f.box(-8, -5, 8, 5))
        c.facts.add("beside", "car park")


def scattered_trees(c: Canvas) -> None:
    """Single trees and a clump or two."""
    placed = trees(c, c.whole(12, 60))
    for _ in range(c.whole(0, 2)):
        placed += trees(c, 30, spread=c.between(4, 9))
    if placed >= 8:
        c.facts.add("around", "trees")


BACKDROPS = {
    "field": side_field,
    "woods": side_woods,
    "side road": side_road,
    "road": cross_road,
    "river": cross_river,
}
FILLERS = {"pond": pond, "houses": houses, "car park": small_parking, "trees": scattered_trees}


def backdrop(c: Canvas, *names: str, share: float = 0.75) -> None:
    """At most one of the named backdrops, in `share` of the scenes."""
    if c.chance(share):
        with c.behind():
            BACKDROPS[c.pick(*names)](c)


def fill_up(c: Canvas, *names: str, share: float = 0.35) -> None:
    """Each of the named fillers with probability `share`, and trees in most scenes."""
    for name in names:
        if c.chance(share):
            FILLERS[name](c)
    if c.chance(0.85):
        scattered_trees(c)
