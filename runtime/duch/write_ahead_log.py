"""Whether SQLite's write-ahead log is whole: SQLite reads it up to the first frame that differs from its checksum, and
passes over the rest without a word, commits among it.

The format is https://www.sqlite.org/fileformat2.html#the_write_ahead_log: a header of 32 bytes, then frames of 24
bytes and a page. A checksum runs on from frame to frame. Each frame repeats two numbers of the header, its salts;
frames of an earlier use of the file have others.

Shapes: n frames, w words in the checked part of a frame.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .display import display_path
from .errors import GalleryError
from .mapped_file import open_plain

_HEADER_SIZE, _FRAME_HEADER_SIZE = 32, 24
_MAGIC = 0x377F0682  # and 1 more where the checksums take their words big-endian
_BYTES_AT_ONCE = 1 << 24

_Words = NDArray[np.uint32]


def find_damage(log: Path) -> str | None:
    """What is wrong with a write-ahead log that nobody writes to; None if nothing is, or there is none.

    A frame that a killed writer left half-written is no damage: it was not acknowledged. It is told from a damaged one
    by frames behind it, or by a single bit that puts it right. After a power cut there may be frames behind it, too.

    Raises:
        GalleryError: it cannot be read.
    """
    try:
        with open(open_plain(log, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER_SIZE)
            if len(header) < _HEADER_SIZE:
                return None
            magic, _, page_size, _, *salts, sum_1, sum_2 = struct.unpack(">8I", header)
            order = ">" if magic & 1 else "<"
            sums = _checksum(np.frombuffer(header, order + "u4", 6).astype(np.uint32)[None], (0, 0))[0]
            if magic & ~1 != _MAGIC or sums != (sum_1, sum_2):
                return "the header differs from its checksum" if size > _HEADER_SIZE else None
            frame_size = _FRAME_HEADER_SIZE + page_size
            at_once = max(1, _BYTES_AT_ONCE // frame_size)
            done, suspect = 0, None
            while len(block := file.read(at_once * frame_size)) >= frame_size:
                n = len(block) // frame_size
                frames = np.frombuffer(block, np.uint8, n * frame_size).reshape(n, frame_size)
                fields = np.ascontiguousarray(frames[:, :_FRAME_HEADER_SIZE]).view(">u4").astype(np.uint32)  # (n, 6)
                salted = fields[:, 2:4] == salts  # one is enough: a flipped bit may have hit the other
                behind = 0
                if suspect is None:
                    words = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER_SIZE:]], axis=1).view(order + "u4")
                    found = _checksum(words.astype(np.uint32), sums)
                    right = salted.all(axis=1) & (fields[:, 4:] == found).all(axis=1)
                    if right.all():
                        done, sums = done + n, found[-1]
                        continue
                    bad = int(right.argmin())
                    suspect, behind = done + bad, bad + 1
                    if salted[bad].any() and _is_one_bit_off(found[bad], fields[bad, 4:].tolist(), words.shape[1]):
                        return _differs(suspect)
                if salted[behind:].any():
                    return _differs(suspect)
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GalleryError(f"{display_path(log)} cannot be read: {error.strerror}") from error


def _differs(frame: int) -> str:
    return f"frame {frame} differs from its checksum"


def _is_one_bit_off(found: tuple[int, int], told: list[int], w: int) -> bool:
    """Whether one flipped bit explains why a frame of w words is not right: in its words, its checksum or its salts."""
    if sum((a ^ b).bit_count() for a, b in zip(found, told, strict=True)) <= 1:
        return True
    # A bit of a word changes both sums by that bit times the word's weights.
    before, last = _weights(w)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    change = np.array([(b - a) & 0xFFFFFFFF for a, b in zip(found, told, strict=True)], dtype=np.uint32)
    return any(
        bool(((before[:, None] * bits == wanted[0]) & (last[:, None] * bits == wanted[1])).any())
        for wanted in (change, np.uint32(0) - change)
    )


def _checksum(words: _Words, start: tuple[int, int]) -> list[tuple[int, int]]:
    """The running checksum after each frame.

    Shape: words (n, w) uint32, w even -> n pairs.
    """
    w = words.shape[1]
    before, last = _weights(w)
    sums_1 = (words * before).sum(axis=1, dtype=np.uint32)
    sums_2 = (words * last).sum(axis=1, dtype=np.uint32)
    # What is there before goes into the sums like a word does.
    times = _fibonacci(w + 2)
    found, (one, two) = [], start
    for sum_1, sum_2 in zip(sums_1.tolist(), sums_2.tolist(), strict=True):
        one, two = (
            (sum_1 + times[w - 2] * one + times[w - 1] * two) & 0xFFFFFFFF,
            (sum_2 + times[w - 1] * one + times[w] * two) & 0xFFFFFFFF,
        )
        found.append((one, two))
    return found


def _weights(w: int) -> tuple[_Words, _Words]:
    """How often each of w words counts in the first and in the second sum.

    A word x makes the next sum z[i] = z[i - 2] + z[i - 1] + x[i], so its weight in the last sums is a Fibonacci number.

    Shape: -> two of (w,) uint32.
    """
    last = np.array(_fibonacci(w)[::-1], dtype=np.uint32)
    return np.append(last[1:], np.uint32(0)), last


@cache
def _fibonacci(n: int) -> list[int]:
    """The first n Fibonacci numbers, 1 and 1 and on, of 32 bits."""
    numbers = [1, 1]
    while len(numbers) < n:
        numbers.append((numbers[-2] + numbers[-1]) & 0xFFFFFFFF)
    return numbers[:n]
