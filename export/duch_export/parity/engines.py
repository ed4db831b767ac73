"""The engines that are compared: torch, and onnxruntime on a graph. Each turns a feed into packed and relaxed codes.

Shapes: n batch, s image size, t tokens, b = n_bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from duch.codes import PackedCodes, binarize, pack_codes
from duch.preprocess import Tokenizer
from duch_export.graph import Hasher
from duch_export.session import THREADS, Feed, open_session

_BATCH = 32


class Outputs(NamedTuple):
    """What a graph gives. Shape: codes uint8 (n, b / 8), relaxed float32 (n, b)."""

    codes: PackedCodes
    relaxed: NDArray[np.float32]


Engine = Callable[[Feed], Outputs]


def graph_engine(model: onnx.ModelProto, *, threads: int = THREADS) -> Engine:
    """onnxruntime on a graph."""
    session = open_session(model, threads=threads)

    def run(feed: Feed) -> Outputs:
        return Outputs(*session.run(["codes", "relaxed"], feed))

    return run


def torch_engine(relax: Callable[..., torch.Tensor]) -> Engine:
    """A side of the hasher, eager, its arguments in the order of the feed.

    Raises:
        CodesError: when it runs, if it gives NaN: then nothing can be compared with it.
    """

    def run(feed: Feed) -> Outputs:
        relaxed = relax(*(torch.from_numpy(array) for array in feed.values())).numpy()  # (n, b)
        return Outputs(pack_codes(binarize(relaxed)), relaxed)

    return run


def torch_engines(hasher: Hasher) -> tuple[Engine, Engine]:
    """Both sides of a hasher: images, texts."""
    return torch_engine(hasher.relax_images), torch_engine(hasher.relax_texts)


@contextmanager
def torch_like_onnxruntime() -> Iterator[None]:
    """torch without gradients, on as many threads as the sessions have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


class GraphCoder:
    """Two graphs as a coder of `duch_training.coders`: pixels and sentences in, packed codes out, on all cores."""

    def __init__(self, image: onnx.ModelProto, text: onnx.ModelProto, tokenizer: Tokenizer) -> None:
        self._image, self._text = graph_engine(image, threads=0), graph_engine(text, threads=0)
        self._tokenizer = tokenizer

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> PackedCodes:
        """Shape: uint8 (n, s, s, 3) -> (n, b / 8)."""
        starts = range(0, len(pixels), _BATCH)
        return np.concatenate([self._image({"pixels": pixels[start : start + _BATCH]}).codes for start in starts])

    def encode_texts(self, texts: list[str]) -> PackedCodes:
        """Shape: n sentences -> (n, b / 8)."""
        codes = []
        for start in range(0, len(texts), _BATCH):
            ids, mask = self._tokenizer(texts[start : start + _BATCH], truncate=True)
            codes.append(self._text({"input_ids": ids, "attention_mask": mask}).codes)
        return np.concatenate(codes)
