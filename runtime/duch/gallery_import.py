"""Exports into a gallery, a new one or one that exists.

import_gallery(["part-0.parquet", "part-1.parquet"], "gallery/")
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .catalog import is_gallery
from .codes import PackedCodes
from .display import display_path
from .errors import GalleryMismatchError, InputError
from .exchange_csv import FolderExport
from .exchange_parquet import ParquetExport
from .gallery import Gallery, GalleryWriter
from .gallery_writer import OnDuplicate, check_on_duplicate
from .ids import place_to_path
from .new_folder import new_folder
from .progress import Progress
from .rebase import common_root, path_below, rebased
from .tile import Tile

_TILES_AT_ONCE = 4096


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: tiles that were imported.
        replaced: how many of them took the place of a tile of the same id.
    """

    added: int
    replaced: int


def import_gallery(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    on_duplicate: OnDuplicate = "error",
    on_progress: Progress | None = None,
) -> ImportReport:
    """Append the tiles of exports, one after another, with new seqs.

    A new gallery appears whole or not at all. Into one that exists, batches of 4,096 tiles are appended after all
    sources have been read once and found good; each batch is safe, so after an interrupt run it again with "replace".
    Uris, and ids that are uris, are written anew if the gallery's root is a folder above that of a source.

    Args:
        sources: Parquet files and folders that `export_gallery` wrote.
        folder: the gallery; a new one if the folder does not exist or is empty.
        on_duplicate: what to do with an id that is there or comes again: "error" refuses, "replace" lets the later win.
        on_progress: called with tiles done and tiles in all.

    Raises:
        InputError: a source is no export, or its root is not below the gallery's; an id is there under "error".
        GalleryMismatchError: codes of another bundle.
        MissingPackageError: a Parquet file, and pyarrow is not installed.
        GalleryError: the gallery cannot be written.
    """
    if not sources:
        raise InputError("nothing to import; wanted what `duch gallery export` writes")
    check_on_duplicate(on_duplicate)
    exports = [_open(Path(source)) for source in sources]
    first = exports[0].about
    for export, source in zip(exports, sources, strict=True):
        if (export.about.fingerprint, export.about.n_bits) != (first.fingerprint, first.n_bits):
            raise GalleryMismatchError(
                f"{display_path(source)} holds {export.about.n_bits}-bit codes of bundle "
                f"{export.about.fingerprint[:12]}, {display_path(sources[0])} {first.n_bits}-bit codes of bundle "
                f"{first.fingerprint[:12]}; wanted exports of one bundle"
            )
    roots = [place_to_path(export.folder, export.about.root) for export in exports]
    exists = is_gallery(folder)
    with ExitStack() as stack:
        place = Path(folder) if exists else stack.enter_context(new_folder(folder))
        writer = stack.enter_context(
            Gallery.writer(place, fingerprint=first.fingerprint, n_bits=first.n_bits, create=not exists)
        )
        if not exists or writer.root is None:
            hints = (place_to_path(export.folder, export.about.bundle_hint) for export in exports)
            hint = next((hint for hint in hints if hint is not None and hint.exists()), None)
            writer.remember(root=common_root(roots), bundle_hint=hint)
        below = [path_below(root, writer.root) for root in roots]
        for way, source in zip(below, sources, strict=True):
            if way is not None and way.split("/")[0] == "..":
                raise InputError(
                    f"{display_path(source)} has tiles of a root outside {display_path(writer.root or '')}, which is "
                    "the gallery's; import it into a new gallery"
                )
        parts = list(zip(exports, below, strict=True))
        if exists:
            _look_through(parts, writer, on_duplicate)
        report = _append(parts, writer, on_duplicate, on_progress)
        if not exists:
            writer.compact()
        return report


def _open(source: Path) -> FolderExport | ParquetExport:
    if not source.exists():
        raise InputError(f"{display_path(source)} does not exist; wanted what `duch gallery export` writes")
    return FolderExport(source) if source.is_dir() else ParquetExport(source)


_Parts = list[tuple[FolderExport | ParquetExport, str | None]]


def _batches(parts: _Parts) -> Iterator[tuple[PackedCodes, list[Tile]]]:
    for export, below in parts:
        for codes, tiles in export.batches(_TILES_AT_ONCE):
            yield codes, [rebased(tile, below) for tile in tiles]


def _look_through(parts: _Parts, writer: GalleryWriter, on_duplicate: OnDuplicate) -> None:
    """Read everything once, so that a bad row in the middle is told before anything is written."""
    seen: set[str] = set()
    for _, tiles in _batches(parts):
        if on_duplicate == "error":
            ids = [tile.id for tile in tiles]
            known = writer.find_all(ids)
            for tile_id in ids:
                if tile_id in known or tile_id in seen:
                    what = "is in the gallery already" if tile_id in known else "comes twice"
                    raise InputError(f"tile {tile_id!r} {what}; nothing was imported, --on-duplicate replace takes it")
                seen.add(tile_id)


def _append(
    parts: _Parts, writer: GalleryWriter, on_duplicate: OnDuplicate, on_progress: Progress | None
) -> ImportReport:
    total = sum(export.n_tiles for export, _ in parts)
    added = replaced = 0
    for codes, tiles in _batches(parts):
        replaced += writer.append(codes, tiles, on_duplicate=on_duplicate).replaced
        added += len(tiles)
        if on_progress is not None:
            on_progress(added, total)
    return ImportReport(added, replaced)
