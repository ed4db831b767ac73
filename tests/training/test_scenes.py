"""Built-in scenes: the same for the same seed, true captions, a dataset that other tools can read."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duch.errors import ConfigError, DatasetError
from duch_training.scenes import CLASSES, draw_scene, write_scenes
from duch_training.scenes.captions import describe
from duch_training.scenes.grammar import NOUNS, NUMBER_WORDS
from duch_training.scenes.painters import paint

SAMPLE = 12  # scenes a class in the tests that look at many captions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", count=47, size=40, seed=3, workers=1)


@pytest.fixture(scope="module")
def described():
    """(facts, captions) of SAMPLE small scenes of every class."""
    pairs = []
    for class_name in CLASSES:
        for seed in range(SAMPLE):
            _, facts = paint(class_name, np.random.default_rng(seed), 32)
            pairs.append((facts, describe(facts, np.random.default_rng(seed))))
    return pairs


def test_there_are_twenty_classes_in_plain_words():
    assert len(CLASSES) == len(set(CLASSES)) == 20
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in CLASSES)


def test_a_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (draw_scene("airport", seed=s, size=64) for s in (5, 5, 6))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.captions == again.captions
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("size", [64, 97])
def test_every_class_draws_at_any_size_and_shows_something(class_name: str, size: int):
    scene = draw_scene(class_name, seed=1, size=size)
    assert scene.class_name == class_name
    assert scene.image.size == (size, size)
    assert scene.image.mode == "RGB"
    assert np.asarray(scene.image, dtype=np.float32).std() > 6


def test_size_changes_the_pixels_but_not_what_is_told():
    assert draw_scene("harbour", seed=2, size=64).captions == draw_scene("harbour", seed=2, size=97).captions


def test_five_different_lower_case_sentences_a_scene(described):
    for _, captions in described:
        assert len(set(captions)) == 5
        for caption in captions:
            assert re.fullmatch(r"[a-z][a-z ,:\-]*[a-z]\.", caption), caption
            assert not re.search(r"  | ,|,,|\b(\w+) \1\b| (with|in|near|by|and)\.", caption), caption


def test_no_sentence_is_shared_by_two_classes(described):
    classes: dict[str, set[str]] = {}
    for facts, captions in described:
        for caption in captions:
            classes.setdefault(caption, set()).add(facts.class_name)
    assert {c: names for c, names in classes.items() if len(names) > 1} == {}


def test_few_sentences_are_repeated_word_for_word(described):
    seen = Counter(caption for _, captions in described for caption in captions)
    assert 1 - len(seen) / seen.total() < 0.05


def _agrees(word: str, n: int) -> bool:
    if word in NUMBER_WORDS:
        return n == NUMBER_WORDS.index(word)
    return {"several": 3 < n <= 10, "dozens of": n >= 24}.get(word, n > 10)


def test_numbers_in_captions_are_what_was_drawn(described):
    numbers = "|".join([*NUMBER_WORDS, "several", "many", "numerous", "lots of", "a lot of", "dozens of"])
    checked = 0
    for facts, captions in described:
        for key, entries in NOUNS.items():
            nouns = "|".join(n for pair in entries for n in pair)
            keys = [k for k in NOUNS if k in facts.counts and {*NOUNS[k]} & {*entries}]
            keys += ["ships"] if key == "yachts" and "ships" in facts.counts else []
            if not keys:
                continue
            for caption in captions:
                for word, _ in re.findall(rf"\b({numbers}) (?:\w+ ){{0,2}}?({nouns})\b", caption):
                    assert any(_agrees(word, facts.counts[k]) for k in keys), (caption, facts.counts)
                    checked += 1
    assert checked > 300


def test_planes_parked_at_an_airport_is_the_language_of_airport_captions(described):
    airports = [c for facts, captions in described if facts.class_name == "airport" for c in captions]
    assert any("planes are parked at an airport" in c for c in airports) or any("parked" in c for c in airports)
    assert all(re.search(r"airport|terminal|apron|airfield", c) for c in airports)


def test_the_dataset_is_karpathy_json_with_readable_images(dataset: Path):
    content = json.loads(dataset.read_text())
    assert dataset.name == "dataset.json"
    assert content["classes"] == list(CLASSES)
    assert len(content["images"]) == 47
    sentence_ids = []
    for number, image in enumerate(content["images"]):
        assert image["imgid"] == number
        assert content["classes"][image["classcode"]] == image["classname"]
        assert image["split"] in {"train", "val", "test"}
        assert [s["sentid"] for s in image["sentences"]] == image["sentids"]
        assert all(s["raw"] and s["imgid"] == number for s in image["sentences"])
        assert len(image["sentences"]) == 5
        sentence_ids += image["sentids"]
        with Image.open(dataset.parent / "images" / image["filename"]) as opened:
            opened.load()
            assert opened.size == (40, 40)
    assert sentence_ids == list(range(47 * 5))


def test_classes_are_balanced_and_filenames_unique(dataset: Path):
    images = json.loads(dataset.read_text())["images"]
    counts = Counter(image["classname"] for image in images)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({image["filename"] for image in images}) == len(images)
    assert images[CLASSES.index("dense residential")]["filename"].startswith("dense_residential_0001.")


def test_one_and_two_workers_write_the_same_bytes(dataset: Path, tmp_path: Path):
    progress: list[int] = []
    two = write_scenes(tmp_path / "two", count=47, size=40, seed=3, workers=2, on_progress=progress.append)
    assert two.read_bytes() == dataset.read_bytes()
    for path in sorted((dataset.parent / "images").iterdir()):
        assert path.read_bytes() == (two.parent / "images" / path.name).read_bytes()
    assert sum(progress) == 47
    assert min(progress) > 0


def test_an_existing_dataset_is_left_alone(dataset: Path):
    before = dataset.read_bytes()
    with pytest.raises(DatasetError, match="already exists"):
        write_scenes(dataset.parent, count=20)
    assert dataset.read_bytes() == before


def test_an_interrupted_run_leaves_no_dataset(tmp_path: Path):
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, count=20, size=32, workers=1, on_progress=stop)
    assert not (tmp_path / "dataset.json").exists()
    assert write_scenes(tmp_path, count=20, size=32, workers=1).exists()


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot write scenes"):
        write_scenes(tmp_path / "file", count=20, size=32, workers=1)


@pytest.mark.parametrize("wrong", [{"count": 19}, {"size": 31}, {"size": 0}, {"seed": -1}, {"workers": -1}], ids=str)
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict[str, int]):
    with pytest.raises(ConfigError):
        write_scenes(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_an_unknown_class_names_the_known_ones():
    with pytest.raises(ConfigError, match="airport, runway"):
        draw_scene("volcano", seed=0)
