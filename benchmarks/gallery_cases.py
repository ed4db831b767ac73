"""What gallery.py searches for, and a plain computation of what must be found.

Shapes: n tiles.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from gallery_data import DEGREES, ORBITS, PORTION, SCENE_TILES, SENSORS, SIDE, SINCE_US, SPAN_US, portion_of, tile_id

from duch.codes import PackedCodes
from duch.filters import Filters
from duch.geo.area import Area
from duch.where_parser import parse

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Case:
    """One kind of question.

    Attributes:
        name: as it stands in the table.
        filters: draws the filters of one question; None for no filter.
        k: how many hits.
        target_ms: what the median is to stay below; None where none is set.
        scan: search without the multi-index hashing tables.
    """

    name: str
    filters: Callable[[np.random.Generator], Filters] | None = None
    k: int = 10
    target_ms: float | None = None
    scan: bool = False


def cases_of(n: int) -> list[Case]:
    """All kinds of questions to a gallery of n tiles."""

    def bbox(rng: np.random.Generator, width: float, height: float) -> tuple[float, float, float, float]:
        west, south = rng.uniform(-180, 180 - width), rng.uniform(-60, 75 - height)
        return west, south, west + width, south + height

    def year(rng: np.random.Generator) -> tuple[int, int]:
        since = SINCE_US + int(rng.integers(0, SPAN_US - 365 * DAY_US))
        return since, since + 365 * DAY_US

    def across(rng: np.random.Generator) -> Filters:
        south = rng.uniform(-60, 40)
        return Filters(bbox=(rng.uniform(165, 179), south, rng.uniform(-179, -165), south + 30))

    def box(width: float, height: float) -> Callable[[np.random.Generator], Filters]:
        return lambda rng: Filters(bbox=bbox(rng, width, height))

    def times(rng: np.random.Generator) -> Filters:
        since, until = year(rng)
        return Filters(since_us=since, until_us=until)

    def place_and_time(rng: np.random.Generator) -> Filters:
        since, until = year(rng)
        return Filters(bbox=bbox(rng, 40, 30), since_us=since, until_us=until)

    def where(text: Callable[[np.random.Generator], str]) -> Callable[[np.random.Generator], Filters]:
        return lambda rng: Filters(where=parse(text(rng)))

    def ids(rng: np.random.Generator) -> Filters:
        return Filters(ids=tuple(map(tile_id, rng.choice(n, min(n, 10_000), replace=False).tolist())))

    def cloudless(rng: np.random.Generator) -> str:
        return f"cloud < 10 AND sensor = '{rng.choice(SENSORS)}'"

    def cloudless_at(rng: np.random.Generator) -> Filters:
        return Filters(bbox=bbox(rng, 10, 10), where=parse(cloudless(rng)))

    def country(rng: np.random.Generator) -> Filters:
        return Filters(area=outline(rng, degrees=10, n_vertices=500))

    def continent(rng: np.random.Generator) -> Filters:
        return Filters(area=outline(rng, degrees=60, n_vertices=5000))

    orbit = where(lambda rng: f"orbit = {rng.integers(0, ORBITS)}")
    scene = where(lambda rng: f"scene = {rng.integers(0, n // SCENE_TILES)}")
    return [
        Case("all, scan", target_ms=10, scan=True),
        Case("all, scan, k = 100", k=100, target_ms=10, scan=True),
        Case("all", target_ms=10),
        Case("all, k = 100", k=100, target_ms=10),
        Case("10,000 ids", ids, target_ms=20),
        Case("orbit = ..., indexed", orbit, target_ms=20),
        Case("orbit = ..., indexed, k = 100", orbit, k=100, target_ms=20),
        Case("scene = ..., indexed", scene, target_ms=20),
        Case("1 by 1 degrees", box(1, 1), target_ms=80),
        Case("40 by 30 degrees", box(40, 30), target_ms=80),
        Case("half of the globe", box(180, 135), target_ms=80),
        Case("across the antimeridian", across, target_ms=80),
        Case("outline of a country, 500 vertices over 10 degrees", country, target_ms=80),
        Case("outline of a continent, 5,000 vertices over 60 degrees", continent),
        Case("a year", times, target_ms=80),
        Case("40 by 30 degrees, a year", place_and_time, target_ms=80),
        Case("40 by 30 degrees, a year, k = 100", place_and_time, k=100, target_ms=80),
        Case("cloud < 10 AND sensor = ..., in 10 by 10 degrees, no index", cloudless_at),
        Case("cloud < 10 AND sensor = ..., no index", where(cloudless)),
    ]


def outline(rng: np.random.Generator, *, degrees: float, n_vertices: int) -> Area:
    """A ragged coast around a place, some degrees from one end to the other."""
    turn = np.sort(rng.uniform(0, 2 * np.pi, n_vertices))
    rough = sum(rng.uniform(-1, 1) / wave * np.sin(wave * turn + rng.uniform(0, 6)) for wave in range(2, 60))
    far = degrees / 2 * np.clip(0.7 + 0.15 * rough + rng.uniform(-0.02, 0.02, n_vertices), 0.1, 1)
    longitude, latitude = rng.uniform(-150, 150), rng.uniform(-25, 40)
    ring = np.stack([longitude + far * np.cos(turn), latitude + far * np.sin(turn)], axis=1)
    return Area.from_geojson(json.dumps({"type": "Polygon", "coordinates": [ring.tolist()]}))


class World:
    """All tiles as they were invented, to say by the plainest means which of them a filter lets through."""

    def __init__(self, n: int) -> None:
        portions = [portion_of(first) for first in range(0, n // SCENE_TILES, PORTION)]
        self.seq = np.arange(n)

        def of_tile(name: str) -> np.ndarray:
            return np.repeat(np.concatenate([getattr(portion, name) for portion in portions]), SCENE_TILES)

        row, column = np.divmod(self.seq % SCENE_TILES, SIDE)
        self.west = (of_tile("west") + column * DEGREES + 180) % 360 - 180
        self.east = (self.west + DEGREES + 180) % 360 - 180
        self.south = of_tile("south") + row * DEGREES
        self.time_us = of_tile("time_us") + 1000 * (self.seq % SCENE_TILES)
        self.values = {"orbit": of_tile("orbit"), "cloud": of_tile("cloud"), "scene": self.seq // SCENE_TILES}
        self.values["sensor"] = np.array(SENSORS)[of_tile("sensor")]

    def passing(self, filters: Filters) -> np.ndarray:
        """Shape: -> (n,) bool."""
        mask = np.ones(len(self.seq), dtype=np.bool_)
        if filters.bbox is not None:
            west, south, east, north = filters.bbox
            east += 360 * (east < west)
            end = self.east + 360 * (self.east < self.west)
            mask &= (self.south <= north) & (self.south + DEGREES >= south)
            mask &= np.any([(self.west + turn <= east) & (end + turn >= west) for turn in (-360, 0, 360)], axis=0)
        if filters.area is not None:
            (polygon,) = filters.area.parts
            west, south, east, north = polygon.bounds
            near = (self.west <= east) & (self.west + DEGREES >= west)
            mask &= near & (self.south <= north) & (self.south + DEGREES >= south)
            left, below = self.west[mask], self.south[mask]  # ten million boxes would take 10 GB
            mask[mask] = shapely.intersects(polygon, shapely.box(left, below, left + DEGREES, below + DEGREES))
        if filters.since_us is not None:
            mask &= self.time_us >= filters.since_us
        if filters.until_us is not None:
            mask &= self.time_us < filters.until_us
        if filters.ids is not None:
            wanted = np.zeros_like(mask)
            wanted[[int(name[-12:-4]) for name in filters.ids]] = True
            mask &= wanted
        for part in str(filters.where).split(" AND ") if filters.where is not None else ():
            name, operator, value = part.split()
            if operator == "<":
                mask &= self.values[name] < float(value)
            else:
                mask &= self.values[name] == (value.strip("'") if "'" in value else int(value))
        return mask

    def nearest(self, codes: PackedCodes, query: PackedCodes, k: int, filters: Filters | None) -> list[tuple[int, int]]:
        """Distance and seq of the k nearest tiles. Shape: codes (n, 8) uint8, query (1, 8) uint8."""
        distances = np.bitwise_count(codes.view("<u8")[:, 0] ^ query.view("<u8")[0, 0])
        seqs = self.seq if filters is None else np.flatnonzero(self.passing(filters))
        order = np.argsort(distances[seqs], kind="stable")[:k]
        return [(int(distances[seq]), int(seq)) for seq in seqs[order]]
