"""Images decoded ahead of the session: while one batch is coded, the next one is decoded, and no more than that.

Shapes: n images of a batch, s image size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError
from .preprocess import ImagePreprocessing, ImageSource, image_to_pixels

Item = TypeVar("Item")

# 256 x 256 tiles take 1.4 ms a thread, so eight feed a session at 5,000 images a second: no CPU codes that many.
_MOST_THREADS = 8


@dataclass(frozen=True)
class Decoded(Generic[Item]):
    """A batch of images.

    Attributes:
        items: those that were decoded, in their order.
        pixels: of each of them, (n, s, s, 3) uint8. Overwritten when the next batch is asked for.
        failed: the others, with what is wrong with them.
    """

    items: list[Item]
    pixels: NDArray[np.uint8]
    failed: list[tuple[Item, ImageError]]


@contextmanager
def decode_ahead(
    items: Iterable[Item],
    source_of: Callable[[Item], ImageSource],
    preprocessing: ImagePreprocessing,
    *,
    batch_size: int,
    threads: int,
) -> Iterator[Iterator[Decoded[Item]]]:
    """Give images in batches, decoded by threads that work on the next batch meanwhile.

        with decode_ahead(paths, Path, bundle.image, batch_size=32, threads=2) as batches:
            for batch in batches: ...

    Pixels of two batches are in memory, however many images there are. Whatever ends the block, an interrupt too, no
    thread outlives it.

    Args:
        items: what stands for the images; taken from one batch ahead, in the caller's thread.
        source_of: the image of an item; called in a thread.
        preprocessing: how it becomes pixels.
        batch_size: images in a batch.
        threads: images decoded at once, 8 at most.
    """
    pool = ThreadPoolExecutor(min(threads, _MOST_THREADS), thread_name_prefix="duch-decode")
    try:
        yield _batches(pool, iter(items), source_of, preprocessing, batch_size)
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    pool: ThreadPoolExecutor,
    items: Iterator[Item],
    source_of: Callable[[Item], ImageSource],
    preprocessing: ImagePreprocessing,
    batch_size: int,
) -> Iterator[Decoded[Item]]:
    size = preprocessing.size
    buffers = [np.empty((0, size, size, 3), dtype=np.uint8)] * 2

    def decode(item: Item, pixels: NDArray[np.uint8]) -> None:
        pixels[...] = image_to_pixels(source_of(item), preprocessing)

    def start_next() -> tuple[list[Item], NDArray[np.uint8], list[Future[None]]]:
        batch = list(islice(items, batch_size))
        buffers.reverse()  # the other one holds the batch that is being coded
        if len(buffers[0]) < len(batch):
            buffers[0] = np.empty((len(batch), size, size, 3), dtype=np.uint8)
        pixels = buffers[0][: len(batch)]
        return batch, pixels, [pool.submit(decode, item, row) for item, row in zip(batch, pixels, strict=True)]

    ahead = start_next()
    while ahead[0]:
        # The batch before this one is coded by now, so its buffer is free: no decoder waits for the last of this one.
        (batch, pixels, futures), ahead = ahead, start_next()
        failed = {}
        for position, future in enumerate(futures):
            try:
                future.result()
            except ImageError as error:
                failed[position] = error
        good = [position for position in range(len(batch)) if position not in failed]
        if failed:
            for row, position in enumerate(good):  # in place: a copy would be a third batch
                pixels[row] = pixels[position]
        yield Decoded(
            [batch[position] for position in good],
            pixels[: len(good)],
            [(batch[position], error) for position, error in failed.items()],
        )
