"""What views look like: a picture of image views and a table of caption views, for a few images of a dataset."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from duch.display import printable
from duch.durable import replacing
from duch.preprocess import ImagePreprocessing, image_to_pixels
from duch_training.data import CaptionedImage, read_dataset

from .captions import CaptionViews
from .images import view_images

_MARGIN, _GAP, _LINE = 24, 12, 24  # pixels; a line holds a set's name or an image's
_NARROWEST = 100  # column that fits the longest name of a set
_PAPER, _INK, _SOFT = "#f5f6f8", "#171a21", "#6a7280"


@dataclass(frozen=True)
class Sample:
    """Images of a dataset, each with one of its captions and another for the views of the kind `sibling`."""

    items: list[CaptionedImage]
    captions: list[str]
    siblings: list[str]


def draw_sample(dataset_path: Path, *, count: int, seed: int) -> Sample:
    """Draw images, at most all, and captions.

    Raises:
        DatasetError: the dataset cannot be read.
    """
    dataset = read_dataset(dataset_path)
    draws = random.Random(seed)
    items = draws.sample(dataset.images, min(count, len(dataset.images)))
    captions = [draws.choice(item.captions) for item in items]
    # Captions of an image are often repeated; a sibling of the same words would show nothing.
    others = [[text for text in item.captions if text != own] for item, own in zip(items, captions, strict=True)]
    siblings = [draws.choice(texts or [own]) for texts, own in zip(others, captions, strict=True)]
    return Sample(items, captions, siblings)


def caption_table(
    sample: Sample, views: Sequence[CaptionViews], *, seed: int, progress: Callable[[int], None] = lambda _: None
) -> str:
    """A Markdown table: a row for each caption, a column for each kind of views.

    Raises:
        ConfigError: a translation model cannot be loaded.
    """
    columns = [sample.captions]
    for kind in views:
        sources = sample.siblings if kind.kind == "sibling" else sample.captions
        columns.append(kind(sources, random.Random(seed), progress))  # a kind's views do not depend on the other kinds
    head = ["caption", *(kind.kind for kind in views)]
    rows = [head, ["---"] * len(head), *zip(*columns, strict=True)]
    return "".join("| " + " | ".join(map(_cell, row)) + " |\n" for row in rows)


def _cell(text: str) -> str:
    return printable(" ".join(text.split())).replace("|", r"\|")


def view_sheet(sample: Sample, kinds: Sequence[str], *, size: int, seed: int) -> Image.Image:
    """A labelled picture: a row for each image, the original first and then a column for each kind of views.

    Args:
        sample: the images.
        kinds: names of image views.
        size: side of a tile, in pixels, which views are made at.
        seed: draws the views.

    Raises:
        ImageError: an image cannot be read.
    """
    tiles = np.stack([image_to_pixels(item.path, ImagePreprocessing(size=size)) for item in sample.items])
    pixels = torch.from_numpy(tiles)  # (n, size, size, 3)
    columns: list[tuple[str, NDArray[np.uint8]]] = [("original", tiles)]
    for kind in kinds:
        generator = torch.Generator().manual_seed(seed)  # a kind's views do not depend on the other kinds
        columns.append((kind, view_images(pixels, generator, kind=kind).numpy()))

    across, down = max(size, _NARROWEST) + _GAP, size + _LINE + _GAP
    width = 2 * _MARGIN + len(columns) * across - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + _LINE + len(tiles) * down - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, made) in enumerate(columns):
        left = _MARGIN + column * across
        draw.text((left, _MARGIN), name, fill=_INK, font=ImageFont.load_default(15))
        for row, tile in enumerate(made):
            sheet.paste(Image.fromarray(tile), (left, _MARGIN + _LINE + row * down))
    for row, item in enumerate(sample.items):
        top = _MARGIN + _LINE + row * down + size + 5
        draw.text((_MARGIN, top), printable(item.id), fill=_SOFT, font=ImageFont.load_default(13))
    return sheet


def show_views(
    dataset_path: Path,
    out: Path,
    *,
    image_kinds: Sequence[str],
    text_views: Sequence[CaptionViews],
    count: int,
    size: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Write the picture to `out`/images.png and the table to `out`/captions.md, both once both are made.

    Returns:
        The table.

    Raises:
        DuchError: a dataset, an image or a translation model that cannot be read.
        OSError: `out` cannot be written to.
    """
    sample = draw_sample(dataset_path, count=count, seed=seed)
    sheet = view_sheet(sample, image_kinds, size=size, seed=seed)
    table = caption_table(sample, text_views, seed=seed, progress=progress)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "images.png") as file:
        file.write(png.getvalue())
    with replacing(out / "captions.md") as file:
        file.write(table.encode())
    return table
