"""The gallery: a folder of packed codes and what is known of them, which loses no tile that it has acknowledged.

    with Gallery.writer(folder, fingerprint=..., n_bits=64, create=True) as writer:
        writer.append(codes, tiles)
    hits = Gallery.open(folder).search(query_codes, 10)

GALLERY.md is the format in prose, byte by byte. New codes are written past the committed rows and fsynced, then one
SQLite transaction makes them exist. Whatever a crash leaves past the committed rows is overwritten by the next writer.

Shapes: n tiles, q queries.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from . import tables
from .allowed_rows import AllowedRows, Mask, Rows
from .catalog import Catalog, Meta, catalog_of, is_gallery
from .codes import PackedCodes
from .columns_file import table_of
from .display import display_path
from .errors import GalleryCorruptError, GalleryError, InputError, TablesError
from .filtering import Snapshot, select
from .filters import Filters
from .gallery_writer import GalleryWriter
from .generation import Generation
from .ids import place_to_path
from .index import HammingIndex
from .tables import Tables
from .tile import MODALITIES, Hit, Modality, StoredTile, Tile
from .where import INDEX_PREFIX, indexed_attribute

__all__ = ["Gallery", "GalleryWriter", "Hit", "Tile"]


class Gallery:
    """A reader: the gallery as it was when it was opened, whatever a writer adds, removes or compacts meanwhile.

    May be used from several threads.

    Attributes:
        folder: where it is.
        fingerprint: 64 hex digits of the bundle that made its codes.
        n_bits: length of its codes.
        codes: the committed codes, mapped, tombstones among them, (n, n_bits / 8) uint8.
        columns: what filters need of the same rows, mapped.
        root: the folder that uris are relative to; None if the gallery holds no images.
        bundle_hint: where the bundle was, seen from the gallery; None if not known.
        rows_in_tables: rows that multi-index hashing tables cover; 0 if there are none or they are not used.
        tables_problem: why the multi-index hashing tables beside the codes are not used; None if they are, or if
            there are none.
    """

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = 0) -> None:
        """Open a gallery; see `Gallery.open`."""
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._catalog = Catalog.open_to_read(catalog_of(self.folder))
        self._files: Generation | None = None
        try:
            self._files, self._meta, deleted = self._open_files()
            committed = self._meta.committed
            self.codes, self.columns = self._files.codes(committed), self._files.columns(committed)
        except BaseException:
            self.close()
            raise
        meta = self._meta
        self.fingerprint, self.n_bits = meta.fingerprint, meta.n_bits
        self.root, self.bundle_hint = (place_to_path(self.folder, place) for place in (meta.root, meta.bundle_hint))
        self.tables_problem: str | None = None
        opened = self._open_tables()
        self.rows_in_tables = 0 if opened is None else opened.n_rows
        self._index = HammingIndex(self.codes, tables=opened, threads=threads)
        live = self._mask_without(deleted)
        self._snapshot = Snapshot(columns=self.columns, live=live, catalog=self._catalog, lock=self._lock)
        self._unfiltered: dict[Modality | None, AllowedRows | None] = {} if live is not None else {None: None}
        self._filtered: tuple[Modality | None, Filters, AllowedRows] | None = None  # the last one, likely asked again

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, threads: int = 0) -> Gallery:
        """Open a gallery to search in it. The folder may be on read-only media.

        Args:
            folder: the gallery.
            threads: how many threads a search may take; 0 for one a core.

        Raises:
            CodesError: threads below 0.
            GalleryError: no gallery there, or one of a newer format version.
            GalleryCorruptError: a file of it is damaged or missing.
        """
        return cls(folder, threads=threads)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        fingerprint: str,
        n_bits: int,
        root: str | os.PathLike[str] | None = None,
        bundle_hint: str | os.PathLike[str] | None = None,
    ) -> Gallery:
        """Make an empty gallery in a folder that is missing or empty, and open it.

        Raises:
            GalleryError: the folder is a gallery already, or holds something else, or cannot be written.
        """
        if is_gallery(folder):
            raise GalleryError(f"{display_path(folder)} is a gallery already; choose a new folder")
        GalleryWriter(
            folder, fingerprint=fingerprint, n_bits=n_bits, create=True, root=root, bundle_hint=bundle_hint
        ).close()
        return cls(folder)

    @staticmethod
    def writer(
        folder: str | os.PathLike[str],
        *,
        fingerprint: str | None = None,
        n_bits: int | None = None,
        create: bool = False,
        root: str | os.PathLike[str] | None = None,
        bundle_hint: str | os.PathLike[str] | None = None,
    ) -> GalleryWriter:
        """Open a gallery to add to it; see `GalleryWriter`."""
        return GalleryWriter(
            folder, fingerprint=fingerprint, n_bits=n_bits, create=create, root=root, bundle_hint=bundle_hint
        )

    def __len__(self) -> int:
        """Tiles that can be found."""
        return self.count()

    def count(self, modality: Modality | None = None, filters: Filters | None = None) -> int:
        """Tiles that can be found, or those of one modality, or those that pass filters.

        Raises:
            InputError: an unknown modality.
            GalleryCorruptError: the catalog cannot be read.
        """
        if filters is not None and (allowed := self._allowed(modality, filters)) is not None:
            return allowed.count
        live = {"image": self._meta.live_images, "text": self._meta.live_texts}
        return sum(live.values()) if modality is None else live[_checked(modality)]

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Codes that were handed out stay mapped until they are dropped."""
        self._catalog.close()
        if self._files is not None:
            self._files.close()
            self._files = None

    def verify(self) -> None:
        """Check all of the gallery as it is by now, not only the hits of a search.

        Raises:
            GalleryCorruptError: something is damaged.
        """
        from .verify import verify

        problems = verify(self.folder).problems
        if problems:
            raise GalleryCorruptError(
                f"{display_path(self.folder)} has {len(problems)} problems, the first: {problems[0]}; "
                "see `duch gallery verify`"
            )

    def check_bundle(self, *, fingerprint: str, n_bits: int) -> None:
        """Refuse queries of another bundle.

        Raises:
            GalleryMismatchError: the fingerprint or n_bits differs.
        """
        self._meta.check_bundle(self.folder, fingerprint=fingerprint, n_bits=n_bits)

    def search(
        self, codes: PackedCodes, k: int, *, modality: Modality | None = None, filters: Filters | None = None
    ) -> list[list[Hit]]:
        """The k nearest live tiles of every query code, in the order (distance, seq).

        Shape: codes (q, n_bits / 8) uint8 -> q lists of at most k hits.

        Args:
            codes: packed codes of the gallery's own bundle.
            k: how many, at least 1.
            modality: "image" or "text" to find only those.
            filters: find only what passes. What passes is kept for the next search with the very same object.

        Raises:
            CodesError: codes of the wrong type, shape or width; k below 1.
            InputError: an unknown modality.
            GalleryCorruptError: the catalog row of a hit differs from its checksum.
        """
        distances, rows = self._index.search(codes, k, allow=self._allowed(modality, filters))
        farthest = self.n_bits if filters is None or filters.max_distance is None else filters.max_distance
        found = [
            [(distance, row) for distance, row in zip(near, of_query, strict=True) if distance <= farthest]
            for near, of_query in zip(distances.tolist(), rows.tolist(), strict=True)
        ]
        # np.unique would load numpy.ma, which takes longer than the search.
        tiles = self._tiles(np.array(sorted({row for hits in found for _, row in hits}), dtype=np.int64))
        return [
            [Hit.of(tiles[row], rank=rank, distance=distance) for rank, (distance, row) in enumerate(hits, 1)]
            for hits in found
        ]

    def indexed_attributes(self) -> list[str]:
        """Attributes that have an index, so that filters by them are quick."""
        with self._lock:
            names = self._catalog.index_names()
        return [indexed_attribute(name) for name in names if name.startswith(INDEX_PREFIX)]

    def batches(
        self, size: int = 4096, *, filters: Filters | None = None
    ) -> Iterator[tuple[PackedCodes, list[StoredTile]]]:
        """All live tiles, or those that pass filters, with their codes in seq order; each checked, some at a time.

        Shape: -> codes (m, n_bits / 8) uint8 and m tiles, 0 < m <= size.

        Raises:
            GalleryCorruptError: one of them is damaged.
        """
        selected = select(filters or Filters(), self._snapshot, None)
        rows: Rows = np.flatnonzero(selected) if selected.dtype == np.bool_ else selected.astype(np.int64)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield self.codes[part], list(self._tiles(part).values())

    def of_seqs(self, seqs: Iterable[int]) -> tuple[PackedCodes, list[StoredTile]]:
        """The tiles of these seqs and their codes, in seq order, each checked; seqs that are not here are passed over.

        Shape: -> codes (m, n_bits / 8) uint8 and m tiles.

        Raises:
            GalleryCorruptError: one of them is damaged.
        """
        rows = self.columns.rows_of(sorted(set(seqs)))
        return self.codes[rows], list(self._tiles(rows).values())

    def _open_files(self) -> tuple[Generation, Meta, list[int]]:
        """The files of the current generation, the catalog's snapshot that they belong to, and its tombstones."""
        while True:
            with self._catalog.transaction():  # one snapshot of both
                meta = self._catalog.meta()
                deleted = self._catalog.deleted_seqs(meta.generation)
            try:
                files = Generation(self.folder, meta)
            except GalleryCorruptError:
                if self._catalog.meta().generation == meta.generation:
                    raise
            else:
                # A compaction may have come between; from here on the lock keeps what this reader needs.
                if self._catalog.meta().generation == meta.generation:
                    return files, meta, deleted
                files.close()

    def _open_tables(self) -> Tables | None:
        """The tables of this generation, if there are any that can be used."""
        meta = self._meta
        file = self.folder / tables.file_name(meta.generation)
        if not file.exists():
            return None
        try:
            return Tables.open(
                file,
                n_bits=meta.n_bits,
                fingerprint=meta.fingerprint,
                generation=meta.generation,
                n_rows=meta.committed,
            )
        except TablesError as error:
            self.tables_problem = str(error)
            return None

    def _tiles(self, rows: Rows) -> dict[int, StoredTile]:
        """The tiles of some rows, checked: the catalog's row, the code and the columns belong together."""
        table = self.columns.take(rows)
        with self._lock:
            of_seq = self._catalog.tiles_of_seqs(table["seq"].tolist())
        tiles = [of_seq.get(seq) for seq in table["seq"].tolist()]
        known = [tile for tile in tiles if tile is not None]
        if len(known) < len(tiles):
            raise self._damaged(f"the catalog has no tile {table['seq'][tiles.index(None)]}")
        if table_of(known).tobytes() != table.tobytes():
            raise self._damaged("a row of the columns file differs from the catalog")
        for row, tile in zip(rows.tolist(), known, strict=True):
            if zlib.crc32(self.codes[row].tobytes()) != tile.code_crc:
                raise self._damaged(f"the code of tile {tile.id!r} differs from its checksum")
        return dict(zip(rows.tolist(), known, strict=True))

    def _damaged(self, what: str) -> GalleryCorruptError:
        return GalleryCorruptError(
            f"{display_path(self.folder)} is damaged: {what}; `duch gallery verify` tells how far it goes"
        )

    def _allowed(self, modality: Modality | None, filters: Filters | None) -> AllowedRows | None:
        """Rows that may be found; None for all of them."""
        if modality is not None and self.count(modality) == len(self):
            modality = None
        if filters is None or not filters.selects_tiles:
            if modality not in self._unfiltered:
                self._unfiltered[modality] = self._index.mask(select(Filters(), self._snapshot, modality))
            return self._unfiltered[modality]
        last = self._filtered
        # By identity: 1 and TRUE are equal, and expressions with one or the other are too.
        if last is None or last[0] != modality or last[1] is not filters:
            last = modality, filters, self._index.mask(select(filters, self._snapshot, modality))
            self._filtered = last
        return last[2]

    def _mask_without(self, deleted: list[int]) -> Mask | None:
        rows = self.columns.rows_of(deleted)
        # The removed tiles come from an index of SQLite's, which nothing else checks here.
        if len(rows) < len(deleted) or len(self.codes) - len(rows) != len(self):
            raise self._damaged(
                f"{len(deleted):,} of {len(self.codes):,} tiles are removed, and it counts {len(self):,} that are not"
            )
        if not deleted:
            return None
        mask = np.ones(len(self.codes), dtype=np.bool_)
        mask[rows] = False
        return mask


def _checked(modality: Modality) -> Modality:
    if modality not in MODALITIES:
        raise InputError(f"modality is {modality!r}; wanted image, text or None for both")
    return modality
