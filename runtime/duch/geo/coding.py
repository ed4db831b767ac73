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
from duch.ids import chip_id
from duch.preprocess import ImagePreprocessing, image_to_pixels
from duch.tile import Tile

from .settings import ChipSettings

if TYPE_CHECKING:
    from duch.encoder import Encoder

    from .chips import ChipBatch
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


class _Batch(NamedTuple):
    tiles: list[Tile]
    pixels: NDArray[np.uint8]  # (n, s, s, 3)
    n_chips: int  # of the whole scene


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
        source: the scene.
        settings: how it is cut.
        uri: its id in the gallery.
        batch_size: chips coded at once.
        on_progress: called after every batch, in the caller's thread; what it raises ends the work.

    Raises:
        SceneError: the scene cannot be read, or changed while it was read.
        ConfigError: the settings do not fit it.
    """
    tiles: list[Tile] = []
    codes: list[PackedCodes] = []
    n_chips = 0
    with _ahead(_batches(source, settings, uri, encoder.image, batch_size)) as batches:
        for batch in batches:
            n_chips = batch.n_chips
            codes.append(encoder.encode_pixels(batch.pixels))
            tiles += batch.tiles
            if on_progress is not None:
                on_progress(len(tiles) / max(1, n_chips), len(tiles))
    # By their number an ingest sees that one of them was taken out since.
    tiles = [replace(tile, attributes={**tile.attributes, "scene_chips": len(tiles)}) for tile in tiles]
    return CodedScene(uri, tiles, np.concatenate(codes), n_chips - len(tiles))


def _batches(
    source: SceneSource, settings: ChipSettings, uri: str, image: ImagePreprocessing, batch_size: int
) -> Generator[_Batch, None, None]:
    from .chips import count_chips, read_chips
    from .raster import open_scene

    with open_scene(source.path, settings, source.item) as scene:
        n_chips = count_chips(scene, settings)
        shared = _shared(scene, settings, uri)
        none = np.empty((0, image.size, image.size, 3), dtype=np.uint8)
        yield _Batch([], none, n_chips)
        for chips in read_chips(scene, settings, batch_size=batch_size):
            pixels = chips.pixels
            if settings.size != image.size:
                pixels = np.stack([image_to_pixels(chip, image) for chip in pixels]) if len(pixels) else none
            yield _Batch(_tiles(scene, shared, chips), pixels, n_chips)


def _shared(scene: Scene, settings: ChipSettings, uri: str) -> Tile:
    """What is known of all chips of a scene, as the tile of the scene."""
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


def _tiles(scene: Scene, shared: Tile, chips: ChipBatch) -> list[Tile]:
    from .footprint import footprints

    tiles = [
        replace(shared, id=chip_id(shared.id, window), attributes={**shared.attributes, "nodata": round(share, 4)})
        for window, share in zip(chips.windows, chips.nodata.tolist(), strict=True)
    ]
    if scene.georeference is None:
        return tiles
    places = footprints(scene.georeference, chips.windows)
    return [
        # A chip may show no ground: the sky beside the Earth's disk, as a geostationary satellite sees it.
        tile
        if place is None
        else replace(tile, footprint=place.bbox, attributes={**tile.attributes, "geometry": place.geometry})
        for tile, place in zip(tiles, places, strict=True)
    ]


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
