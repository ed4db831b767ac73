"""Every error that duch raises on purpose.

A message is one line that says what was found, what was wanted and what to do. The command line prints it and exits
with code 1; code that uses duch as a library catches `DuchError` or the child it can handle.

    DuchError
    ├── InputError               something the caller gave
    │   ├── ImageError           a file or array that is no usable image
    │   │   └── SceneError       a raster that cannot be cut into chips
    │   ├── TextError            a sentence that cannot be coded
    │   ├── CodesError           codes of the wrong width, type or shape
    │   ├── ConfigError          a setting that is unknown or out of range
    │   ├── FilterError          a filter of a search that cannot be read or used
    │   ├── PacketError          a packet that cannot be read, or is none
    │   └── DatasetError         a captioned-image dataset that cannot be read
    ├── BundleError              a bundle that cannot be used
    │   ├── BundleCorruptError   a file is missing or differs from its sha256
    │   ├── BundleVersionError   written by another format version
    │   └── GateError            one that failed the tests of its export, and was not written
    ├── CheckpointError          a checkpoint that cannot be used
    ├── GalleryError             a gallery that cannot be used
    │   ├── GalleryCorruptError  bytes that differ from their checksum
    │   ├── GalleryLockedError   another writer is at work
    │   ├── GalleryMismatchError codes of another bundle
    │   └── TablesError          tables that cannot be used; a scan answers instead
    ├── ProviderError            an execution provider that is not there
    ├── NativeError              the native library is missing, though required, or not of these sources
    └── MissingPackageError      an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DuchError(Exception):
    """Base of all errors that duch raises on purpose."""


class InputError(DuchError):
    """Something the caller gave cannot be used."""


class ImageError(InputError):
    """A file or array that is no usable image."""


class SceneError(ImageError):
    """A raster that cannot be cut into chips."""


class TextError(InputError):
    """A sentence that cannot be coded."""


class CodesError(InputError):
    """Codes of the wrong width, type or shape."""


class ConfigError(InputError):
    """A setting that is unknown or out of range."""


class FilterError(InputError):
    """A filter of a search that cannot be read or used."""


class PacketError(InputError):
    """A packet that cannot be read, or is none."""


class DatasetError(InputError):
    """A captioned-image dataset that cannot be read."""


class BundleError(DuchError):
    """A bundle that cannot be used."""


class BundleCorruptError(BundleError):
    """A file of the bundle is missing or differs from its sha256."""


class BundleVersionError(BundleError):
    """The bundle was written by another format version."""


class GateError(BundleError):
    """The bundle failed the tests of its export, so it was not written."""


class CheckpointError(DuchError):
    """A checkpoint that cannot be used."""


class GalleryError(DuchError):
    """A gallery that cannot be used."""


class GalleryCorruptError(GalleryError):
    """Bytes of the gallery differ from their checksum."""


class GalleryLockedError(GalleryError):
    """Another writer holds the gallery."""


class GalleryMismatchError(GalleryError):
    """The gallery holds codes of another bundle."""


class TablesError(GalleryError):
    """The tables of multi-index hashing are missing, damaged or not of these codes; a scan answers instead."""


class ProviderError(DuchError):
    """An execution provider that was asked for is not there."""


class NativeError(DuchError):
    """The native library is missing though it is required, cannot be loaded, or is not of these sources."""


class MissingPackageError(DuchError):
    """An optional dependency is not installed."""


def one_line(error: BaseException) -> str:
    """The message of an error of some library, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that names the pip extra to install.

    Raises:
        MissingPackageError: a package outside duch could not be imported.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        if package.startswith("duch"):
            raise  # a broken duch is a bug, not a missing extra
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which is not installed; run: pip install 'duch[{extra}]'"
        ) from error
