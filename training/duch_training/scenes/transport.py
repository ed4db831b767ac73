"""Painters of airport, runway, roundabout, intersection and railway yard."""

from __future__ import annotations

import math

from duch_training.scenes.canvas import Canvas, Frame, mix, shade
from duch_training.scenes.clutter import backdrop, fill_up
from duch_training.scenes.props import (
    block,
    car,
    dashes,
    house,
    plane,
    road,
    roof_colour,
    traffic,
    tree,
    trees,
)

PAINT = (234, 234, 228)
YELLOW = (214, 178, 70)


def slab(c: Canvas, f: Frame, u0: float, v0: float, u1: float, v1: float) -> None:
    """Concrete with joints, reserved."""
    outline = f.box(u0, v0, u1, v1)
    c.area(outline, c.concrete, shade(c.concrete, 0.92))
    step = c.between(6, 9)
    for i in range(1, int((u1 - u0) / step) + 1):
        c.line([f.at(u0 + i * step, v0), f.at(u0 + i * step, v1)], shade(c.concrete, 0.86), 0.2, 130)
    c.reserve(outline)


def airport(c: Canvas) -> None:
    """A terminal with an apron, stands with planes, taxiway, and cars on the land side."""
    c.ground()
    f = c.frame(5)
    backdrop(c, "field", "woods", share=0.35)
    slab(c, f, -75, -14, 75, 31)
    c.fill(f.box(-75, 37, 75, 43), c.asphalt)
    c.reserve(f.box(-75, 37, 75, 43))
    for u in (c.between(-30, -10), c.between(10, 30)):
        c.fill(f.box(u - 3, 30, u + 3, 38), c.asphalt)
        c.line([f.at(u, 24), f.at(u, 40)], YELLOW, 0.35)
    c.line([f.at(-75, 40), f.at(75, 40)], YELLOW, 0.4)
    c.line([f.at(-75, 24), f.at(75, 24)], YELLOW, 0.4)
    c.fill(f.box(-75, -27, 75, -22.5), c.asphalt)
    dashes(c, [f.at(-75, -24.7), f.at(75, -24.7)], PAINT, 0.3)

    length = c.between(11.5, 16)
    step = length * 1.18
    roof = c.pick("white", "grey", "blue")
    half = c.between(22, 36)
    block(c, f.box(-half, -21.5, half, -13), roof_colour(c, roof), 3.2)
    c.line([f.at(-half + 2, -17.2), f.at(half - 2, -17.2)], shade(roof_colour(c, roof), 0.75), 0.9)
    stands = [f.turned(u, -7.0 + length * 0.1, -math.pi / 2) for u in _steps(-half + 4, half - 4, step)]
    pier = c.chance(0.4)
    if pier:
        block(c, f.box(-2.2, -13, 2.2, 14), roof_colour(c, roof), 3.0)
        stands = [s for s in stands if abs((s.x - f.x) * math.cos(f.angle) + (s.y - f.y) * math.sin(f.angle)) > length]
        for v in _steps(-1, 13, step):
            stands += [f.turned(-3.4 - length / 2, v, 0), f.turned(3.4 + length / 2, v, math.pi)]
    else:
        stands += [f.turned(u, 13, c.pick(-1, 1) * math.pi / 2) for u in _steps(-half, half, step * 1.1)]
    stands = [s for s in stands if c.inside(s.x, s.y, length * 0.42)]
    for s in stands:
        c.line([s.at(-length * 0.7, 0), s.at(length * 0.55, 0)], YELLOW, 0.3)
    wanted = min(c.pick(1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12), len(stands))
    tone = c.vary((238, 238, 240), 6)
    for i in c.rng.permutation(len(stands))[:wanted]:
        s = stands[int(i)]
        size = length * c.between(0.86, 1.0)
        plane(c, s, size, tone)
    c.facts.counts["planes"] = wanted
    c.facts.words["terminal"] = "pier" if pier else "long"
    c.facts.words["roof"] = roof

    c.fill(f.box(-40, -48, 40, -29), c.asphalt)  # land side
    c.reserve(f.box(-75, -48, 75, -22))
    cars = 0
    for v in (-45.5, -40, -34.5):
        for u in _steps(-38, 38, 1.8):
            if c.chance(0.55):
                spot = f.turned(u, v, math.pi / 2)
                if c.inside(spot.x, spot.y, 1):
                    car(c, spot, k=0.9)
                    cars += 1
    if cars > 12:
        c.facts.add("beside", "car park")
    fill_up(c, "houses", share=0.15)


def _steps(low: float, high: float, step: float) -> list[float]:
    n = int((high - low) / step)
    start = (low + high - n * step) / 2
    return [start + i * step for i in range(n + 1)]


def _strip(c: Canvas, f: Frame, width: float, *, threshold: bool) -> None:
    """One runway along u, with the usual paint."""
    start = c.between(-42, -30) if threshold else -90.0
    h = width / 2
    c.area(f.box(start - 3, -h - 1.6, 90, h + 1.6), shade(c.asphalt, 1.12))
    c.area(f.box(start, -h, 90, h), shade(c.asphalt, 0.86), shade(c.asphalt, 0.76), cells=9)
    c.reserve(f.box(start - 3, -h - 2, 90, h + 2))
    for v in (-h + 0.5, h - 0.5):
        c.line([f.at(start, v), f.at(90, v)], PAINT, 0.4)
    dashes(c, [f.at(start + 20 if threshold else start, 0), f.at(90, 0)], PAINT, 0.6, 5.5, 4.5)
    if threshold:
        stripe = width / 13
        for i in range(6):
            v = -h + stripe * (1 + 2 * i) + stripe * 0.3
            c.fill(f.box(start + 2, v, start + 11, v + stripe), PAINT)
        c.fill(f.box(start + 15, -h * 0.34, start + 18, -h * 0.1), PAINT)
        c.fill(f.box(start + 15, h * 0.1, start + 18, h * 0.34), PAINT)
        for v in (-h * 0.55, h * 0.55):
            c.fill(f.box(start + 34, v - h * 0.13, start + 42, v + h * 0.13), PAINT)


def runway(c: Canvas) -> None:
    """One or two runways with paint and taxiways; planes are rare."""
    c.ground()
    backdrop(c, "field", "woods", "side road", share=0.55)
    f = c.frame(8)
    width = c.between(9, 14)
    layout = c.pick("single", "single", "single", "parallel", "crossing")
    threshold = c.chance(0.6)
    taxi = c.pick(-1, 1) * (width / 2 + c.between(9, 14))
    if c.chance(0.75):
        c.fill(f.box(-90, taxi - 2.4, 90, taxi + 2.4), shade(c.asphalt, 1.08))
        c.line([f.at(-90, taxi), f.at(90, taxi)], YELLOW, 0.4)
        c.reserve(f.box(-90, taxi - 3, 90, taxi + 3))
        for _ in range(c.whole(1, 3)):
            u = c.between(-35, 45)
            lean = c.pick(0, 0, 10, -10)
            c.line([f.at(u, taxi), f.at(u + lean, 0)], shade(c.asphalt, 1.08), 4.4)
            c.line([f.at(u, taxi), f.at(u + lean, 0)], YELLOW, 0.4)
            c.reserve_line([f.at(u, taxi), f.at(u + lean, 0)], 5)
        c.facts.words["taxiway"] = "yes"
    if layout == "parallel":
        g = f.turned(0, -math.copysign(c.between(24, 30), taxi), 0)
        _strip(c, g, width * 0.9, threshold=c.chance(0.5))
    elif layout == "crossing":
        _strip(c, f.turned(c.between(-14, 14), 0, c.between(0.7, 2.4)), width * 0.85, threshold=False)
    _strip(c, f, width, threshold=threshold)
    c.facts.counts["runways"] = 1 if layout == "single" else 2
    c.facts.words["layout"] = layout
    c.facts.words["threshold"] = "yes" if threshold else "no"
    if c.chance(0.3):
        plane(c, f.turned(c.between(-14, 22), 0, c.pick(0.0, math.pi)), c.between(8, 11), (240, 240, 242))
        c.facts.counts["planes"] = 1
    for _ in range(c.whole(0, 3)):  # skid marks
        u, v = c.between(-20, 30), c.between(-1.5, 1.5)
        c.line([f.at(u, v), f.at(u + c.between(8, 20), v)], (30, 30, 32), 0.5, 90)
    fill_up(c, "pond", "houses", share=0.15)


def _corners(c: Canvas, arms: list[float], clear: float, x: float, y: float) -> None:
    """Fill the land between the arms: town blocks, or fields and trees."""
    kind = c.pick("town", "town", "green")
    c.facts.words["corner"] = kind
    if kind == "green":
        fill_up(c, "houses", "pond", "car park", share=0.3)
        return
    for i, a in enumerate(arms):
        b = arms[(i + 1) % len(arms)] + (2 * math.pi if i + 1 == len(arms) else 0)
        if b - a > math.pi * 1.1:
            continue
        roof = c.pick("red", "grey", "brown", "white", "dark")
        for _ in range(9):
            t = c.between(a, b)
            r = c.between(clear, 62)
            px, py = x + r * math.cos(t), y + r * math.sin(t)
            w, d = c.between(8, 13), c.between(6, 9)
            if c.free(px, py, 6.4) and c.inside(px, py, 3):
                f = Frame(px, py, a)
                if c.chance(0.5):
                    house(c, f, w, d, roof_colour(c, roof))
                else:
                    block(c, f.box(-w / 2, -d / 2, w / 2, d / 2), roof_colour(c, roof), c.between(2.5, 5))
                c.facts.count("buildings")
    trees(c, c.whole(20, 50), 1.1, 2.1)


def roundabout(c: Canvas) -> None:
    """A ring road around an island, with three to five arms."""
    c.ground()
    backdrop(c, "field", "woods", share=0.4)
    centre = c.frame(7)
    x, y = centre.x, centre.y
    inner = c.between(6, 13)
    lane = c.between(4.5, 7)
    arms = c.whole(3, 5)
    turn = c.between(0, 6.3)
    angles = [turn + 2 * math.pi * i / arms + c.between(-0.16, 0.16) for i in range(arms)]
    width = c.between(4.5, 6.5)
    verge = mix(c.grass, (196, 190, 178), 0.7)
    lines = []
    for a in angles:
        g = Frame(x, y, a)
        lines.append([g.at(inner + lane * 0.6, 0), g.at(90, 0)])
    for points in lines:
        c.line(points, verge, width + 1.8)
    c.disc(x, y, inner + lane + 0.9, verge)
    for points in lines:
        c.line(points, c.asphalt, width)
        c.reserve_line(points, width + 3)
    c.disc(x, y, inner + lane, c.asphalt)
    c.reserve([(x + (inner + lane + 2) * math.cos(t / 6), y + (inner + lane + 2) * math.sin(t / 6)) for t in range(38)])
    for a in angles:
        g = Frame(x, y, a)
        far = inner + lane
        dashes(c, [g.at(far + 9, 0), g.at(90, 0)], PAINT, 0.3)
        c.fill([g.at(far + 0.6, -1.3), g.at(far + 0.6, 1.3), g.at(far + 8, 0)], verge)
        c.line([g.at(far + 0.3, 1), g.at(far + 0.3, width / 2)], PAINT, 0.4)
    k = c.scale
    for r in (inner + lane / 2,):
        for t in range(0, 360, 24):
            box = [(x + 50 - r) * k, (y + 50 - r) * k, (x + 50 + r) * k, (y + 50 + r) * k]
            c.draw.arc(box, t, t + 10, fill=PAINT, width=max(1, round(0.3 * k)))
    c.disc(x, y, inner, (206, 202, 192))
    island = c.pick("grass", "grass", "trees", "paved")
    c.disc(x, y, inner - 0.8, c.vary((186, 170, 150)) if island == "paved" else shade(c.grass, 0.95))
    if island == "trees":
        for _ in range(int(inner * 1.6)):
            g = Frame(x, y, c.between(0, 6.3))
            tree(c, *g.at(c.between(0, inner - 2.2), 0), c.between(1.2, 2.2))
    elif c.season != "winter" and c.chance(0.5):
        c.disc(x, y, inner * 0.34, c.vary((170, 120, 110) if island == "paved" else (196, 140, 150)))
    for _ in range(c.whole(1, 5)):
        g = Frame(x, y, c.between(0, 6.3))
        car(c, g.turned(inner + lane * c.pick(0.27, 0.73), 0, math.pi / 2))
    for points in lines:
        traffic(c, points, 1, width / 4)
    c.facts.counts["arms"] = arms
    c.facts.words["island"] = island
    _corners(c, sorted(a % (2 * math.pi) for a in angles), inner + lane + 8, x, y)


def intersection(c: Canvas) -> None:
    """Two roads meeting at a junction with stop lines and zebra crossings."""
    c.ground()
    backdrop(c, "field", share=0.3)
    f = c.frame(8)
    arms = c.pick(3, 4, 4, 4)
    skew = c.between(-0.25, 0.25)
    angles = [0.0, math.pi, math.pi / 2 + skew, -math.pi / 2 + skew][:arms]
    wide = c.between(7, 12)
    widths = [wide, wide] + [c.between(6, wide)] * 2
    zebra = c.chance(0.65)
    verge = mix(c.grass, (196, 190, 178), 0.75)
    frames = [f.turned(0, 0, a) for a in angles]
    for g, w in zip(frames, widths, strict=False):
        c.line([g.at(0, 0), g.at(95, 0)], verge, w + 2.6)
        c.reserve_line([g.at(0, 0), g.at(95, 0)], w + 4)
    for g, w in zip(frames, widths, strict=False):
        c.line([g.at(-w / 2, 0), g.at(95, 0)], c.asphalt, w)
    start = wide / 2 + 1
    for g, w in zip(frames, widths, strict=False):
        for v in (-0.3, 0.3):
            c.line([g.at(start + 5, v), g.at(95, v)], YELLOW if w > 9 else PAINT, 0.3)
        if w > 8.5:
            for v in (-w / 4, w / 4):
                dashes(c, [g.at(start + 6, v), g.at(95, v)], PAINT, 0.3)
        c.line([g.at(start + 4.4, 0.3), g.at(start + 4.4, w / 2 - 0.3)], PAINT, 0.6)
        if zebra:
            v = -w / 2 + 0.6
            while v < w / 2 - 0.5:
                c.fill(g.box(start + 0.8, v, start + 3.4, v + 0.6), PAINT)
                v += 1.25
        for side in (-1, 1):
            for _ in range(c.whole(0, 3)):
                u = c.between(start + 7, 58)
                lane = w / 4 if w <= 8.5 else c.pick(w / 8, 3 * w / 8)
                car(c, g.turned(u, side * lane, 0 if side > 0 else math.pi), k=1.05)
    c.facts.words["arms"] = "three" if arms == 3 else "four"
    c.facts.words["zebra"] = "yes" if zebra else "no"
    absolute = sorted((f.angle + a) % (2 * math.pi) for a in angles)
    _corners(c, absolute, wide / 2 + 9, f.x, f.y)


def railway_yard(c: Canvas) -> None:
    """Many parallel tracks on gravel, with trains standing on some of them."""
    c.ground()
    backdrop(c, "field", "woods", "side road", share=0.5)
    f = c.frame(6)
    tracks = c.whole(4, 14)
    gap = c.between(3.6, 4.4)
    half = tracks * gap / 2
    ballast = c.vary(c.pick((134, 124, 114), (120, 112, 106), (146, 138, 128)))
    if c.season == "winter":
        ballast = mix(ballast, (226, 228, 232), 0.35)
    c.area(f.box(-95, -half - 2, 95, half + 2), ballast, shade(ballast, 0.88), cells=12, soft=0.4)
    c.reserve(f.box(-95, -half - 3, 95, half + 3))
    rows = [-half + gap * (i + 0.5) for i in range(tracks)]
    for v in rows:
        c.line([f.at(-95, v), f.at(95, v)], shade(ballast, 0.74), 1.9, 120)
        for rail in (-0.62, 0.62):
            c.line([f.at(-95, v + rail), f.at(95, v + rail)], (88, 80, 76), 0.3)
    for _ in range(c.whole(0, 3)):  # switches
        i, u = c.whole(0, tracks - 2), c.between(-40, 25)
        c.line([f.at(u, rows[i]), f.at(u + 14, rows[i + 1])], (92, 84, 80), 0.35)
    trains = min(c.whole(0, 7), tracks - 1)
    drawn = 0
    goods = ((150, 70, 52), (96, 80, 70), (70, 92, 124), (120, 124, 122), (176, 140, 70), (88, 108, 84))
    for i in c.rng.permutation(tracks)[:trains]:
        v, u = rows[int(i)], c.between(-45, 0)
        end = u + c.between(30, 90)
        livery = c.pick(*goods, (206, 208, 210), (186, 60, 50))
        mixed = c.chance(0.6)
        while u < end:
            colour = c.vary(c.pick(*goods) if mixed else livery)
            wagon = f.box(u, v - 1.25, u + 7.2, v + 1.25)
            c.shadow(wagon, 1.6)
            c.fill(wagon, colour)
            c.line([f.at(u + 0.5, v), f.at(u + 6.7, v)], shade(colour, 1.25), 0.5)
            u += 7.9
        drawn += 1
    if drawn:
        c.facts.counts["trains"] = drawn
    c.facts.counts["tracks"] = tracks
    for side in (-1, 1):
        u = -45.0
        while c.chance(0.6) and u < 30:
            w = c.between(12, 24)
            d = c.between(7, 11)
            near = half + 4.5
            v0, v1 = (near, near + d) if side > 0 else (-near - d, -near)
            middle = f.at(u + w / 2, (v0 + v1) / 2)
            if c.inside(*middle, 4):
                block(c, f.box(u, v0, u + w, v1), roof_colour(c, c.pick("grey", "white", "brown", "blue")), 3.0)
                c.facts.count("sheds")
            u += w + c.between(3, 10)
    if c.chance(0.25):  # a bridge over the tracks
        g = f.turned(c.between(-22, 22), 0, math.pi / 2 + c.between(-0.3, 0.3))
        c.shadow(g.box(-half - 6, -2.6, half + 6, 2.6), 3)
        road(c, [g.at(-95, 0), g.at(95, 0)], 5)
        c.facts.add("crossed", "road bridge")
    fill_up(c, "houses", "car park", share=0.3)
