"""Both ends of a search over a narrow link: the gallery that answers a query packet, and what an answer's hits are.

answer = answer_query(gallery, QueryPacket.from_bytes(uplinked), 10)      # on board: neither bundle nor model
hits = hits_of(Answer.from_bytes(downlinked), copy_of_the_gallery, packet)  # on the ground, where there is a copy
"""

from __future__ import annotations

import numpy as np

from .answer import Answer
from .display import display_path
from .errors import GalleryMismatchError, PacketError
from .filters import Filters
from .gallery import Gallery
from .packet import QueryPacket
from .suppress import search_apart
from .tile import Hit, Modality, StoredTile


def answer_query(
    gallery: Gallery,
    packet: QueryPacket,
    k: int = 10,
    *,
    modality: Modality | None = None,
    filters: Filters | None = None,
    max_overlap: float | None = None,
    by_seq: bool = False,
) -> Answer:
    """Search with the code of a packet: the same hits as on the ground, in the order (distance, seq).

    Args:
        gallery: what is searched.
        packet: the query.
        k: how many, 1 to 65,535.
        modality: "image" or "text"; by default images, or sentences where the gallery holds no image.
        filters: find only what passes.
        max_overlap: leave out a hit that shares more than this part of its ground with a nearer one, see
            `suppress.apart`.
        by_seq: name the hits by their seqs, for a reader who has a copy of the gallery.

    Raises:
        GalleryMismatchError: the packet is another bundle's.
        PacketError: k is more than a packet can hold.
        CodesError: k is below 1.
        InputError: an overlap that is no share, or k too large for it.
        GalleryCorruptError: the catalog row of a hit is damaged.
    """
    check_gallery(gallery, packet)
    modality = modality or ("image" if gallery.count("image") else "text")
    code = np.frombuffer(packet.code, dtype=np.uint8)[None]
    if max_overlap is None:
        hits = gallery.search(code, k, modality=modality, filters=filters)[0]
    else:
        hits = search_apart(gallery, code, k, max_overlap, modality=modality, filters=filters)
    return Answer(
        query_crc=packet.crc,
        distances=tuple(hit.distance for hit in hits),
        ids=None if by_seq else tuple(hit.id for hit in hits),
        seqs=tuple(hit.seq for hit in hits) if by_seq else None,
    )


def check_gallery(gallery: Gallery, packet: QueryPacket) -> None:
    """Refuse a packet of another bundle than made the gallery's codes.

    Raises:
        GalleryMismatchError: codes of another length, or another fingerprint.
    """
    name, found = display_path(gallery.folder), packet.bundle.hex()
    if packet.n_bits != gallery.n_bits:
        raise GalleryMismatchError(
            f"the packet holds a code of {packet.n_bits} bits, {name} codes of {gallery.n_bits}; "
            "wanted a query coded with the gallery's bundle"
        )
    if found != gallery.fingerprint[: len(found)]:
        raise GalleryMismatchError(
            f"the packet was coded with bundle {found}, {name} with bundle {gallery.fingerprint[: len(found)]}; "
            "wanted a query coded with the gallery's bundle"
        )


def check_query(answer: Answer, packet: QueryPacket) -> None:
    """Refuse the answer to another query.

    Raises:
        PacketError: it names another query.
    """
    if answer.query_crc != packet.crc:
        raise PacketError(
            f"the packet answers query {answer.query_crc:08x}, this is query {packet.crc:08x}; wanted the answer to it"
        )


def hits_of(answer: Answer, gallery: Gallery, packet: QueryPacket) -> list[Hit | None]:
    """The hits of an answer with all that a copy of the gallery knows of them; None for a tile that it has not.

    A seq names a tile in the gallery that answered alone. So the distance of every such tile to the query is computed
    again: a gallery that is no copy is found out.

    Raises:
        PacketError: the answer to another query.
        GalleryMismatchError: the packet is of another bundle, or the gallery no copy of the one that answered.
        GalleryCorruptError: a tile is damaged.
    """
    check_query(answer, packet)
    check_gallery(gallery, packet)
    found: list[StoredTile | None]
    if answer.seqs is not None:
        codes, tiles = gallery.of_seqs(answer.seqs)
        different = np.bitwise_count(codes ^ np.frombuffer(packet.code, dtype=np.uint8)).sum(axis=1, dtype=np.int64)
        distances = {tile.seq: distance for tile, distance in zip(tiles, different.tolist(), strict=True)}
        for seq, distance in zip(answer.seqs, answer.distances, strict=True):
            if distances.get(seq, distance) != distance:
                raise GalleryMismatchError(
                    f"tile {seq} of {display_path(gallery.folder)} is {distances[seq]} bits from the query, the answer "
                    f"says {distance}; wanted a copy of the gallery that answered"
                )
        of_seq = {tile.seq: tile for tile in tiles}
        found = [of_seq.get(seq) for seq in answer.seqs]
    else:
        ids = answer.ids or ()
        of_id = {tile.id: tile for _, tiles in gallery.batches(filters=Filters(ids=ids)) for tile in tiles}
        found = [of_id.get(tile_id) for tile_id in ids]
    return [
        None if tile is None else Hit.of(tile, rank=rank, distance=distance)
        for rank, (tile, distance) in enumerate(zip(found, answer.distances, strict=True), 1)
    ]
