"""The facade of the edge: a sentence in, tiles out; a tile in, tiles or sentences out.

for hit in Retriever("gallery/").search_text("planes parked near a terminal", k=5):
    print(hit.rank, hit.distance, hit.id)
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from . import suppress
from .bundle import Bundle
from .codes import PackedCodes, check_codes
from .combine import Query, code_of
from .display import display_path
from .encoder import Encoder
from .errors import BundleError, CodesError
from .filters import Filters
from .gallery import Gallery
from .pictures import path_of
from .preprocess import ImageSource
from .tile import Hit, Modality

BUNDLE_VARIABLE = "DUCH_BUNDLE"


class Retriever:
    """A gallery with the bundle that made its codes. May be used from several threads.

    Attributes:
        gallery: what is searched, as it was when it was opened.
        encoder: codes the queries; each of its two graphs is loaded by the first query that needs it.
        root: folder of the image files; None if it is not known.
    """

    def __init__(
        self,
        gallery: Gallery | str | os.PathLike[str],
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        providers: Sequence[str] = ("cpu",),
        allow_fallback: bool = False,
        threads: int = 0,
    ) -> None:
        """Open a gallery, and find its bundle.

        Args:
            gallery: a gallery or its folder.
            bundle: a bundle or its folder; by default the one that DUCH_BUNDLE names, else the one that the gallery
                remembers.
            root: folder of the image files, if not the one that the gallery remembers.
            providers: see `Encoder`.
            allow_fallback: see `Encoder`.
            threads: see `Encoder`; and of a search, if the gallery is given by its folder.

        Raises:
            GalleryError: the gallery cannot be used.
            GalleryMismatchError: the bundle is not the one that made the gallery's codes.
            BundleError: no bundle, or one that cannot be used.
        """
        self.gallery = gallery if isinstance(gallery, Gallery) else Gallery.open(gallery, threads=threads)
        try:
            chosen = bundle if bundle is not None else find_bundle(self.gallery)
            self.encoder = Encoder(chosen, providers=providers, allow_fallback=allow_fallback, threads=threads)
            self.gallery.check_bundle(fingerprint=self.encoder.bundle.fingerprint, n_bits=self.encoder.n_bits)
        except BaseException:
            if self.gallery is not gallery:
                self.gallery.close()
            raise
        self.root = Path(root) if root is not None else self.gallery.root

    def __enter__(self) -> Retriever:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the gallery."""
        self.gallery.close()

    @property
    def modality(self) -> Modality:
        """What is searched for by default: images, or sentences where the gallery holds no image.

        A sentence is nearer to sentences than to any image: in a gallery of both it would find little else.
        """
        return "image" if self.gallery.count("image") else "text"

    def search_text(
        self,
        sentence: str,
        k: int = 10,
        *,
        modality: Modality | None = None,
        filters: Filters | None = None,
        max_overlap: float | None = None,
    ) -> list[Hit]:
        """The k tiles nearest to a sentence, in the order (distance, seq).

        Args:
            sentence: a few words.
            k: how many, at least 1.
            modality: "image" or "text"; by default images, or sentences where the gallery holds no image.
            filters: find only what passes.
            max_overlap: see `search_codes`.

        Raises:
            TextError: the sentence is empty or too long.
            CodesError: k is below 1.
            GalleryCorruptError: the catalog row of a hit is damaged.
        """
        return self.search(Query(texts=[sentence]), k, modality=modality, filters=filters, max_overlap=max_overlap)

    def search_image(
        self,
        image: ImageSource,
        k: int = 10,
        *,
        modality: Modality | None = None,
        filters: Filters | None = None,
        max_overlap: float | None = None,
    ) -> list[Hit]:
        """The k tiles nearest to an image, in the order (distance, seq).

        Args:
            image: a path, a Pillow image or an array (h, w, 3) uint8.
            k: how many, at least 1.
            modality: "image" or "text"; by default images, or sentences where the gallery holds no image.
            filters: find only what passes.
            max_overlap: see `search_codes`.

        Raises:
            ImageError: the image cannot be read.
            CodesError: k is below 1.
            GalleryCorruptError: the catalog row of a hit is damaged.
        """
        return self.search(Query(images=[image]), k, modality=modality, filters=filters, max_overlap=max_overlap)

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        modality: Modality | None = None,
        filters: Filters | None = None,
        max_overlap: float | None = None,
    ) -> list[Hit]:
        """The k tiles nearest to a query of several parts, in the order (distance, seq); the tiles it names left out.

        Args:
            query: sentences, images and tiles of the gallery, liked and not.
            k: how many, at least 1.
            modality: "image" or "text"; by default images, or sentences where the gallery holds no image.
            filters: find only what passes.
            max_overlap: see `search_codes`.

        Raises:
            TextError: a sentence is empty or too long.
            ImageError: an image cannot be read.
            InputError: the gallery has no such tile, or the parts cancel each other out.
            CodesError: k is below 1.
            GalleryCorruptError: the catalog row of a hit is damaged.
        """
        return self.search_codes(
            code_of(query, self.encoder, self.gallery, root=self.root),
            k,
            modality=modality or self.modality,
            filters=filters,
            max_overlap=max_overlap,
            without=query.own_tiles,
        )[0]

    def search_codes(
        self,
        codes: PackedCodes,
        k: int = 10,
        *,
        modality: Modality | None = None,
        filters: Filters | None = None,
        max_overlap: float | None = None,
        without: Collection[str] = (),
    ) -> list[list[Hit]]:
        """The k tiles nearest to each query code, in the order (distance, seq).

        Shape: codes (q, n_bits / 8) uint8 -> q lists of at most k hits.

        Args:
            codes: packed codes of the retriever's own bundle.
            k: how many, at least 1.
            modality: "image" or "text" to find only those.
            filters: find only what passes.
            max_overlap: leave out a hit that shares more than this part of its ground with a nearer one, see
                `suppress.apart`. Where so many lie on one place that the nearest `suppress.MOST_SEEN` do not hold k
                others, there are fewer hits.
            without: ids of tiles that are left out.

        Raises:
            CodesError: codes of the wrong type, shape or width; k below 1.
            InputError: an overlap that is no share, or k too large for it.
            GalleryCorruptError: the catalog row of a hit is damaged.
        """
        if k < 1:
            raise CodesError(f"k is {k}; wanted at least 1")
        if max_overlap is None:
            found = self.gallery.search(codes, k + len(without), modality=modality, filters=filters)
            chosen = [[hit for hit in hits if hit.id not in without][:k] for hits in found]
        else:
            of_each = [check_codes(codes)[place : place + 1] for place in range(len(codes))]
            chosen = [
                suppress.search_apart(
                    self.gallery, code, k, max_overlap, modality=modality, filters=filters, without=without
                )
                for code in of_each
            ]
        return [
            [replace(hit, rank=rank, path=path_of(hit, self.root)) for rank, hit in enumerate(hits, 1)]
            for hits in chosen
        ]


def find_bundle(gallery: Gallery | None) -> Path:
    """The bundle to code queries with: the one that DUCH_BUNDLE names, else the one that the gallery remembers.

    Raises:
        BundleError: neither is known, or the remembered one is not there.
    """
    if named := os.environ.get(BUNDLE_VARIABLE):
        return Path(named)
    if gallery is None:
        raise BundleError(f"no bundle to code the query with; name it with --bundle or {BUNDLE_VARIABLE}")
    name = display_path(gallery.folder)
    if gallery.bundle_hint is None:
        raise BundleError(f"{name} does not say where its bundle is; name it with --bundle or {BUNDLE_VARIABLE}")
    if not gallery.bundle_hint.exists():
        raise BundleError(
            f"the bundle of {name} was {display_path(gallery.bundle_hint)}, which is not there; "
            f"name it with --bundle or {BUNDLE_VARIABLE}"
        )
    return gallery.bundle_hint
