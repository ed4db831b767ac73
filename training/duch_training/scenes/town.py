"""Painters of dense and sparse residential areas, parking lot, baseball field, tennis courts and stadium."""

from __future__ import annotations

import math

from duch_training.scenes.canvas import Canvas, Colour, Frame, Point, mix, shade
from duch_training.scenes.clutter import backdrop, cross_river, fill_up, small_parking
from duch_training.scenes.props import (
    bend,
    blob,
    block,
    car,
    house,
    road,
    roof_colour,
    traffic,
    tree,
    trees,
    water,
)

WHITE: Colour = (238, 238, 234)


def dense_residential(c: Canvas) -> None:
    """Streets lined with close rows of houses."""
    c.ground(mix(c.grass, (160, 152, 138), 0.35))
    f = c.frame(6)
    if c.chance(0.15):
        cross_river(c)
    pitch = c.between(19, 25)
    street = c.between(2.8, 3.8)
    start = c.between(-pitch / 2, pitch / 2)
    rows = [start + i * pitch for i in range(-4, 5)]
    cross = [c.between(-30, -8), c.between(10, 34)] if c.chance(0.7) else [c.between(-20, 20)]
    lines = [[f.at(-95, v), f.at(95, v)] for v in rows] + [[f.at(u, -95), f.at(u, 95)] for u in cross]
    for line in lines:
        c.line(line, mix(c.grass, (196, 190, 180), 0.7), street + 1.6)
        c.reserve_line(line, street + 1.5)
    for line in lines:
        c.line(line, c.asphalt, street)
    roof = c.pick("red", "red", "brown", "grey", "dark", "mixed")
    w0, d0 = c.between(4.6, 6.8), c.between(4.8, 6.2)
    gap = c.between(0.4, 1.6)
    drawn = 0
    for v in rows:
        for side in (-1, 1):
            u = -72 + c.between(0, 5)
            while u < 72:
                w = w0 * c.between(0.88, 1.12)
                g = f.turned(u, v + side * (street / 2 + 1.6 + d0 / 2), 0)
                if c.inside(g.x, g.y, -4) and not any(abs(u - q) < street / 2 + w / 2 + 0.8 for q in cross):
                    name = c.pick("red", "brown", "grey", "dark") if roof == "mixed" else roof
                    turn = math.pi / 2 if c.chance(0.15) else 0.0
                    house(c, g.turned(0, 0, turn), w, d0, roof_colour(c, name))
                    drawn += c.inside(g.x, g.y)
                u += w + gap
    for line in lines:
        (x0, y0), (x1, y1) = line
        points = [(x0 + (x1 - x0) * t / 60, y0 + (y1 - y0) * t / 60) for t in range(61)]
        traffic(c, points, 9, street / 3.2, k=0.9)
    c.facts.counts["houses"] = drawn
    c.facts.words["roof"] = roof
    if trees(c, c.whole(60, 220), 0.9, 1.8) > 25:
        c.facts.add("around", "trees")


def sparse_residential(c: Canvas) -> None:
    """A few houses with big gardens, drives and pools along a winding road."""
    c.ground()
    backdrop(c, "field", "woods", "woods", share=0.6)
    line = bend(c, c.frame(10), c.between(1, 9))
    road(c, line, c.between(2.8, 4))
    wanted = c.whole(2, 9)
    roof = c.pick("red", "brown", "grey", "dark", "mixed")
    drawn = 0
    for i in c.rng.permutation(range(8, 33)):
        (x0, y0), (x1, y1) = line[int(i)], line[int(i) + 1]
        side = c.pick(-1, 1)
        g = Frame(x0, y0, math.atan2(y1 - y0, x1 - x0)).turned(0, side * c.between(10, 17), c.between(-0.25, 0.25))
        if drawn == wanted or not c.inside(g.x, g.y, 6) or not c.free(g.x, g.y, 7):
            continue
        drive = [g.at(2, 0), g.at(2, -side * 18)]
        lawn = g.box(-8, -7, 8, 7)
        c.area(lawn, shade(c.grass, 1.06), c.grass, soft=0.9)
        c.line([drive[0], ((drive[1][0] + x0) / 2, (drive[1][1] + y0) / 2), (x0, y0)], c.concrete, 1.4)
        name = c.pick("red", "brown", "grey", "dark") if roof == "mixed" else roof
        colour = roof_colour(c, name)
        house(c, g, c.between(7.5, 9.5), c.between(5.4, 6.8), colour)
        if c.chance(0.5):
            house(c, g.turned(3, side * 2.4, math.pi / 2), 6, 4.4, colour)
        if c.season != "winter" and c.chance(0.3):
            pool = g.turned(-5, side * 5.4, 0)
            c.fill(pool.box(-2.4, -1.6, 2.4, 1.6), (214, 208, 196))
            c.fill(pool.box(-1.9, -1.1, 1.9, 1.1), (72, 172, 196))
            c.facts.count("pools")
        c.reserve(g.box(-7, -6.5, 7, 6.5))
        drawn += 1
    if drawn == 0 and (place := c.spot(5, tries=200)):
        house(c, Frame(*place, c.between(0, 3)), 8.5, 6, roof_colour(c, "red" if roof == "mixed" else roof))
        drawn = 1
    c.facts.counts["houses"] = drawn
    c.facts.words["roof"] = roof
    traffic(c, line, c.whole(0, 3), 0.9)
    if c.chance(0.2) and (place := c.spot(8)):
        water(c, blob(c, *place, 5.5), "dark")
        c.facts.add("beside", "pond")
    if trees(c, c.whole(50, 240), 1.3, 2.7) > 30:
        c.facts.add("around", "trees")


def parking_lot(c: Canvas) -> None:
    """Rows of stalls, more or less full of cars, and often a building."""
    c.ground()
    backdrop(c, "side road", "field", share=0.5)
    f = c.frame(5)
    half_u, rows = c.between(30, 44), c.whole(3, 7)
    pitch = c.between(10.4, 11.4)  # two rows of stalls and a lane
    half_v = rows * pitch / 2
    lot = f.box(-half_u - 3, -half_v - 1, half_u + 3, half_v + 1)
    c.area(lot, c.asphalt, shade(c.asphalt, 0.9))
    fill = c.pick(0.04, 0.5, 0.5, 0.88, 0.88)
    islands = c.chance(0.35)
    cars = 0
    for j in range(rows):
        for side in (-1, 1):
            v = -half_v + (j + 0.5) * pitch + side * (pitch / 2 - 1.9)
            u = -half_u
            while u < half_u - 1.8:
                c.line([f.at(u, v - 1.8), f.at(u, v + 1.8)], (212, 212, 206), 0.25)
                spot = f.turned(u + 1.05, v, math.pi / 2 * side)
                if c.chance(fill) and c.inside(spot.x, spot.y, -1):
                    car(c, spot, k=1.06)
                    cars += c.inside(spot.x, spot.y)
                u += 2.1
        if islands:
            v = -half_v + j * pitch
            c.line([f.at(-half_u, v), f.at(half_u, v)], shade(c.grass, 0.95), 1.2)
            for u in range(int(-half_u) + 3, int(half_u), 9):
                x, y = f.at(u, v)
                tree(c, x, y, c.between(1.2, 1.9))
    c.reserve(lot)
    c.facts.counts["cars"] = cars
    c.facts.words["fill"] = "empty" if fill < 0.3 else "half" if fill < 0.7 else "full"
    if islands:
        c.facts.add("inside", "trees")
    if half_v < 30 and c.chance(0.7):
        side = c.pick(-1, 1)
        near, far = side * (half_v + 4), side * (half_v + c.between(18, 26))
        outline = f.box(-half_u * c.between(0.5, 1), min(near, far), half_u * c.between(0.5, 1), max(near, far))
        if c.inside(*f.at(0, near + side * 4)):
            roof = c.pick("white", "grey", "red", "brown", "blue")
            block(c, outline, roof_colour(c, roof), 3.6)
            c.facts.words["building"] = roof
    fill_up(c, "houses", "pond", share=0.2)


def _diamond(c: Canvas, f: Frame, r: float, clay: Colour) -> None:
    """One baseball field with home plate at the origin, opening towards +u."""
    quarter = math.pi / 4
    grass = shade(c.grass, 1.0) if c.season != "dry" else c.vary((122, 138, 80))

    def sector(radius: float, spread: float = quarter) -> list[Point]:
        arc = [f.at(radius * math.cos(t), radius * math.sin(t)) for t in (spread * k / 12 for k in range(-12, 13))]
        return [f.at(-radius * 0.02, 0), *arc]

    c.line([*sector(r), f.at(0, 0)], clay, r * 0.07)
    c.area(sector(r), grass, shade(grass, 0.92))
    with c.painting_on(sheet := c.image.copy()):
        for i in range(0, 24, 2):  # mowing stripes
            c.fill(f.box(-2 + i * r / 20, -r, -2 + (i + 1) * r / 20, r), shade(grass, 1.12), 150)
    c.image.paste(sheet, mask=c.mask(sector(r * 0.97, quarter * 0.98)))
    side = r * 0.34
    c.area(sector(side * 1.62, quarter * 1.06), clay, shade(clay, 0.93), cells=14)
    diamond = f.turned(side * 0.17, 0, quarter)
    c.fill(diamond.box(0, -side * 0.94, side * 0.94, 0), shade(grass, 1.04))
    c.disc(*f.at(side * 0.7, 0), side * 0.13, clay)
    c.disc(*f.at(0, 0), side * 0.3, clay)
    for t in (-quarter, quarter):
        c.line([f.at(0, 0), f.at(r * math.cos(t), r * math.sin(t))], WHITE, 0.35)
    for u, v in ((0.0, 0.0), (0.707, 0.707), (1.414, 0.0), (0.707, -0.707)):
        c.fill(f.turned(u * side, v * side, quarter).box(-0.5, -0.5, 0.5, 0.5), WHITE)
    c.line([f.at(-r * 0.1, -r * 0.12), f.at(-r * 0.15, 0), f.at(-r * 0.1, r * 0.12)], (120, 122, 126), 0.6)
    c.reserve(sector(r * 1.04))


def baseball_field(c: Canvas) -> None:
    """One to four diamonds of clay in mown outfields."""
    c.ground()
    backdrop(c, "woods", "side road", "field", share=0.6)
    clay = c.vary(c.pick((186, 140, 98), (170, 118, 84), (200, 164, 122)))
    wanted = c.pick(1, 1, 1, 2, 2, 3, 4)
    f = c.frame(4)
    if wanted == 1:
        r = c.between(46, 62)
        _diamond(c, f.turned(-r * 0.48, 0, 0), r, clay)
    else:
        r = c.between(30, 36) if wanted == 2 else c.between(29, 33)
        for i in range(wanted):
            turn = i * (math.pi if wanted == 2 else math.pi / 2)
            _diamond(c, f.turned(0, 0, turn).turned(5.5, 0, 0), r, clay)
    c.facts.counts["diamonds"] = wanted
    c.facts.words["clay"] = "brown" if clay[0] < 192 else "sandy"
    if c.chance(0.4):
        small_parking(c)
    fill_up(c, "houses", share=0.25)


def tennis_courts(c: Canvas) -> None:
    """One to eight courts in a row or a grid."""
    c.ground()
    backdrop(c, "woods", "side road", "field", share=0.5)
    f = c.frame(5)
    inner_name, inner, outer = c.pick(
        ("blue", (62, 100, 158), (84, 132, 98)),
        ("blue", (58, 96, 150), (58, 96, 150)),
        ("green", (74, 122, 88), (160, 90, 70)),
        ("green", (70, 120, 90), (98, 146, 110)),
        ("red", (182, 98, 68), (182, 98, 68)),
        ("red", (176, 88, 66), (92, 130, 92)),
    )
    inner, outer = c.vary(inner, 7), c.vary(outer, 7)
    cols, rows = c.pick((1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (2, 2), (3, 2), (4, 2), (5, 1))
    k = min(c.between(0.85, 1.15) * (1.5 if cols * rows < 3 else 1.15), 80 / (cols * 15))
    w, d = 15 * k, 29 * k  # a court with its run-off
    pad = f.box(-cols * w / 2 - 1, -rows * d / 2 - 1, cols * w / 2 + 1, rows * d / 2 + 1)
    c.area(pad, outer, shade(outer, 0.95))
    c.line([*pad, pad[0]], shade(outer, 0.6), 0.4)
    c.reserve(pad)
    for i in range(cols):
        for j in range(rows):
            g = f.turned((i + 0.5 - cols / 2) * w, (j + 0.5 - rows / 2) * d, 0)
            x, y = 4.5 * k, 10 * k
            s = 3.4 * k
            c.fill(g.box(-x, -y, x, y), inner)
            thin = 0.28 * k
            outline = g.box(-x, -y, x, y)
            c.line([*outline, outline[0]], WHITE, thin)
            for q in (-s, s):
                c.line([g.at(q, -y), g.at(q, y)], WHITE, thin)
            for q in (-y * 0.54, y * 0.54):
                c.line([g.at(-s, q), g.at(s, q)], WHITE, thin)
            c.line([g.at(0, -y * 0.54), g.at(0, y * 0.54)], WHITE, thin)
            c.shadow([g.at(-x * 1.1, 0), g.at(x * 1.1, 0), g.at(x * 1.1, 0.2)], 0.8)
            c.line([g.at(-x * 1.1, 0), g.at(x * 1.1, 0)], (60, 64, 66), thin)
    c.facts.counts["courts"] = cols * rows
    c.facts.words.update(court=inner_name, layout="row" if rows == 1 else "grid")
    if c.chance(0.45) and (place := c.spot(6.5, tries=80, margin=3)):
        block(c, Frame(*place, f.angle).box(-5, -3.5, 5, 3.5), roof_colour(c, c.pick("red", "brown", "grey")), 3)
        c.facts.count("buildings")
    fill_up(c, "car park", "houses", share=0.3)


def stadium(c: Canvas) -> None:
    """An oval of stands around a striped pitch, with or without a running track."""
    c.ground()
    backdrop(c, "side road", "field", "woods", share=0.5)
    f = c.frame(5)
    apron = [f.at(46 * math.cos(t / 6), 40 * math.sin(t / 6)) for t in range(38)]
    c.area(apron, mix(c.concrete, c.grass, c.between(0, 0.5)))
    outer_u, outer_v = c.between(35, 42), c.between(27, 33)
    power = c.pick(2.0, 2.6, 4.0)  # 2 is an ellipse, more is squarer

    def oval(u: float, v: float) -> list[Point]:
        points = []
        for t in range(60):
            a, b = math.cos(t * math.pi / 30), math.sin(t * math.pi / 30)
            points.append(
                f.at(math.copysign(abs(a) ** (2 / power), a) * u, math.copysign(abs(b) ** (2 / power), b) * v)
            )
        return points

    name, seats = c.pick(
        ("grey", (168, 170, 174)), ("white", (224, 224, 224)), ("red", (172, 78, 70)), ("blue", (78, 108, 158))
    )
    seats = c.vary(seats)
    stand = c.between(7, 10)
    ring = oval(outer_u, outer_v)
    c.shadow(ring, 7)
    c.fill(ring, shade(seats, 0.86))
    for i in range(5):
        q = i * stand / 5
        c.fill(oval(outer_u - q, outer_v - q), shade(seats, (0.86, 1.06, 0.94, 1.04, 0.92)[i]))
    for t in range(0, 60, 3):
        (x0, y0), (x1, y1) = ring[t], oval(outer_u - stand, outer_v - stand)[t]
        c.line([(x0, y0), (x1, y1)], shade(seats, 0.74), 0.35)
    track = c.chance(0.5)
    iu, iv = outer_u - stand, outer_v - stand
    lawn = c.vary((92, 136, 70)) if c.season != "dry" else c.vary((118, 140, 78))
    c.fill(oval(iu, iv), shade(lawn, 0.86))
    if track:
        c.fill(oval(iu - 0.4, iv - 0.4), c.vary((172, 88, 70)))
        for q in (1.4, 2.4, 3.4):
            lane = oval(iu - q, iv - q)
            c.line([*lane, lane[0]], (224, 190, 180), 0.2)
        c.fill(oval(iu - 4.6, iv - 4.6), shade(lawn, 0.9))
    shrink = 0.86 if power == 4.0 else 0.72
    pu, pv = (iu - (5 if track else 1)) * shrink, (iv - (5 if track else 1)) * shrink
    for i in range(10):
        c.fill(f.box(-pu + i * pu / 5, -pv, -pu + (i + 1) * pu / 5, pv), shade(lawn, 1.0 if i % 2 else 1.14))
    pitch = f.box(-pu, -pv, pu, pv)
    c.line([*pitch, pitch[0]], WHITE, 0.35)
    c.line([f.at(0, -pv), f.at(0, pv)], WHITE, 0.35)
    circle = [f.at(pv * 0.3 * math.cos(t / 4), pv * 0.3 * math.sin(t / 4)) for t in range(27)]
    c.line(circle, WHITE, 0.35)
    for side in (-1, 1):
        box = [f.at(side * pu, -pv * 0.5), f.at(side * pu * 0.74, -pv * 0.5)]
        c.line([*box, f.at(side * pu * 0.74, pv * 0.5), f.at(side * pu, pv * 0.5)], WHITE, 0.35)
    c.reserve(apron)
    c.facts.words.update(stand=name, track="yes" if track else "no")
    for _ in range(c.whole(0, 2)):
        small_parking(c)
    fill_up(c, "houses", share=0.3)
