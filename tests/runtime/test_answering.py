"""A gallery answers a query packet with the hits of a search, and a copy of it tells what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duch.answer import Answer
from duch.answering import answer_query, check_gallery, hits_of
from duch.errors import CodesError, GalleryMismatchError, InputError, PacketError
from duch.filters import Filters
from duch.gallery import Gallery
from duch.packet import QueryPacket
from duch.tile import Tile

from .some_gallery import FINGERPRINT, OTHER, code, some_gallery, writer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only."""
    return some_gallery(tmp_path_factory.mktemp("answering") / "g", 60)


def query(number: int, fingerprint: str = FINGERPRINT) -> QueryPacket:
    return QueryPacket.of(code(number), fingerprint=fingerprint)


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(1, 70), st.sampled_from([None, "image", "text"]), st.booleans())
def test_the_hits_are_those_of_a_search(folder: Path, number: int, k: int, modality: str | None, by_seq: bool) -> None:
    filters = Filters(max_distance=34)
    with Gallery.open(folder) as gallery:
        wanted = gallery.search(code(number), k, modality=modality or "image", filters=filters)[0]
        packet = query(number)
        answer = answer_query(gallery, packet, k, modality=modality, filters=filters, by_seq=by_seq)
        received = Answer.from_bytes(answer.to_bytes())
        assert received.distances == tuple(hit.distance for hit in wanted)
        assert received.ids == (None if by_seq else tuple(hit.id for hit in wanted))
        assert received.seqs == (tuple(hit.seq for hit in wanted) if by_seq else None)
        assert hits_of(received, gallery, packet) == wanted


def test_sentences_are_found_where_there_are_no_images(tmp_path: Path) -> None:
    with writer(tmp_path / "g") as out:
        out.append(code(1), [Tile(id="image", modality="image", uri="image")])
        out.append(np.zeros((5, 8), np.uint8), [Tile(id=f"t{i}", modality="text", text="x") for i in range(5)])
    with Gallery.open(tmp_path / "g") as gallery:
        assert answer_query(gallery, query(0), 3).ids == ("image",)
    with writer(tmp_path / "g") as out:
        out.remove(["image"])
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(answer_query(gallery, query(0), 3)) == 3


def test_chips_of_one_place_are_sent_once(tmp_path: Path) -> None:
    places = [(0, 0), (112, 0), (224, 0), (0, 200)]
    chips = [Tile(id=f"s.tif#{x},{y},224,224", modality="image", uri="s.tif") for x, y in places]
    with writer(tmp_path / "g") as out:
        out.append(np.zeros((4, 8), np.uint8), chips)
    with Gallery.open(tmp_path / "g") as gallery:
        answer = answer_query(gallery, query(0), max_overlap=0.25)
        assert answer.ids == ("s.tif#0,0,224,224", "s.tif#224,0,224,224", "s.tif#0,200,224,224")
        with pytest.raises(InputError, match="from 0 to 1"):
            answer_query(gallery, query(0), max_overlap=2)


def test_a_packet_of_other_codes_is_refused(folder: Path) -> None:
    longer = QueryPacket.of(np.zeros((1, 16), np.uint8), fingerprint=FINGERPRINT)
    with Gallery.open(folder) as gallery:
        with pytest.raises(GalleryMismatchError, match=r"code of 128 bits, .* codes of 64"):
            answer_query(gallery, longer)
        with pytest.raises(GalleryMismatchError, match=r"coded with bundle ffffffffffffffff, .* 0011223344556677"):
            answer_query(gallery, query(0, OTHER))
        # A packet says no more than 8 bytes of the fingerprint.
        check_gallery(gallery, query(0, FINGERPRINT[:16] + "0" * 48))
        with pytest.raises(GalleryMismatchError):
            check_gallery(gallery, query(0, FINGERPRINT[:15] + "0" * 49))


def test_no_hits_are_none_to_ask_for(folder: Path) -> None:
    with Gallery.open(folder) as gallery, pytest.raises(CodesError):
        answer_query(gallery, query(0), 0)


def test_the_answer_to_another_query_is_refused(folder: Path) -> None:
    with Gallery.open(folder) as gallery:
        answer = answer_query(gallery, query(1))
        with pytest.raises(PacketError, match=f"answers query {query(1).crc:08x}, this is query {query(2).crc:08x}"):
            hits_of(answer, gallery, query(2))


def test_a_gallery_that_is_no_copy_is_found_out_by_distances(folder: Path, tmp_path: Path) -> None:
    other = some_gallery(tmp_path / "other", 60, seed=1)
    with Gallery.open(folder) as gallery, Gallery.open(other) as no_copy:
        answer = answer_query(gallery, query(7), 5, by_seq=True)
        with pytest.raises(GalleryMismatchError, match=r"bits from the query, .* wanted a copy"):
            hits_of(answer, no_copy, query(7))


def test_an_older_copy_does_not_know_every_hit(folder: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(folder, newer)
    with writer(newer) as out:
        out.append(code(9), [Tile(id="new", modality="image", uri="new.png")])
    with Gallery.open(newer) as gallery, Gallery.open(folder) as copy:
        for by_seq in (False, True):
            answer = answer_query(gallery, query(9), 4, by_seq=by_seq)
            hits = hits_of(answer, copy, query(9))
            assert hits[0] is None
            assert [hit.rank for hit in hits[1:] if hit is not None] == [2, 3, 4]


def test_a_hit_removed_since_is_known_until_a_compaction(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with Gallery.open(folder) as gallery:
        answer = answer_query(gallery, query(5), 3, by_seq=True)
        first = gallery.of_seqs(answer.seqs[:1])[1][0].id if answer.seqs else ""
    with writer(copy) as out:
        out.remove([first])
        with Gallery.open(copy) as removed:
            assert None not in hits_of(answer, removed, query(5))
        out.compact()
    with Gallery.open(copy) as compacted:
        hits = hits_of(answer, compacted, query(5))
        assert [hit is None for hit in hits] == [True, False, False]
