"""Putting a damaged gallery right: what is whole is written as a new generation, what is not is taken out and named.

A tile is whole where its row of the catalog matches its checksum, and a code is found that matches the row's checksum
of it. Columns, batches, counts and indexes are made anew from those, so damage to them costs nothing. Tables of the
codes are taken away; `duch.optimize` builds new ones.

Shapes: n tiles that have a row in the files.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import write_ahead_log
from .allowed_rows import Mask, Rows
from .catalog import Meta, catalog_of
from .catalog_check import CatalogCheck
from .display import display_path
from .errors import GalleryCorruptError, GalleryError
from .gallery_check import Problem, check, is_in_files
from .gallery_place import take_lock
from .generation import Generation, crcs, leftovers, sweep
from .progress import Progress
from .tables import file_name as tables_name
from .untrusted_files import UntrustedFiles, code_crcs, table_of_values
from .verify import LOG

_Batch = tuple[int, int, dict[str, int]]  # first row, rows, checksums


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        problems: what was wrong.
        taken_out: ids of the tiles that could not be kept, as the catalog had them; code them again.
        leftovers: names of files that nobody needed, taken away.
    """

    problems: list[Problem] = field(default_factory=list)
    taken_out: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


def repair(folder: str | os.PathLike[str], *, on_progress: Progress | None = None) -> RepairReport:
    """Check a gallery, and put right what is wrong with it; after a crash in the middle it is what it was.

    Args:
        folder: the gallery.
        on_progress: called with rows written and rows in all.

    Raises:
        GalleryLockedError: a writer is at work.
        GalleryCorruptError: it cannot be repaired; nothing was changed.
        GalleryError: the folder is no gallery, or cannot be written.
    """
    place = Path(folder)
    file = catalog_of(place)
    lock = take_lock(place)
    try:
        torn = write_ahead_log.find_damage(file.with_name(LOG))
        report = check(place, None, [])
        if hopeless := [problem for problem in report.problems if not problem.repairable]:
            raise _hopeless(place, str(hopeless[0]))
        catalog = CatalogCheck.open_to_write(file)  # this alone replaces what is damaged of the log
        try:
            generation = catalog.meta().generation
            tables = place / tables_name(generation)
            taken_out = []
            if any(problem.where != tables.name for problem in report.problems):
                taken_out = _rewrite(place, catalog, on_progress)
                generation = catalog.meta().generation
            elif report.problems:
                tables.unlink()
            left = [path.name for paths in leftovers(place, generation).values() for path in paths]
            if sweep(place, generation):
                with catalog.transaction():
                    catalog.forget_deleted(generation)
            catalog.empty_log()
        finally:
            catalog.close()
        if report.problems and (remaining := check(place, None, []).problems):
            raise GalleryCorruptError(f"{display_path(place)} is still damaged: {remaining[0]}; restore it from a copy")
        return RepairReport([*([Problem(torn, LOG)] if torn else []), *report.problems], taken_out, left)
    except OSError as error:
        raise GalleryError(
            f"{display_path(place)}: {error.strerror}; it is what it was, so make room on the disk and run it again"
        ) from error
    finally:
        os.close(lock)


def _rewrite(folder: Path, catalog: CatalogCheck, on_progress: Progress | None) -> list[str]:
    """Make the next generation of what is undamaged; returns the ids of what is not."""
    meta = catalog.meta()
    files = UntrustedFiles(folder, meta)
    rows = _rows_of_tiles(catalog, meta, files)
    new = replace(meta, generation=meta.generation + 1, committed=0, live_images=0, live_texts=0)
    taken_out: dict[int, str] = {}
    batches: list[_Batch] = []
    row = 0
    try:
        Generation.create(folder, new)
        written = Generation(folder, new, writable=True)
        try:
            for part in catalog.scan():
                tiles, of_tiles = [], []
                for values, undamaged in part:
                    in_files = is_in_files(values, meta.generation)
                    if not undamaged or (values[-1] == 0 and rows[row] < 0):
                        taken_out[values[0]] = str(values[1])
                    elif values[-1] == 0:
                        tiles.append(values)
                        of_tiles.append(int(rows[row]))
                    row += in_files
                if tiles:
                    codes, table = files.codes[of_tiles], table_of_values(tiles)
                    written.write(new.committed, codes, table)
                    batches.append((new.committed, len(tiles), crcs(codes, table)))
                    n_texts = int(table["modality"].sum())
                    new = replace(
                        new,
                        committed=new.committed + len(tiles),
                        live_images=new.live_images + len(tiles) - n_texts,
                        live_texts=new.live_texts + n_texts,
                        next_seq=max(new.next_seq, tiles[-1][0] + 1),
                    )
                if on_progress is not None:
                    on_progress(row, len(rows))
            if not new.committed and meta.committed and taken_out:
                raise _hopeless(folder, "no tile is whole")  # more likely a file of another gallery than damage
            written.sync()
        finally:
            written.close()
        try:
            _commit(catalog, new, batches, list(taken_out))
        except GalleryCorruptError as error:
            raise _hopeless(folder, str(error)) from error
    except BaseException:
        with suppress(OSError):  # the next writer does it else
            sweep(folder, meta.generation)
        raise
    return list(taken_out.values())


def _commit(catalog: CatalogCheck, new: Meta, batches: list[_Batch], without: list[int]) -> None:
    with catalog.transaction():
        catalog.rebuild(without)
        catalog.drop_batches()
        for first_row, n_rows, of_batch in batches:
            catalog.insert_batch(first_row, n_rows, **of_batch)
        for key in ("generation", "committed", "next_seq", "live_images", "live_texts"):
            catalog.set_meta(key, getattr(new, key))


def _rows_of_tiles(catalog: CatalogCheck, meta: Meta, files: UntrustedFiles) -> Rows:
    """The row of the code of each tile that has one in the files, by seq; -1 where no code matches its checksum.

    A tile's row is its place among them, or where the columns say; whichever holds a code that matches is right.

    Shape: -> (n,).
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for part in catalog.scan():
        of_files = [entry for entry in part if is_in_files(entry[0], meta.generation)]
        pairs = [(values[0], values[-2]) if undamaged else (-1, -1) for values, undamaged in of_files]
        found.append(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    seqs, wanted = np.concatenate(found).T
    crc_of_row = _all_code_crcs(files)
    in_order = np.arange(len(seqs))
    rows: Rows = np.where(_matches(in_order, wanted, crc_of_row), in_order, -1)
    seq_of_row = files.columns.groups["seq"].reshape(-1)[: files.columns.n]
    by_seq = np.argsort(seq_of_row, kind="stable")
    if len(by_seq):
        told = by_seq[np.minimum(np.searchsorted(seq_of_row, seqs, sorter=by_seq), len(by_seq) - 1)]
        right = (seq_of_row[told] == seqs) & _matches(told, wanted, crc_of_row)
        rows = np.where(right, told, rows)
    return rows


def _all_code_crcs(files: UntrustedFiles) -> NDArray[np.int64]:
    step = 1 << 16
    parts = [code_crcs(files.codes[start : start + step]) for start in range(0, len(files.codes), step)]
    return np.concatenate([np.empty(0, np.uint32), *parts]).astype(np.int64)


def _matches(rows: Rows, wanted: Rows, crc_of_row: Rows) -> Mask:
    there = rows < len(crc_of_row)
    there[there] = crc_of_row[rows[there]] == wanted[there]
    return there


def _hopeless(folder: Path, why: str) -> GalleryCorruptError:
    return GalleryCorruptError(
        f"{display_path(folder)} cannot be repaired: {why}; nothing was changed, so restore it from a copy, "
        "or save what can be read with `duch gallery merge`"
    )
