"""One snapshot of a gallery: all of it against its checksums, and its parts against each other; see `duch.verify`.

Shapes: m some tiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .allowed_rows import Mask
from .catalog import Meta, catalog_of
from .catalog_check import CatalogCheck, StoredValues
from .errors import GalleryCorruptError, GalleryError, TablesError
from .generation import leftovers
from .mih_table import MAX_ROWS
from .progress import Progress
from .tables import Tables
from .tables import file_name as tables_name
from .untrusted_files import UntrustedFiles, table_of_values


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a gallery.

    Attributes:
        what: what was found.
        where: the file, and the place in it.
        tile_id: id of the tile that is hit, as the catalog has it; None where it is no single tile.
        repairable: whether `repair` can put it right, at worst by taking the tile out.
    """

    what: str
    where: str
    tile_id: str | None = None
    repairable: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + ("" if self.tile_id is None else f", tile {self.tile_id!r}")


@dataclass(frozen=True)
class VerifyReport:
    """What a check found.

    Attributes:
        n_tiles: live tiles, as the gallery counts them.
        n_batches: batches whose checksums were compared.
        problems: what is wrong; empty if the gallery is whole.
        leftovers: names of files that a crash or a compaction left; harmless, the next writer takes them away.
    """

    n_tiles: int
    n_batches: int
    problems: list[Problem] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


def check(folder: Path, on_progress: Progress | None, problems: list[Problem]) -> VerifyReport:
    """Check one snapshot of a gallery, and add to the problems that are known.

    Args:
        folder: the gallery.
        on_progress: called with rows done and rows in all.
        problems: what is known to be wrong.

    Raises:
        GalleryError: the folder is no gallery, or cannot be read, or is of another format version.
    """
    file = catalog_of(folder)
    try:
        catalog = CatalogCheck.open_to_read(file)
    except GalleryCorruptError as error:
        return VerifyReport(0, 0, [*problems, Problem(_short(error), file.name, repairable=False)])
    try:
        while True:
            checking = _Check(folder, catalog, [*problems], on_progress)
            try:
                with catalog.transaction():  # one snapshot
                    checking.run()
            except _MovedOnError:
                continue
            except GalleryCorruptError as error:
                checking.add(_short(error), file.name, repairable=False)
            return checking.report()
    finally:
        catalog.close()


def is_in_files(values: StoredValues, generation: int) -> bool:
    """Whether a row of the catalog, damaged or not, has a row in the files of a generation; as SQL compares them."""
    deleted = values[-1]
    if isinstance(deleted, int | float):
        return bool(deleted == 0 or deleted >= generation)
    return deleted is not None


class _MovedOnError(Exception):
    """A compaction took the files away after the catalog had named them."""


class _Check:
    """One run over one snapshot."""

    def __init__(
        self, folder: Path, catalog: CatalogCheck, problems: list[Problem], on_progress: Progress | None
    ) -> None:
        self._folder, self._catalog, self._on_progress = folder, catalog, on_progress
        self._problems = problems
        self._n_tiles = self._n_batches = 0
        self._leftovers: list[str] = []

    def add(self, what: str, where: str, tile_id: Any = None, *, repairable: bool = True) -> None:
        """Note a problem."""
        self._problems.append(Problem(what, where, tile_id if isinstance(tile_id, str) else None, repairable))

    def report(self) -> VerifyReport:
        """What was found so far."""
        return VerifyReport(self._n_tiles, self._n_batches, self._problems, self._leftovers)

    def run(self) -> None:
        """Look at everything."""
        meta, catalog = self._catalog.meta(), self._catalog.file.name
        self._n_tiles = meta.live_images + meta.live_texts
        files = UntrustedFiles(self._folder, meta)
        if files.problems and self._meta_now().generation != meta.generation:
            raise _MovedOnError
        for name, error in files.problems.items():
            missing_codes = name == files.codes_name and not (self._folder / name).exists()
            self.add(_short(error), name, repairable=not missing_codes)
        left = leftovers(self._folder, meta.generation)
        self._leftovers = [file.name for of_generation in left.values() for file in of_generation]
        self._check_batches(meta, files)
        self._check_tiles(meta, files)
        self._check_tables(meta, files)
        for line in self._catalog.structure():
            self.add(f"SQLite finds: {line}", catalog)
        for tile_id in self._catalog.duplicate_ids():
            self.add("more than one live tile has the same id", catalog, tile_id, repairable=False)

    def _meta_now(self) -> Meta:
        catalog = CatalogCheck.open_to_read(self._catalog.file)
        try:
            return catalog.meta()
        finally:
            catalog.close()

    def _check_batches(self, meta: Meta, files: UntrustedFiles) -> None:
        """The batches cover all rows, and match codes and columns."""
        end, catalog = 0, f"table batches of {self._catalog.file.name}"
        for first_row, n_rows, codes_crc, columns_crc in self._catalog.batches():
            if first_row != end or not isinstance(n_rows, int) or not 0 < n_rows <= meta.committed - first_row:
                self.add(f"a batch of {n_rows!r} rows at row {first_row}; wanted one at row {end}", catalog)
                return
            end = first_row + n_rows
            rows = f"rows {first_row} to {end - 1}"
            if end <= len(files.codes) and files.codes_crc(first_row, end) != codes_crc:
                self.add("they differ from their checksum", f"{rows} of {files.codes_name}")
            if end <= files.columns.n and files.columns_crc(first_row, end) != columns_crc:
                self.add("they differ from their checksum", f"{rows} of {files.columns_name}")
            self._n_batches += 1
        if end != meta.committed:
            self.add(f"the batches hold {end} rows; wanted {meta.committed}", catalog)

    def _check_tiles(self, meta: Meta, files: UntrustedFiles) -> None:
        """Every row of the catalog is undamaged and has its code and its columns."""
        catalog = self._catalog.file.name
        n_rows = self._catalog.count_rows(meta.generation)
        # Where their numbers agree, the tiles by seq are the rows; else the columns must tell whose row is which.
        has_tile = None if n_rows == meta.committed else np.zeros(files.columns.n, dtype=np.bool_)
        if has_tile is not None:
            self.add(f"table tiles has {n_rows} tiles; wanted {meta.committed}", catalog)
        live = {"image": 0, "text": 0}
        row, seq = 0, -1
        n_known = len(self._problems)
        for part in self._catalog.scan():
            tiles: list[StoredValues] = []
            rows: list[int] = []
            for values, undamaged in part:
                in_files = is_in_files(values, meta.generation)
                if not undamaged:
                    self.add("it differs from its checksum", f"seq {values[0]} of {catalog}", values[1])
                else:
                    seq = values[0]
                if undamaged and in_files:
                    tiles.append(values)
                    rows.append(row)
                    live[values[2]] += values[-1] == 0
                row += in_files
            self._compare(files, tiles, rows, has_tile)
            if self._on_progress is not None:
                self._on_progress(min(row, meta.committed), meta.committed)
        if has_tile is not None:
            for first, last in _runs(~has_tile):
                self.add("no tile has them", f"rows {first} to {last} of {files.columns_name}")
        if seq >= meta.next_seq:
            self.add(f"next_seq is {meta.next_seq}, and there is seq {seq}", catalog)
        if len(self._problems) == n_known and tuple(live.values()) != (meta.live_images, meta.live_texts):
            counted = f"{meta.live_images} images and {meta.live_texts} texts"
            self.add(f"it counts {counted}; there are {live['image']} and {live['text']}", catalog)

    def _check_tables(self, meta: Meta, files: UntrustedFiles) -> None:
        """The tables, if there are any, are of these codes."""
        file = self._folder / tables_name(meta.generation)
        try:
            found = Tables.open(
                file, n_bits=meta.n_bits, fingerprint=meta.fingerprint, generation=meta.generation, n_rows=MAX_ROWS
            )
            # A writer may have built them of more rows than this snapshot has.
            if found.n_rows <= len(files.codes):
                found.check(files.codes)
            elif found.n_rows > self._meta_now().committed:
                self.add(f"they cover {found.n_rows:,} rows; wanted {meta.committed:,}", file.name)
        except TablesError as error:
            if file.exists():
                self.add(str(error).partition(";")[0], file.name)

    def _compare(
        self, files: UntrustedFiles, tiles: list[StoredValues], in_order: list[int], has_tile: Mask | None
    ) -> None:
        """Undamaged tiles with their codes and columns; in_order (m,) are their rows if no row is missing."""
        table = table_of_values(tiles)
        rows = np.array(in_order, dtype=np.int64)
        if has_tile is not None:
            rows[:] = -1
            found = files.columns.rows_of(table["seq"])
            rows[np.isin(table["seq"], files.columns.take(found)["seq"])] = found
            has_tile[found] = True
        crcs = np.array([values[-2] for values in tiles], dtype=np.uint32)
        for place in np.flatnonzero(files.wrong_codes(rows, crcs)):
            self.add("its code is missing or damaged", f"row {rows[place]} of {files.codes_name}", tiles[place][1])
        for place in np.flatnonzero(files.wrong_columns(rows, table)):
            what = "its columns are missing or differ from the catalog"
            self.add(what, f"row {rows[place]} of {files.columns_name}", tiles[place][1])


def _runs(mask: Mask) -> Iterator[tuple[int, int]]:
    """First and last place of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    for first, end in edges.reshape(-1, 2).tolist():
        yield first, end - 1


def _short(error: GalleryError) -> str:
    """What is wrong, without what to do about it."""
    return re.split("[;,] (?:so )?restore", str(error))[0]
