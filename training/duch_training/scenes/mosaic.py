"""Tiles of a dataset side by side in one raster, as a satellite sends them: 16 bits, four bands, on the map, dated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from duch.errors import DatasetError, needs_extra

# Reflectance x 10,000 of what is drawn at full brightness; Sentinel-2's products are scaled so.
BRIGHTEST = 3000
_GSD = 1.0  # metres; trees and cars have about the right size
_LEFT, _UPPER = 600_000.0, 5_250_000.0  # in the Alps, UTM zone 32 north
_BANDS = ("blue", "green", "red", "near infrared")
_TIME = "2024:06:01 10:20:30"  # as TIFF writes it


def _places_of(count: int, size: int, margin: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Where the tiles of a mosaic lie: its width and height, and the left and upper pixel of each, shuffled."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    # A data set deals its classes in turn: unshuffled, twenty columns would be the twenty classes.
    order = np.random.default_rng(0).permutation(count).tolist()
    places = [(margin + i % columns * size, margin + i // columns * size) for i in order]
    return 2 * margin + columns * size, 2 * margin + rows * size, places


def write_mosaic(
    dataset: Path, file: Path, *, margin: int = 0, on_progress: Callable[[int], None] | None = None
) -> dict[str, tuple[int, int]]:
    """Paste the images of a dataset into a cloud-optimized GeoTIFF, in an order of its own.

    Bands are blue, green, red and near infrared, uint16; 0 is no data; the coordinate system is UTM zone 32 north.

    Args:
        dataset: a dataset.json of `write_scenes`, whose images are of one size.
        file: written whole or not at all; a file that is there is replaced.
        margin: pixels without data around the tiles.
        on_progress: called with the number of tiles done since the last call.

    Returns:
        The left and upper pixel of each image, by its file name.

    Raises:
        MissingPackageError: rasterio is not installed.
        DatasetError: the file cannot be written.
    """
    with needs_extra("geo", "a GeoTIFF of scenes"):
        import rasterio
        from rasterio.shutil import copy

    images = [dataset.parent / "images" / record["filename"] for record in json.loads(dataset.read_bytes())["images"]]
    with Image.open(images[0]) as first:
        size = first.width
    width, height, places = _places_of(len(images), size, margin)
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": len(_BANDS),
        "dtype": "uint16",
        "nodata": 0,
    }
    profile |= {"crs": "EPSG:32632", "transform": rasterio.Affine(_GSD, 0, _LEFT, 0, -_GSD, _UPPER), "tiled": True}
    try:
        # Beside the target, so that the finished file only changes its name.
        with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder, rasterio.Env(GDAL_CACHEMAX=64):
            plain, finished = Path(folder) / "plain.tif", Path(folder) / "cog.tif"
            with rasterio.open(plain, "w", **profile) as scene:
                for image, (x, y) in zip(images, places, strict=True):
                    with Image.open(image) as tile:
                        scene.write(_bands(np.asarray(tile)), window=((y, y + size), (x, x + size)))
                    if on_progress is not None:
                        on_progress(1)
                scene.descriptions = _BANDS
                scene.update_tags(TIFFTAG_DATETIME=_TIME)
            copy(plain, finished, driver="COG", compress="deflate", predictor="yes", num_threads="all_cpus")
            finished.replace(file)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise DatasetError(f"cannot write {file}: {error}; give a folder with room") from error
    return {image.name: place for image, place in zip(images, places, strict=True)}


def _bands(tile: np.ndarray) -> np.ndarray:
    """Blue, green, red and a made-up near infrared, (4, size, size) uint16, none of them 0: that is no data."""
    red, green, blue = np.moveaxis(tile.astype(np.float32), -1, 0) / 255  # each (size, size)
    infrared = np.clip(1.6 * green - 0.4 * red, 0, 1)
    return np.rint(1 + (BRIGHTEST - 1) * np.stack([blue, green, red, infrared])).astype(np.uint16)
