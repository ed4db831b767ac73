"""Decoding ahead of the session: order, failures, bounded memory, and no thread left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.decode import decode_ahead
from duch.encoder import Encoder
from duch.errors import ImageError
from duch.gallery import Gallery
from duch.ingest import index_images
from duch.preprocess import ImagePreprocessing, image_to_pixels

TINY = Path(__file__).parents[1] / "tiny_bundle"
SMALL = ImagePreprocessing(size=8)


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("duch-decode")]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten images of as many colours."""
    paths = [tmp_path / "images" / f"{number}.png" for number in range(10)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        Image.new("RGB", (12, 10), (20 * number, 10, 200)).save(path)
    return paths


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_hold_the_images_in_order(files: list[Path], batch_size: int, threads: int) -> None:
    wanted = [image_to_pixels(file, SMALL) for file in files]
    seen: list[Path] = []
    with decode_ahead(files, Path, SMALL, batch_size=batch_size, threads=threads) as batches:
        for batch in batches:
            assert len(batch.items) <= batch_size
            np.testing.assert_array_equal(batch.pixels, wanted[len(seen) : len(seen) + len(batch.items)])
            assert not batch.failed
            seen += batch.items
    assert seen == files


def test_nothing_in_gives_no_batch() -> None:
    with decode_ahead([], Path, SMALL, batch_size=4, threads=2) as batches:
        assert list(batches) == []


@pytest.mark.parametrize("broken", [[0], [2, 3], [9], list(range(10))])
def test_what_cannot_be_decoded_is_named_and_the_rest_keeps_its_pixels(files: list[Path], broken: list[int]) -> None:
    wanted = {file: image_to_pixels(file, SMALL) for file in files}
    for number in broken:
        files[number].write_bytes(b"no image")
    good: list[Path] = []
    failed: list[Path] = []
    with decode_ahead(files, Path, SMALL, batch_size=4, threads=2) as batches:
        for batch in batches:
            assert len(batch.pixels) == len(batch.items)
            for file, pixels in zip(batch.items, batch.pixels, strict=True):
                np.testing.assert_array_equal(pixels, wanted[file])
            good += batch.items
            for file, error in batch.failed:
                assert file.name in str(error)
                failed.append(file)
    assert failed == [files[number] for number in broken]
    assert sorted(good + failed) == files


def test_one_batch_is_decoded_ahead_and_no_more() -> None:
    black = np.zeros((9, 9, 3), np.uint8)
    taken: list[int] = []
    decoded: list[int] = []

    def items() -> Any:
        for number in range(100):
            taken.append(number)
            yield number

    def source_of(number: int) -> np.ndarray:
        decoded.append(number)
        return black

    with decode_ahead(items(), source_of, SMALL, batch_size=4, threads=2) as batches:
        for number, batch in enumerate(batches):
            last = 4 * number + 8  # this batch and the next
            assert len(taken) == min(last, 100)
            while len(decoded) < len(taken):  # the next one is decoded without being asked for
                time.sleep(0.001)
            assert len(batch.items) == 4
    assert sorted(decoded) == list(range(100))


def test_two_buffers_serve_any_number_of_batches() -> None:
    grey = [np.full((8, 8, 3), number, np.uint8) for number in range(40)]
    places = set()
    with decode_ahead(grey, np.asarray, SMALL, batch_size=4, threads=2) as batches:
        for number, batch in enumerate(batches):
            places.add(batch.pixels.__array_interface__["data"][0])
            assert batch.pixels[:, 0, 0, 0].tolist() == [4 * number + i for i in range(4)]
    assert len(places) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_thread_outlives_the_block(error: type[BaseException]) -> None:
    black = [np.zeros((9, 9, 3), np.uint8)] * 50

    def fail_at_the_second() -> None:
        with decode_ahead(black, np.asarray, SMALL, batch_size=4, threads=3) as batches:
            next(batches)
            assert decoders()
            next(batches)
            raise error

    with pytest.raises(error):
        fail_at_the_second()
    assert not decoders()


def test_an_error_that_is_no_images_fault_is_raised() -> None:
    def source_of(number: int) -> Any:
        raise MemoryError

    with decode_ahead([1], source_of, SMALL, batch_size=4, threads=1) as batches, pytest.raises(MemoryError):
        next(batches)
    assert not decoders()


def test_encoder_gives_the_same_codes_ahead_as_one_by_one(files: list[Path]) -> None:
    encoder = Encoder(TINY)
    alone = np.concatenate([encoder.encode_images([file]) for file in files])
    for batch_size in (1, 3, 32):
        assert np.array_equal(encoder.encode_images(files, batch_size=batch_size), alone)
    files[7].write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"7\.png"):
        encoder.encode_images(files, batch_size=3)
    assert not decoders()


def test_one_open_image_may_stand_in_a_batch_many_times(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    wanted = image_to_pixels(tmp_path / "a.png", SMALL)
    for _ in range(10):
        with Image.open(tmp_path / "a.png") as image:
            items = [image] * 8
            with decode_ahead(items, lambda item: item, SMALL, batch_size=8, threads=8) as batches:
                assert all((pixels == wanted).all() for batch in batches for pixels in batch.pixels)


def test_ingest_and_encoder_give_the_same_codes(files: list[Path], tmp_path: Path) -> None:
    encoder = Encoder(TINY)
    files[4].write_bytes(b"no image")
    report = index_images(encoder, tmp_path / "images", tmp_path / "g", batch_size=3)
    assert [name for name, _ in report.skipped] == ["4.png"]
    with Gallery.open(tmp_path / "g") as gallery:
        assert np.array_equal(gallery.codes, encoder.encode_images([file for file in files if file != files[4]]))
    assert not decoders()


def test_an_interrupt_ends_the_process_at_once(files: list[Path]) -> None:
    """A decoder thread that was left behind would keep it alive."""
    code = (
        "import sys\nfrom duch.decode import decode_ahead\nfrom duch.preprocess import ImagePreprocessing\n"
        "from itertools import cycle\n"
        "with decode_ahead(cycle(sys.argv[1:]), str, ImagePreprocessing(8), batch_size=8, threads=4) as batches:\n"
        "    for batch in batches:\n        print('batch', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(os.fspath, files)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in stderr
