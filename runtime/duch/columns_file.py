"""What filters need of every row of a gallery, in a mapped file beside the codes. GALLERY.md specifies it.

Rows stand in groups of 4,096, and within a group column after column: a filter reads the columns it asks for and no
others, and yet an append only writes places that no reader looks at.

Shapes: n rows, m some of them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import mapped_file
from .allowed_rows import Rows
from .mapped_file import HEADER_SIZE
from .tile import MODALITIES, StoredTile

MAGIC = b"DUCHCOLS"
GROUP_ROWS = 4096
NO_TIME = -(2**63)
# One row; a footprint that is not known is nan four times.
ROW = np.dtype(
    [
        ("seq", "<i8"),
        ("west", "<f8"),
        ("south", "<f8"),
        ("east", "<f8"),
        ("north", "<f8"),
        ("time_us", "<i8"),
        ("modality", "u1"),  # position in MODALITIES
    ]
)
COLUMNS = ROW.names or ()
GROUP = np.dtype([(name, ROW[name], (GROUP_ROWS,)) for name in COLUMNS])
# Where a column begins in a group, bytes.
_OFFSETS = {
    name: GROUP_ROWS * sum(ROW[other].itemsize for other in COLUMNS[:place]) for place, name in enumerate(COLUMNS)
}

Table = NDArray[np.void]  # of ROW or GROUP


def file_name(generation: int) -> str:
    """Name of the columns file of a generation."""
    return f"columns-{generation}.bin"


def header(fingerprint: str, generation: int) -> bytes:
    """The 64 bytes before the first group."""
    return mapped_file.header(MAGIC, GROUP_ROWS, fingerprint, generation)


def table_of(tiles: Sequence[StoredTile]) -> Table:
    """The rows of tiles, (n,) ROW."""
    return np.array(
        [
            (
                tile.seq,
                # + 0.0 makes -0.0 a plain zero, as in the catalog
                *(edge + 0.0 for edge in tile.footprint or (np.nan,) * 4),
                NO_TIME if tile.time_us is None else tile.time_us,
                MODALITIES.index(tile.modality),
            )
            for tile in tiles
        ],
        dtype=ROW,
    )


def check(descriptor: int, file: Path, *, fingerprint: str, generation: int, committed: int) -> None:
    """Compare an open columns file with what the catalog says of it.

    Raises:
        GalleryError: written by a newer format version.
        GalleryCorruptError: wrong header, or shorter than the committed rows.
    """
    mapped_file.check(descriptor, file, header(fingerprint, generation), _size(committed))


def write_rows(descriptor: int, first_row: int, table: Table) -> None:
    """Write rows from a row on; not yet on the disk.

    Shape: table (n,) ROW.
    """
    size = _size(first_row + len(table))
    if os.fstat(descriptor).st_size < size:
        # Whole groups, so that they can be mapped; and no holes, for on a full tmpfs a reader would die of one.
        mapped_file.write_at(descriptor, bytes(GROUP.itemsize), size - GROUP.itemsize)
    done = 0
    while done < len(table):
        group, offset = divmod(first_row + done, GROUP_ROWS)
        part = table[done : done + GROUP_ROWS - offset]
        for name in COLUMNS:
            place = HEADER_SIZE + group * GROUP.itemsize + _OFFSETS[name] + offset * ROW[name].itemsize
            mapped_file.write_at(descriptor, part[name].tobytes(), place)
        done += len(part)


class Columns:
    """The committed rows of a columns file, mapped read-only.

    Attributes:
        n: committed rows.
        groups: (n_groups,) GROUP; `groups["west"]` is (n_groups, 4096). Places beyond row n hold anything.
    """

    def __init__(self, descriptor: int, committed: int) -> None:
        """Map an open, checked columns file."""
        self.n = committed
        self.groups: Table = np.empty(0, dtype=GROUP)
        if committed:
            mapped = mmap.mmap(descriptor, _size(committed), access=mmap.ACCESS_READ)
            self.groups = np.frombuffer(mapped, dtype=GROUP, offset=HEADER_SIZE)

    def take(self, rows: ArrayLike) -> Table:
        """Some rows.

        Shape: rows (m,) integers below n -> (m,) ROW.
        """
        group, offset = np.divmod(np.asarray(rows, dtype=np.int64), GROUP_ROWS)
        table = np.empty(len(group), dtype=ROW)
        for name in COLUMNS:
            table[name] = self.groups[name][group, offset]
        return table

    def rows_of(self, seqs: ArrayLike) -> Rows:
        """The rows of these seqs, rising; seqs that no row has are passed over.

        Shape: seqs (m,) int64, each at most once -> (at most m,) int64.
        """
        wanted = np.sort(np.asarray(seqs, dtype=np.int64))
        if not self.n or not len(wanted):
            return np.empty(0, dtype=np.int64)
        column = self.groups["seq"]
        # Most often right, as only a compaction makes gaps.
        guess: Rows = np.clip(wanted - column[0, 0], 0, self.n - 1)
        if np.array_equal(column[np.divmod(guess, GROUP_ROWS)], wanted):
            return guess
        # Rows rise with seq: first the group, then the place in it, both by halving.
        group = np.searchsorted(column[:, 0], wanted, side="right") - 1
        wanted, group = wanted[group >= 0], group[group >= 0]
        in_group = np.minimum(self.n - group * GROUP_ROWS, GROUP_ROWS)
        low, high = np.zeros_like(group), in_group
        while (open_ := low < high).any():
            middle = (low + high) // 2
            before = open_ & (column[group, np.minimum(middle, GROUP_ROWS - 1)] < wanted)
            low, high = np.where(before, middle + 1, low), np.where(open_ & ~before, middle, high)
        found = (low < in_group) & (column[group, np.minimum(low, GROUP_ROWS - 1)] == wanted)
        rows: Rows = (group * GROUP_ROWS + low)[found]
        return rows


def _size(rows: int) -> int:
    """Bytes of a file of so many rows, a last group that is not full counted whole."""
    return HEADER_SIZE + -(-rows // GROUP_ROWS) * GROUP.itemsize
