"""Queries of several parts: sentences, images and tiles of the gallery that are liked, and those that are not.

    query = Query(texts=["planes near a terminal"], images=["a.png"], not_texts=["clouds"])
    hits = retriever.search(query, 10)

The mean of the relaxed codes of what is liked, less half the mean of what is not: its signs are the query's code. A
single liked part has the code that it has by itself, bit for bit.

Of a tile the gallery keeps the bits alone; they count as +0.5 and -0.5. Bits that all weigh the same are never
outweighed by half, so where something is to be unlike a tile counts by its sentence or picture, if that is at hand.

Shapes: b bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .codes import PackedCodes, binarize, pack_codes, unpack_codes
from .display import display_path, printable
from .errors import InputError
from .filters import Filters
from .pictures import path_of, picture_of
from .preprocess import ImageSource, image_to_pixels
from .tile import Hit, StoredTile

if TYPE_CHECKING:
    from .encoder import Encoder
    from .gallery import Gallery

# Of what hits are to be unlike. Among 2,000 scenes of 20 classes, 64 bits, the 20 nearest of some images held 42 % of
# their own class and 44 % of a wrong one. With an image of the wrong class at 0.5 it was 44 and 27 %, with words on it
# 57 and 10. At 1 the query itself is lost: 21 and 4 %, 18 and 0.
_WEIGHT_OF_UNLIKE = 0.5
# The relaxed value of a bit of which no more is known. The 20 nearest to words and one tile, in the same scenes, are of
# their class by 39 % at 1, where the tile outvotes the words, 84 % at 0.7 and 91 % at 0.5; by 88 % with its picture.
_BIT = 0.5


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
        InputError: nothing is liked, or the same is liked and not.
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
            raise InputError(
                f"nothing to look for{', only what hits are to be unlike' if self.has_unlikes else ''}; "
                "wanted words, an image or a tile"
            )
        for likes, unlikes in (
            (self.texts, self.not_texts),
            (filter(None, map(_path_of, self.images)), map(_path_of, self.not_images)),
            (self.tiles, self.not_tiles),
        ):
            if both := set(likes).intersection(unlikes):
                raise InputError(f"'{printable(both.pop())}' is both liked and not; wanted parts that differ")

    @property
    def has_unlikes(self) -> bool:
        """Whether hits are to be unlike anything."""
        return bool(self.not_texts or self.not_images or self.not_tiles)

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


def code_of(
    query: Query, encoder: Encoder, gallery: Gallery | None, *, root: str | os.PathLike[str] | None = None
) -> PackedCodes:
    """The packed code of a query.

    Shape: -> (1, b / 8) uint8.

    Args:
        query: what is looked for.
        encoder: of the bundle that made the gallery's codes.
        gallery: holds the tiles that the query names; None if it names none.
        root: folder of the image files, if not the one that the gallery remembers.

    Raises:
        TextError: a sentence is empty or too long.
        ImageError: an image cannot be used.
        InputError: there is no such tile; the parts cancel each other out; what is not liked has no effect.
    """
    tiles = _tiles_of(query, gallery)  # first, as they need no model
    (kind, *others), (first, *more) = query.parts.keys(), next(iter(query.parts.values()))
    if not others and not more:
        if kind == "texts":
            return encoder.encode_texts([first])
        return encoder.encode_images([first]) if kind == "images" else tiles[first][1]
    if root is None and gallery is not None:
        root = gallery.root
    graded = _graded(tiles, encoder, root) if query.has_unlikes else {}
    relaxed_tiles = {name: np.where(unpack_codes(code), _BIT, -_BIT) for name, (_, code) in tiles.items()} | graded

    def mean_of(texts: Sequence[str], images: Sequence[ImageSource], tiles: Sequence[str]) -> NDArray[np.float64]:
        # One by one, so that a part has the same relaxed code in any company.
        parts = [*(encoder.relaxed_texts([text]) for text in texts), *(_relaxed_image(x, encoder) for x in images)]
        return np.asarray(np.mean([*parts, *(relaxed_tiles[name] for name in tiles)], axis=0, dtype=np.float64))

    relaxed = liked = mean_of(query.texts, query.images, query.tiles)
    if query.has_unlikes:
        relaxed = liked - _WEIGHT_OF_UNLIKE * mean_of(query.not_texts, query.not_images, query.not_tiles)
    if not relaxed.any():
        raise InputError("the parts of the query cancel each other out; wanted parts that differ")
    code = pack_codes(binarize(relaxed))
    if query.has_unlikes and len(graded) < len(tiles) and (code == pack_codes(binarize(liked))).all():
        raise InputError(
            "what is not liked has no effect on a tile whose picture is not at hand; wanted its picture, by --root, or "
            "words or an image besides"
        )
    return code


def _tiles_of(query: Query, gallery: Gallery | None) -> dict[str, tuple[StoredTile, PackedCodes]]:
    """The tiles that a query names with their codes, each (1, b / 8)."""
    found: dict[str, tuple[StoredTile, PackedCodes]] = {}
    if not query.own_tiles:
        return found
    if gallery is None:
        raise InputError("the query names tiles; wanted a gallery that holds them")
    for codes, tiles in gallery.batches(filters=Filters(ids=tuple(query.own_tiles))):
        found |= {tile.id: (tile, code[None]) for tile, code in zip(tiles, codes, strict=True)}
    for tile_id in (*query.tiles, *query.not_tiles):
        if tile_id not in found:
            raise InputError(
                f"{display_path(gallery.folder)} has no tile '{printable(tile_id)}'; wanted an id as `duch search` "
                "prints it"
            )
    return found


def _graded(
    tiles: dict[str, tuple[StoredTile, PackedCodes]], encoder: Encoder, root: str | os.PathLike[str] | None
) -> dict[str, NDArray[np.float64]]:
    """Relaxed codes of the tiles whose sentence or picture is at hand, each (1, b) with the signs of its bits."""
    graded = {}
    for name, (tile, code) in tiles.items():
        try:
            if tile.text is not None:
                relaxed = encoder.relaxed_texts([tile.text], truncate=True)
            else:
                hit = Hit.of(tile, rank=0, distance=0)
                relaxed = _relaxed_image(picture_of(replace(hit, path=path_of(hit, root))), encoder)
        except InputError:
            continue
        graded[name] = np.where(unpack_codes(code), 1.0, -1.0) * np.abs(relaxed)
    return graded


def _relaxed_image(image: ImageSource, encoder: Encoder) -> NDArray[np.float32]:
    return encoder.relaxed_pixels(image_to_pixels(image, encoder.image)[None])


def _path_of(image: ImageSource) -> str | None:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def _image_name(image: ImageSource) -> str:
    return display_path(image) if isinstance(image, str | os.PathLike) else "an image"
