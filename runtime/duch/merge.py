"""Several galleries of one bundle into a new one.

merge("all/", ["north/", "south/"])
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .display import display_path
from .errors import GalleryMismatchError, InputError
from .gallery import Gallery, GalleryWriter
from .gallery_writer import OnDuplicate, check_on_duplicate
from .new_folder import new_folder
from .progress import Progress
from .rebase import common_root, path_below, rebased
from .tile import Tile


@dataclass(frozen=True)
class MergeReport:
    """What a merge made.

    Attributes:
        n_tiles: tiles of the new gallery.
        replaced: tiles whose id came again in a later gallery, which won.
        root: the folder that its uris are relative to; None if no source has one.
    """

    n_tiles: int
    replaced: int
    root: Path | None


def merge(
    out: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    on_duplicate: OnDuplicate = "error",
    on_progress: Progress | None = None,
) -> MergeReport:
    """Write the live tiles of galleries, one after another, into a new gallery; it appears whole or not at all.

    Tiles get new seqs in that order. Where roots differ, the new root is the folder that holds them all; uris are
    written anew relative to it, and so are ids that are their uri.

    Args:
        out: the new gallery; a folder that does not exist or is empty.
        sources: galleries of the same bundle. They may be on read-only media.
        on_duplicate: what to do with an id that comes again: "error" refuses, "replace" lets the later gallery win.
        on_progress: called with tiles done and tiles in all.

    Raises:
        InputError: no source, or an id comes again under "error".
        GalleryMismatchError: a source holds codes of another bundle.
        GalleryCorruptError: a tile of a source is damaged.
        GalleryError: a source is no gallery, or `out` is taken or cannot be written.
    """
    if not sources:
        raise InputError("no gallery to merge; wanted one or more")
    check_on_duplicate(on_duplicate)
    with ExitStack() as stack:
        galleries = [stack.enter_context(Gallery.open(source)) for source in sources]
        first = galleries[0]
        for other in galleries[1:]:
            if (other.fingerprint, other.n_bits) != (first.fingerprint, first.n_bits):
                raise GalleryMismatchError(
                    f"{display_path(other.folder)} holds {other.n_bits}-bit codes of bundle {other.fingerprint[:12]}, "
                    f"{display_path(first.folder)} {first.n_bits}-bit codes of bundle {first.fingerprint[:12]}; wanted "
                    "galleries of one bundle"
                )
        root = common_root([gallery.root for gallery in galleries])
        hint = next(
            (it.bundle_hint for it in galleries if it.bundle_hint is not None and it.bundle_hint.exists()), None
        )
        beside = stack.enter_context(new_folder(out))
        with Gallery.writer(
            beside, fingerprint=first.fingerprint, n_bits=first.n_bits, create=True, root=root, bundle_hint=hint
        ) as writer:
            replaced = _copy(galleries, writer, root, on_duplicate, on_progress)
            writer.compact()
            return MergeReport(len(writer), replaced, root)


def _copy(
    galleries: list[Gallery],
    writer: GalleryWriter,
    root: Path | None,
    on_duplicate: OnDuplicate,
    on_progress: Progress | None,
) -> int:
    """Append the live tiles of all galleries; returns how many took the place of an earlier one."""
    total = sum(map(len, galleries))
    done = replaced = 0
    starts: list[int] = []  # seq of each gallery's first tile
    for gallery in galleries:
        starts.append(done)
        below = path_below(gallery.root, root)
        for codes, stored in gallery.batches():
            tiles = [rebased(tile, below) for tile in stored]
            if on_duplicate == "error":
                _refuse_duplicates(tiles, writer, galleries, starts)
            replaced += writer.append(codes, tiles).replaced
            done += len(tiles)
            if on_progress is not None:
                on_progress(done, total)
    return replaced


def _refuse_duplicates(tiles: list[Tile], writer: GalleryWriter, galleries: list[Gallery], starts: list[int]) -> None:
    seen: set[str] = set()
    known = writer.find_all([tile.id for tile in tiles])
    for tile in tiles:
        if tile.id in known or tile.id in seen:
            earlier = bisect_right(starts, known[tile.id].seq) if tile.id in known else len(starts)
            names = (display_path(galleries[place - 1].folder) for place in (earlier, len(starts)))
            raise InputError(
                f"tile {tile.id!r} is in {' and in '.join(names)}; wanted ids that differ, or --on-duplicate replace"
            )
        seen.add(tile.id)
