"""One side of the training pairs, as the loop sees it: rows of a batch in, relaxed codes of them and their views out.

A frozen encoder runs once, and the loop reads features; a trained one runs in every step, on fresh views.

Shapes: n training images, m captions of all of them, r rows of a batch, d features, b bits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duch.preprocess import Tokenizer

from .config import TrainConfig
from .model import CrossModalHasher
from .views import view_caption, view_images

Progress = Callable[[int], None]
CodePair = tuple[Tensor, Tensor]  # relaxed codes of originals and of views, each (r, b)

_FEATURE_BATCH = 64


class Side(Protocol):
    """Images or texts of the training pairs."""

    def start_epoch(self, seed: int) -> None:
        """Draw this epoch's captions and views."""

    def relax(self, rows: Tensor) -> CodePair:
        """Relaxed codes of these training images, or of their captions, and of views of them."""


class FrozenImages:
    """Images behind a frozen encoder: features of each and of one view of each, computed once."""

    def __init__(
        self, hasher: CrossModalHasher, pixels: NDArray[np.uint8], config: TrainConfig, progress: Progress
    ) -> None:
        self.hasher = hasher
        device = next(hasher.parameters()).device
        generator = torch.Generator().manual_seed(config.seed)
        features, views = [], []
        for rows in np.array_split(pixels, max(1, len(pixels) // _FEATURE_BATCH)):
            original = torch.from_numpy(rows)
            view = view_images(original, generator, kind=config.image_views)
            features.append(_features(hasher.image_encoder, original.to(device)))
            views.append(_features(hasher.image_encoder, view.to(device)))
            progress(len(rows))
        self.features, self.view_features = torch.cat(features), torch.cat(views)  # (n, d)
        if config.feature_scaling == "scalar":
            hasher.image_scaler.fit(self.features)

    def start_epoch(self, seed: int) -> None:  # noqa: D102
        pass

    def relax(self, rows: Tensor) -> CodePair:  # noqa: D102
        both = torch.cat([self.features[rows], self.view_features[rows]])
        return _halves(self.hasher.relax_image_features(both))


class LiveImages:
    """Images whose encoder is trained: both copies of an image are fresh views in every epoch."""

    def __init__(self, hasher: CrossModalHasher, pixels: NDArray[np.uint8], config: TrainConfig) -> None:
        self.hasher = hasher
        self.kind = config.image_views
        self.device = next(hasher.parameters()).device
        self.pixels = torch.from_numpy(pixels).to(self.device)  # (n, size, size, 3)
        self.generator = torch.Generator()

    def start_epoch(self, seed: int) -> None:  # noqa: D102
        self.generator.manual_seed(seed)

    def relax(self, rows: Tensor) -> CodePair:  # noqa: D102
        twice = self.pixels[rows].repeat(2, 1, 1, 1)
        return _halves(self.hasher.relax_images(view_images(twice, self.generator, kind=self.kind)))


class _Captions:
    """The captions of the training images: one drawn for each image in every epoch, and one that its view is made of.

    The view of a caption is made of itself, or, of kind `sibling`, of another caption of the same image.
    """

    def __init__(self, captions: Sequence[Sequence[str]], kind: str) -> None:
        self.kind = kind
        self.texts = [caption for group in captions for caption in group]  # m
        counts = np.array([len(group) for group in captions])  # (n,)
        self._counts = np.repeat(counts, counts)  # (m,) captions of the image that a caption belongs to
        self._first = np.cumsum(counts) - counts  # (n,) into the m captions
        # Equal numbers mean equal captions, whatever image they belong to.
        known: dict[str, int] = {}
        self.meaning = torch.tensor([known.setdefault(_plain(text), len(known)) for text in self.texts])  # (m,)
        self.drawn = torch.from_numpy(self._first)  # (n,) into the m captions
        self.sources = torch.arange(len(self.texts))  # (m,) into the m captions

    def draw(self, seed: int) -> None:
        """Choose one caption for each image."""
        offsets = np.random.default_rng(seed).integers(0, self._counts[self._first])
        self.drawn = torch.from_numpy(self._first + offsets)

    def draw_sources(self, seed: int) -> None:
        """Choose the caption that each caption's view is made of."""
        if self.kind != "sibling":
            return
        first = np.repeat(self._first, self._counts[self._first])  # (m,)
        step = np.random.default_rng(seed).integers(1, np.maximum(self._counts, 2))
        self.sources = torch.from_numpy(first + (np.arange(len(first)) - first + step) % self._counts)

    def view(self, source: int, generator: random.Random) -> str:
        """An augmented copy of a caption."""
        return self.texts[source] if self.kind == "none" else view_caption(self.texts[source], generator)

    def meanings(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the captions behind the texts and the text views of a batch. Shape: (r,) -> (r,), (r,)."""
        drawn = self.drawn[rows]
        return self.meaning[drawn], self.meaning[self.sources[drawn]]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[.,!?]", " ", text.lower()).split())


class FrozenTexts(_Captions):
    """Captions behind a frozen encoder: features of each and of one view of each, computed once."""

    def __init__(
        self,
        hasher: CrossModalHasher,
        captions: Sequence[Sequence[str]],
        tokenizer: Tokenizer,
        config: TrainConfig,
        progress: Progress,
    ) -> None:
        super().__init__(captions, config.text_views)
        self.hasher = hasher
        self.device = next(hasher.parameters()).device
        self.draw_sources(config.seed)
        generator = random.Random(config.seed)
        views = [self.view(source, generator) for source in self.sources.tolist()]
        self.features = text_features(hasher, self.texts, tokenizer, progress)  # (m, d)
        self.view_features = text_features(hasher, views, tokenizer, progress)  # (m, d)
        if config.feature_scaling == "scalar":
            hasher.text_scaler.fit(self.features)

    def start_epoch(self, seed: int) -> None:  # noqa: D102
        self.draw(seed)

    def relax(self, rows: Tensor) -> CodePair:  # noqa: D102
        drawn = self.drawn[rows].to(self.device)
        return _halves(self.hasher.relax_text_features(torch.cat([self.features[drawn], self.view_features[drawn]])))


class LiveTexts(_Captions):
    """Captions whose encoder is trained: a fresh view of each in every epoch."""

    def __init__(
        self, hasher: CrossModalHasher, captions: Sequence[Sequence[str]], tokenizer: Tokenizer, config: TrainConfig
    ) -> None:
        super().__init__(captions, config.text_views)
        self.hasher = hasher
        self.tokenizer = tokenizer
        self.device = next(hasher.parameters()).device
        self.generator = random.Random()

    def start_epoch(self, seed: int) -> None:  # noqa: D102
        self.draw(seed)
        self.draw_sources(seed)
        self.generator.seed(seed)

    def relax(self, rows: Tensor) -> CodePair:  # noqa: D102
        drawn = self.drawn[rows]
        originals = [self.texts[i] for i in drawn.tolist()]
        views = [self.view(source, self.generator) for source in self.sources[drawn].tolist()]
        ids, mask = (torch.from_numpy(a).to(self.device) for a in self.tokenizer(originals + views, truncate=True))
        return _halves(self.hasher.relax_texts(ids, mask))


def text_features(
    hasher: CrossModalHasher, texts: Sequence[str], tokenizer: Tokenizer, progress: Progress = lambda _: None
) -> Tensor:
    """Text features without gradients, computed in batches of similar length. Shape: m sentences -> (m, d)."""
    device = next(hasher.parameters()).device
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: list[Tensor] = []
    for start in range(0, len(order), _FEATURE_BATCH):
        batch = [texts[i] for i in order[start : start + _FEATURE_BATCH]]
        ids, mask = (torch.from_numpy(array).to(device) for array in tokenizer(batch, truncate=True))
        rows.append(_features(hasher.text_encoder, ids, mask))
        progress(len(batch))
    return torch.cat(rows)[torch.argsort(torch.tensor(order, device=device))]


@torch.no_grad()
def _features(encoder: torch.nn.Module, *inputs: Tensor) -> Tensor:
    return encoder.eval()(*inputs).float()


def _halves(codes: Tensor) -> CodePair:
    originals, views = codes.float().chunk(2)  # losses are computed in float32, whatever autocast made
    return originals, views
