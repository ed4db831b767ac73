"""Which painter paints which class, and in which seasons it makes sense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from duch_training.scenes import land, shores, town, transport
from duch_training.scenes.canvas import SEASONS, Canvas, Facts

_GREEN = ("summer", "autumn", "dry")  # nobody plays ball or sunbathes in the snow

PAINTERS: dict[str, tuple[Callable[[Canvas], None], tuple[str, ...]]] = {
    "airport": (transport.airport, SEASONS),
    "runway": (transport.runway, SEASONS),
    "harbour": (shores.harbour, _GREEN),
    "river": (shores.river, SEASONS),
    "lake": (shores.lake, SEASONS),
    "beach": (shores.beach, _GREEN),
    "forest": (land.forest, SEASONS),
    "farmland": (land.farmland, SEASONS),
    "dense residential": (town.dense_residential, SEASONS),
    "sparse residential": (town.sparse_residential, SEASONS),
    "parking lot": (town.parking_lot, SEASONS),
    "storage tanks": (land.storage_tanks, SEASONS),
    "baseball field": (town.baseball_field, _GREEN),
    "tennis courts": (town.tennis_courts, _GREEN),
    "roundabout": (transport.roundabout, SEASONS),
    "intersection": (transport.intersection, SEASONS),
    "industrial sheds": (land.industrial_sheds, SEASONS),
    "solar farm": (land.solar_farm, SEASONS),
    "railway yard": (transport.railway_yard, SEASONS),
    "stadium": (town.stadium, _GREEN),
}
CLASSES: tuple[str, ...] = tuple(PAINTERS)


def paint(class_name: str, rng: np.random.Generator, size: int) -> tuple[Image.Image, Facts]:
    """Paint one scene.

    Returns:
        The RGB tile, size x size, and the facts of what is on it.
    """
    painter, seasons = PAINTERS[class_name]
    canvas = Canvas(class_name, rng, size, seasons)
    painter(canvas)
    return canvas.finish(), canvas.facts
