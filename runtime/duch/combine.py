"""Queries of several parts: sentences, images and tiles of the gallery that are liked, and those that are not.

    query = Query(texts=["planes near a terminal"], images=["a.png"], not_texts=["clouds"])
    hits = retriever.search(query, 10)

The relaxed codes of what is liked are added up, those of what is not are taken away, and the signs of the sum are the
query's code. Of a tile the gallery keeps the bits alone: they count as +1 and -1. A single liked part has the code that
it has by itself, bit for bit.

Shapes: b bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .codes import PackedCodes, binarize, pack_codes, unpack_codes
from .display import display_path, printable
from .errors import InputError
from .filters import Filters
from .preprocess import ImageSource, image_to_pixels

if TYPE_CHECKING:
    from .encoder import Encoder
    from .gallery import Gallery


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for; at least one liked part.

    Attributes:
        texts: sentences.
        images: paths, Pillow images or arrays (h, w, 3) uint8.
        tiles: ids of tiles of the gallery.
        not_texts: sentences that hits are to be unlike.
        not_images: images that hits are to be unlike.
        not_tiles: tiles that hits are to be unlike.

    Raises:
        InputError: nothing is liked.
    """

    texts: Sequence[str] = ()
    images: Sequence[ImageSource] = ()
    tiles: Sequence[str] = ()
    not_texts: Sequence[str] = ()
    not_images: Sequence[ImageSource] = ()
    not_tiles: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if isinstance(given := getattr(self, name), str | bytes | os.PathLike):
                raise InputError(f"{name} is one {type(given).__name__}; wanted a list")
        if not (self.texts or self.images or self.tiles):
            unliked = self.not_texts or self.not_images or self.not_tiles
            raise InputError(
                f"nothing to look for{', only what hits are to be unlike' if unliked else ''}; "
                "wanted words, an image or a tile"
            )

    @property
    def own_tiles(self) -> frozenset[str]:
        """Ids of the tiles that it names; they are no hits, as who names them has them."""
        return frozenset((*self.tiles, *self.not_tiles))

    @property
    def parts(self) -> dict[str, list[Any]]:
        """The parts by name, without those that are empty."""
        return {name: list(getattr(self, name)) for name in self.__dataclass_fields__ if getattr(self, name)}

    def __str__(self) -> str:
        liked = [*map(printable, self.texts), *map(_image_name, self.images), *map(printable, self.tiles)]
        unliked = [*map(printable, self.not_texts), *map(_image_name, self.not_images), *map(printable, self.not_tiles)]
        return " - ".join([" + ".join(liked), *unliked])


def code_of(query: Query, encoder: Encoder, gallery: Gallery | None) -> PackedCodes:
    """The packed code of a query.

    Shape: -> (1, b / 8) uint8.

    Args:
        query: what is looked for.
        encoder: of the bundle that made the gallery's codes.
        gallery: holds the tiles that the query names; None if it names none.

    Raises:
        TextError: a sentence is empty or too long.
        ImageError: an image cannot be used.
        InputError: there is no such tile, or the parts cancel each other out.
    """
    codes_of_tiles = _codes_of_tiles(query, gallery)  # first, as they need no model
    (kind, *others), (first, *more) = query.parts.keys(), next(iter(query.parts.values()))
    if not others and not more:
        if kind == "texts":
            return encoder.encode_texts([first])
        return encoder.encode_images([first]) if kind == "images" else codes_of_tiles[first]

    def relaxed_sum(texts: Sequence[str], images: Sequence[ImageSource], tiles: Sequence[str]) -> NDArray[np.float64]:
        # One by one, so that a part has the same relaxed code in any company, and cancels out against itself.
        relaxed = np.zeros((1, encoder.n_bits))
        for text in texts:
            relaxed += encoder.relaxed_texts([text])
        for image in images:
            relaxed += encoder.relaxed_pixels(image_to_pixels(image, encoder.image)[None])
        for tile in tiles:
            relaxed += np.where(unpack_codes(codes_of_tiles[tile]), 1.0, -1.0)
        return relaxed

    liked = relaxed_sum(query.texts, query.images, query.tiles)
    relaxed = liked - relaxed_sum(query.not_texts, query.not_images, query.not_tiles)
    if not relaxed.any():
        raise InputError("what is liked and what is not cancel each other out; wanted parts that differ")
    return pack_codes(binarize(relaxed))


def _codes_of_tiles(query: Query, gallery: Gallery | None) -> dict[str, PackedCodes]:
    """Codes of the tiles that a query names, each (1, b / 8)."""
    codes: dict[str, PackedCodes] = {}
    if not query.own_tiles:
        return codes
    if gallery is None:
        raise InputError("the query names tiles; wanted a gallery that holds them")
    for some, tiles in gallery.batches(filters=Filters(ids=tuple(query.own_tiles))):
        codes |= {tile.id: code[None] for tile, code in zip(tiles, some, strict=True)}
    for tile_id in (*query.tiles, *query.not_tiles):
        if tile_id not in codes:
            raise InputError(
                f"{display_path(gallery.folder)} has no tile '{printable(tile_id)}'; wanted an id as `duch search` "
                "prints it"
            )
    return codes


def _image_name(image: ImageSource) -> str:
    return display_path(image) if isinstance(image, str | os.PathLike) else "an image"
