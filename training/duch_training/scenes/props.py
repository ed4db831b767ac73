"""Things that stand in many scenes: trees, houses, vehicles, planes, boats, roads, and the clutter around a subject."""

from __future__ import annotations

import math
from itertools import pairwise

from duch_training.scenes.canvas import SNOW, SOIL, WATER, Canvas, Colour, Frame, Point, Points, mix, shade

ROOFS: dict[str, Colour] = {
    "red": (168, 78, 58),
    "brown": (124, 88, 66),
    "grey": (132, 134, 138),
    "dark": (70, 70, 76),
    "white": (218, 218, 214),
    "blue": (84, 116, 158),
}
CARS: tuple[Colour, ...] = (
    (232, 232, 232),
    (198, 200, 204),
    (40, 42, 48),
    (90, 94, 100),
    (164, 40, 38),
    (44, 74, 136),
    (226, 226, 222),
)


def roof_colour(c: Canvas, name: str) -> Colour:
    """A roof of the named colour; under snow most of it is hidden."""
    colour = c.vary(ROOFS[name], 8)
    return mix(colour, SNOW, c.between(0.6, 0.9)) if c.season == "winter" else colour


def tree(c: Canvas, x: float, y: float, r: float) -> None:
    """One crown with its shadow and its sunlit side."""
    colour = c.crown()
    sx, sy = c.sun
    c.disc(x + sx * r * 0.9, y + sy * r * 0.9, r, (14, 20, 26), 105)
    c.disc(x, y, r, shade(colour, 0.82))
    c.disc(x - sx * r * 0.25, y - sy * r * 0.25, r * 0.66, shade(colour, 1.12))
    if c.season == "winter" and r > 1:
        c.disc(x - sx * r * 0.3, y - sy * r * 0.3, r * 0.35, SNOW, 120)


def trees(c: Canvas, number: int, low: float = 1.2, high: float = 2.6, spread: float = 0) -> int:
    """Trees where the ground is free; with `spread` they stand in a clump. Returns how many found room."""
    placed = 0
    cx, cy = c.between(-45, 45), c.between(-45, 45)
    for _ in range(number):
        r = c.between(low, high)
        x = cx + c.rng.normal(0, spread) if spread else c.between(-51, 51)
        y = cy + c.rng.normal(0, spread) if spread else c.between(-51, 51)
        if c.free(x, y, r * 0.8):
            tree(c, x, y, r)
            placed += 1
    return placed


def block(c: Canvas, points: Points, colour: Colour, height: float) -> None:
    """A flat-roofed building: shadow, roof, parapet."""
    c.shadow(points, height)
    c.fill(points, colour)
    c.line([*points, points[0]], shade(colour, 0.86), 0.35)
    c.reserve(points)


def house(c: Canvas, f: Frame, width: float, depth: float, colour: Colour) -> None:
    """A gabled house around the frame's origin; the half of the roof that faces the sun is lighter."""
    w, d = width / 2, depth / 2
    outline = f.box(-w, -d, w, d)
    c.shadow(outline, 2.4)
    lit = c.sun[0] * -math.sin(f.angle) + c.sun[1] * math.cos(f.angle) > 0
    c.fill(f.box(-w, -d, w, 0), shade(colour, 1.1 if lit else 0.8))
    c.fill(f.box(-w, 0, w, d), shade(colour, 0.8 if lit else 1.1))
    c.reserve(outline)


def car(c: Canvas, f: Frame, colour: Colour | None = None, k: float = 1.0) -> None:
    """A car along the frame's u axis, 2.8 units long at k = 1."""
    colour = colour or c.vary(c.pick(*CARS), 6)
    a, b = 1.4 * k, 0.65 * k
    sx, sy = c.sun[0] * 0.6, c.sun[1] * 0.6
    body = f.box(-a, -b, a, b)
    c.fill([(x + sx, y + sy) for x, y in body], (16, 18, 28), 105)
    c.fill(body, colour)
    c.fill(f.box(-a * 0.5, -b * 0.7, a * 0.4, b * 0.7), shade(colour, 0.62))


def lorry(c: Canvas, f: Frame) -> None:
    """A lorry along the frame's u axis, about 6 units long."""
    c.shadow(f.box(-3, -0.9, 3, 0.9), 1.0)
    c.fill(f.box(-3, -0.9, 1.7, 0.9), c.vary(c.pick((226, 226, 224), (190, 196, 204), (72, 96, 150), (176, 70, 52))))
    c.fill(f.box(1.9, -0.85, 3, 0.85), c.vary(c.pick(*CARS)))


def plane(c: Canvas, f: Frame, length: float, colour: Colour) -> None:
    """An airliner with its nose towards +u; `length` in units, span about the same."""
    q = length / 2
    tip = c.between(0.86, 1.0)
    fuselage = [(1, 0), (0.9, 0.085), (-0.6, 0.085), (-1, 0.02), (-1, -0.02), (-0.6, -0.085), (0.9, -0.085)]
    shapes = [
        [(0.28, 0.05), (-0.22, tip), (-0.36, tip), (-0.12, 0.05)],
        [(0.28, -0.05), (-0.22, -tip), (-0.36, -tip), (-0.12, -0.05)],
        [(-0.72, 0.04), (-0.93, 0.36), (-1.02, 0.36), (-0.93, 0.0)],
        [(-0.72, -0.04), (-0.93, -0.36), (-1.02, -0.36), (-0.93, 0.0)],
        fuselage,
    ]
    sx, sy = c.sun[0] * length * 0.13, c.sun[1] * length * 0.13
    outlines = [[f.at(u * q, v * q) for u, v in shape] for shape in shapes]
    for outline in outlines:
        c.fill([(x + sx, y + sy) for x, y in outline], (20, 22, 34), 110)
    for outline in outlines[:4]:
        c.fill(outline, shade(colour, 0.9))
    for v in (-0.36, 0.36):  # engines
        c.line([f.at(q * 0.16, q * v), f.at(q * -0.02, q * v)], (96, 98, 104), 0.08 * length)
    c.fill(outlines[4], colour)
    c.line([f.at(-q * 0.7, 0), f.at(-q * 0.98, 0)], c.pick((190, 44, 40), (36, 70, 150), (40, 120, 90)), 0.05 * length)
    c.reserve(f.box(-q, -q * tip, q, q * tip))


def boat(c: Canvas, f: Frame, length: float, *, wake: bool = False) -> None:
    """A boat (or, above 11 units, a ship with holds and a bridge) with its bow towards +u."""
    q, w = length / 2, length * (0.17 if length < 11 else 0.11)
    hull = [(-q, -w), (q * 0.45, -w), (q, 0), (q * 0.45, w), (-q, w)]
    if wake:
        c.fill([f.at(-q * 0.6, 0), f.at(-q * 4.5, w * 2.6), f.at(-q * 4.0, -w * 2.6)], (226, 234, 238), 96)
    outline = [f.at(u, v) for u, v in hull]
    c.shadow(outline, 0.9)
    if length < 11:
        c.fill(outline, c.vary((232, 232, 230), 7))
        c.fill(f.box(-q * 0.55, -w * 0.6, q * 0.3, w * 0.6), c.pick((120, 92, 66), (70, 92, 120), (176, 180, 184)))
        return
    c.fill(outline, c.vary(c.pick((120, 52, 46), (52, 66, 92), (70, 74, 78), (146, 150, 152))))
    c.fill([f.at(u * 0.93, v * 0.72) for u, v in hull], c.vary((152, 148, 140)))
    c.fill(f.box(-q * 0.92, -w * 0.8, -q * 0.66, w * 0.8), (236, 236, 232))
    goods: tuple[Colour, ...] = ((176, 70, 52), (60, 96, 150), (72, 128, 92), (208, 168, 74), (196, 196, 192))
    u = -q * 0.58
    while u < q * 0.5:
        c.fill(f.box(u, -w * 0.62, u + length * 0.065, w * 0.62), c.vary(c.pick(*goods)))
        u += length * 0.085


def bend(c: Canvas, f: Frame, swing: float, reach: float = 85.0) -> list[Point]:
    """A gently winding line through the frame's origin along u; `swing` is its amplitude in units."""
    a, b = c.between(0, 2 * math.pi), c.between(0, 2 * math.pi)
    p, q = c.between(0.022, 0.045), c.between(0.06, 0.1)
    base = math.sin(a) + 0.35 * math.sin(b)
    points = []
    for i in range(41):
        u = -reach + i * reach / 20
        points.append(f.at(u, swing * (math.sin(p * u + a) + 0.35 * math.sin(q * u + b) - base)))
    return points


def road(c: Canvas, points: Points, width: float, *, dirt: bool = False) -> None:
    """A road along a polyline: asphalt with a dashed middle line, or bare earth."""
    if dirt:
        c.line(points, c.vary((190, 164, 126) if c.season != "winter" else (176, 168, 160)), width)
    else:
        c.line(points, mix(c.grass, (150, 146, 134), 0.6), width + 1.4)
        c.line(points, c.asphalt, width)
        if width > 2.4:
            dashes(c, points, (232, 230, 220), 0.3)
    c.reserve_line(points, width + 2)


def dashes(c: Canvas, points: Points, colour: Colour, width: float, on: float = 2.2, off: float = 2.4) -> None:
    """A dashed line along a polyline."""
    for (x0, y0), (x1, y1) in pairwise(points):
        span = math.hypot(x1 - x0, y1 - y0)
        if span == 0 or not (c.inside(x0, y0, -20) or c.inside(x1, y1, -20) or span > 40):
            continue
        ux, uy, t = (x1 - x0) / span, (y1 - y0) / span, 0.0
        while t < span:
            e = min(t + on, span)
            c.line([(x0 + ux * t, y0 + uy * t), (x0 + ux * e, y0 + uy * e)], colour, width)
            t += on + off


def traffic(c: Canvas, points: Points, number: int, offset: float, k: float = 1.0) -> int:
    """Cars on a road, keeping to the right of the polyline; returns how many are in the tile."""
    placed = 0
    used: set[int] = set()
    for _ in range(number):
        i = c.whole(0, len(points) - 2)
        (x0, y0), (x1, y1) = points[i], points[i + 1]
        t, side = c.between(0.2, 0.8), c.pick(-1, 1)
        x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
        if i * side in used or not c.inside(x, y, 2):
            continue
        used.add(i * side)
        angle = math.atan2(y1 - y0, x1 - x0)
        car(c, Frame(x, y, angle).turned(0, offset * side, 0 if side > 0 else math.pi), k=k)
        placed += 1
    return placed


def blob(c: Canvas, x: float, y: float, r: float, rough: float = 0.22, stretch: float = 1.0) -> list[Point]:
    """An irregular closed outline around (x, y), mean radius `r`."""
    f = Frame(x, y, c.between(0, math.pi))
    waves = [(k, c.rng.normal(0, rough / k**0.8), c.between(0, 6.3)) for k in range(2, 7)]
    points = []
    for i in range(64):
        t = i * math.pi / 32
        q = r * max(0.4, 1 + sum(a * math.sin(k * t + p) for k, a, p in waves))
        points.append(f.at(q * math.cos(t) * stretch, q * math.sin(t) / stretch))
    return points


def water(c: Canvas, points: Points, name: str, *, shore: bool = True) -> None:
    """Water of a named colour inside an outline, with a thin pale shore."""
    a, b = ((192, 205, 214), (214, 222, 228)) if name == "frozen" else WATER[name]
    light = c.rng.normal(0, 5)
    if shore:
        c.line([*points, points[0]], mix(c.grass, (206, 190, 154), 0.55), 2.2)
    c.area(points, shade(a, 1 + light / 60), shade(b, 1 + light / 60), cells=5)
    c.reserve(points)


def beyond(c: Canvas, distance: float) -> tuple[Frame, list[Point]]:
    """The part of the tile beyond a straight line `distance` units from the centre, at any bearing."""
    f = Frame(0, 0, c.between(0, 2 * math.pi))
    tilt = c.between(-8, 8)
    return f, [f.at(-120, distance - tilt), f.at(120, distance + tilt), f.at(120, 180), f.at(-120, 180)]


def field_colour(c: Canvas) -> tuple[str, Colour]:
    """Name and colour of a crop or of bare soil in this season."""
    if c.season == "winter":
        return "white", c.vary(mix(SNOW, c.pick(*SOIL), c.between(0.0, 0.3)))
    greens: list[Colour] = [(104, 134, 66), (84, 118, 60), (134, 150, 82)]
    yellows: list[Colour] = [(204, 184, 104), (190, 170, 108), (214, 196, 128)]
    weights = {"summer": (0.55, 0.25, 0.2), "autumn": (0.25, 0.3, 0.45), "dry": (0.12, 0.48, 0.4)}[c.season]
    name = str(c.rng.choice(["green", "yellow", "brown"], p=weights))
    return name, c.vary(c.pick(*{"green": greens, "yellow": yellows, "brown": list(SOIL)}[name]), 7)


def furrows(c: Canvas, f: Frame, points: Points, colour: Colour, gap: float) -> None:
    """A field: textured ground with plough lines along the frame's u axis."""
    sheet = c.texture(colour, shade(colour, 0.88), 5, octaves=2)
    us = [(x - f.x) * math.cos(f.angle) + (y - f.y) * math.sin(f.angle) for x, y in points]
    vs = [-(x - f.x) * math.sin(f.angle) + (y - f.y) * math.cos(f.angle) for x, y in points]
    left, right = max(min(us), -75), min(max(us), 75)
    v = max(min(vs), -75)
    with c.painting_on(sheet):
        while v < min(max(vs), 75):
            c.line([f.at(left, v), f.at(right, v)], shade(colour, 0.8), 0.3, 120)
            v += gap
    c.image.paste(sheet, mask=c.mask(points))
