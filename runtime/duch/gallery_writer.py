"""The one writer of a gallery: creates it, appends, replaces, removes, compacts.

Every call that returns has its tiles on the disk: the codes and columns are fsynced before the SQLite transaction that
makes them exist is committed.

Shapes: n tiles.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np

from .catalog import Catalog, Meta, catalog_of, is_gallery
from .codes import PackedCodes, check_codes, check_n_bits
from .columns_file import GROUP_ROWS, table_of
from .display import display_path
from .errors import CodesError, GalleryError, InputError
from .gallery_place import create_files, may_create, take_lock
from .generation import Generation, crcs, sweep
from .ids import path_to_place, place_to_path
from .progress import Progress
from .tile import StoredTile, Tile
from .where import attribute_index

# What to do with an id that is in the gallery: bury the old tile, or refuse the new ones.
OnDuplicate = Literal["replace", "error"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COMPACTED_AT_ONCE = 16 * GROUP_ROWS  # rows; a few MB


@dataclass(frozen=True)
class Appended:
    """What one `append` did.

    Attributes:
        seqs: seq of the tiles, in the order given.
        replaced: how many took the place of a tile of the same id.
        removed: how many others were taken out.
    """

    seqs: range
    replaced: int
    removed: int = 0


class GalleryWriter:
    """Adds to a gallery. There is one writer at a time; readers go on reading what was there when they opened it."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fingerprint: str | None = None,
        n_bits: int | None = None,
        create: bool = False,
        root: str | os.PathLike[str] | None = None,
        bundle_hint: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take the gallery's lock, and take away what a crash left.

        Args:
            folder: the gallery.
            fingerprint: 64 hex digits of the bundle whose codes will be added; by default the gallery's own.
            n_bits: length of those codes; likewise.
            create: make the gallery if the folder is missing or empty.
            root: the folder that uris are relative to; kept in the gallery, by default as it is there.
            bundle_hint: where the bundle is; likewise.

        Raises:
            GalleryLockedError: another writer is at work.
            GalleryMismatchError: the gallery holds codes of another bundle.
            GalleryCorruptError: a file of the gallery is damaged.
            GalleryError: the folder is no gallery, or cannot be written.
            InputError: the fingerprint is no sha256, or none is given for a new gallery.
        """
        if n_bits is not None:
            check_n_bits(n_bits)
        if fingerprint is not None and not re.fullmatch("[0-9a-f]{64}", fingerprint):
            raise InputError(f"fingerprint is {fingerprint!r}; wanted 64 hex digits")
        self.folder = Path(folder)
        self._catalog: Catalog | None = None
        self._files: Generation | None = None
        self._failed = False
        if not (create and may_create(self.folder)):
            catalog_of(self.folder)
        elif fingerprint is None or n_bits is None:
            raise InputError("a new gallery without fingerprint and n_bits; wanted those of its bundle")
        self._lock = take_lock(self.folder)
        try:
            if not is_gallery(self.folder):
                create_files(self.folder, str(fingerprint), n_bits or 0)
            self._catalog = Catalog.open_to_write(catalog_of(self.folder))
            self._meta = meta = self._catalog.meta()
            meta.check_bundle(self.folder, fingerprint=fingerprint or meta.fingerprint, n_bits=n_bits or meta.n_bits)
            self._files = Generation(self.folder, meta, writable=True)
            self._sweep()
            self.remember(root=root, bundle_hint=bundle_hint)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the next writer in."""
        if self._catalog is not None:
            with suppress(GalleryError):  # everything is safe in the log as well
                self._catalog.empty_log()
            self._catalog.close()
            self._catalog = None
        if self._files is not None:
            self._files.close()
            self._files = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __len__(self) -> int:
        """Live tiles, all of them on the disk."""
        return self._meta.live_images + self._meta.live_texts

    @property
    def fingerprint(self) -> str:
        """64 hex digits of the bundle that made the codes."""
        return self._meta.fingerprint

    @property
    def n_bits(self) -> int:
        """Length of a code."""
        return self._meta.n_bits

    @property
    def generation(self) -> int:
        """Number of the files that new readers open."""
        return self._meta.generation

    @property
    def root(self) -> Path | None:
        """The folder that uris are relative to."""
        return place_to_path(self.folder, self._meta.root)

    def append(
        self,
        codes: PackedCodes,
        tiles: Sequence[Tile],
        *,
        on_duplicate: OnDuplicate = "replace",
        remove: Iterable[str] = (),
    ) -> Appended:
        """Add tiles and their codes; all of them are on the disk when this returns, or none.

        Shape: codes (n, n_bits / 8) uint8, n tiles.

        Args:
            codes: packed codes.
            tiles: what is known of each, in the same order.
            on_duplicate: what to do with an id that is in the gallery: "replace" buries the old tile, "error" refuses.
            remove: ids whose live tiles are taken out in the same transaction; one of them that is added as well is
                replaced, and no duplicate.

        Raises:
            CodesError: codes of the wrong type, shape or width, or not one for each tile.
            InputError: a tile that cannot be stored, or a duplicate id under "error".
            GalleryError: the disk is full or fails; what was appended before is safe.
        """
        catalog, files = self._writable()
        meta = self._meta
        checked = np.ascontiguousarray(check_codes(codes, meta.n_bits))
        if len(checked) != len(tiles):
            raise CodesError(f"{len(checked)} codes for {len(tiles)} tiles; wanted one for each")
        check_on_duplicate(on_duplicate)
        for tile in tiles:
            tile.check()
        unwanted = list(dict.fromkeys(remove))
        if not tiles and not unwanted:
            return Appended(range(0), 0)
        last = {tile.id: place for place, tile in enumerate(tiles)}  # of several with one id, the last one stays
        with self._all_or_nothing(), catalog.transaction():
            taken_out = catalog.bury(unwanted, meta.generation)
            buried = catalog.bury(list(last), meta.generation)
            twice = len(tiles) - len(last)
            if (buried or twice) and on_duplicate == "error":
                raise InputError(f"{_first_duplicate(tiles, buried)}; wanted a new id, or replace the old tile")
            stored = [
                StoredTile.of(
                    tile,
                    seq=meta.next_seq + place,
                    code_crc=zlib.crc32(checked[place]),
                    deleted=0 if last[tile.id] == place else meta.generation,
                )
                for place, tile in enumerate(tiles)
            ]
            if stored:
                table = table_of(stored)
                files.write(meta.committed, checked, table)
                files.sync()
                catalog.insert(stored)
                catalog.insert_batch(meta.committed, len(tiles), **crcs(checked, table))
            live = [tile for tile in stored if not tile.deleted]
            changed = self._count(
                committed=len(tiles), next_seq=len(tiles), **_by_modality(live, [*taken_out, *buried])
            )
        self._meta = changed
        back = sum(tile.id in last for tile in taken_out)
        return Appended(
            range(meta.next_seq, changed.next_seq), len(buried) + twice + back, removed=len(taken_out) - back
        )

    def remove(self, ids: Iterable[str]) -> int:
        """Bury the live tiles of these ids; returns how many there were.

        Raises:
            GalleryError: the disk is full or fails; nothing was removed.
        """
        catalog, _ = self._writable()
        with self._all_or_nothing(), catalog.transaction():
            buried = catalog.bury(list(dict.fromkeys(ids)), self._meta.generation)
            changed = self._count(**_by_modality([], buried))
        self._meta = changed
        return len(buried)

    def compact(self, on_progress: Progress | None = None) -> int:
        """Write codes and columns without the tombstones, as a new generation; returns how many there were.

        Readers go on with the generation that they have open; its files and its tombstones go as soon as the last one
        has closed it and a writer comes by.

        Args:
            on_progress: called with rows done and rows in all.

        Raises:
            GalleryCorruptError: a tombstone has no row.
            GalleryError: the disk is full or fails; the gallery is what it was.
        """
        catalog, old = self._writable()
        meta = self._meta
        deleted = catalog.deleted_seqs(meta.generation)
        if deleted:
            codes, columns = old.codes(meta.committed), old.columns(meta.committed)
            keep = np.ones(meta.committed, dtype=np.bool_)
            keep[columns.rows_of(deleted)] = False
            new = replace(meta, generation=meta.generation + 1, committed=0)
            with self._all_or_nothing():
                Generation.create(self.folder, new)
                self._files = Generation(self.folder, new, writable=True)
                old.close()
                batches = []
                for start in range(0, meta.committed, _COMPACTED_AT_ONCE):
                    rows = start + np.flatnonzero(keep[start : start + _COMPACTED_AT_ONCE])
                    if len(rows):
                        part, table = codes[rows], columns.take(rows)
                        self._files.write(new.committed, part, table)
                        batches.append((new.committed, len(rows), crcs(part, table)))
                        new = replace(new, committed=new.committed + len(rows))
                    if on_progress is not None:
                        on_progress(min(start + _COMPACTED_AT_ONCE, meta.committed), meta.committed)
                self._files.sync()
                if new.committed + len(deleted) != meta.committed:
                    raise catalog.damaged("a tombstone of table tiles has no row, so it")
                with catalog.transaction():
                    catalog.drop_batches()
                    for first_row, n_rows, of_batch in batches:
                        catalog.insert_batch(first_row, n_rows, **of_batch)
                    catalog.set_meta("generation", new.generation)
                    catalog.set_meta("committed", new.committed)
            self._meta = catalog.meta()
        self._sweep()
        catalog.shrink()
        return len(deleted)

    def remember(
        self, *, root: str | os.PathLike[str] | None = None, bundle_hint: str | os.PathLike[str] | None = None
    ) -> None:
        """Keep where the images and the bundle are, relative to the gallery; None leaves what is there.

        Raises:
            GalleryError: the disk is full or fails.
        """
        catalog, _ = self._writable()
        for key, place in (("root", root), ("bundle_hint", bundle_hint)):
            value = path_to_place(place, self.folder)
            if value is not None and value != getattr(self._meta, key):
                with self._all_or_nothing(), catalog.transaction():
                    catalog.set_meta(key, value)
                    self._meta = catalog.meta()

    def codes(self) -> PackedCodes:
        """The codes of all rows, tombstones among them, mapped, (n, n_bits / 8) uint8."""
        return self._writable()[1].codes(self._meta.committed)

    def index_attribute(self, name: str) -> bool:
        """Have filters by an attribute use an index from now on; returns whether there was none.

        Raises:
            FilterError: an attribute of this name cannot be asked for.
            GalleryError: the disk is full or fails.
        """
        catalog, _ = self._writable()
        index, statement = attribute_index(name)
        if index in catalog.index_names():
            return False
        with self._all_or_nothing(), catalog.transaction():
            catalog.create_index(statement)
        return True

    def drop_attribute_index(self, name: str) -> bool:
        """Take the index over an attribute away; returns whether there was one.

        Raises:
            FilterError: an attribute of this name cannot be asked for.
            GalleryError: the disk is full or fails.
        """
        catalog, _ = self._writable()
        index, _ = attribute_index(name)
        if index not in catalog.index_names():
            return False
        with self._all_or_nothing(), catalog.transaction():
            catalog.drop_index(index)
        return True

    def find(self, tile_id: str) -> StoredTile | None:
        """The live tile of this id."""
        return self._writable()[0].find(tile_id)

    def find_all(self, ids: Sequence[str]) -> dict[str, StoredTile]:
        """The live tiles of these ids, by id; ids that no tile has are passed over."""
        return self._writable()[0].find_all(ids)

    def live_images(self) -> Iterator[tuple[str, str | None]]:
        """Id and uri of the live images, chips among them, in seq order; append nothing meanwhile."""
        return self._writable()[0].live_images()

    def chips_of(self, uri: str) -> list[StoredTile]:
        """The live chips of the scene at `uri`, in the order of their ids."""
        return list(self._writable()[0].chips_of(uri))

    def chip_of(self, uri: str) -> StoredTile | None:
        """One of the live chips of the scene at `uri`; None if it has none. What all chips share stands in each."""
        return self._writable()[0].chip_of(uri)

    def count_chips(self, uri: str) -> int:
        """How many live tiles have the id of a chip of the scene at `uri`."""
        return self._writable()[0].count_chips(uri)

    def _writable(self) -> tuple[Catalog, Generation]:
        if self._catalog is None or self._files is None:
            raise GalleryError(f"{display_path(self.folder)} was closed; open it again")
        if self._failed:
            raise GalleryError(f"an earlier write to {display_path(self.folder)} failed; open it again")
        return self._catalog, self._files

    def _count(self, **more: int) -> Meta:
        """Add to numbers of the meta table; returns it as it is once the transaction is committed."""
        catalog, _ = self._writable()
        changed = {key: getattr(self._meta, key) + change for key, change in more.items() if change}
        for key, value in changed.items():
            catalog.set_meta(key, value)
        return replace(self._meta, **changed)

    def _sweep(self) -> None:
        """Take away files that a crash or a compaction left, and tombstones that no reader can find any more."""
        catalog, _ = self._writable()
        with self._all_or_nothing():
            if sweep(self.folder, self._meta.generation):
                with catalog.transaction():
                    catalog.forget_deleted(self._meta.generation)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise  # refused before anything was committed
        except (OSError, GalleryError) as error:
            # Whether a failed commit reached the disk is known only to the next one who opens the catalog.
            self._failed = True
            if isinstance(error, GalleryError) and type(error) is not GalleryError:
                raise
            what, advice = str(error), "make room on the disk"
            if isinstance(error, OSError):
                what = f"{display_path(self.folder)}: {error.strerror}"
                if error.errno not in _FULL:
                    advice = "check the disk"
            raise GalleryError(f"{what}; {len(self):,} tiles are safe, so {advice} and run it again") from error
        except BaseException:
            self._failed = True
            raise


def check_on_duplicate(rule: str) -> None:
    """Refuse what is no `OnDuplicate`.

    Raises:
        InputError: it is none.
    """
    if rule not in get_args(OnDuplicate):
        raise InputError(f"on_duplicate is {rule!r}; wanted replace or error")


def _by_modality(added: Sequence[StoredTile], buried: Sequence[StoredTile]) -> dict[str, int]:
    """By how much the numbers of live tiles change."""
    change = {"live_images": 0, "live_texts": 0}
    for tiles, step in ((added, 1), (buried, -1)):
        for tile in tiles:
            change[f"live_{tile.modality}s"] += step
    return change


def _first_duplicate(tiles: Sequence[Tile], buried: Sequence[StoredTile]) -> str:
    if buried:
        return f"tile {buried[0].id!r} is in the gallery already"
    seen: set[str] = set()
    twice = next(tile.id for tile in tiles if tile.id in seen or seen.add(tile.id))  # type: ignore[func-returns-value]
    return f"tile {twice!r} is given twice"
