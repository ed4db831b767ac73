"""Scenes on disk, as a captioned-image dataset in the Karpathy JSON that RSICD and UCM-Captions are published in."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from duch.durable import replacing
from duch.errors import ConfigError, DatasetError
from duch_training.scenes.captions import describe
from duch_training.scenes.painters import CLASSES, paint

MIN_SIZE = 32
# The published captioning datasets split about 80/10/10; ten images in a row of one class share that pattern.
_SPLITS = ("train",) * 8 + ("val", "test")
_CHUNK = 16  # scenes a task: small enough for a smooth progress bar


@dataclass(frozen=True)
class Scene:
    """A painted tile (RGB, size x size), five captions of it, and its class."""

    image: Image.Image
    captions: tuple[str, ...]
    class_name: str


def draw_scene(class_name: str, *, seed: int, size: int = 128) -> Scene:
    """Draw one scene; the same (class, seed, size) gives the same pixels and captions.

    Args:
        class_name: one of CLASSES.
        seed: 0 or more.
        size: side of the tile in pixels, 32 or more.

    Raises:
        ConfigError: unknown class, negative seed, or a size below 32.
    """
    if class_name not in CLASSES:
        raise ConfigError(f"no scene class {class_name!r}; choose one of: {', '.join(CLASSES)}")
    _check(size=size, seed=seed)
    return _draw(CLASSES.index(class_name), (seed,), size)


def _draw(code: int, seed: tuple[int, ...], size: int) -> Scene:
    pixels, words = np.random.SeedSequence((code, *seed)).spawn(2)
    image, facts = paint(CLASSES[code], np.random.default_rng(pixels), size)
    return Scene(image, describe(facts, np.random.default_rng(words)), CLASSES[code])


def _check(*, size: int, seed: int) -> None:
    if size < MIN_SIZE:
        raise ConfigError(f"scene size {size} px is too small to read; give {MIN_SIZE} or more")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative; give 0 or more")


def _filename(index: int) -> str:
    name = CLASSES[index % len(CLASSES)].replace(" ", "_")
    return f"{name}_{index // len(CLASSES) + 1:04d}.jpg"


def _write_some(images: str, indices: range, seed: int, size: int) -> list[tuple[int, tuple[str, ...]]]:
    """Draw and save some scenes in a worker; returns (index, captions) of each."""
    written = []
    for index in indices:
        scene = _draw(index % len(CLASSES), (seed, index // len(CLASSES)), size)
        scene.image.save(Path(images) / _filename(index), quality=92)
        written.append((index, scene.captions))
    return written


def write_scenes(
    folder: Path,
    *,
    count: int = 4000,
    seed: int = 0,
    size: int = 128,
    on_progress: Callable[[int], None] | None = None,
    workers: int = 0,
) -> Path:
    """Write a balanced dataset of scenes: `folder/images/*.jpg`, then `folder/dataset.json`.

    dataset.json comes last and whole, so an interrupted run leaves no dataset, and the same call can be made again.
    The result does not depend on the number of workers.

    Args:
        folder: made if missing; must hold no dataset yet.
        count: number of scenes, dealt to the classes in turn.
        seed: another seed gives other scenes.
        size: side of a tile in pixels.
        on_progress: called with the number of scenes done since the last call.
        workers: processes; 0 means one a core.

    Returns:
        The path of dataset.json.

    Raises:
        ConfigError: count below the number of classes, size below 32, negative seed or workers.
        DatasetError: the folder already holds a dataset, or cannot be written.
    """
    _check(size=size, seed=seed)
    if count < len(CLASSES):
        raise ConfigError(f"{count} scenes cannot cover {len(CLASSES)} classes; give {len(CLASSES)} or more")
    if workers < 0:
        raise ConfigError(f"{workers} workers; give 0 for one a core, or 1 or more")
    target = Path(folder) / "dataset.json"
    if target.exists():
        raise DatasetError(f"{target} already exists; give a folder without a dataset, or delete this one first")
    images = Path(folder) / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
        captions = _run(images, count, seed, size, on_progress, workers or os.cpu_count() or 1)
        with replacing(target) as file:
            file.write(json.dumps(_dataset(captions), indent=1).encode())
    except OSError as error:
        raise DatasetError(f"cannot write scenes to {folder}: {error}; give a writable folder with room") from error
    return target


def _run(
    images: Path, count: int, seed: int, size: int, on_progress: Callable[[int], None] | None, workers: int
) -> list[tuple[str, ...]]:
    captions: list[tuple[str, ...]] = [()] * count
    chunks = [range(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]

    def collect(written: list[tuple[int, tuple[str, ...]]]) -> None:
        for index, sentences in written:
            captions[index] = sentences
        if on_progress:
            on_progress(len(written))

    if workers == 1:
        for chunk in chunks:
            collect(_write_some(str(images), chunk, seed, size))
        return captions
    # spawn: forking a process that already runs torch or OpenMP threads can deadlock
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_write_some, str(images), chunk, seed, size) for chunk in chunks]
        try:
            for job in jobs:
                collect(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return captions


def _dataset(captions: list[tuple[str, ...]]) -> dict[str, object]:
    images = []
    sentence_id = 0
    for index, sentences in enumerate(captions):
        code = index % len(CLASSES)
        ids = list(range(sentence_id, sentence_id + len(sentences)))
        sentence_id += len(sentences)
        images.append(
            {
                "imgid": index,
                "filename": _filename(index),
                "classcode": code,
                "classname": CLASSES[code],
                "split": _SPLITS[index // len(CLASSES) % len(_SPLITS)],
                "sentids": ids,
                "sentences": [{"imgid": index, "sentid": i, "raw": raw} for i, raw in zip(ids, sentences, strict=True)],
            }
        )
    return {"dataset": "duch-scenes", "classes": list(CLASSES), "images": images}
