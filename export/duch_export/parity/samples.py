"""Held-out samples as feeds: alone, and in batches whose companions try to change a code.

A batch is the rows that are looked at and a feed that begins with them.

Shapes: n samples, s image size, t tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duch.preprocess import Tokenizer
from duch_export.session import Feed

BATCH_SIZES = (2, 9, 32)

Rows = NDArray[np.int64]
Batches = Iterator[tuple[Rows, Feed]]


class Samples(Protocol):
    """Held-out inputs of one graph."""

    count: int

    def feed(self, rows: Rows) -> Feed:
        """These rows as one batch."""

    def batches(self) -> dict[str, Batches]:
        """Batches of `BATCH_SIZES` by name, over all samples each."""


class ImageSamples:
    """Pixels, uint8 (n, s, s, 3). Companions can only be other images."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels, self.count = pixels, len(pixels)

    def feed(self, rows: Rows) -> Feed:  # noqa: D102
        return {"pixels": self.pixels[rows]}

    def batches(self) -> dict[str, Batches]:  # noqa: D102
        return {f"{size}": self._batches(size) for size in BATCH_SIZES}

    def _batches(self, size: int) -> Batches:
        for rows in _chunks(self.count, size):
            yield rows, self.feed(rows)


class TextSamples:
    """Sentences as token ids. Companions are of the same length, or one of them is so long that all others are padded.

    Sentences that are too long for the model are cut.
    """

    def __init__(self, captions: Sequence[str], tokenizer: Tokenizer) -> None:
        self.count = len(captions)
        self._pad_id = tokenizer.preprocessing.pad_id
        input_ids, attention_mask = tokenizer(captions, truncate=True)  # (n, t), (n, t)
        lengths = attention_mask.sum(axis=1)
        self._tokens = [row[:length] for row, length in zip(input_ids, lengths, strict=True)]
        self._lengths = lengths  # (n,)
        self._long = min(2 * max(lengths, default=0), tokenizer.preprocessing.max_tokens)

    def feed(self, rows: Rows) -> Feed:  # noqa: D102
        return self._feed([self._tokens[row] for row in rows])

    def batches(self) -> dict[str, Batches]:  # noqa: D102
        equal = {f"{size} of one length": self._equal(size) for size in BATCH_SIZES}
        return equal | {f"{size} with padding": self._padded(size) for size in BATCH_SIZES}

    def _equal(self, size: int) -> Batches:
        for length in np.unique(self._lengths):
            alike = np.flatnonzero(self._lengths == length)
            for start in range(0, len(alike), size):
                rows = alike[start : start + size]
                others = [self._fitted(rows[-1] + 1 + extra, length) for extra in range(size - len(rows))]
                yield rows, self._feed([*(self._tokens[row] for row in rows), *others])

    def _padded(self, size: int) -> Batches:
        for rows in _chunks(self.count, size - 1):
            yield rows, self._feed([*(self._tokens[row] for row in rows), self._fitted(rows[-1] + 1, self._long)])

    def _fitted(self, row: int, length: int) -> NDArray[np.int64]:
        """A sentence cut, or said again and again, until it has this many tokens; its first and last one stay."""
        tokens = self._tokens[row % self.count]
        fitted = np.resize(tokens, length)
        fitted[0], fitted[-1] = tokens[0], tokens[-1]
        return fitted

    def _feed(self, tokens: Sequence[NDArray[np.int64]]) -> Feed:
        shape = (len(tokens), max(len(row) for row in tokens))
        input_ids, attention_mask = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        for position, row in enumerate(tokens):
            input_ids[position, : len(row)] = row
            attention_mask[position, : len(row)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}


def _chunks(count: int, size: int) -> Iterator[Rows]:
    """Rows in chunks of one size; the last one begins again with the first rows."""
    return (np.arange(start, start + size) % count for start in range(0, count, size))
