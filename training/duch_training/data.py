"""Captioned-image datasets: read, checked, split.

Three formats, told apart by their suffix:

- Karpathy JSON, as RSICD, UCM-Captions, Sydney-Captions and RSITMD are published: `{"images": [{"filename", "imgid",
  "sentences": [{"raw"}], "classname", "split"}]}`; class and split are optional.
- CSV with the columns `image, caption` and, optionally, `label` and `split`; an image with several captions has
  several rows.
- JSONL, one object a line: `{"image", "caption"}` or `{"image", "captions": [...]}`, optionally `label` and `split`.

Images are looked for in `images/` beside the file, then beside the file itself. An image's id is its name in the file.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.errors import DatasetError, ImageError
from duch.preprocess import ImagePreprocessing, image_to_pixels

_OWN_SPLITS = {
    "train": "train",
    "restval": "train",
    "val": "query",
    "query": "query",
    "test": "gallery",
    "gallery": "gallery",
}


@dataclass(frozen=True)
class CaptionedImage:
    """One image of a dataset.

    Attributes:
        id: its name in the dataset's file, unique.
        path: where it lies.
        captions: one or more sentences, none empty.
        label: its class, used to evaluate and never to train; None where the dataset has no classes.
        split: the dataset's own split, if it has one: train, query or gallery.
        where: file and record, for messages.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    label: str | None = None
    split: str | None = None
    where: str = ""


@dataclass(frozen=True)
class Dataset:
    """The images of a dataset in the order of its file, and what was skipped while reading it."""

    name: str
    images: tuple[CaptionedImage, ...]
    skipped: tuple[str, ...] = ()

    def subset(self, ids: Sequence[str]) -> list[CaptionedImage]:
        """The images of these ids, in this order.

        Raises:
            DatasetError: the dataset has no such id.
        """
        by_id = {image.id: image for image in self.images}
        missing = [wanted for wanted in ids if wanted not in by_id]
        if missing:
            raise DatasetError(
                f"dataset {self.name} has no image {missing[0]!r} ({len(missing)} of {len(ids)} ids of the split are "
                "missing); wanted the dataset that the split was made from"
            )
        return [by_id[wanted] for wanted in ids]


def find_dataset_file(path: Path) -> Path:
    """The dataset file of a path: itself, or the only dataset.json, .jsonl or .csv in a folder.

    Raises:
        DatasetError: nothing there, or no one file to choose.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DatasetError(
            f"dataset {path} does not exist; wanted a JSON, JSONL or CSV file, or a folder with dataset.json"
        )
    if (path / "dataset.json").is_file():
        return path / "dataset.json"
    found = sorted(p for p in path.iterdir() if p.suffix in (".json", ".jsonl", ".csv") and p.name != "split.json")
    if len(found) == 1:
        return found[0]
    names = ", ".join(p.name for p in found) or "none"
    raise DatasetError(f"folder {path} has no dataset.json (dataset files found: {names}); name the file itself")


def read_dataset(path: Path, *, skip_bad: bool = False) -> Dataset:
    """Read a captioned-image dataset; image files are only looked up, `load_pixels` decodes them.

    Args:
        path: the file, or a folder that holds it.
        skip_bad: leave out bad records and list them in `Dataset.skipped`, instead of failing on the first.

    Raises:
        DatasetError: no file, a file that cannot be parsed, or a bad record, named by its line or number.
    """
    file = find_dataset_file(path)
    readers = {".json": _karpathy_records, ".jsonl": _jsonl_records, ".csv": _csv_records}
    if file.suffix not in readers:
        raise DatasetError(f"dataset {file} ends in {file.suffix!r}; wanted .json, .jsonl or .csv")
    bad: list[str] = []
    images: dict[str, CaptionedImage] = {}
    try:
        # Karpathy's records are whole images; a table's rows of one image are gathered.
        one_record_each = file.suffix == ".json"
        for where, record in readers[file.suffix](file):
            try:
                image = _image(record, where, file.parent)
                known = images.get(image.id)
                if known is None:
                    images[image.id] = image
                else:
                    images[image.id] = _gathered(known, image, allowed=not one_record_each)
            except DatasetError as error:
                bad.append(str(error))
    except OSError as error:
        raise DatasetError(f"dataset {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"dataset {file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    _raise_or_skip(bad, skip_bad=skip_bad)
    if not images:
        raise DatasetError(f"dataset {file} holds no usable image; wanted at least one image with a caption")
    name = file.parent.name if file.stem == "dataset" else file.stem
    return Dataset(name=name, images=tuple(images.values()), skipped=tuple(bad))


def _raise_or_skip(bad: list[str], *, skip_bad: bool) -> None:
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more bad records)" if len(bad) > 1 else ""
        raise DatasetError(f"{bad[0]}{more}; mend the dataset, or leave bad records out with --skip-bad")


def _karpathy_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DatasetError(f"dataset {file} is no JSON: {error.msg} at line {error.lineno}") from error
    records = content.get("images") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DatasetError(f'dataset {file} has no list "images"; wanted Karpathy JSON as RSICD has it')
    for number, record in enumerate(records):
        where = f"{file.name} record {number}"
        if not isinstance(record, dict):
            yield where, {}
            continue
        sentences = record.get("sentences")
        yield (
            where,
            {
                "image": record.get("filename"),
                "captions": [s.get("raw") if isinstance(s, dict) else s for s in sentences]
                if isinstance(sentences, list)
                else None,
                "label": record.get("classname", record.get("classcode")),
                "split": record.get("split"),
            },
        )


def _jsonl_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file.name} line {number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                record = {}
            if not isinstance(record, dict):
                record = {}
            if "caption" in record:
                record["captions"] = [record["caption"]]
            yield where, record


def _csv_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(file, encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        columns = rows.fieldnames or []
        if "image" not in columns or "caption" not in columns:
            raise DatasetError(f"dataset {file} has the columns {', '.join(columns) or 'none'}; wanted image, caption")
        try:
            for row in rows:
                record = {**row, "captions": [row["caption"]], "label": row.get("label") or None}
                yield f"{file.name} line {rows.line_num}", record
        except csv.Error as error:
            raise DatasetError(f"dataset {file} is no CSV: {error} at line {rows.line_num}") from error


def _image(record: dict[str, Any], where: str, folder: Path) -> CaptionedImage:
    name, captions, label, split = (record.get(key) for key in ("image", "captions", "label", "split"))
    if not isinstance(name, str) or not name:
        raise DatasetError(f"{where} names no image")
    if not isinstance(captions, list) or not captions:
        raise DatasetError(f"{where} ({name}) has no caption")
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            raise DatasetError(f"{where} ({name}) has an empty caption")
    path = next((p for p in (folder / "images" / name, folder / name) if p.is_file()), None)
    if path is None:
        raise DatasetError(f"{where}: image {name} is missing in {folder / 'images'} and {folder}")
    return CaptionedImage(
        id=name,
        path=path,
        captions=tuple(caption.strip() for caption in captions),
        label=None if label is None else str(label),
        split=_OWN_SPLITS.get(str(split)),
        where=where,
    )


def _gathered(known: CaptionedImage, more: CaptionedImage, *, allowed: bool) -> CaptionedImage:
    if not allowed:
        raise DatasetError(f"{more.where}: image {more.id} was already {known.where}; ids must be unique")
    if (known.label, known.split) != (more.label, more.split):
        raise DatasetError(f"{more.where}: image {more.id} has another label or split than in {known.where}")
    return replace(known, captions=known.captions + more.captions)


def load_pixels(
    dataset: Dataset,
    preprocessing: ImagePreprocessing,
    *,
    skip_bad: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[Dataset, NDArray[np.uint8]]:
    """Decode every image, so that a broken one is found before training starts and not in the middle of it.

    Shape: n images -> uint8 (n, size, size, 3); without the bad ones under `skip_bad`.

    Raises:
        DatasetError: an image cannot be read and `skip_bad` is false.
    """

    def decode(image: CaptionedImage) -> NDArray[np.uint8] | str:
        try:
            return image_to_pixels(image.path, preprocessing)
        except ImageError as error:
            return f"{image.where}: {error}"

    size = preprocessing.size
    pixels = np.empty((len(dataset.images), size, size, 3), dtype=np.uint8)  # (n, size, size, 3)
    kept: list[CaptionedImage] = []
    bad: list[str] = []
    with ThreadPoolExecutor() as pool:  # Pillow's decoders release the GIL
        for image, decoded in zip(dataset.images, pool.map(decode, dataset.images), strict=True):
            if isinstance(decoded, str):
                bad.append(decoded)
            else:
                pixels[len(kept)] = decoded
                kept.append(image)
            on_progress(1)
    _raise_or_skip(bad, skip_bad=skip_bad)
    if not kept:
        raise DatasetError(f"dataset {dataset.name} holds no readable image")
    return replace(dataset, images=tuple(kept), skipped=dataset.skipped + tuple(bad)), pixels[: len(kept)]


@dataclass(frozen=True)
class Split:
    """Ids of the images that are trained on, asked with and searched in. No id is in two of them."""

    train: tuple[str, ...]
    query: tuple[str, ...]
    gallery: tuple[str, ...]
    rule: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The split as plain JSON values; `read` takes a file of them."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read a split file.

        Raises:
            DatasetError: no such file, or not a split.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            parts = {part: tuple(map(str, content[part])) for part in ("train", "query", "gallery")}
            return cls(**parts, rule=str(content["rule"]), seed=int(content["seed"]))
        except FileNotFoundError:
            raise DatasetError(f"split {path} does not exist; `duch train` writes one into its checkpoint") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"split {path} is no split file: {type(error).__name__} {error}") from error


def make_split(dataset: Dataset, *, rule: str = "public", seed: int = 42) -> Split:
    """Split a dataset 50/10/40 into train, query and gallery.

    `public` draws images uniformly, exactly as the published tables do (Python's `random`, sorted draws); `stratified`
    does so within each class; `own` takes the dataset's split: train, val as query, test as gallery.

    Raises:
        DatasetError: too few images, or no labels or split where the rule needs them.
    """
    images = dataset.images
    if rule == "own":
        return _own_split(dataset, seed)
    if rule == "public":
        groups = [list(range(len(images)))]
    else:
        if any(image.label is None for image in images):
            raise DatasetError(
                f"dataset {dataset.name} has images without a class; the split rule stratified needs one"
            )
        by_label: dict[str, list[int]] = {}
        for position, image in enumerate(images):
            by_label.setdefault(str(image.label), []).append(position)
        groups = [by_label[label] for label in sorted(by_label)]
    generator = random.Random(seed)
    train: list[int] = []
    query: list[int] = []
    gallery: list[int] = []
    for group in groups:
        drawn = sorted(generator.sample(group, int(0.5 * len(group))))
        rest = sorted(set(group) - set(drawn))
        asked = sorted(generator.sample(rest, int(0.2 * len(rest))))
        train += drawn
        query += asked
        gallery += sorted(set(rest) - set(asked))
    drawn_ids = {
        part: tuple(images[row].id for row in sorted(rows))
        for part, rows in (("train", train), ("query", query), ("gallery", gallery))
    }
    return _checked(dataset, Split(**drawn_ids, rule=rule, seed=seed))


def _own_split(dataset: Dataset, seed: int) -> Split:
    without = sum(image.split is None for image in dataset.images)
    if without:
        raise DatasetError(
            f"{without} of {len(dataset.images)} images of {dataset.name} have no split of their own; wanted "
            f"{', '.join(_OWN_SPLITS)}, or the split rule public"
        )
    parts = {
        part: tuple(image.id for image in dataset.images if image.split == part)
        for part in ("train", "query", "gallery")
    }
    return _checked(dataset, Split(**parts, rule="own", seed=seed))


def _checked(dataset: Dataset, split: Split) -> Split:
    if len(split.train) < 2 or not split.query or not split.gallery:
        raise DatasetError(
            f"dataset {dataset.name} with {len(dataset.images)} images splits into {len(split.train)} train, "
            f"{len(split.query)} query and {len(split.gallery)} gallery; wanted at least 2, 1 and 1: add images"
        )
    return split


def draw_captions(images: Sequence[CaptionedImage], *, seed: int) -> list[str]:
    """One caption an image, by the public code's rule: the generator is seeded anew, then draws image by image."""
    generator = random.Random(seed)
    return [image.captions[generator.sample(range(len(image.captions)), 1)[0]] for image in images]
