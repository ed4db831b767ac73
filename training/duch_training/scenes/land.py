"""Painters of forest, farmland, solar farm, storage tanks and industrial sheds."""

from __future__ import annotations

import math
from itertools import pairwise

from duch_training.scenes.canvas import SNOW, SOIL, Canvas, Colour, Frame, Point, mix, shade
from duch_training.scenes.clutter import backdrop, cross_river, cross_road, fill_up
from duch_training.scenes.props import (
    bend,
    blob,
    block,
    car,
    field_colour,
    furrows,
    house,
    lorry,
    road,
    roof_colour,
    tree,
)


def forest(c: Canvas) -> None:
    """Crowns over the whole tile, sometimes with a clearing, a track, a stream or a lone house."""
    kind = c.pick("broadleaf", "conifer", "mixed")
    dark: tuple[Colour, ...] = ((36, 62, 44), (44, 72, 50), (34, 56, 46))
    if kind == "conifer":
        c.crowns = tuple(c.vary(d) for d in dark)
    elif kind == "mixed":
        c.crowns = (*c.crowns, *dark)
    floor = shade(c.crowns[0], 0.7)
    if c.season == "winter":
        floor = mix(floor, SNOW, 0.5)
    c.ground(floor, shade(floor, 0.8), cells=8)
    gap = c.pick("none", "none", "clearing", "track", "stream", "house")
    if gap in ("clearing", "house"):
        x, y, r = c.between(-20, 20), c.between(-20, 20), c.between(8, 14)
        outline = blob(c, x, y, r)
        c.area(outline, c.grass, soft=0.8)
        c.reserve(outline)
        c.facts.add("inside", "clearing")
        if gap == "house":
            house(c, Frame(x, y, c.between(0, 3)), 6.5, 5, roof_colour(c, c.pick("red", "brown", "grey")))
            c.facts.count("houses")
    elif gap == "track":
        road(c, bend(c, c.frame(15), c.between(1, 7)), c.between(1.4, 2.2), dirt=True)
        c.facts.add("crossed", "dirt road")
    elif gap == "stream":
        cross_river(c)
    size = c.between(2.0, 3.3)
    step = size * c.between(1.12, 1.5)
    n = int(104 / step)
    for i in range(n + 1):
        for j in range(n + 1):
            x = -52 + (i + c.rng.normal(0, 0.28)) * step
            y = -52 + (j + (i % 2) / 2 + c.rng.normal(0, 0.28)) * step
            if c.free(x, y, size * 0.5):
                tree(c, x, y, size * c.between(0.7, 1.15))
    c.facts.words.update(kind=kind, density="dense" if step / size < 1.3 else "open")


def _split(
    c: Canvas, u0: float, v0: float, u1: float, v1: float, depth: int
) -> list[tuple[float, float, float, float]]:
    if depth == 0 or min(u1 - u0, v1 - v0) < 26 or (depth < 3 and c.chance(0.15)):
        return [(u0, v0, u1, v1)]
    t = c.between(0.35, 0.65)
    if u1 - u0 > v1 - v0:
        m = u0 + (u1 - u0) * t
        return _split(c, u0, v0, m, v1, depth - 1) + _split(c, m, v0, u1, v1, depth - 1)
    m = v0 + (v1 - v0) * t
    return _split(c, u0, v0, u1, m, depth - 1) + _split(c, u0, m, u1, v1, depth - 1)


def farmland(c: Canvas) -> None:
    """A patchwork of fields, or round irrigated fields, with hedges, tracks and a farm."""
    c.ground()
    f = c.frame(6)
    names: dict[str, int] = {}
    if c.season != "winter" and c.chance(0.25):
        dry = c.vary(c.pick(*SOIL, c.grass))
        c.ground(dry, shade(dry, 0.9))
        r = c.between(13, 21)
        circles = 0
        for i in range(-2, 3):
            for j in range(-2, 3):
                x, y = f.at(i * r * 2.12, j * r * 2.12)
                if not c.inside(x, y, -r * 0.8) or c.chance(0.15):
                    continue
                name, colour = field_colour(c)
                ring = [(x + r * math.cos(t / 8), y + r * math.sin(t / 8)) for t in range(51)]
                c.area(ring, colour, shade(colour, 0.86), cells=9)
                for q in (0.35, 0.6, 0.85):
                    c.line([(x + (p[0] - x) * q, y + (p[1] - y) * q) for p in ring], shade(colour, 0.84), 0.3, 120)
                c.line([(x, y), (x + r * math.cos(i + j), y + r * math.sin(i + j))], (228, 228, 222), 0.4)
                if c.inside(x, y):
                    circles += 1
                names[name] = names.get(name, 0) + 1
        c.facts.words["layout"] = "round"
        c.facts.counts["circles"] = circles
    else:
        for u0, v0, u1, v1 in _split(c, -76, -76, 76, 76, c.whole(3, 5)):
            name, colour = field_colour(c)
            outline = f.box(u0, v0, u1, v1)
            rows = f.turned((u0 + u1) / 2, (v0 + v1) / 2, c.pick(0, math.pi / 2))
            furrows(c, rows, outline, colour, c.between(1.3, 3.2))
            c.line([*outline, outline[0]], mix(c.grass, colour, 0.3), c.between(0.5, 1.1))
            if c.inside(*rows.at(0, 0), -8):
                names[name] = names.get(name, 0) + 1
            if c.chance(0.4):
                for _ in range(int((u1 - u0) / 2.6)):
                    x, y = f.at(c.between(u0, u1), v0 + c.rng.normal(0, 0.5))
                    if c.inside(x, y, -2):
                        tree(c, x, y, c.between(1, 2))
        c.facts.words["layout"] = "patchwork"
    top = sorted(names, key=lambda k: (-names[k], k))[:2]
    c.facts.words["colours"] = " and ".join(top)
    if c.chance(0.55):
        c.pick(cross_road, cross_road, cross_river)(c)
    if c.chance(0.4) and (place := c.spot(8)):
        g = Frame(*place, f.angle)
        c.area(g.box(-8, -7, 8, 7), mix(c.grass, (176, 160, 130), 0.4), soft=0.6)
        house(c, g.turned(-3.5, -2, 0), 6, 5, roof_colour(c, "red"))
        block(c, g.box(1, -4, 6.5, 5), roof_colour(c, c.pick("grey", "brown")), 3)
        for _ in range(5):
            x, y = g.at(c.between(-8, 8), c.between(-7, 7))
            if c.free(x, y, 1):
                tree(c, x, y, c.between(1.2, 2))
        c.facts.add("inside", "farm")
    if c.chance(0.4):
        for _ in range(c.whole(3, 12)):
            if place := c.spot(2):
                tree(c, *place, c.between(1.3, 2.4))


def solar_farm(c: Canvas) -> None:
    """Blocks of dark panel rows."""
    c.ground()
    backdrop(c, "field", "woods", "side road", "road", share=0.7)
    f = c.frame(6)
    across = c.pick((1, 1), (2, 1), (2, 1), (2, 2), (3, 1), (3, 2))
    half_u, half_v = c.between(28, 42), c.between(22, 36)
    earth = mix(c.grass, c.pick(*SOIL, c.grass, (190, 180, 160)), c.between(0.1, 0.6))
    if c.season == "winter":
        earth = c.vary((220, 224, 229))
    pad = f.box(-half_u - 2.5, -half_v - 2.5, half_u + 2.5, half_v + 2.5)
    c.area(pad, earth, shade(earth, 0.93))
    c.reserve(pad)
    c.line([*pad, pad[0]], shade(earth, 0.75), 0.3)
    panel = c.vary(c.pick((34, 48, 84), (40, 58, 104), (28, 36, 56), (50, 62, 86)))
    pitch = c.between(2.6, 4.4)
    depth = pitch * c.between(0.52, 0.7)
    rows = 0
    for i in range(across[0]):
        for j in range(across[1]):
            u0 = -half_u + i * 2 * half_u / across[0] + 1.2
            u1 = -half_u + (i + 1) * 2 * half_u / across[0] - 1.2
            v = -half_v + j * 2 * half_v / across[1] + 1.2
            stop = -half_v + (j + 1) * 2 * half_v / across[1] - 1.2
            while v + depth < stop:
                cut = c.between(0, 3) if c.chance(0.15) else 0
                row = f.box(u0 + cut, v, u1, v + depth)
                c.shadow(row, 0.7)
                c.fill(row, shade(panel, c.between(0.93, 1.07)))
                c.line([f.at(u0 + cut, v + 0.15), f.at(u1, v + 0.15)], shade(panel, 1.7), 0.25, 190)
                for k in range(1, int((u1 - u0) / 4)):
                    c.line([f.at(u0 + k * 4, v), f.at(u0 + k * 4, v + depth)], shade(panel, 1.35), 0.2, 120)
                v += pitch
                rows += 1
    if c.chance(0.5):
        block(c, f.box(half_u + 3.5, -2, half_u + 7, 3), (226, 226, 222), 2)
    c.facts.counts["rows"] = rows
    c.facts.counts["blocks"] = across[0] * across[1]
    c.facts.words["panel"] = "blue" if panel[2] - panel[0] > 40 else "dark"
    fill_up(c, "houses", "pond", share=0.2)


def storage_tanks(c: Canvas) -> None:
    """Round tanks with long shadows, walls around them and pipes between."""
    c.ground()
    backdrop(c, "field", "road", "side road", "woods", share=0.6)
    f = c.frame(4)
    gravel = c.vary(c.pick((176, 166, 150), (150, 146, 142), (188, 178, 158), shade(c.grass, 0.95)))
    yard = f.box(-43, -43, 43, 43) if c.chance(0.6) else f.box(-95, -36, 95, 36)
    c.area(yard, gravel, shade(gravel, 0.9))
    wanted = c.pick(1, 2, 3, 4, 4, 5, 6, 6, 7, 8, 9, 10, 14)
    base = c.between(9, 13) if wanted < 4 else c.between(7, 10) if wanted < 7 else c.between(5, 6.6)
    name = c.pick("white", "white", "grey", "rust")
    tone: Colour = {"white": (232, 232, 228), "grey": (176, 180, 182), "rust": (158, 122, 98)}[name]
    spots: list[tuple[Point, float]] = []
    grid = c.chance(0.6)
    cols = math.ceil(math.sqrt(wanted))
    gap = base * c.between(2.5, 2.9)
    for i in range(wanted * 40):
        if len(spots) == wanted:
            break
        if grid and i < wanted:
            u = (i % cols - (cols - 1) / 2) * gap
            v = (i // cols - (math.ceil(wanted / cols) - 1) / 2) * gap
            place, r = f.at(u, v), base
        else:
            place, r = f.at(c.between(-38, 38), c.between(-34, 34)), base * c.between(0.6, 1.1)
        clear = all(math.dist(place, p) > r + q + 2.5 for p, q in spots)
        if clear and c.inside(*place, r * 0.75):
            spots.append((place, r))
    for place, r in spots:
        if grid:
            g = Frame(*place, f.angle)
            wall = g.box(-r - 1.5, -r - 1.5, r + 1.5, r + 1.5)
            c.line([*wall, wall[0]], shade(gravel, 0.7), 0.5)
    if len(spots) > 1:
        for (a, _), (b, _) in pairwise(spots):
            c.line([a, b], (196, 194, 188), 0.6)
    for (x, y), r in spots:
        colour = c.vary(tone, 6)
        if c.season == "winter":
            colour = mix(colour, SNOW, 0.5)
        ring = [(x + r * math.cos(t / 5), y + r * math.sin(t / 5)) for t in range(32)]
        c.shadow(ring, r * 0.8)
        c.disc(x, y, r, shade(colour, 0.72))
        c.disc(x, y, r * 0.94, colour)
        sx, sy = c.sun
        if c.chance(0.4):  # a floating roof lies deep, so the wall throws a crescent inside
            c.disc(x, y, r * 0.86, shade(colour, 0.6))
            c.disc(x + sx * r * 0.13, y + sy * r * 0.13, r * 0.76, shade(colour, 0.92))
        else:
            c.disc(x - sx * r * 0.16, y - sy * r * 0.16, r * 0.6, shade(colour, 1.05))
            c.disc(x, y, r * 0.12, shade(colour, 0.8))
        c.reserve(ring)
    c.facts.counts["tanks"] = len(spots)
    c.facts.words.update(tank=name, layout="rows" if grid and wanted > 3 else "loose")
    c.reserve(f.box(-20, -20, 20, 20))
    for _ in range(c.whole(0, 2)):
        if free := c.spot(6.5, margin=4):
            g = Frame(*free, f.angle)
            block(c, g.box(-5, -3.5, 5, 3.5), roof_colour(c, c.pick("grey", "white", "blue")), 3)
            c.facts.count("buildings")
    fill_up(c, "car park", "pond", share=0.2)


def industrial_sheds(c: Canvas) -> None:
    """Big flat roofs in a paved yard, with lorries and cars."""
    c.ground()
    backdrop(c, "field", "woods", "side road", share=0.5)
    f = c.frame(5)
    yard = f.box(-46, -42, 46, 42) if c.chance(0.6) else f.box(-95, -40, 95, 40)
    c.area(yard, mix(c.concrete, c.asphalt, c.between(0.1, 0.8)))
    wanted = c.whole(1, 6)
    cells = {1: [(0, 0)], 2: [(0, -1), (0, 1)]}.get(wanted, [(i, j) for i in (-1, 0, 1) for j in (-1, 1)])
    name = c.pick("white", "grey", "blue", "brown", "mixed", "red")
    drawn = 0
    for i in c.rng.permutation(len(cells)):
        if drawn == wanted:
            break
        ci, cj = cells[int(i)]
        if wanted == 1:
            w, d = c.between(44, 58), c.between(26, 40)
        elif wanted == 2:
            w, d = c.between(40, 60), c.between(18, 25)
        else:
            w, d = c.between(17, 23), c.between(20, 29)
        u, v = ci * 27.0, cj * (17.0 if wanted > 2 else 16.0)
        if not c.inside(*f.at(u, v), 6):
            continue
        roof = c.pick("white", "grey", "blue", "brown") if name == "mixed" else name
        colour = roof_colour(c, roof)
        outline = f.box(u - w / 2, v - d / 2, u + w / 2, v + d / 2)
        block(c, outline, colour, c.between(3, 4.5))
        lengthwise = w > d
        spans = c.whole(1, 3)
        for k in range(spans):  # ridges with a bright and a dim slope
            a, b = (k / spans, (k + 0.5) / spans)
            if lengthwise:
                c.fill(f.box(u - w / 2, v - d / 2 + a * d, u + w / 2, v - d / 2 + b * d), shade(colour, 0.91))
            else:
                c.fill(f.box(u - w / 2 + a * w, v - d / 2, u - w / 2 + b * w, v + d / 2), shade(colour, 0.91))
        long, short = (w, d) if lengthwise else (d, w)
        g = f.turned(u, v, 0 if lengthwise else math.pi / 2)
        t = -long / 2 + 2
        while t < long / 2 - 1:
            c.line([g.at(t, -short / 2), g.at(t, short / 2)], shade(colour, 0.84), 0.2, 110)
            t += 2.1
        if c.chance(0.6):  # skylights or vents
            t = -long / 2 + 4
            while t < long / 2 - 3:
                c.fill(g.box(t, -short * 0.3, t + 1.6, -short * 0.12), shade(colour, 1.2))
                c.fill(g.box(t, short * 0.12, t + 1.6, short * 0.3), shade(colour, 1.2))
                t += 5
        drawn += 1
    c.facts.counts["sheds"] = drawn
    c.facts.words["roof"] = name
    lorries = 0
    for _ in range(c.whole(0, 8)):
        u, v = c.between(-42, 42), c.between(-38, 38)
        x, y = f.at(u, v)
        if c.free(x, y, 2.4) and c.inside(x, y, 3):
            g = Frame(x, y, f.angle + c.pick(0, math.pi / 2))
            lorry(c, g)
            c.reserve(g.box(-3, -1, 3, 1))
            lorries += 1
    if lorries:
        c.facts.counts["lorries"] = lorries
    for _ in range(c.whole(0, 14)):
        x, y = f.at(c.between(-42, 42), c.between(-38, 38))
        if c.free(x, y, 1.5):
            car(c, Frame(x, y, f.angle + c.pick(0, math.pi / 2)))
    c.reserve(yard)
    fill_up(c, "car park", "houses", share=0.35)
