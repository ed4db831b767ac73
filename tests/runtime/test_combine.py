"""Queries of several parts: codes from sums of relaxed codes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from duch.codes import pack_codes, unpack_codes
from duch.combine import Query, code_of
from duch.encoder import Encoder
from duch.errors import DuchError, InputError
from duch.filters import Filters
from duch.gallery import Gallery, Tile
from duch.ingest import index_images, index_texts
from duch.preprocess import image_to_pixels
from duch.retriever import Retriever

from .resigned import TINY

TEXTS = ["a red roof", "green fields and trees", "ships on the blue sea"]
NAMES = ["red.png", "green.png", "blue.png", "white.png"]
COLOURS = [(200, 30, 30), (30, 160, 40), (20, 40, 190), (240, 240, 240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("combine")
    (folder / "images").mkdir()
    for name, colour in zip(NAMES, COLOURS, strict=True):
        Image.new("RGB", (48, 48), colour).save(folder / "images" / name)
    (folder / "s.jsonl").write_text("".join(f'{{"text": "{text}", "id": "{text}"}}\n' for text in TEXTS))
    index_images(Encoder(TINY), folder / "images", folder / "gallery")
    index_texts(Encoder(TINY), folder / "s.jsonl", folder / "gallery")
    return folder


@pytest.fixture(scope="module")
def retriever(folder: Path) -> Iterator[Retriever]:
    with Retriever(folder / "gallery", TINY) as opened:
        yield opened


def stored(retriever: Retriever, tile: str) -> np.ndarray:
    """The code of a tile in the gallery, (1, n_bits / 8)."""
    hit = retriever.gallery.search(np.zeros((1, 4), np.uint8), 1, filters=Filters(ids=(tile,)))[0][0]
    return retriever.gallery.codes[[hit.seq]]


@pytest.mark.parametrize("text", TEXTS)
def test_one_liked_sentence_has_the_code_it_has_alone(retriever: Retriever, text: str) -> None:
    alone = retriever.encoder.encode_texts([text])
    assert code_of(Query(texts=[text]), retriever.encoder, retriever.gallery).tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_one_liked_image_or_tile_has_the_code_it_has_alone(retriever: Retriever, folder: Path, name: str) -> None:
    alone = retriever.encoder.encode_images([folder / "images" / name])
    for query in (Query(images=[folder / "images" / name]), Query(tiles=[name])):
        assert code_of(query, retriever.encoder, retriever.gallery).tobytes() == alone.tobytes()


def some(values: list[str]) -> Any:
    return st.lists(st.sampled_from(values), max_size=2)


@given(
    parts=st.fixed_dictionaries(
        {
            **{name: some(TEXTS) for name in ("texts", "not_texts")},
            **{name: some(NAMES) for name in ("images", "not_images")},
            **{name: some([*NAMES, *TEXTS]) for name in ("tiles", "not_tiles")},
        }
    )
)
@settings(max_examples=60, deadline=None)
def test_the_code_is_the_sign_of_the_mean_less_half_the_mean_of_what_is_not_liked(
    retriever: Retriever, folder: Path, parts: dict[str, list[str]]
) -> None:
    encoder = retriever.encoder
    graded = any(values for name, values in parts.items() if name.startswith("not_"))

    def relaxed(name: str, value: str) -> np.ndarray:
        pixels = image_to_pixels(folder / "images" / (value if value in NAMES else NAMES[0]), encoder.image)
        of_image = encoder.relaxed_pixels(pixels[None])[0].astype(np.float64)
        if name.endswith("images"):
            return of_image
        if name.endswith("texts"):
            return encoder.relaxed_texts([value])[0].astype(np.float64)
        bits = 2.0 * unpack_codes(stored(retriever, value))[0] - 1
        if not graded:
            return bits / 2
        return bits * np.abs(of_image if value in NAMES else encoder.relaxed_texts([value])[0].astype(np.float64))

    every = [(name, relaxed(name, value)) for name, values in parts.items() for value in values]
    liked = [vector for name, vector in every if not name.startswith("not_")]
    unliked = [vector for name, vector in every if name.startswith("not_")]
    given_ = {
        name: [folder / "images" / value for value in values] if name.endswith("images") else values
        for name, values in parts.items()
    }
    both = any(set(parts[name]) & set(parts[f"not_{name}"]) for name in ("texts", "images", "tiles"))
    if not liked or both:
        with pytest.raises(InputError, match="is both liked and not" if liked else "nothing to look for"):
            Query(**given_)
        return
    total = sum(liked) / len(liked) - (sum(unliked) / len(unliked) / 2 if unliked else 0)
    settled = np.abs(total) > 1e-6  # what cancels out but for rounding may fall to either side
    code = code_of(Query(**given_), encoder, retriever.gallery)
    assert code.shape == (1, encoder.n_bits // 8)
    assert (unpack_codes(code)[0][settled] == (total >= 0)[settled]).all()


def test_tiles_that_are_liked_vote_by_their_bits(retriever: Retriever) -> None:
    red, white = (unpack_codes(stored(retriever, name))[0] for name in ("red.png", "white.png"))
    two = code_of(Query(tiles=["red.png", "red.png", "white.png"]), retriever.encoder, retriever.gallery)
    assert two.tobytes() == pack_codes(red[None]).tobytes(), "two votes against one"
    one = unpack_codes(code_of(Query(tiles=["red.png", "white.png"]), retriever.encoder, retriever.gallery))
    assert (one[0] == (red | white)).all(), "what cancels out is bit 1"


def test_tiles_that_are_opposites_are_no_query(retriever: Retriever, tmp_path: Path) -> None:
    codes = np.array([[1, 2, 3, 4], [254, 253, 252, 251]], dtype=np.uint8)
    about: Any = {"fingerprint": retriever.gallery.fingerprint, "n_bits": 32}
    with Gallery.writer(tmp_path / "g", create=True, **about) as out:
        out.append(codes, [Tile(id=name, modality="image") for name in "ab"])
    with (
        Gallery.open(tmp_path / "g") as gallery,
        pytest.raises(InputError, match="the parts of the query cancel each other out"),
    ):
        code_of(Query(tiles=["a", "b"]), retriever.encoder, gallery)


def test_a_tile_without_its_picture_is_not_moved_in_silence(folder: Path, tmp_path: Path) -> None:
    with Retriever(folder / "gallery", TINY, root=tmp_path) as opened:
        with pytest.raises(InputError, match="has no effect on a tile whose picture is not at hand"):
            opened.search(Query(tiles=["red.png"], not_tiles=["white.png"]))
        (tmp_path / "red.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match="not at hand"):
            opened.search(Query(tiles=["red.png"], not_tiles=["white.png"]))
        assert opened.search(Query(tiles=["red.png"], texts=["a red roof"], not_tiles=["white.png"]))
        assert opened.search(Query(tiles=["a red roof"], not_texts=["white"]), modality="text")


def test_the_tiles_of_a_query_are_no_hits(retriever: Retriever) -> None:
    hits = retriever.search(Query(tiles=["red.png"]), 10)
    assert sorted(hit.id for hit in hits) == sorted(set(NAMES) - {"red.png"})
    assert [hit.rank for hit in hits] == [1, 2, 3]
    whole = retriever.search_codes(stored(retriever, "red.png"), 10, modality="image")[0]
    assert [hit.id for hit in hits] == [hit.id for hit in whole if hit.id != "red.png"]
    assert [hit.id for hit in retriever.search(Query(tiles=["red.png"]), 1)] == [hits[0].id]
    query = Query(texts=["a red roof"], not_tiles=["white.png"])
    assert "white.png" not in {hit.id for hit in retriever.search(query, 10)}
    assert {hit.id for hit in retriever.search(query, 10, modality="text")} == set(TEXTS)


def test_an_image_of_the_gallery_finds_itself_as_ever(retriever: Retriever, folder: Path) -> None:
    query = Query(images=[folder / "images" / "red.png"])
    assert retriever.search(query, 1)[0].id == "red.png"
    assert retriever.search(query, 3) == retriever.search_image(folder / "images" / "red.png", 3)


def test_tiles_alone_need_no_model(folder: Path) -> None:
    with Retriever(folder / "gallery", TINY) as opened:
        assert opened.search(Query(tiles=["red.png", "a red roof", "white.png"]), 1)
        assert opened.encoder.providers == {}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "nothing to look for; wanted words, an image or a tile"),
        ({"not_texts": ["clouds"]}, "nothing to look for, only what hits are to be unlike; wanted words"),
        ({"texts": "a river"}, "texts is one str; wanted a list"),
        ({"images": Path("a.png")}, "wanted a list"),
        ({"tiles": ["nowhere.png"]}, "has no tile 'nowhere.png'; wanted an id"),
        ({"texts": ["a river"], "not_tiles": ["no\n.png"]}, r"has no tile 'no\n.png'"),
        ({"tiles": ["red.png", "b"], "not_tiles": ["red.png"]}, "'red.png' is both liked and not"),
        ({"texts": ["a\nriver"], "not_texts": ["a\nriver"]}, r"'a\nriver' is both liked and not"),
        ({"images": ["a.png"], "not_images": [Path("a.png")]}, "'a.png' is both liked and not"),
        ({"texts": ["a river", ""]}, "empty"),
        ({"texts": ["a river"], "not_texts": [""]}, "empty"),
        ({"texts": ["a river"], "images": [Path("none.png")]}, "none.png does not exist"),
    ],
)
def test_queries_that_cannot_be_are_one_line(retriever: Retriever, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(DuchError) as caught:
        retriever.search(Query(**parts))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_query_is_written_as_a_sum() -> None:
    query = Query(
        texts=["a river"], images=["a.png", np.zeros((2, 2, 3), np.uint8)], tiles=["x#1,2,3,4"], not_texts=["sea\n"]
    )
    assert str(query) == "a river + a.png + an image + x#1,2,3,4 - sea\\n"
    assert list(query.parts) == ["texts", "images", "tiles", "not_texts"]
