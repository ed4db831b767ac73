"""Hits for tests of what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duch.tile import Hit

SCENE = "pass/S2A_20240501.tif"
NOON_US = 1_714_564_800_000_000  # 2024-05-01T12:00:00Z
SQUARE = {"type": "Polygon", "coordinates": [[[8.5, 47.0], [8.6, 47.0], [8.6, 47.1], [8.5, 47.1], [8.5, 47.0]]]}


def some_hit(rank: int = 1, **known: Any) -> Hit:
    """An image, by default without a file, a place or a time."""
    facts: dict[str, Any] = {"id": f"tile-{rank}.png", "modality": "image", "distance": 2 * rank, "seq": rank}
    facts["uri"] = facts["id"]
    return Hit(rank=rank, **(facts | known))


def some_chip(rank: int = 1, *, path: Path | None = None, **known: Any) -> Hit:
    """A chip of a scene with all that indexing knows of it, but no outline: its footprint is a box."""
    attributes = {
        "bands": [4, 3, 2],
        "chip": 224,
        "cloud_cover": 12.5,
        "crs": "EPSG:32632",
        "gsd": 10.0,
        "nodata": 0.0,
        "range": [[0, 3000]],
        "sensor": "S2A",
        "settings": "0a1b2c3d",
    }
    x = 224 * (rank - 1)
    facts: dict[str, Any] = {
        "id": f"{SCENE}#{x},0,224,224",
        "uri": SCENE,
        "footprint": (8.5 + 0.03 * rank, 47.0, 8.53 + 0.03 * rank, 47.02),
        "time_us": NOON_US + rank,
        "attributes": attributes,
        "path": path,
    }
    return some_hit(rank, **(facts | known))
