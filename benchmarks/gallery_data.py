"""The gallery that gallery.py measures: tiles of invented scenes all over the globe and over ten years.

A scene is 10 by 10 tiles that were taken in one pass: one sensor, one cloud cover, one of 1,000 orbits (10,000 tiles
each at ten million). Everything follows from the number of the scene, so that a gallery that is whole is used again
and another is continued. Codes are clustered as learned ones are: that of a tile lies near the centre of a cluster.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from code_sets import CENTRES, clustered_codes, random_codes

from duch.codes import PackedCodes
from duch.gallery import Gallery, Tile

N_BITS = 64
SIDE = 10  # tiles along an edge of a scene
SCENE_TILES = SIDE * SIDE
ORBITS = 1000
DEGREES = 0.025  # edge of a tile
SINCE_US = 1_420_070_400_000_000  # 2015-01-01
SPAN_US = 3653 * 86_400_000_000  # ten years
SENSORS = ("S2A", "S2B", "S2C", "L8", "L9", "PlanetScope", "SPOT7", "Pleiades")
SEASONS = ("winter", "spring", "summer", "autumn")
PORTION = 200  # scenes that are drawn and appended at once
FINGERPRINT = hashlib.sha256(b"duch benchmarks/gallery_data.py 1").hexdigest()


@dataclass(frozen=True)
class Scenes:
    """What all tiles of a scene share, scene after scene. Shape: (s,)."""

    west: np.ndarray  # degrees
    south: np.ndarray
    time_us: np.ndarray
    orbit: np.ndarray
    cloud: np.ndarray  # per cent, one decimal
    sensor: np.ndarray  # place in SENSORS


def portion_of(first: int) -> Scenes:
    """The scenes of one portion, by the number of its first scene."""
    rng, count = np.random.default_rng([7, first]), PORTION
    return Scenes(
        west=rng.uniform(-180, 180, count),
        south=rng.uniform(-60, 75, count),
        time_us=SINCE_US + rng.integers(0, SPAN_US, count),
        orbit=rng.integers(0, ORBITS, count),
        cloud=np.round(100 * rng.beta(0.5, 1, count), 1),
        sensor=rng.integers(0, len(SENSORS), count),
    )


def centres() -> PackedCodes:
    """The centres that codes and queries lie near. Shape: (1000, 8) uint8."""
    return random_codes(np.random.default_rng(7), CENTRES, N_BITS)


def tile_id(seq: int) -> str:
    """Id of the tile of a seq."""
    return f"scene-{seq // SCENE_TILES:06}/tile-{seq:08}.png"


def tiles_of(first: int, scenes: Scenes) -> list[Tile]:
    """The tiles of scenes; `first` is the number of the first scene."""
    tiles = []
    for place in range(len(scenes.west)):
        west, south, time_us = float(scenes.west[place]), float(scenes.south[place]), int(scenes.time_us[place])
        month = int((time_us - SINCE_US) // 86_400_000_000 % 365 // 31)
        attributes = {
            "sensor": SENSORS[scenes.sensor[place]],
            "cloud": float(scenes.cloud[place]),
            "season": SEASONS[(month + 1) // 3 % 4],
            "orbit": int(scenes.orbit[place]),
            "scene": first + place,
        }
        for tile in range(SCENE_TILES):
            row, column = divmod(tile, SIDE)
            left, bottom = _longitude(west + column * DEGREES), south + row * DEGREES
            name = tile_id((first + place) * SCENE_TILES + tile)
            tiles.append(
                Tile(
                    id=name,
                    uri=name,
                    modality="image",
                    size=120_000 + 17 * tile,
                    mtime_ns=1000 * time_us,
                    footprint=(left, bottom, _longitude(left + DEGREES), bottom + DEGREES),
                    time_us=time_us + 1000 * tile,
                    attributes=attributes,
                )
            )
    return tiles


def _longitude(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


def make_gallery(folder: Path, tiles: int) -> float | None:
    """Make the gallery, or what is missing of it; returns tiles a second of `append` alone, None if it was whole.

    Args:
        folder: of the gallery.
        tiles: a multiple of PORTION * SCENE_TILES.
    """
    appended, spent = 0, 0.0
    at_once = PORTION * SCENE_TILES
    with Gallery.writer(folder, fingerprint=FINGERPRINT, n_bits=N_BITS, create=True) as writer:
        done = len(writer)
        if done > tiles or done % at_once or tiles % at_once:
            sys.exit(f"gallery.py: {folder} holds {done:,} tiles, wanted up to {tiles:,} in portions of {at_once:,}")
        with click.progressbar(length=tiles, label="making the gallery", file=sys.stderr) as bar:
            bar.update(done)
            for first in range(done // SCENE_TILES, tiles // SCENE_TILES, PORTION):
                batch = tiles_of(first, portion_of(first))
                codes = clustered_codes(np.random.default_rng([8, first]), centres(), at_once)
                started = time.perf_counter()
                writer.append(codes, batch, on_duplicate="error")
                spent += time.perf_counter() - started
                appended += at_once
                bar.update(at_once)
    return appended / spent if appended else None
