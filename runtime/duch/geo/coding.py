"""One scene into tiles and codes: a thread reads the next chips while the encoder codes those before.

Shapes: n chips of a batch, s image size of the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from duch.codes import PackedCodes
from duch.ids import Window, chip_id
from duch.preprocess import ImagePreprocessing, image_to_pixels
from duch.tile import Tile

from .settings import ChipSettings

if TYPE_CHECKING:
    from duch.encoder import Encoder

    from .footprint import Footprint
    from .raster import Scene
    from .stac import SceneSource

# Called with the part of the scene that is done, 0 to 1, and the number of its chips coded so far.
SceneProgress = Callable[[float, int], None]
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class CodedScene:
    """The chips of a scene.

    Attributes:
        uri: the scene's id.
        tiles: what is known of each chip, row by row.
        codes: their packed codes, (n, n_bits / 8).
        left_out: how many chips more have too large a share of pixels without data.
    """

    uri: str
    tiles: list[Tile]
    codes: PackedCodes
    left_out: int


class _Chip(NamedTuple):
    window: Window
    nodata: float
    place: Footprint | None


class _Batch(NamedTuple):
    chips: list[_Chip]
    pixels: NDArray[np.uint8]  # (n, s, s, 3)
    scene: Tile  # what is known of all chips
    n_chips: int  # of the scene


def code_scene(
    encoder: Encoder,
    source: SceneSource,
    settings: ChipSettings,
    *,
    uri: str,
    batch_size: int = 64,
    on_progress: SceneProgress | None = None,
) -> CodedScene:
    """Code the chips of a scene. The pixels of some batches are in memory, whatever the size of the scene.

    Args:
        encoder: makes the codes.
        source: the scene; without an item, one that lies beside it counts.
        settings: how it is cut.
        uri: its id in the gallery.
        batch_size: chips coded at once.
        on_progress: called after every batch, in the caller's thread; what it raises ends the work.

    Raises:
        SceneError: the scene cannot be read, or changed while it was read.
        ConfigError: the settings do not fit it.
    """
    chips: list[_Chip] = []
    codes: list[PackedCodes] = []
    with _ahead(_batches(source, settings, uri, encoder.image, batch_size)) as batches:
        for batch in batches:
            codes.append(encoder.encode_pixels(batch.pixels))
            chips += batch.chips
            if on_progress is not None:
                on_progress(len(chips) / max(1, batch.n_chips), len(chips))
    # By their number an ingest sees that one of them was taken out since.
    scene = replace(batch.scene, attributes={**batch.scene.attributes, "scene_chips": len(chips)})
    return CodedScene(uri, [_tile(scene, chip) for chip in chips], np.concatenate(codes), batch.n_chips - len(chips))


def _batches(
    source: SceneSource, settings: ChipSettings, uri: str, image: ImagePreprocessing, batch_size: int
) -> Generator[_Batch, None, None]:
    from .chips import count_chips, read_chips
    from .footprint import footprints
    from .raster import open_scene
    from .stac import item_beside

    item = item_beside(source.path) if source.item is None else source.item
    with open_scene(source.path, settings, item) as scene:
        n_chips = count_chips(scene, settings)
        known = _tile_of_scene(scene, settings, uri)
        none = np.empty((0, image.size, image.size, 3), dtype=np.uint8)
        yield _Batch([], none, known, n_chips)
        for chips in read_chips(scene, settings, batch_size=batch_size):
            pixels = chips.pixels
            if settings.size != image.size:
                pixels = np.stack([image_to_pixels(chip, image) for chip in pixels]) if len(pixels) else none
            places = (
                [None] * len(pixels) if scene.georeference is None else footprints(scene.georeference, chips.windows)
            )
            seen = [_Chip(*chip) for chip in zip(chips.windows, chips.nodata.tolist(), places, strict=True)]
            yield _Batch(seen, pixels, known, n_chips)


def _tile_of_scene(scene: Scene, settings: ChipSettings, uri: str) -> Tile:
    """What is known of all chips of a scene."""
    known: dict[str, Any] = dict(scene.acquisition.attributes)
    if scene.georeference is not None:
        across, down = scene.georeference.gsd
        known |= {"crs": scene.georeference.crs_name, "gsd": float(f"{math.sqrt(across * down):.4g}")}
    if scene.ranges is not None:
        known["range"] = [list(pair) for pair in scene.ranges]
    known |= {"bands": list(scene.bands), "chip": settings.size, "settings": settings.digest}
    return Tile(
        id=uri,
        modality="image",
        uri=uri,
        size=scene.size,
        mtime_ns=scene.mtime_ns,
        time_us=scene.acquisition.time_us,
        attributes=known,
    )


def _tile(scene: Tile, chip: _Chip) -> Tile:
    attributes = {**scene.attributes, "nodata": round(chip.nodata, 4)}
    # A chip may show no ground: the sky beside the Earth's disk, as a geostationary satellite sees it.
    if chip.place is not None:
        attributes["geometry"] = chip.place.geometry
    return replace(
        scene,
        id=chip_id(scene.id, chip.window),
        footprint=None if chip.place is None else chip.place.bbox,
        attributes=attributes,
    )


@contextmanager
def _ahead(parts: Generator[_Part, None, None]) -> Iterator[Iterator[_Part]]:
    """Parts, made by one thread that works on the next one meanwhile. All of GDAL's work is done in that thread.

    Whatever ends the block, an interrupt too, the generator is closed by its thread and no thread outlives the block.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="duch-scene")

    def in_order() -> Iterator[_Part]:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part

    try:
        yield in_order()
    finally:
        pool.submit(parts.close).result()
        pool.shutdown()
