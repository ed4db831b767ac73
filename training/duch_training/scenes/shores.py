"""Painters of harbour, river, lake and beach."""

from __future__ import annotations

import math

from duch_training.scenes.canvas import WATER, Canvas, Frame, mix, shade
from duch_training.scenes.clutter import backdrop, fill_up
from duch_training.scenes.props import (
    ROOFS,
    bend,
    blob,
    block,
    boat,
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


def harbour(c: Canvas) -> None:
    """Piers in the water with moored boats or ships, and a quay."""
    name = c.pick("blue", "green", "dark", "blue")
    a, b = WATER[name]
    c.ground(c.vary(a, 5), c.vary(b, 5), cells=3)
    f = c.frame(4)
    edge = -c.between(14, 26)
    quay = f.box(-95, -95, 95, edge)
    c.area(quay, c.concrete, shade(c.concrete, 0.9))
    c.line([f.at(-95, edge), f.at(95, edge)], shade(c.concrete, 0.6), 0.8)
    marina = c.chance(0.55)
    piers = c.whole(2, 5) if marina else c.whole(1, 3)
    gap = 78 / piers
    planks = c.vary(c.pick((178, 168, 150), (196, 192, 184), (140, 120, 98)))
    ships = 0
    wanted = c.pick(2, 3, 4, 5, 6, 8, 10, 14, 24) if marina else c.pick(1, 2, 3, 4, 5, 6)
    berths = []
    for i in range(piers):
        u = -39 + gap * (i + 0.5) + c.between(-2, 2)
        reach = edge + c.between(32, 50)
        half = 0.9 if marina else 2.2
        c.shadow(f.box(u - half, edge, u + half, reach), 0.6)
        c.fill(f.box(u - half, edge - 0.5, u + half, reach), planks)
        c.reserve(f.box(u - half - 1, edge, u + half + 1, reach + 1))
        for side in (-1, 1):
            if marina:
                v = edge + 5
                while v < reach - 1:
                    length = c.between(5, 7.5)
                    berths.append(
                        (f.turned(u + side * (half + 0.4 + length / 2), v, 0 if side > 0 else math.pi), length)
                    )
                    v += 3.3
            else:
                length = c.between(17, min(25, reach - edge - 3))
                along = c.pick(1, -1) * math.pi / 2
                berths.append((f.turned(u + side * (half + length * 0.13), (edge + reach) / 2 + 2, along), length))
    for i in c.rng.permutation(len(berths)):
        g, length = berths[int(i)]
        if ships < wanted and c.inside(g.x, g.y, length * 0.3):
            boat(c, g, length)
            c.reserve(g.box(-length / 2, -1.5, length / 2, 1.5))
            ships += 1
    if c.chance(0.4) or ships == 0:
        g = f.turned(c.between(-20, 20), edge + c.between(52, 58), c.between(-0.4, 0.4))
        length = c.between(6, 9) if marina else c.between(14, 20)
        if c.inside(g.x, g.y, 5) or ships == 0:
            g = g if c.inside(g.x, g.y, 5) else Frame(f.at(0, 26)[0], f.at(0, 26)[1], g.angle)
            boat(c, g, length, wake=True)
            ships += 1
    c.facts.counts["ships"] = ships
    c.facts.counts["piers"] = piers
    c.facts.words.update(kind="marina" if marina else "port", water=name)
    c.reserve(f.box(-95, edge, 95, 95))  # nothing else floats
    if not marina and c.chance(0.7):
        goods = ((176, 70, 52), (60, 96, 150), (72, 128, 92), (208, 168, 74), (196, 196, 192))
        for _ in range(c.whole(12, 34)):
            g = f.turned(c.between(-46, 46), edge - c.between(4, 12), 0)
            c.shadow(g.box(-2.4, -1, 2.4, 1), 0.8)
            c.fill(g.box(-2.4, -1, 2.4, 1), c.vary(c.pick(*goods)))
        c.facts.add("beside", "containers")
        c.reserve(f.box(-50, edge - 14, 50, edge))
    for _ in range(c.whole(0, 4)):
        w, d = c.between(10, 20), c.between(7, 10)
        u, v = c.between(-40, 40), edge - c.between(10, 30)
        middle = f.at(u, v)
        if c.free(*middle, 7) and c.inside(*middle, 3):
            block(c, f.box(u - w / 2, v - d / 2, u + w / 2, v + d / 2), roof_colour(c, c.pick(*ROOFS)), 3)
            c.facts.count("buildings")
    fill_up(c, "car park", share=0.3)


def river(c: Canvas) -> None:
    """A winding river, sometimes bridged, with fields, woods or houses on its banks."""
    c.ground()
    f = c.frame(7)
    kind = c.pick("fields", "woods", "grass", "grass", "fields")
    for side in (-1, 1):
        bank = f.box(-95, 0, 95, side * 95)
        if kind == "fields" and c.chance(0.8):
            furrows(c, f.turned(0, 0, c.between(-0.5, 0.5)), bank, field_colour(c)[1], c.between(1.6, 3))
            c.facts.add("through", "fields")
        elif kind == "woods" and c.chance(0.8):
            floor = shade(c.crowns[0], 0.8)
            c.area(bank, floor, shade(floor, 0.85))
            c.facts.add("through", "bank woods")
    name = c.pick("blue", "green", "dark", "brown", "green")
    swing = c.between(1, 13)
    points = bend(c, f, swing)
    width = c.between(9, 20)
    a, b = WATER[name]
    bankside = c.vary(c.pick((196, 182, 148), shade(c.crowns[0], 0.95), shade(c.grass, 0.84)))
    c.line(points, bankside, width + c.between(1.5, 4))
    sheet = c.texture(c.vary(a, 5), c.vary(b, 5), 5)
    layer = c.noise(2, 1).point(lambda _: 0)
    with c.painting_on(layer.convert("RGB")):
        c.line(points, (255, 255, 255), width)
        layer = c.image.convert("L")
    c.image.paste(sheet, mask=layer)
    c.reserve_line(points, width + 3)
    bars = c.whole(0, 2) if name != "dark" else 0
    for _ in range(bars):
        x, y = points[c.whole(14, 26)]
        c.area(blob(c, x, y, width * 0.17, stretch=1.3), c.sand, soft=0.3)
    if c.chance(0.4):
        for _ in range(c.pick(1, 1, 2)):
            i = c.whole(16, 24)
            (x0, y0), (x1, y1) = points[i], points[i + 1]
            g = Frame(x0, y0, math.atan2(y1 - y0, x1 - x0) + math.pi / 2 + c.between(-0.2, 0.2))
            if not c.inside(x0, y0, 10) or (c.facts.counts.get("bridges", 0) and c.chance(0.7)):
                continue
            c.shadow(g.box(-width * 0.75, -2.2, width * 0.75, 2.2), 2)
            line = [g.at(-95, 0), g.at(95, 0)]
            road(c, line, 3.8)
            c.line([g.at(-width * 0.7, -2.1), g.at(width * 0.7, -2.1)], (206, 204, 198), 0.5)
            c.line([g.at(-width * 0.7, 2.1), g.at(width * 0.7, 2.1)], (206, 204, 198), 0.5)
            traffic(c, [g.at(u, 0) for u in range(-45, 46, 6)], c.whole(0, 4), 0.95)
            c.facts.count("bridges")
    boats = c.pick(0, 0, 0, 1, 1, 2, 3)
    for i in c.rng.permutation(range(12, 29))[:boats]:
        (x0, y0), (x1, y1) = points[int(i)], points[int(i) + 1]
        if c.inside(x0, y0, 5) and not c.facts.counts.get("bridges"):
            g = Frame(x0, y0, math.atan2(y1 - y0, x1 - x0)).turned(0, c.between(-0.2, 0.2) * width, c.pick(0, math.pi))
            boat(c, g, c.between(4.5, 8), wake=c.chance(0.6))
            c.facts.count("boats")
    c.facts.words.update(water=name, shape="winding" if swing > 5 else "straight")
    if kind == "woods":
        trees(c, 320, 1.6, 2.9)
    else:
        for x, y in points:  # trees keep to the banks
            for side in (-1, 1):
                r = c.between(1.3, 2.4)
                g = Frame(x + c.between(-2, 2), y + c.between(-2, 2), f.angle)
                tx, ty = g.at(0, side * (width / 2 + c.between(2, 9)))
                if c.chance(0.5) and c.free(tx, ty, r):
                    tree(c, tx, ty, r)
        fill_up(c, "houses", share=0.35)


def lake(c: Canvas) -> None:
    """One still water body inside the tile, with islands, a jetty or houses around."""
    c.ground()
    backdrop(c, "field", "woods", "side road", "side road", share=0.7)
    x, y = c.between(-9, 9), c.between(-9, 9)
    r = c.between(19, 33)
    name = c.pick("blue", "green", "dark", "brown", "blue")
    if c.season == "winter" and c.chance(0.4):
        name = "frozen"
    outline = blob(c, x, y, r, 0.16, c.between(0.9, 1.2))
    if c.chance(0.5):
        rim = [(x + (px - x) * 1.09, y + (py - y) * 1.09) for px, py in outline]
        c.area(rim, mix(c.sand, c.grass, 0.35), c.grass, soft=0.5)
    water(c, outline, name)
    islands = c.pick(0, 0, 0, 1, 1, 2)
    for i in range(islands):
        t = c.between(0, 3) + math.pi * i
        ix, iy = x + r * 0.38 * math.cos(t), y + r * 0.38 * math.sin(t)
        size = r * c.between(0.11, 0.17)
        c.area(blob(c, ix, iy, size), shade(c.grass, 0.9))
        for _ in range(7):
            tree(c, ix + c.rng.normal(0, size * 0.4), iy + c.rng.normal(0, size * 0.4), c.between(1.1, 1.9))
    if islands:
        c.facts.counts["islands"] = islands
    if name != "frozen" and c.chance(0.4):
        px, py = outline[c.whole(0, 63)]
        g = Frame(px, py, math.atan2(y - py, x - px))
        c.line([g.at(-2, 0), g.at(6, 0)], (176, 158, 132), 1.0)
        c.facts.add("beside", "jetty")
        for _ in range(c.pick(1, 1, 2, 3)):
            b = g.turned(c.between(9, r * 0.5), c.between(-7, 7), c.between(0, 6.3))
            if c.inside(b.x, b.y, 4) and math.dist((b.x, b.y), (x, y)) > r * 0.55 if islands else True:
                boat(c, b, c.between(4, 6))
                c.facts.count("boats")
    c.facts.words["water"] = name
    if c.chance(0.45):
        trees(c, 300, 1.6, 2.8)
        c.facts.add("around", "woods")
    fill_up(c, "houses", "car park", share=0.3)


def beach(c: Canvas) -> None:
    """Sea, surf and sand side by side, with what stands behind the sand."""
    c.ground()
    f = c.frame(4)
    line = [f.turned(0, c.between(-7, 9), 0).at(0, 0)]
    coast = bend(c, Frame(*line[0], f.angle), c.between(1, 6))
    sea = [f.at(95, 120), f.at(-95, 120)]
    depth = c.between(11, 22)

    def moved(amount: float) -> list[tuple[float, float]]:
        dx, dy = f.at(0, amount)[0] - f.x, f.at(0, amount)[1] - f.y
        return [(x + dx, y + dy) for x, y in coast]

    name = c.pick("blue", "blue", "green", "turquoise")
    deep, lighter = ((38, 120, 140), (52, 138, 152)) if name == "turquoise" else WATER[name]
    shallow = mix(lighter, (128, 196, 188), 0.55)
    c.area([*moved(-depth), *sea], c.sand, shade(c.sand, 0.94), cells=8, soft=0.8)
    c.area([*moved(-2.5), *sea], shade(c.sand, 0.8), soft=0.6)  # wet sand
    c.area([*coast, *sea], shallow, shade(shallow, 0.95))
    c.area([*moved(9), *sea], mix(shallow, deep, 0.55), soft=3.0)
    c.area([*moved(17), *sea], deep, lighter, cells=4, soft=4.0)
    waves = c.whole(1, 4)
    for i in range(waves):
        row = moved(0.2 + i * c.between(2.6, 4.2))
        start = 0 if i == 0 else c.whole(2, 12)
        stop = 41 if i == 0 else c.whole(26, 40)
        wobble = [(x + c.between(-0.5, 0.5), y + c.between(-0.5, 0.5)) for x, y in row[start:stop]]
        c.line(wobble, (242, 246, 246), c.between(0.5, 1.5), 210 if i < 2 else 130)
    c.reserve([*moved(-1), *sea])
    kinds = ("umbrellas", "none", "umbrellas", "none", "none")
    if c.pick(*kinds) == "umbrellas":
        parasols = ((206, 60, 50), (236, 236, 236), (60, 110, 190), (232, 190, 70))
        for _ in range(c.whole(8, 40)):
            i = c.whole(8, 32)
            x, y = moved(-c.between(3.5, depth - 3))[i]
            x, y = x + c.between(-2, 2), y + c.between(-2, 2)
            if c.inside(x, y, 1):
                c.disc(x + c.sun[0], y + c.sun[1], 0.8, (70, 60, 50), 110)
                c.disc(x, y, 0.85, c.pick(*parasols))
                c.facts.count("umbrellas")
    c.reserve([*moved(-depth - 1), *sea])
    boats = c.pick(0, 0, 1, 2, 3, 4)
    for _ in range(boats):
        x, y = f.at(c.between(-36, 36), c.between(16, 42))
        if c.inside(x, y, 4) and all(math.dist((x, y), p) > 10 for p in coast):
            boat(c, Frame(x, y, c.between(0, 6.3)), c.between(4, 7), wake=c.chance(0.4))
            c.facts.count("boats")
    behind = c.pick("trees", "houses", "road", "grass")
    if behind == "road":
        points = moved(-depth - 6)
        road(c, points, c.between(2.6, 4))
        traffic(c, points, c.whole(0, 5), 0.8)
        c.facts.add("beside", "road")
    if behind == "houses":
        roof = c.pick(*ROOFS)
        for i in range(2, 39, 1):
            for back in (6, 15, 24):
                x, y = moved(-depth - back)[i]
                if c.free(x, y, 4.2) and c.inside(x, y, 3):
                    house(c, Frame(x, y, f.angle), c.between(5.5, 8), c.between(4.5, 6), roof_colour(c, roof))
                    c.facts.count("houses")
    if behind == "trees":
        if trees(c, 220, 1.5, 2.7) > 25:
            c.facts.add("beside", "woods")
    else:
        fill_up(c, "car park", share=0.2)
    c.facts.words["water"] = name
