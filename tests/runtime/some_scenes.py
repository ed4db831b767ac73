"""GeoTIFF scenes for the tests, at places that are easy and at places that are not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

rasterio = pytest.importorskip("rasterio", exc_type=ImportError)

from affine import Affine  # noqa: E402
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.errors import NotGeoreferencedWarning  # noqa: E402
from rasterio.io import MemoryFile  # noqa: E402
from rasterio.shutil import copy  # noqa: E402

# Of each place the coordinate system, the middle of a scene in its units, and the side of a pixel.
PLACES: dict[str, tuple[str, tuple[float, float], float]] = {
    "utm": ("EPSG:32633", (500_000, 5_400_000), 10),
    "utm south": ("EPSG:32719", (350_000, 6_300_000), 10),
    "degrees": ("EPSG:4326", (12.5, 41.9), 1e-4),
    "arctic": ("EPSG:3413", (400_000, -1_200_000), 10),
    "antarctic": ("EPSG:3031", (-900_000, 700_000), 10),
    "north pole": ("EPSG:3413", (0, 0), 1000),
    "south pole": ("EPSG:3031", (0, 0), 1000),
    # The 180th meridian runs through the middle of these.
    "utm 60 over 180": ("EPSG:32660", (829_860, 999_500), 100),
    "utm 1 over -180": ("EPSG:32701", (180_841, 8_100_325), 100),
    "mercator over 180": ("EPSG:3832", (3_339_584.72, 1_000_000), 100),
    "degrees over 180": ("EPSG:4326", (180, -17), 1e-3),
}


def transform_at(place: str, width: int, height: int) -> Affine:
    """The upright, north-up transform of a scene of this many pixels, in the middle of a place."""
    _, (x, y), pixel = PLACES[place]
    return Affine(pixel, 0, x - pixel * width / 2, 0, -pixel, y + pixel * height / 2)


def ramp(bands: int, height: int, width: int, dtype: str = "uint16", *, scale: float = 1) -> NDArray[Any]:
    """Values that tell band, row and column: no two windows of a scene look alike. (bands, height, width)."""
    b, y, x = np.ogrid[1 : bands + 1, :height, :width]
    values = b * 17.0 + y * 3.0 + x * 5.0 + (x * y) % 7
    limit = np.iinfo(dtype).max + 1 if np.issubdtype(dtype, np.integer) else 65536
    return ((values * scale) % limit).astype(dtype)


def write_scene(
    path: Path,
    values: NDArray[Any] | tuple[int, int, int],
    *,
    place: str | None = "utm",
    crs: str | None = None,
    transform: Affine | None = None,
    dtype: str = "uint16",
    nodata: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    cog: bool = False,
    tiled: bool = True,
    blocksize: int = 256,
    compress: str = "deflate",
    colors: Sequence[str] | None = None,
    descriptions: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    imagery: Mapping[str, str] | None = None,
    gcps: Sequence[Any] | None = None,
    rpcs: Any = None,
    **more: Any,
) -> Path:
    """Write a GeoTIFF, or a COG with overviews, and return its path.

    Args:
        path: the file.
        values: (bands, height, width), or this shape, which `ramp` fills.
        place: key of `PLACES`, for crs and transform unless they are given; None for a scene without a place.
        crs: coordinate system, of `gcps` too.
        transform: from pixels to it.
        dtype: of the values where only their shape is given.
        nodata: value of pixels without data.
        mask: (height, width), False where there is no data; kept inside the file.
        cog: a cloud-optimised GeoTIFF.
        tiled: in blocks, not strips.
        blocksize: side of a block.
        compress: GDAL's name.
        colors: of each band, such as ("red", "green", "blue", "alpha").
        descriptions: of each band.
        tags: such as TIFFTAG_DATETIME.
        imagery: the same of GDAL's domain IMAGERY, such as ACQUISITIONDATETIME; kept in PATH.aux.xml.
        gcps: `rasterio.control.GroundControlPoint`s instead of a transform.
        rpcs: a `rasterio.rpc.RPC`.
        more: other creation options of GDAL's driver GTiff.
    """
    array = ramp(*values, dtype) if isinstance(values, tuple) else values
    n, height, width = array.shape
    profile: dict[str, Any] = {"count": n, "height": height, "width": width, "dtype": array.dtype, "nodata": nodata}
    if place is not None:
        profile["crs"] = crs or PLACES[place][0]
        profile["transform"] = transform or transform_at(place, width, height)
    else:
        profile |= {"crs": crs, "transform": transform} if transform else {}
    if gcps is not None:
        del profile["crs"], profile["transform"]
    if cog:
        options = {"compress": compress, "blocksize": blocksize, **more}
    elif tiled:
        options = {"compress": compress, "tiled": True, "blockxsize": blocksize, "blockysize": blocksize, **more}
    else:
        options = {"compress": compress, **more}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        target = memory.name if cog else str(path)
        with rasterio.open(target, "w", driver="GTiff", **profile, **({} if cog else options)) as scene:
            scene.write(array)
            if colors is not None:
                scene.colorinterp = [ColorInterp[color] for color in colors]
            for band, description in enumerate(descriptions or (), 1):
                scene.set_band_description(band, description)
            scene.update_tags(**(tags or {}))
            if gcps is not None:
                scene.gcps = (list(gcps), crs or (PLACES[place][0] if place else "EPSG:4326"))
            if rpcs is not None:
                scene.rpcs = rpcs
            if mask is not None:
                scene.write_mask(mask)
        if cog:
            copy(target, str(path), driver="COG", **options)
    if imagery is not None:  # the driver writes no IMAGERY into the file, but reads it from beside
        items = "".join(f'<MDI key="{key}">{value}</MDI>' for key, value in imagery.items())
        beside = f'<PAMDataset><Metadata domain="IMAGERY">{items}</Metadata></PAMDataset>'
        path.with_name(path.name + ".aux.xml").write_text(beside)
    return path
