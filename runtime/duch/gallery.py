"""The gallery: a folder of packed codes and what is known of them, which loses no tile that it has acknowledged.

    with Gallery.writer(folder, fingerprint=..., n_bits=64, create=True) as writer:
        writer.append(codes, tiles)
    hits = Gallery.open(folder).search(query_codes, 10)

GALLERY.md is the format in prose, byte by byte. New codes are written past the committed rows and fsynced, then one
SQLite transaction makes them exist. Whatever a crash leaves past the committed rows is overwritten by the next writer.

Shapes: n tiles, q queries.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from . import codes_file
from .catalog import Catalog, catalog_of, is_gallery
from .codes import PackedCodes
from .display import display_path
from .errors import GalleryError, InputError
from .gallery_writer import GalleryWriter
from .hamming import Mask
from .ids import place_to_path
from .index import HammingIndex
from .tile import MODALITIES, Hit, Modality, StoredTile, Tile

__all__ = ["Gallery", "GalleryWriter", "Hit", "Tile"]


class Gallery:
    """A reader: the gallery as it was when it was opened, whatever a writer adds meanwhile.

    May be used from several threads.

    Attributes:
        folder: where it is.
        fingerprint: 64 hex digits of the bundle that made its codes.
        n_bits: length of its codes.
        codes: the committed codes, mapped, tombstones among them, (n, n_bits / 8) uint8.
        root: the folder that uris are relative to; None if the gallery holds no images.
        bundle_hint: where the bundle was, seen from the gallery; None if not known.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a gallery; see `Gallery.open`."""
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._catalog = Catalog.open_to_read(catalog_of(self.folder))
        self._descriptor = -1
        try:
            with self._catalog.transaction():  # one snapshot of both
                self._meta = meta = self._catalog.meta()
                deleted = self._catalog.deleted_rows()
            file = self.folder / codes_file.file_name(meta.generation)
            self._descriptor = codes_file.open_file(file, os.O_RDONLY)
            with suppress(OSError):  # read-only network media know no locks, and no compaction either
                # Tells whoever writes a new generation that this one is still being read.
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            of_catalog = {"n_bits": meta.n_bits, "committed": meta.committed}
            codes_file.check(self._descriptor, file, fingerprint=meta.fingerprint, **of_catalog)
            self.codes = codes_file.map_codes(self._descriptor, **of_catalog)
        except BaseException:
            self.close()
            raise
        self.fingerprint, self.n_bits = meta.fingerprint, meta.n_bits
        self.root, self.bundle_hint = (place_to_path(self.folder, place) for place in (meta.root, meta.bundle_hint))
        self._index = HammingIndex(self.codes)
        self._live = self._mask_without(deleted)
        self._masks: dict[Modality | None, Mask | None] = {None: self._live}

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Gallery:
        """Open a gallery to search in it. The folder may be on read-only media.

        Raises:
            GalleryError: no gallery there, or one of a newer format version.
            GalleryCorruptError: a file of it is damaged or missing.
        """
        return cls(folder)

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
        fingerprint: str,
        n_bits: int,
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

    def count(self, modality: Modality | None = None) -> int:
        """Tiles that can be found, or those of one modality.

        Raises:
            InputError: an unknown modality.
        """
        mask = self._mask(modality)
        return len(self.codes) if mask is None else int(mask.sum())

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Codes that were handed out stay mapped until they are dropped."""
        self._catalog.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def check_bundle(self, *, fingerprint: str, n_bits: int) -> None:
        """Refuse queries of another bundle.

        Raises:
            GalleryMismatchError: the fingerprint or n_bits differs.
        """
        self._meta.check_bundle(self.folder, fingerprint=fingerprint, n_bits=n_bits)

    def search(self, codes: PackedCodes, k: int, *, modality: Modality | None = None) -> list[list[Hit]]:
        """The k nearest live tiles of every query code, in the order (distance, seq).

        Shape: codes (q, n_bits / 8) uint8 -> q lists of at most k hits.

        Args:
            codes: packed codes of the gallery's own bundle.
            k: how many, at least 1.
            modality: "image" or "text" to find only those.

        Raises:
            CodesError: codes of the wrong type, shape or width; k below 1.
            InputError: an unknown modality.
            GalleryCorruptError: the catalog row of a hit differs from its checksum.
        """
        distances, rows = self._index.search(codes, k, allow=self._mask(modality))
        tiles = self._tiles(sorted(set(rows.ravel().tolist())))
        return [
            [
                Hit.of(tiles[row], rank=rank, distance=distance)
                for rank, (distance, row) in enumerate(zip(near.tolist(), of_query.tolist(), strict=True), 1)
            ]
            for near, of_query in zip(distances, rows, strict=True)
        ]

    def _tiles(self, rows: list[int]) -> dict[int, StoredTile]:
        with self._lock, self._catalog.transaction():
            if self._catalog.meta().generation != self._meta.generation:
                raise GalleryError(f"{display_path(self.folder)} was rewritten while it was open; open it again")
            tiles = self._catalog.tiles_of_rows(rows)
        if missing := [row for row in rows if row not in tiles]:
            raise self._catalog.damaged(f"table tiles has no row {missing[0]}, so it")
        return tiles

    def _mask(self, modality: Modality | None) -> Mask | None:
        """Rows that may be found, (n,) bool; None for all of them."""
        if modality is not None and modality not in MODALITIES:
            raise InputError(f"modality is {modality!r}; wanted image, text or None for both")
        with self._lock:
            if modality not in self._masks:
                # A row keeps its modality for ever, so rows added since the gallery was opened are all to be left out.
                texts = [row for row in self._catalog.text_rows() if row < len(self.codes)]
                images = self._mask_without(texts)
                if images is None:
                    images = np.ones(len(self.codes), dtype=np.bool_)
                everything = np.True_ if self._live is None else self._live
                self._masks["image"], self._masks["text"] = images & everything, ~images & everything
            return self._masks[modality]

    def _mask_without(self, rows: list[int]) -> Mask | None:
        if not rows:
            return None
        mask = np.ones(len(self.codes), dtype=np.bool_)
        mask[rows] = False
        return mask
