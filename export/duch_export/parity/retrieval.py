"""What other bits do to answers: mAP@20 and the first ten hits, by the codes of torch, ONNX fp32 and the bundle.

Either among the held-out pairs of the checkpoint, where a query's partner is what it should find, or on the query and
gallery parts of a data set, scored by class as `duch evaluate` scores them.

Shapes: q queries, g gallery items, n items of a part, s image size, b bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.codes import PackedCodes
from duch.errors import DatasetError
from duch.index import HammingIndex
from duch.metrics import map_at
from duch_training.checkpoint import Checkpoint
from duch_training.coders import Coder
from duch_training.data import load_pixels, read_dataset
from duch_training.progress import Progress, bar
from duch_training.scoring import CROSS_MODAL, DIRECTIONS, PartCodes, hamming
from duch_training.splits import draw_captions

K = 20  # rank at which mAP is cut
TOP = 10
_CHUNK = 256
_CAPTION_SEED = 42  # the captions that `duch evaluate` draws by default

ENGINES = ("torch", "fp32", "bundle")


@dataclass(frozen=True)
class Direction:
    """Answers in one direction, such as t2i.

    Attributes:
        map_torch: mAP@20 with torch's codes.
        map_fp32: mAP@20 with ONNX fp32's codes.
        map_bundle: mAP@20 with the bundle's codes.
        loss: mAP@20 of ONNX fp32 less that of the bundle.
        standard_error: of the loss, from its differences query by query.
        top10: share of the first ten hits by ONNX fp32 that are among the first ten by the bundle, as the index
            answers; fewer where the gallery holds fewer.
        top10_counts: number of queries of which 0, 1 ... of these hits are the same.
    """

    map_torch: float
    map_fp32: float
    map_bundle: float
    loss: float
    standard_error: float
    top10: float
    top10_counts: tuple[int, ...]


@dataclass(frozen=True)
class Retrieval:
    """Answers that may change with the bits.

    Attributes:
        on: what was searched, in words.
        relevant: which items a query should find, in words.
        queries: number of them.
        gallery: number of items.
        directions: by name, such as t2i.
    """

    on: str
    relevant: str
    queries: int
    gallery: int
    directions: dict[str, Direction]


@dataclass(frozen=True)
class DatasetParts:
    """The query and the gallery part of a data set, in this order.

    Attributes:
        name: of the data set.
        pixels: uint8 (n, s, s, 3) of each part.
        captions: one of each image.
        labels: class of each image.
    """

    name: str
    pixels: list[NDArray[np.uint8]]
    captions: list[list[str]]
    labels: list[NDArray[Any]]


def on_pairs(codes: Mapping[str, Mapping[str, PackedCodes]], captions: Sequence[str]) -> Retrieval:
    """Retrieval among pairs: every image asks for its caption, every caption for its image.

    Args:
        codes: engine -> "i", "t" -> packed codes (q, b / 8); row j of both is one pair.
        captions: of the q pairs; whoever has the same one is relevant too.
    """
    labels = np.array(captions)
    parts = {engine: PartCodes(dict(sides), dict(sides)) for engine, sides in codes.items()}
    directions = {name: _direction(name, parts, labels, labels) for name in CROSS_MODAL}
    count = len(captions)
    return Retrieval("held-out pairs", "its partner, and those with the same caption", count, count, directions)


def read_parts(checkpoint: Checkpoint, path: Path) -> DatasetParts:
    """Read the query and gallery parts of the checkpoint's own split.

    Args:
        checkpoint: whose split and preprocessing it is.
        path: the data set that it was trained on.

    Raises:
        DatasetError: the data set cannot be read, has no classes, or is not the one of the split.
    """
    dataset = read_dataset(path)
    pixels, captions, labels = [], [], []
    with bar(None, "reading images", "image") as progress:
        for ids in (checkpoint.split.query, checkpoint.split.gallery):
            items = dataset.subset(ids)
            if any(item.label is None for item in items):
                raise DatasetError(
                    f"images of {dataset.name} have no class (JSON classname, CSV column label), so nothing says which "
                    "hits are right; export without --data to compare answers on held-out pairs"
                )
            part = replace(dataset, images=tuple(items))
            pixels.append(load_pixels(part, checkpoint.image, on_progress=progress)[1])
            captions.append(draw_captions(items, seed=_CAPTION_SEED))
            labels.append(np.array([item.label for item in items]))
    return DatasetParts(dataset.name, pixels, captions, labels)


def on_dataset(coders: Mapping[str, Coder], parts: DatasetParts) -> Retrieval:
    """Retrieval by class. Args: engine -> its coder; what is coded."""
    codes: dict[str, PartCodes] = {}
    with bar(2 * len(coders) * sum(map(len, parts.labels)), "coding the data set", "code") as progress:
        for engine, coder in coders.items():
            sides = [
                {"i": _coded(coder.encode_pixels, pixels, progress), "t": _coded(coder.encode_texts, texts, progress)}
                for pixels, texts in zip(parts.pixels, parts.captions, strict=True)
            ]
            codes[engine] = PartCodes(*sides)
    directions = {name: _direction(name, codes, *parts.labels) for name in DIRECTIONS}
    queries, gallery = (len(labels) for labels in parts.labels)
    return Retrieval(f"query and gallery part of {parts.name}", "its class", queries, gallery, directions)


def _coded(encode: Callable[[Any], PackedCodes], inputs: Any, progress: Progress) -> PackedCodes:
    codes = []
    for start in range(0, len(inputs), _CHUNK):
        codes.append(encode(inputs[start : start + _CHUNK]))
        progress(len(codes[-1]))
    return np.concatenate(codes)


def _direction(
    name: str, parts: Mapping[str, PartCodes], query_labels: NDArray[Any], gallery_labels: NDArray[Any]
) -> Direction:
    asked, held = name[0], name[2]
    rank = hamming()
    precision: dict[str, NDArray[np.float64]] = {}  # engine -> (q,)
    top: dict[str, NDArray[Any]] = {}  # engine -> (q, k)
    for engine in ENGINES:
        query, gallery = parts[engine].query[asked], parts[engine].gallery[held]
        precision[engine] = map_at(rank(query, gallery, query_labels, gallery_labels), K)
        top[engine] = HammingIndex(gallery).search(query, min(TOP, len(gallery)))[1]
    difference = precision["fp32"] - precision["bundle"]  # (q,)
    shared = (top["fp32"][:, :, None] == top["bundle"][:, None, :]).any(axis=2).sum(axis=1)  # (q,)
    k = top["fp32"].shape[1]
    return Direction(
        **{f"map_{engine}": float(precision[engine].mean()) for engine in ENGINES},
        loss=float(difference.mean()),
        standard_error=standard_error(difference),
        top10=float(shared.mean() / k),
        top10_counts=tuple(np.bincount(shared, minlength=k + 1).tolist()),
    )


def standard_error(differences: NDArray[np.float64]) -> float:
    """Standard error of a mean of paired differences; 0 for a single one. Shape: (q,)."""
    if len(differences) < 2:
        return 0.0
    return float(differences.std(ddof=1) / np.sqrt(len(differences)))
