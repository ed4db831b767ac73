"""Datasets: three formats, every kind of bad record, and the public split to the last id."""

import json
import random

import numpy as np
import pytest

from duch.errors import DatasetError
from duch.preprocess import ImagePreprocessing, image_to_pixels
from duch_training.data import load_pixels, read_dataset
from duch_training.splits import Split, draw_captions, make_split

SIZE = ImagePreprocessing(size=16)


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_karpathy_json_is_read_with_captions_classes_and_splits(dataset):
    data = read_dataset(dataset)
    assert len(data.images) == 64
    first = data.images[0]
    assert (first.id, first.label, first.split, len(first.captions)) == ("forest_000.png", "forest", "train", 5)


def test_csv_and_jsonl_give_what_karpathy_json_gives(dataset, tmp_path):
    images = read_dataset(dataset).images
    for image in images:
        (tmp_path / image.id).symlink_to(image.path)
    rows = ["image,caption,label"]
    lines = []
    for image in images:
        rows += [f'{image.id},"{caption}",{image.label}' for caption in image.captions]
        lines.append(json.dumps({"image": image.id, "captions": image.captions, "label": image.label}))
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    for name in ("a.csv", "b.jsonl"):
        again = read_dataset(tmp_path / name).images
        assert [(i.id, i.captions, i.label) for i in again] == [(i.id, i.captions, i.label) for i in images]


def test_a_folder_with_one_dataset_file_is_enough_and_with_two_is_not(dataset, tmp_path):
    (tmp_path / "images").symlink_to(dataset / "images")
    (tmp_path / "a.csv").write_text("image,caption\nforest_000.png,a forest\n")
    assert len(read_dataset(tmp_path).images) == 1
    (tmp_path / "b.csv").write_text("image,caption\n")
    with pytest.raises(DatasetError, match=r"a\.csv, b\.csv"):
        read_dataset(tmp_path)


BAD = {
    "an empty caption": (lambda c: c["images"][3]["sentences"][1].update(raw="  "), r"record 3 .*empty caption"),
    "no captions": (lambda c: c["images"][3].update(sentences=[]), r"record 3 .*no caption"),
    "no sentences key": (lambda c: c["images"][3].pop("sentences"), r"record 3 .*no caption"),
    "a duplicate id": (lambda c: c["images"].append(c["images"][0]), r"record 24: image forest_000\.png was already"),
    "a missing image": (lambda c: c["images"][5].update(filename="gone.png"), r"record 5: image gone\.png is missing"),
    "no file name": (lambda c: c["images"][5].pop("filename"), r"record 5 names no image"),
    "a record that is no object": (lambda c: c["images"].append(7), r"record 24 is no JSON object"),
    "a name that is no text": (lambda c: c["images"][5].update(filename=3), r"record 5 names no image"),
    "a name that is too long": (lambda c: c["images"][5].update(filename="x" * 300), r"record 5 .*cannot be used"),
    "half a character": (lambda c: c["images"][5]["sentences"][0].update(raw="a \ud800"), r"record 5 .*cannot be used"),
    "a class that is a list": (lambda c: c["images"][5].update(classname=["x"]), r"record 5 .*has the class"),
    "a file under two names": (
        lambda c: c["images"].append({**c["images"][0], "filename": "./forest_000.png"}),
        r"record 24: image \./forest_000\.png is the file that dataset\.json record 0 calls forest_000\.png",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_and_can_be_skipped(make_dataset, tmp_path, kind):
    change, words = BAD[kind]
    folder = make_dataset(tmp_path / "set", change=change)
    with pytest.raises(DatasetError, match=words) as caught:
        read_dataset(folder)
    assert "--skip-bad" in one_line(caught)
    skipped = read_dataset(folder, skip_bad=True)
    assert len(skipped.skipped) == 1
    assert len(skipped.images) in (23, 24)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("dataset.json", "{", "no JSON"),
        ("dataset.json", "[1, 2]", 'no list "images"'),
        ("dataset.json", '{"images": []}', "no usable image"),
        ("dataset.csv", "picture,text\n", "wanted image, caption"),
        ("dataset.csv", "", "columns none"),
        ("dataset.jsonl", "not json\n", "line 1 is no JSON object"),
        ("dataset.json", "[" * 200_000, "no JSON"),
        ("dataset.csv", "image,caption,caption\n", "each once"),
        ("dataset.csv", "x" * 140_000, "no CSV"),
        ("dataset.txt", "x", "wanted .json"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=words) as caught:
        read_dataset(tmp_path / name)
    one_line(caught)


def test_a_caption_with_a_comma_is_never_cut_short(dataset, tmp_path):
    (tmp_path / "images").symlink_to(dataset / "images")
    table = '\ufeffimage, caption\nlake_001.png,a lake, a road\nsnow_003.png,"snow, and more"\n'
    (tmp_path / "a.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match="line 2 has 3 cells for 2 columns; quote captions"):
        read_dataset(tmp_path / "a.csv")
    (image,) = read_dataset(tmp_path / "a.csv", skip_bad=True).images
    assert image.captions == ("snow, and more",)


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_class_is_no_class(make_dataset, tmp_path, empty):
    folder = make_dataset(tmp_path / "set", change=lambda c: [i.update(classname=empty) for i in c["images"]])
    assert {image.label for image in read_dataset(folder).images} == {None}


def test_a_class_code_stands_in_for_a_missing_class_name(make_dataset, tmp_path):
    folder = make_dataset(
        tmp_path / "set", change=lambda c: [i.update(classname=None, classcode=i["imgid"] % 4) for i in c["images"]]
    )
    assert [image.label for image in read_dataset(folder).images][:5] == ["0", "1", "2", "3", "0"]


def test_no_dataset_at_all_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        read_dataset(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"image,caption\n\xff\xfe,x\n")
    with pytest.raises(DatasetError, match="UTF-8"):
        read_dataset(tmp_path / "a.csv")


def test_labels_that_disagree_between_rows_of_an_image_are_refused(dataset, tmp_path):
    (tmp_path / "images").symlink_to(dataset / "images")
    (tmp_path / "a.csv").write_text("image,caption,label\nlake_001.png,a,lake\nlake_001.png,b,forest\n")
    with pytest.raises(DatasetError, match=r"line 3: image lake_001\.png has another label"):
        read_dataset(tmp_path / "a.csv")


def test_pixels_come_in_order_through_the_runtimes_own_preprocessing(dataset):
    data = read_dataset(dataset)
    _, pixels = load_pixels(data, SIZE)
    assert pixels.shape == (64, 16, 16, 3)
    for row in (0, 17, 63):
        assert np.array_equal(pixels[row], image_to_pixels(data.images[row].path, SIZE))


def test_broken_images_stop_training_before_it_starts_or_are_skipped_and_counted(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "set")
    (folder / "images" / "lake_001.png").write_text("not an image")
    (folder / "images" / "snow_003.png").write_bytes(b"")
    whole = (folder / "images" / "desert_002.png").read_bytes()
    (folder / "images" / "desert_002.png").write_bytes(whole[: len(whole) // 2])
    data = read_dataset(folder)
    with pytest.raises(DatasetError, match=r"record 1: .*lake_001.*2 more bad records"):
        load_pixels(data, SIZE)
    kept, pixels = load_pixels(data, SIZE, skip_bad=True)
    assert len(kept.images) == len(pixels) == 21
    assert len(kept.skipped) == 3


def test_the_public_rule_is_the_published_split(weak):
    data = read_dataset(weak)
    published = json.loads((weak / "split.json").read_text())
    split = make_split(data)
    position = {image.id: row for row, image in enumerate(data.images)}
    for part in ("train", "query", "gallery"):
        assert [position[i] for i in getattr(split, part)] == published[part]


@pytest.mark.parametrize("rule", ["public", "stratified", "own"])
def test_splits_are_disjoint_complete_and_repeatable(dataset, rule):
    data = read_dataset(dataset)
    split = make_split(data, rule=rule, seed=1)
    assert split == make_split(data, rule=rule, seed=1)
    parts = [*split.train, *split.query, *split.gallery]
    assert sorted(parts) == sorted(image.id for image in data.images)
    assert len(split.train) == 32


def test_stratified_splits_hold_every_class_in_equal_shares(dataset):
    data = read_dataset(dataset)
    split = make_split(data, rule="stratified")
    for ids, share in ((split.train, 8), (split.query, 1), (split.gallery, 7)):
        labels = [image.label for image in data.subset(ids)]
        assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(
            ("forest", "lake", "desert", "snow"), share
        )


def test_another_seed_gives_another_split(dataset):
    data = read_dataset(dataset)
    assert make_split(data, seed=1).train != make_split(data, seed=2).train


def test_splits_that_cannot_be_made_say_why(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "set", per_class=1, change=lambda c: c["images"][0].update(split="odd"))
    data = read_dataset(folder)
    with pytest.raises(DatasetError, match="add images"):
        make_split(data)
    with pytest.raises(DatasetError, match="no split of their own"):
        make_split(data, rule="own")
    bare = make_dataset(tmp_path / "bare", change=lambda c: [i.pop("classname") for i in c["images"]])
    with pytest.raises(DatasetError, match="stratified needs one"):
        make_split(read_dataset(bare), rule="stratified")


def test_a_split_file_comes_back_as_it_was(dataset, tmp_path):
    split = make_split(read_dataset(dataset))
    (tmp_path / "split.json").write_text(json.dumps(split.to_dict()))
    assert Split.read(tmp_path / "split.json") == split
    (tmp_path / "bad.json").write_text('{"train": []}')
    with pytest.raises(DatasetError, match="no split file"):
        Split.read(tmp_path / "bad.json")
    with pytest.raises(DatasetError, match="does not exist"):
        Split.read(tmp_path / "none.json")


def test_one_caption_an_image_is_drawn_by_the_public_rule(dataset):
    images = read_dataset(dataset).images
    generator = random.Random(42)
    expected = [image.captions[generator.sample(range(5), 1)[0]] for image in images]
    assert draw_captions(images, seed=42) == expected
    assert draw_captions(images, seed=43) != expected
