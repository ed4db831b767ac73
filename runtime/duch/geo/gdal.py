"""GDAL, held to local files: no network, no code of the file's author, a small cache, its errors as those of duch."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from duch.display import display_path, printable
from duch.errors import DuchError, SceneError, needs_extra

os.environ["PROJ_NETWORK"] = "OFF"  # PROJ asks nothing but the environment
with needs_extra("geo", "reading scenes"):
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import DatasetReader

# Drivers that open connections, netCDF by a library of its own.
_NETWORK_DRIVERS = (
    *("DAAS", "EEDA", "EEDAI", "HTTP", "OGCAPI", "PLMOSAIC", "STACIT", "STACTA", "WCS", "WMS", "WMTS"),
    *("Zarr", "netCDF"),
)
_SCENE_DRIVERS = [
    *("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JPEG", "JPEGXL", "PNG", "WEBP", "BMP", "HFA", "NITF"),
    *("ENVI", "EHdr", "ERS", "PCIDSK", "RMF", "TSX", "SAR_CEOS", "COSAR", "GRIB"),
]

# GDAL drops drivers when a process first registers them; from then on no file can lead to them.
with rasterio.Env(GDAL_SKIP=" ".join(_NETWORK_DRIVERS)) as _first:
    if not _first.drivers().keys() & _NETWORK_DRIVERS:  # else another part of this process came first
        _SCENE_DRIVERS += ["VRT", "DIMAP"]  # they name other files, which any driver opens

_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB; rows are kept by those who read them
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # asks for .ovr, .msk, .aux.xml by name: folders hold 100,000 files
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:0",  # nowhere, for what asks before it looks whether a name is allowed
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # else a JPEG that breaks off ends in grey
}


_lost = threading.local()  # the error that this thread's last call of GDAL ended with, if rasterio lost it


def _watch_rasterio() -> None:
    """Notice where rasterio fails to pass on a message that quotes bytes of a file which are no UTF-8.

    It then takes a read that failed for one that did not. Nobody can catch that: Python hands it to both of its hooks
    for what nobody catches, to be printed.
    """
    uncaught, unraisable = sys.excepthook, sys.unraisablehook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if trace is not None or kind is not UnicodeDecodeError:  # nothing else fails nowhere
            uncaught(kind, error, trace)

    def unraisablehook(failed: sys.UnraisableHookArgs) -> None:
        if not isinstance(failed.exc_value, UnicodeDecodeError) or not str(failed.object).startswith("rasterio."):
            unraisable(failed)
        elif failed.object != "rasterio._env.log_error":  # that one logs warnings
            _lost.message = failed.exc_value.object.decode("utf-8", "backslashreplace")

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook


_watch_rasterio()


def environment() -> rasterio.Env:
    """GDAL's settings for a `with` block; its messages go to Python's logging, not to stderr."""
    return rasterio.Env(**_OPTIONS)


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a raster with rasterio, for reading, in GDAL's `environment`.

    Raises:
        SceneError: no such file, or none that GDAL's local drivers read.
    """
    name = display_path(path)
    regular_file(path)
    with _openable(path) as place, environment():
        with gdal_errors(f"{name} cannot be read as a raster", place), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = DatasetReader(place, driver=_SCENE_DRIVERS, sharing=False)
        with dataset:
            yield dataset


def regular_file(path: Path) -> os.stat_result:
    """What is known of a file that can be read; GDAL would wait for a pipe, and not say why it cannot open a file.

    Raises:
        SceneError: there is none.
    """
    name = display_path(path)
    try:
        known = os.stat(path)
        if stat.S_ISREG(known.st_mode):
            open(path, "rb").close()
            return known
    except OSError as error:
        raise SceneError(f"{name} cannot be read: {error.strerror}") from error
    raise SceneError(f"{name} is no regular file; wanted a raster")


@contextmanager
def gdal_errors(what: str, place: str) -> Iterator[None]:
    """Turn whatever GDAL raises into one line.

    Raises:
        SceneError: `what`, and GDAL's reason without the `place` of the file.
    """
    _lost.message = None
    try:
        yield
        if _lost.message is not None:
            raise RuntimeError(_lost.message)
    except DuchError:
        raise
    except Exception as error:  # broken files raise nearly anything
        root: BaseException = error
        while root.__cause__ is not None:  # rasterio's own "Read failed" says less
            root = root.__cause__
        reason = " ".join(str(root).split())
        for known in (place, os.path.basename(place)):  # the error names it already; rasterio drops its newlines
            reason = reason.replace(" ".join(known.split()), "")
        reason = printable(reason).strip("':,. ")
        raise SceneError(f"{what}: {reason or type(root).__name__}") from error


@contextmanager
def _openable(path: Path) -> Iterator[str]:
    """A name by which rasterio can open a file, and find those that belong to it."""
    place = os.path.abspath(path)
    try:
        place.encode()
        odd = place.startswith("/vsi")  # GDAL would look for a file system of its own
    except UnicodeEncodeError:
        odd = True  # rasterio knows UTF-8 alone
    if not odd:
        yield place
        return
    folder, name = os.path.split(os.fsencode(place))
    stem, suffix = os.path.splitext(name)
    with tempfile.TemporaryDirectory(prefix="duch-") as links:
        for beside in os.listdir(folder):
            if beside.startswith(stem):  # NAME.tif.aux.xml, NAME.tfw
                os.symlink(os.path.join(folder, beside), os.fsencode(links) + b"/scene" + beside[len(stem) :])
        yield os.path.join(links, "scene" + os.fsdecode(suffix))
