"""What makes searches of a gallery quicker and is no part of what it holds: tables of its codes, indexes of attributes.

    optimize("gallery/", tables=True, attributes=["cloud"])

Shapes: n rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .display import display_path
from .errors import GalleryError, TablesError
from .gallery_writer import GalleryWriter
from .tables import Tables, file_name

# Tables are built again once the rows behind them, which a search scans, are more than this part of all rows.
_STALE = 1 / 16


@dataclass(frozen=True)
class OptimizeReport:
    """What there is after an optimization.

    Attributes:
        tables: rows that the tables cover; None if there are none.
        added: attributes that have an index now and had none.
        dropped: attributes whose index was taken away.
    """

    tables: int | None
    added: list[str]
    dropped: list[str]


def optimize(
    folder: str | os.PathLike[str],
    *,
    tables: bool | None = None,
    attributes: Sequence[str] = (),
    drop_attributes: Sequence[str] = (),
) -> OptimizeReport:
    """Build, or take away, what makes searches quicker. Readers go on meanwhile; those that open later gain by it.

    Args:
        folder: the gallery.
        tables: build multi-index hashing tables (True), take them away (False) or leave them as they are.
        attributes: attributes that filters ask for; each gets an index.
        drop_attributes: attributes whose index is to go.

    Raises:
        CodesError: codes too long or too many for tables.
        FilterError: an attribute of this name cannot be asked for.
        GalleryLockedError: a writer is at work.
        GalleryError: the folder is no gallery, or cannot be written.
    """
    with GalleryWriter(folder) as writer:
        added = [name for name in dict.fromkeys(attributes) if writer.index_attribute(name)]
        dropped = [name for name in dict.fromkeys(drop_attributes) if writer.drop_attribute_index(name)]
        if tables:
            build_tables(writer)
        elif tables is False:
            drop_tables(writer)
        found = open_tables(writer)
        return OptimizeReport(None if found is None else found.n_rows, added, dropped)


def has_tables(writer: GalleryWriter) -> bool:
    """Whether there are tables of this generation, in whatever state."""
    return _file(writer).exists()


def open_tables(writer: GalleryWriter) -> Tables | None:
    """The tables, if there are any that can be used."""
    with suppress(TablesError):
        return Tables.open(
            _file(writer),
            n_bits=writer.n_bits,
            fingerprint=writer.fingerprint,
            generation=writer.generation,
            n_rows=len(writer.codes()),
        )
    return None


def build_tables(writer: GalleryWriter) -> None:
    """Build the tables of all rows; on any error the older ones stay.

    Raises:
        CodesError: codes too long or too many for tables.
        GalleryError: the disk is full or fails.
    """
    try:
        Tables.build(writer.codes(), _file(writer), fingerprint=writer.fingerprint, generation=writer.generation)
    except OSError as error:
        raise GalleryError(
            f"the tables of {display_path(writer.folder)} cannot be written: {error.strerror}; all tiles are safe and "
            "are searched without them"
        ) from error


def refresh_tables(writer: GalleryWriter) -> bool:
    """Build tables again that can be used no more, or cover too few of the rows; returns whether it did.

    Raises:
        GalleryError: the disk is full or fails.
    """
    if not has_tables(writer):
        return False
    found = open_tables(writer)
    if found is not None and found.n_rows >= (1 - _STALE) * len(writer.codes()):
        return False
    build_tables(writer)
    return True


def drop_tables(writer: GalleryWriter) -> None:
    """Take the tables away.

    Raises:
        GalleryError: they cannot be.
    """
    try:
        _file(writer).unlink(missing_ok=True)
    except OSError as error:
        raise GalleryError(f"{display_path(_file(writer))} cannot be deleted: {error.strerror}") from error


def _file(writer: GalleryWriter) -> Path:
    return writer.folder / file_name(writer.generation)
