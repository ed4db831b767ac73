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

_HEADER_SIZE, _FRAME_HEADER_SIZE = 32, 24
_MAGIC = 0x377F0682  # and 1 more where the checksums take their words big-endian
_BYTES_AT_ONCE = 1 << 24

_Words = NDArray[np.uint32]


def find_damage(log: Path) -> str | None:
    """What is wrong with a write-ahead log that nobody writes to; None if nothing is, or there is none.

    A frame that a killed writer left half-written is no damage: it was not acknowledged. It is told from a damaged one
    by the frame behind it, which goes on from its checksum, or by a single bit that puts it right. After a power cut
    the frame behind it may be there as well, so that one looks damaged.
    """
    try:
        with open(log, "rb") as file:
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
            at_once = max(2, _BYTES_AT_ONCE // frame_size)
            done = 0
            while True:
                file.seek(_HEADER_SIZE + done * frame_size)
                block = file.read(at_once * frame_size)
                n = len(block) // frame_size
                if not n:
                    return None
                frames = np.frombuffer(block, np.uint8, n * frame_size).reshape(n, frame_size)
                fields = np.ascontiguousarray(frames[:, :_FRAME_HEADER_SIZE]).view(">u4").astype(np.uint32)  # (n, 6)
                words = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER_SIZE:]], axis=1).view(order + "u4")
                found = _checksum(words.astype(np.uint32), sums)
                right = (fields[:, 2:4] == salts).all(axis=1) & (fields[:, 4:] == found).all(axis=1)
                good = n if right.all() else int(right.argmin())
                if good == 0:
                    damaged = _is_damaged(words, fields, salts, found[0])
                    return f"frame {done} differs from its checksum" if damaged else None
                done, sums = done + good, found[good - 1]
    except FileNotFoundError:
        return None


def _is_damaged(words: _Words, fields: _Words, salts: list[int], found: tuple[int, int]) -> bool:
    """Whether the first frame, which is not right, was so once.

    Shape: words (n, w), fields (n, 6) of it and the frames behind it; found is its checksum as it should be.
    """
    *_, salt_1, salt_2, sum_1, sum_2 = fields[0].tolist()
    told = (sum_1, sum_2)
    salted = [salt_1 == salts[0], salt_2 == salts[1]]
    if not any(salted):
        return False  # of an earlier use of the file
    if found == told or sum((a ^ b).bit_count() for a, b in zip(found, told, strict=True)) == 1:
        return True  # its salts, or its checksum
    if len(words) > 1 and fields[1, 2:4].tolist() == salts:
        behind = tuple(fields[1, 4:].tolist())
        if any(_checksum(words[1:2].astype(np.uint32), start)[0] == behind for start in (found, told)):
            return True
    # A bit of a word changes both sums by that bit times the word's weights.
    w = words.shape[1]
    before, last = _weights(w)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    change = np.array([(b - a) & 0xFFFFFFFF for a, b in zip(found, told, strict=True)], dtype=np.uint32)
    for wanted in (change, np.uint32(0) - change):
        if ((before[:, None] * bits == wanted[0]) & (last[:, None] * bits == wanted[1])).any():
            return True
    return False


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
