"""The sheet a scene is painted on: units, season palette, noise, shadows, and the record of what was drawn.

Coordinates are units of a hundredth of the tile, centred: x right and y down, both -50..50 inside the tile. A painter
never sees pixels, so one (class, seed) is the same scene at every size. Painting happens at twice the size and is
halved at the end, which antialiases the hard edges of ImageDraw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Points = Sequence[Point]
T = TypeVar("T")

SEASONS = ("summer", "autumn", "winter", "dry")
OVERSAMPLING = 2
# Occupancy is kept at about one cell a unit: fine enough to keep trees off roads, cheap enough to ask 1,000 times.
BUSY_CELLS = 128
GLANCE = 48  # side of the small picture that tells whether a backdrop is still visible


@dataclass
class Facts:
    """What was really drawn; captions are made from nothing else.

    Attributes:
        class_name: the scene's main subject.
        season: one of SEASONS.
        sky: "clear", "haze" or "cloud".
        counts: things drawn wholly or mostly inside the tile, by key ("planes", "ships", "houses", ...).
        words: attributes of the subject, by key ("roof": "red", "layout": "crossing", ...).
        context: clutter as (relation, thing), e.g. ("crossed", "road") or ("beside", "woods").
    """

    class_name: str
    season: str
    sky: str = "clear"
    counts: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    context: list[tuple[str, str]] = field(default_factory=list)

    def add(self, relation: str, thing: str) -> None:
        """Record one piece of clutter; naming it twice changes nothing."""
        if (relation, thing) not in self.context:
            self.context.append((relation, thing))

    def count(self, key: str, number: int = 1) -> None:
        """Add `number` to a count."""
        self.counts[key] = self.counts.get(key, 0) + number


@dataclass(frozen=True)
class Frame:
    """A moved and turned coordinate system: local (u, v) to scene (x, y); angle in radians."""

    x: float
    y: float
    angle: float

    def at(self, u: float, v: float) -> Point:
        """Scene position of the local point (u, v)."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return self.x + c * u - s * v, self.y + s * u + c * v

    def box(self, u0: float, v0: float, u1: float, v1: float) -> list[Point]:
        """Four scene corners of a local rectangle."""
        return [self.at(u0, v0), self.at(u1, v0), self.at(u1, v1), self.at(u0, v1)]

    def turned(self, u: float, v: float, angle: float) -> Frame:
        """A frame at local (u, v), turned further by `angle`."""
        x, y = self.at(u, v)
        return Frame(x, y, self.angle + angle)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour between `a` (share 0) and `b` (share 1)."""
    r, g, bl = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return r, g, bl


def shade(colour: Colour, factor: float) -> Colour:
    """Colour made darker (factor < 1) or lighter (factor > 1)."""
    r, g, b = (min(255, max(0, round(p * factor))) for p in colour)
    return r, g, b


def hull(points: Points) -> list[Point]:
    """Convex hull by Andrew's monotone chain; shadows of convex footprints are hulls."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered

    def half(sequence: list[Point]) -> list[Point]:
        chain: list[Point] = []
        for p in sequence:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1])
                <= (chain[-1][1] - chain[-2][1]) * (p[0] - chain[-2][0])
            ):
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return half(ordered) + half(ordered[::-1])


GRASS: dict[str, tuple[Colour, ...]] = {
    "summer": ((92, 118, 64), (106, 128, 70), (82, 106, 66), (116, 132, 82)),
    "autumn": ((126, 118, 70), (118, 112, 76), (138, 122, 78)),
    "winter": ((222, 226, 231), (214, 219, 226), (229, 231, 233)),
    "dry": ((170, 150, 108), (184, 162, 118), (158, 140, 98)),
}
TREES: dict[str, tuple[Colour, ...]] = {
    "summer": ((50, 82, 42), (58, 92, 46), (44, 72, 44), (70, 98, 52)),
    "autumn": ((168, 100, 42), (186, 134, 52), (138, 72, 40), (112, 104, 52), (78, 92, 48)),
    "winter": ((104, 98, 92), (120, 112, 106), (56, 72, 62), (88, 90, 86)),
    "dry": ((98, 104, 62), (112, 112, 68), (84, 92, 56)),
}
SOIL: tuple[Colour, ...] = ((138, 112, 84), (122, 98, 74), (158, 130, 98))
WATER: dict[str, tuple[Colour, Colour]] = {
    "blue": ((44, 86, 124), (58, 104, 142)),
    "green": ((50, 92, 84), (66, 108, 94)),
    "dark": ((28, 48, 62), (36, 60, 74)),
    "brown": ((116, 100, 70), (130, 114, 82)),
}
SNOW: Colour = (228, 231, 235)


class Canvas:
    """One scene being painted: pixels, random numbers, sun, season, occupied ground and facts."""

    def __init__(self, class_name: str, rng: np.random.Generator, size: int, seasons: Sequence[str] = SEASONS):
        self.rng = rng
        self.size = size
        self.side = size * OVERSAMPLING
        self.scale = self.side / 100  # pixels a unit
        self.facts = Facts(class_name, self.pick(*seasons))
        self.season = self.facts.season
        self.zoom = self.between(0.85, 1.2)
        bearing = self.between(0, 2 * math.pi)
        length = self.between(0.35, 1.1)  # shadow length a unit of height
        self.sun = (math.cos(bearing) * length, math.sin(bearing) * length)
        self.grass = self.vary(self.pick(*GRASS[self.season]))
        self.crowns = TREES[self.season]
        self.asphalt = self.vary(self.pick((104, 104, 108), (122, 120, 120), (88, 90, 96)))
        self.concrete = self.vary(self.pick((172, 170, 164), (186, 182, 172), (158, 158, 156)))
        self.sand = self.vary(self.pick((218, 198, 156), (206, 188, 150), (226, 212, 178)))
        self.image = Image.new("RGB", (self.side, self.side), self.grass)
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self.busy = Image.new("L", (BUSY_CELLS, BUSY_CELLS))
        self.busy_draw = ImageDraw.Draw(self.busy)
        self._tints_of: tuple[Colour, ...] = ()
        self._tints: list[Colour] = []
        self._backdrops: list[tuple[list[tuple[str, str]], np.ndarray, np.ndarray]] = []

    # random numbers

    def between(self, low: float, high: float) -> float:
        """A uniform number in [low, high)."""
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A uniform whole number in low..high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def pick(self, *options: T) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def vary(self, colour: Colour, amount: float = 9.0) -> Colour:
        """The colour, a little lighter or darker and a little shifted."""
        light = self.rng.normal(0, amount)
        r, g, b = (int(min(255, max(0, p + light + d))) for p, d in zip(colour, self.rng.normal(0, 3, 3), strict=True))
        return r, g, b

    def crown(self) -> Colour:
        """A crown's colour; drawn from a few prepared ones, since a forest asks 2,000 times."""
        if self._tints_of != self.crowns:
            self._tints_of = self.crowns
            self._tints = [self.vary(self.pick(*self.crowns), 8) for _ in range(40)]
        return self._tints[int(self.rng.random() * 40)]

    def frame(self, spread: float = 0.0) -> Frame:
        """A frame at any angle, off the centre by at most `spread` units a side."""
        return Frame(self.between(-spread, spread), self.between(-spread, spread), self.between(0, 2 * math.pi))

    # plain shapes

    def px(self, points: Points) -> list[Point]:
        """Units to pixels of the oversampled image."""
        k = self.scale
        return [((x + 50) * k, (y + 50) * k) for x, y in points]

    def fill(self, points: Points, colour: Colour, alpha: int = 255) -> None:
        """A filled polygon."""
        self.draw.polygon(self.px(points), fill=(*colour, alpha))

    def line(self, points: Points, colour: Colour, width: float, alpha: int = 255) -> None:
        """A polyline, `width` units wide and never thinner than a pixel."""
        pixels = max(1, round(width * self.scale))
        joint = "curve" if len(points) > 2 and pixels > 2 else None
        self.draw.line(self.px(points), fill=(*colour, alpha), width=pixels, joint=joint)

    def disc(self, x: float, y: float, r: float, colour: Colour, alpha: int = 255) -> None:
        """A filled circle."""
        k = self.scale
        a, b, q = (x + 50) * k, (y + 50) * k, r * k
        self.draw.ellipse((a - q, b - q, a + q, b + q), fill=(*colour, alpha))

    def shadow(self, points: Points, height: float) -> None:
        """The shadow a convex footprint throws on the ground."""
        dx, dy = self.sun[0] * height, self.sun[1] * height
        self.draw.polygon(self.px(hull([*points, *((x + dx, y + dy) for x, y in points)])), fill=(14, 18, 34, 112))

    # textures: everything stays inside Pillow, which keeps a scene at milliseconds

    def noise(self, cells: float, octaves: int = 2) -> Image.Image:
        """Smooth random field as an L image of the oversampled size; about `cells` bumps a side."""
        result: Image.Image | None = None
        for octave in range(octaves):
            n = max(2, round(cells * 3**octave))
            grid = Image.frombytes("L", (n, n), self.rng.bytes(n * n))
            layer = grid.resize((self.side, self.side), Image.Resampling.BICUBIC)
            result = layer if result is None else Image.blend(result, layer, 0.42)
        if result is None:
            raise ValueError("noise needs at least one octave")
        return result

    def texture(self, a: Colour, b: Colour, cells: float = 6, octaves: int = 3) -> Image.Image:
        """Two colours mixed by smooth noise, an RGB image of the oversampled size."""
        size = (self.side, self.side)
        return Image.composite(Image.new("RGB", size, a), Image.new("RGB", size, b), self.noise(cells, octaves))

    def mask(self, points: Points, soft: float = 0.0) -> Image.Image:
        """A polygon as an L mask; `soft` blurs its edge, in units."""
        layer = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(layer).polygon(self.px(points), fill=255)
        return layer.filter(ImageFilter.GaussianBlur(soft * self.scale)) if soft else layer

    def ground(self, a: Colour | None = None, b: Colour | None = None, cells: float = 4) -> None:
        """Cover the whole tile; grass of the season unless colours are given."""
        a = a or self.grass
        b = b or shade(a, self.between(0.84, 0.93))
        self.image.paste(self.texture(a, b, cells))

    def area(self, points: Points, a: Colour, b: Colour | None = None, cells: float = 6, soft: float = 0.0) -> None:
        """A textured polygon."""
        self.image.paste(self.texture(a, b or shade(a, 0.9), cells), mask=self.mask(points, soft))

    @contextmanager
    def painting_on(self, sheet: Image.Image) -> Iterator[None]:
        """Paint on another sheet inside the block, for textures that are pasted through a mask afterwards."""
        kept = self.image, self.draw
        self.image, self.draw = sheet, ImageDraw.Draw(sheet, "RGBA")
        try:
            yield
        finally:
            self.image, self.draw = kept

    # occupied ground

    def reserve(self, points: Points) -> None:
        """Mark a polygon as occupied."""
        k = BUSY_CELLS / 100
        self.busy_draw.polygon([((x + 50) * k, (y + 50) * k) for x, y in points], fill=255, outline=255)

    def reserve_line(self, points: Points, width: float) -> None:
        """Mark a polyline as occupied."""
        k = BUSY_CELLS / 100
        self.busy_draw.line([((x + 50) * k, (y + 50) * k) for x, y in points], fill=255, width=max(1, round(width * k)))

    def free(self, x: float, y: float, r: float) -> bool:
        """True where a square of half side `r` around (x, y) holds nothing yet."""
        k = BUSY_CELLS / 100
        box = (
            int((x - r + 50) * k),
            int((y - r + 50) * k),
            math.ceil((x + r + 50) * k) + 1,
            math.ceil((y + r + 50) * k) + 1,
        )
        return self.busy.crop(box).getbbox() is None

    def inside(self, x: float, y: float, margin: float = 0.0) -> bool:
        """True where the point lies in the tile, at least `margin` units from its edge."""
        limit = 50 - margin
        return -limit <= x <= limit and -limit <= y <= limit

    def spot(self, r: float, tries: int = 30, margin: float | None = None) -> Point | None:
        """A free place for something of half size `r`, or None."""
        limit = 50 - (r if margin is None else margin)
        for _ in range(tries):
            x, y = self.between(-limit, limit), self.between(-limit, limit)
            if self.free(x, y, r):
                return x, y
        return None

    # backdrops: what the subject covers afterwards is not told

    def _glance(self) -> np.ndarray:
        small = self.image.resize((GLANCE, GLANCE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.int16)  # (GLANCE, GLANCE, 3)

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Paint a backdrop inside the block; its context is kept only if it can still be seen in the end."""
        known, before = len(self.facts.context), self._glance()
        yield
        after = self._glance()
        changed = np.abs(after - before).sum(axis=2) > 24
        self._backdrops.append((self.facts.context[known:], changed, after))

    def _forget_covered(self) -> None:
        final = self._glance()
        for told, changed, after in self._backdrops:
            seen = changed & (np.abs(final - after).sum(axis=2) < 40)
            if seen.sum() < max(0.015 * seen.size, 0.2 * changed.sum()):
                self.facts.context = [entry for entry in self.facts.context if entry not in told]

    # the camera

    def finish(self) -> Image.Image:
        """Ground grain, sky, blur, sensor noise and exposure; returns the RGB tile of the asked size."""
        self._forget_covered()
        rng = self.rng
        grain = self.noise(16, 2).reduce(OVERSAMPLING)
        image = self.image.reduce(OVERSAMPLING)
        sky = rng.random()
        blur = float(rng.choice([0.0, 0.0, 0.35, 0.55]))
        if blur:
            image = image.filter(ImageFilter.GaussianBlur(blur * self.size / 128))
        pixels = np.asarray(image, dtype=np.float32)  # (size, size, 3)
        pixels = pixels * (1 + (np.asarray(grain, dtype=np.float32)[..., None] - 128) * (0.075 / 128))
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (pixels - grey) * rng.uniform(0.68, 0.98)  # paints are purer than the air lets through
        tint = rng.normal(1, 0.02, 3).astype(np.float32)
        pixels = (pixels - 118) * rng.uniform(0.9, 1.12) * tint + 118 + rng.uniform(-8, 10)
        if sky < 0.12:
            self.facts.sky = "haze"
            pixels += (np.array([200, 208, 216], np.float32) - pixels) * rng.uniform(0.34, 0.5)
        elif sky < 0.19:
            self.facts.sky = "cloud"
            wisps = np.asarray(self.noise(2.2, 2).reduce(OVERSAMPLING), dtype=np.float32)[..., None]
            pixels += (244 - pixels) * np.clip((wisps - 138) / 110, 0, 0.72)
        elif sky < 0.5:  # a trace of haze that nobody would mention
            pixels += (np.array([188, 198, 208], np.float32) - pixels) * rng.uniform(0.03, 0.14)
        pixels += rng.normal(0, rng.uniform(1.0, 4.5), pixels.shape[:2])[..., None]
        pixels += rng.normal(0, 1.2, pixels.shape)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
