"""The one writer of a gallery: creates it, appends, replaces, removes.

Every call that returns has its tiles on the disk: the codes are fsynced before the SQLite transaction that makes them
exist is committed.

Shapes: n tiles.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from . import codes_file
from .catalog import FILE_NAME as CATALOG
from .catalog import Catalog, Meta, catalog_of, is_gallery
from .codes import PackedCodes, check_codes, check_n_bits
from .display import display_path
from .durable import fsync_folder
from .errors import CodesError, GalleryError, GalleryLockedError, InputError
from .ids import path_to_id, place_to_path
from .tile import Modality, StoredTile, Tile

LOCK = "writer.lock"
_PARTIAL = CATALOG + ".partial"
_FIRST_GENERATION = 1


@dataclass(frozen=True)
class Appended:
    """What one `append` did.

    Attributes:
        seqs: seq of the tiles, in the order given.
        replaced: how many took the place of a tile of the same id.
    """

    seqs: range
    replaced: int


class GalleryWriter:
    """Adds to a gallery. There is one writer at a time; readers go on reading what was there when they opened it."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fingerprint: str,
        n_bits: int,
        create: bool = False,
        root: str | os.PathLike[str] | None = None,
        bundle_hint: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take the gallery's lock.

        Args:
            folder: the gallery.
            fingerprint: 64 hex digits of the bundle whose codes will be added.
            n_bits: length of those codes.
            create: make the gallery if the folder is missing or empty.
            root: the folder that uris are relative to; kept in the gallery, by default as it is there.
            bundle_hint: where the bundle is; likewise.

        Raises:
            GalleryLockedError: another writer is at work.
            GalleryMismatchError: the gallery holds codes of another bundle.
            GalleryCorruptError: a file of the gallery is damaged.
            GalleryError: the folder is no gallery, or cannot be written.
            InputError: the fingerprint is no sha256.
        """
        check_n_bits(n_bits)
        if not re.fullmatch("[0-9a-f]{64}", fingerprint):
            raise InputError(f"fingerprint is {fingerprint!r}; wanted 64 hex digits")
        self.folder = Path(folder)
        self._catalog: Catalog | None = None
        self._codes = -1
        self._failed = False
        if not (create and _may_create(self.folder)):
            catalog_of(self.folder)
        self._lock = _take_lock(self.folder)
        try:
            if not is_gallery(self.folder):
                _create(self.folder, fingerprint, n_bits)
            self._catalog = Catalog.open_to_write(catalog_of(self.folder))
            with self._catalog.transaction():
                self._meta = meta = self._catalog.meta()
                self._n_live = meta.committed - len(self._catalog.deleted_rows())
            meta.check_bundle(self.folder, fingerprint=fingerprint, n_bits=n_bits)
            file = self.folder / codes_file.file_name(meta.generation)
            self._codes = codes_file.open_file(file, os.O_RDWR)
            codes_file.check(self._codes, file, n_bits=n_bits, fingerprint=fingerprint, committed=meta.committed)
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
        for descriptor in (self._codes, self._lock):
            if descriptor >= 0:
                os.close(descriptor)  # gives up the lock as well
        self._codes = self._lock = -1

    def __len__(self) -> int:
        """Live tiles, all of them on the disk."""
        return self._n_live

    @property
    def root(self) -> Path | None:
        """The folder that uris are relative to."""
        return place_to_path(self.folder, self._meta.root)

    def append(
        self, codes: PackedCodes, tiles: Sequence[Tile], *, on_duplicate: Literal["replace", "error"] = "replace"
    ) -> Appended:
        """Add tiles and their codes; all of them are on the disk when this returns, or none.

        Shape: codes (n, n_bits / 8) uint8, n tiles.

        Args:
            codes: packed codes.
            tiles: what is known of each, in the same order.
            on_duplicate: what to do with an id that is in the gallery: "replace" buries the old tile, "error" refuses.

        Raises:
            CodesError: codes of the wrong type, shape or width, or not one for each tile.
            InputError: a tile that cannot be stored, or a duplicate id under "error".
            GalleryError: the disk is full or fails; what was appended before is safe.
        """
        catalog = self._writable()
        checked = np.ascontiguousarray(check_codes(codes, self._meta.n_bits))
        if len(checked) != len(tiles):
            raise CodesError(f"{len(checked)} codes for {len(tiles)} tiles; wanted one for each")
        if on_duplicate not in ("replace", "error"):
            raise InputError(f"on_duplicate is {on_duplicate!r}; wanted replace or error")
        for tile in tiles:
            tile.check()
        if not tiles:
            return Appended(range(0), 0)
        data = checked.tobytes()
        replaced = 0
        with self._all_or_nothing(), catalog.transaction():
            meta = catalog.meta()
            codes_file.write_at(self._codes, data, codes_file.HEADER_SIZE + meta.committed * (meta.n_bits // 8))
            os.fsync(self._codes)
            for offset, tile in enumerate(tiles):
                if catalog.bury(tile.id):
                    if on_duplicate == "error":
                        raise InputError(
                            f"tile {tile.id!r} is in the gallery already; wanted a new id, or replace the old tile"
                        )
                    replaced += 1
                catalog.insert(StoredTile.of(tile, seq=meta.next_seq + offset, row=meta.committed + offset))
            catalog.insert_batch(meta.committed, len(tiles), zlib.crc32(data))
            catalog.set_meta("committed", meta.committed + len(tiles))
            catalog.set_meta("next_seq", meta.next_seq + len(tiles))
        self._n_live += len(tiles) - replaced
        return Appended(range(meta.next_seq, meta.next_seq + len(tiles)), replaced)

    def remove(self, ids: Iterable[str]) -> int:
        """Bury the live tiles of these ids; returns how many there were.

        Raises:
            GalleryError: the disk is full or fails; nothing was removed.
        """
        catalog = self._writable()
        with self._all_or_nothing(), catalog.transaction():
            removed = sum(catalog.bury(tile_id) for tile_id in ids)
        self._n_live -= removed
        return removed

    def remember(
        self, *, root: str | os.PathLike[str] | None = None, bundle_hint: str | os.PathLike[str] | None = None
    ) -> None:
        """Keep where the images and the bundle are, relative to the gallery; None leaves what is there.

        Raises:
            GalleryError: the disk is full or fails.
        """
        catalog = self._writable()
        here = os.path.realpath(self.folder)
        for key, place in (("root", root), ("bundle_hint", bundle_hint)):
            value = None if place is None else path_to_id(os.path.relpath(os.path.realpath(place), here))
            if value is not None and value != getattr(self._meta, key):
                with self._all_or_nothing(), catalog.transaction():
                    catalog.set_meta(key, value)
                    self._meta = catalog.meta()

    def find(self, tile_id: str) -> StoredTile | None:
        """The live tile of this id."""
        return self._writable().find(tile_id)

    def live_ids(self, modality: Modality) -> Iterator[str]:
        """Ids of the live tiles of a modality, in seq order; append nothing meanwhile."""
        return self._writable().live_ids(modality)

    def _writable(self) -> Catalog:
        if self._catalog is None:
            raise GalleryError(f"{display_path(self.folder)} was closed; open it again")
        if self._failed:
            raise GalleryError(f"an earlier write to {display_path(self.folder)} failed; open it again")
        return self._catalog

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
            what = f"{display_path(self.folder)}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise GalleryError(
                f"{what}; {self._n_live:,} tiles are safe, so make room on the disk and run it again"
            ) from error
        except BaseException:
            self._failed = True
            raise


def _may_create(folder: Path) -> bool:
    """Whether the folder is free for a new gallery; False if it is one.

    Raises:
        GalleryError: it holds something else.
    """
    if not os.path.lexists(folder):
        return True
    if is_gallery(folder):
        return False
    if not folder.is_dir():
        raise GalleryError(f"{display_path(folder)} is a file; wanted a folder for the gallery")
    for entry in folder.iterdir():
        # A creation that was cut short leaves these; codes without a catalog are somebody's loss and not ours to drop.
        leftover = entry.name == LOCK or entry.name.startswith(_PARTIAL)
        first_codes = entry.name == codes_file.file_name(_FIRST_GENERATION)
        if not leftover and not (first_codes and entry.stat().st_size <= codes_file.HEADER_SIZE):
            raise GalleryError(
                f"{display_path(folder)} holds {display_path(entry.name)} and no {CATALOG}; "
                "wanted a gallery, or a new or empty folder"
            )
    return True


def _take_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise GalleryError(f"{display_path(folder)} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise GalleryLockedError(
            f"another writer (process {holder}) holds {display_path(folder / LOCK)}; wait for it to end"
        ) from None
    except OSError as error:
        os.close(lock)
        raise GalleryError(
            f"{display_path(folder / LOCK)} cannot be locked: {error.strerror}; keep the gallery on a local disk"
        ) from error
    with suppress(OSError):  # for the message above; the lock itself is the system's
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _create(folder: Path, fingerprint: str, n_bits: int) -> None:
    """Make the files. The catalog gets its name last, so that the gallery appears at once and whole."""
    partial = folder / _PARTIAL
    try:
        for leftover in folder.glob(_PARTIAL + "*"):
            leftover.unlink()
        codes_file.create(folder / codes_file.file_name(_FIRST_GENERATION), n_bits, fingerprint)
        Catalog.create(
            partial,
            Meta(
                generation=_FIRST_GENERATION,
                committed=0,
                next_seq=0,
                fingerprint=fingerprint,
                n_bits=n_bits,
                root=None,
                bundle_hint=None,
            ),
        )
        fsync_folder(folder)
        os.rename(partial, folder / CATALOG)
        fsync_folder(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise GalleryError(f"{display_path(folder)} cannot be written: {error.strerror}") from error
