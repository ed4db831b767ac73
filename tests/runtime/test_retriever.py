"""The facade, from real images and sentences through the tiny bundle to hits."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duch.encoder import Encoder
from duch.errors import BundleError, CodesError, GalleryError, GalleryMismatchError, ImageError, InputError, TextError
from duch.gallery import Gallery
from duch.ingest import index_images, index_texts
from duch.retriever import Retriever

TINY = Path(__file__).parents[1] / "tiny_bundle"
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (20, 40, 190), "white": (240, 240, 240)}
SENTENCES = ["a red roof", "green fields and trees", "ships on the blue sea"]


@pytest.fixture(autouse=True)
def _no_named_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUCH_BUNDLE", raising=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bundle/, images/ and gallery/, the gallery holding images and sentences. Read-only."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(TINY, folder / "bundle")
    (folder / "images").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (48, 48), colour).save(folder / "images" / f"{name}.png")
    (folder / "s.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in SENTENCES))
    encoder = Encoder(folder / "bundle")
    index_images(encoder, folder / "images", folder / "gallery")
    index_texts(encoder, folder / "s.jsonl", folder / "gallery")
    return folder


def test_a_sentence_and_an_image_find_themselves_first(world: Path) -> None:
    with Retriever(world / "gallery") as retriever:
        for text in SENTENCES:
            hit = retriever.search_text(text, 1, modality="text")[0]
            assert (hit.rank, hit.distance, hit.text, hit.path) == (1, 0, text, None)
        for name in COLOURS:
            file = world / "images" / f"{name}.png"
            image = Image.open(file)
            for query in (file, str(file), image, np.asarray(image.convert("RGB"))):
                hit = retriever.search_image(query, 1, modality="image")[0]
                assert (hit.distance, hit.path) == (0, file)


def test_hits_of_both_modalities_are_ranked_together(world: Path) -> None:
    with Retriever(world / "gallery") as retriever:
        (hits,) = retriever.search_codes(retriever.encoder.encode_texts(["blue sea"]), 99)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6, 7]
        assert {hit.modality for hit in hits} == {"image", "text"}
        assert [(hit.distance, hit.seq) for hit in hits] == sorted((hit.distance, hit.seq) for hit in hits)
        only = retriever.search_text("blue sea", 99, modality="image")
        assert [hit.id for hit in only] == [hit.id for hit in hits if hit.modality == "image"]
        assert retriever.search_text("blue sea", 99) == only, "images are what is looked for where there are any"


def test_only_the_graph_of_the_query_is_loaded(world: Path) -> None:
    with Retriever(world / "gallery") as retriever:
        assert set(retriever.encoder.providers) == set()
        retriever.search_text("blue sea")
        assert set(retriever.encoder.providers) == {"text"}


def test_the_bundle_is_the_named_one_then_the_variables_then_the_galleries_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(world / "bundle", tmp_path / "copy")
    assert Retriever(world / "gallery").encoder.bundle.path == world / "bundle"
    monkeypatch.setenv("DUCH_BUNDLE", str(copy))
    assert Retriever(world / "gallery").encoder.bundle.path == copy
    assert Retriever(world / "gallery", world / "bundle").encoder.bundle.path == world / "bundle"
    monkeypatch.setenv("DUCH_BUNDLE", str(tmp_path / "none"))
    with pytest.raises(BundleError, match="none does not exist"):
        Retriever(world / "gallery")


def test_a_folder_with_everything_can_be_moved(world: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(world, tmp_path / "moved", copy_function=shutil.copy2)
    with Retriever(moved / "gallery") as retriever:
        assert retriever.encoder.bundle.path == moved / "bundle"
        hit = retriever.search_image(world / "images" / "red.png", 1, modality="image")[0]
        assert hit.path == moved / "images" / "red.png"


def test_a_gallery_without_its_bundle_says_where_it_was(world: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(world / "gallery", tmp_path / "alone")
    with pytest.raises(BundleError, match=r"alone was .*/bundle, which is not there; name it with --bundle") as caught:
        Retriever(alone)
    assert "\n" not in str(caught.value)
    retriever = Retriever(alone, world / "bundle")
    assert all(hit.path is None for hit in retriever.search_text("red"))  # and so are the images
    with Retriever(alone, world / "bundle", root=world / "images") as rooted:
        assert rooted.search_text("red", 1, modality="image")[0].path is not None


def test_a_gallery_that_never_had_a_bundle_asks_for_one(tmp_path: Path) -> None:
    Gallery.create(tmp_path / "g", fingerprint="ab" * 32, n_bits=32).close()
    with pytest.raises(BundleError, match="does not say where its bundle is; name it with --bundle or DUCH_BUNDLE"):
        Retriever(tmp_path / "g")


def test_another_bundle_is_refused_before_anything_is_coded(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", fingerprint="ab" * 32, n_bits=32) as gallery:
        with pytest.raises(GalleryMismatchError, match="abababababab"):
            Retriever(gallery, TINY)
        assert gallery.search(np.zeros((1, 4), dtype=np.uint8), 1) == [[]]  # the caller's gallery stays open
    with pytest.raises(GalleryError, match="does not exist"):
        Retriever(tmp_path / "none", TINY)


def test_a_missing_image_file_is_a_hit_without_a_path(world: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(world, tmp_path / "copy", copy_function=shutil.copy2)
    (copy / "images" / "red.png").unlink()
    with Retriever(copy / "gallery") as retriever:
        hit = retriever.search_image(world / "images" / "red.png", 1, modality="image")[0]
        assert (hit.id, hit.path) == ("red.png", None)


def test_queries_that_cannot_be_coded_are_one_line(world: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with Retriever(world / "gallery") as retriever:
        for kind, call in (
            (TextError, lambda: retriever.search_text("")),
            (TextError, lambda: retriever.search_text("word " * 10_000)),
            (ImageError, lambda: retriever.search_image(tmp_path / "empty.png")),
            (ImageError, lambda: retriever.search_image(tmp_path / "none.png")),
            (CodesError, lambda: retriever.search_text("red", 0)),
            (CodesError, lambda: retriever.search_codes(np.zeros((1, 8), dtype=np.uint8))),
            (InputError, lambda: retriever.search_text("red", modality="sound")),  # type: ignore[arg-type]
        ):
            with pytest.raises(kind) as caught:
                call()
            assert "\n" not in str(caught.value)
        assert retriever.search_text("red")


def test_many_threads_may_search_at_once(world: Path) -> None:
    with Retriever(world / "gallery") as retriever, ThreadPoolExecutor(8) as pool:
        expected = [retriever.search_text(text, 5) for text in SENTENCES]
        found = list(pool.map(lambda i: retriever.search_text(SENTENCES[i % 3], 5), range(60)))
    assert found == [expected[i % 3] for i in range(60)]


def test_searching_imports_nothing_heavy(world: Path) -> None:
    script = """
import sys
from duch.retriever import Retriever
assert Retriever(sys.argv[1]).search_text("a red roof")
print([name for name in ("torch", "transformers", "onnx", "faiss") if name in sys.modules])
"""
    out = subprocess.run(
        [sys.executable, "-c", script, str(world / "gallery")], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
