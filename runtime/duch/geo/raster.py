"""A scene, opened: which bands and values it is read with, and what is known of its place and time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duch.display import display_path
from duch.errors import SceneError
from duch.ids import Window

from .acquisition import Acquisition, acquisition_of
from .bands import bands_of, ranges_of, read_window
from .file_length import least_length
from .gdal import gdal_errors, open_raster, regular_file
from .georeference import Georeference, georeference_of
from .settings import ChipSettings, Range

if TYPE_CHECKING:
    from .stac_item import Item

_MOST_BLOCK_BYTES = 2**29


@dataclass(frozen=True)
class Scene:
    """An open scene. One thread at a time may read it, which need not be the one that opened it.

    Attributes:
        path: the file.
        size: its bytes.
        mtime_ns: its modification time, nanoseconds since 1970 UTC.
        width: in pixels.
        height: in pixels.
        bands: numbers of the bands that are read, one or three, counted from 1.
        ranges: (low, high) of all bands, or of each; None for values as they are.
        georeference: where its pixels lie on Earth; None for a scene that says nothing of it.
        acquisition: when and by what it was taken.
        dataset: the rasterio dataset.
    """

    path: Path
    size: int
    mtime_ns: int
    width: int
    height: int
    bands: tuple[int, ...]
    ranges: tuple[Range, ...] | None
    georeference: Georeference | None
    acquisition: Acquisition
    dataset: Any

    def read_window(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values of its bands in a window that lies in it, and where they are data.

        Shape: -> (n, h, w) of the bands' common type, and (n, h, w) or (1, h, w).

        Raises:
            SceneError: the file is damaged or cut off.
        """
        return read_window(self.dataset, self.bands, window, display_path(self.path))


@contextmanager
def open_scene(path: Path, settings: ChipSettings, item: Item | None = None) -> Iterator[Scene]:
    """Open a scene for a `with` block, at whose end it is made sure that the file is the same as at its beginning.

    Args:
        path: a raster that one of GDAL's local drivers reads.
        settings: which bands, values and chips are wanted.
        item: what STAC says of it.

    Raises:
        ConfigError: the settings leave open what this scene needs to be told: bands, or a range of values.
        SceneError: no such file, or none that can be read; no place on the map; changed while it was read.
    """
    name = display_path(path)
    before = regular_file(path)
    _check_whole(path, before)
    with open_raster(path) as dataset:
        with gdal_errors(f"{name} cannot be read as a raster", dataset.name):
            scene = _scene(dataset, path, before, settings, item)
        yield scene
    after = regular_file(path)
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
        raise SceneError(f"{name} was changed while it was read; index it again when it is complete")


def _scene(dataset: Any, path: Path, known: os.stat_result, settings: ChipSettings, item: Item | None) -> Scene:
    name = display_path(path)
    bands = bands_of(dataset, settings, name)
    _check_blocks(dataset, bands, name)
    try:
        georeference = georeference_of(dataset, crs=settings.crs)
        acquisition = acquisition_of(dataset, path, pattern=settings.pattern, item=item)
    except SceneError as error:
        raise SceneError(f"{name}: {error}") from error
    if georeference is None and not settings.unlocated:
        raise SceneError(
            f"{name} has no place on the map; name its coordinate system with --crs EPSG:NUMBER if it lacks no more "
            "than that, or take scenes without a place with --unlocated"
        )
    return Scene(
        path=path,
        size=known.st_size,
        mtime_ns=known.st_mtime_ns,
        width=dataset.width,
        height=dataset.height,
        bands=bands,
        ranges=ranges_of(dataset, bands, settings, name),
        georeference=georeference,
        acquisition=acquisition,
        dataset=dataset,
    )


def _check_whole(path: Path, known: os.stat_result) -> None:
    try:
        length = least_length(path)
    except OSError as error:
        raise SceneError(f"{display_path(path)} cannot be read: {error.strerror}") from error
    if length > known.st_size:
        raise SceneError(
            f"{display_path(path)} is cut off: it has {known.st_size:,} of at least {length:,} bytes; copy it again"
        )


def _check_blocks(dataset: Any, bands: tuple[int, ...], name: str) -> None:
    """GDAL reads whole blocks, and a file may be a single one."""
    for band in bands:
        height, width = dataset.block_shapes[band - 1]
        size = height * width * np.dtype(dataset.dtypes[band - 1]).itemsize
        if dataset.interleaving is not None and dataset.interleaving.name == "pixel":
            size *= dataset.count
        if size > _MOST_BLOCK_BYTES:
            raise SceneError(
                f"{name} is kept in blocks of {width:,} x {height:,} pixels, {size / 1e6:,.0f} MB; wanted at most "
                f"{_MOST_BLOCK_BYTES / 1e6:,.0f} MB, so write it with gdal_translate -co TILED=YES"
            )
