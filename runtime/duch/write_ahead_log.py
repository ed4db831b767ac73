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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER_SIZE, _FRAME_HEADER_SIZE = 32, 24
_MAGIC = 0x377F0682  # and 1 more where the checksums take their words big-endian
_BYTES_AT_ONCE = 1 << 24

_Words = NDArray[np.uint32]


def find_damage(log: Path) -> str | None:
    """What is wrong with a write-ahead log that nobody writes to; None if nothing is, or there is none.

    A frame that a power cut left half-written looks like a damaged one; it was not acknowledged.
    """
    try:
        with open(log, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER_SIZE)
            if len(header) < _HEADER_SIZE:
                return None
            magic, _, page_size, _, salt_1, salt_2, *expected = struct.unpack(">8I", header)
            order = ">" if magic & 1 else "<"
            sums = _checksum(np.frombuffer(header, order + "u4", 6).astype(np.uint32)[None], (0, 0))[0]
            if magic & ~1 != _MAGIC or list(sums) != expected:
                return "the header differs from its checksum" if size > _HEADER_SIZE else None
            frame_size = _FRAME_HEADER_SIZE + page_size
            at_once = max(1, _BYTES_AT_ONCE // frame_size)
            whole, done = True, 0
            while block := file.read(at_once * frame_size):
                if (n := len(block) // frame_size) == 0:
                    break
                frames = np.frombuffer(block, np.uint8, n * frame_size).reshape(n, frame_size)
                fields = np.ascontiguousarray(frames[:, :_FRAME_HEADER_SIZE]).view(">u4").astype(np.uint32)  # (n, 6)
                salted = fields[:, 2:4] == (salt_1, salt_2)
                good = 0
                if whole:
                    checked = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER_SIZE:]], axis=1)
                    found = _checksum(checked.view(order + "u4").astype(np.uint32), sums)
                    right = salted.all(axis=1) & (fields[:, 4:] == found).all(axis=1)
                    good = n if right.all() else int(right.argmin())
                    whole, sums = good == n, found[-1]
                # One salt is enough: a flipped bit may have hit the other.
                if salted[good:].any():
                    first = good + int(salted[good:].any(axis=1).argmax())
                    return f"frame {done + first} differs from its checksum"
                done += n
            return None
    except FileNotFoundError:
        return None


def _checksum(words: _Words, start: Any) -> list[tuple[int, int]]:
    """The running checksum after each frame.

    A word x makes the next sum z[i] = z[i - 2] + z[i - 1] + x[i], so its weight in the last sums is a Fibonacci number.

    Shape: words (n, w) uint32, w even -> n pairs.
    """
    w = words.shape[1]
    times = [1, 1]
    for _ in range(w):
        times.append((times[-2] + times[-1]) & 0xFFFFFFFF)
    weights = np.array(times[:w][::-1], dtype=np.uint32)
    last = (words * weights).sum(axis=1, dtype=np.uint32)
    before = (words[:, :-1] * weights[1:]).sum(axis=1, dtype=np.uint32)
    found, (one, two) = [], start
    for sum_1, sum_2 in zip(before.tolist(), last.tolist(), strict=True):
        # z[-1] and z[0] are the sums so far.
        one, two = (
            (sum_1 + times[w - 2] * one + times[w - 1] * two) & 0xFFFFFFFF,
            (sum_2 + times[w - 1] * one + times[w] * two) & 0xFFFFFFFF,
        )
        found.append((one, two))
    return found
