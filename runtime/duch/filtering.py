"""Which rows of a gallery pass the filters of a search: place and time by its columns file, the rest by its catalog.

Shapes: n rows, m of them that pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock

import numpy as np

from . import region
from .allowed_rows import Mask, Rows
from .catalog import Catalog
from .columns_file import GROUP_ROWS, Columns, Table
from .filters import Filters
from .tile import MODALITIES, Modality
from .where import Value, Where, to_sqlite

Query = tuple[str, list[Value]]  # SQL with its parameters

_KEYS_AT_ONCE = 20_000  # ids or seqs in one query
_ROWS_AT_ONCE = 100_000
_EDGES = ("west", "south", "east", "north")
# What it costs SQLite to look up a tile by its seq, when reading the next one of the whole table costs 1.
_COST_OF_LOOKUP = 4
# What it costs a search to fetch a code by its row, when reading the next one costs 1.
_COST_OF_LISTING = 16


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a reader knows of the gallery that it opened.

    Attributes:
        columns: the columns file.
        live: rows that have not been removed, (n,) bool; None for all.
        catalog: of the same gallery, perhaps with tiles that came later.
        lock: to be held while the catalog is asked.
    """

    columns: Columns
    live: Mask | None
    catalog: Catalog
    lock: Lock


def select(filters: Filters, snapshot: Snapshot, modality: Modality | None) -> Mask | Rows:
    """Live rows that pass.

    Shape: -> (n,) bool, or, where the catalog names few, (m,) int64, rising.

    Args:
        filters: what must hold; its `max_distance` is the search's own affair.
        snapshot: of the gallery.
        modality: only these tiles; None for both.

    Raises:
        GalleryCorruptError: the catalog cannot be read.
    """
    columns, where = snapshot.columns, filters.where
    if filters.ids is not None:
        return _by_catalog(_about_ids(filters.ids, where), filters, snapshot, modality)
    if where is None:
        return _by_columns(filters, snapshot, modality)
    if filters.has_region and _reads_all(where, snapshot):
        mask = _by_columns(filters, snapshot, modality)
        if np.count_nonzero(mask) * _COST_OF_LOOKUP < columns.n:
            seqs = columns.groups["seq"][np.divmod(np.flatnonzero(mask), GROUP_ROWS)]
            # Of the area the mask has told already, and it takes longest.
            return _by_catalog(_about_seqs(seqs, where), replace(filters, area=None), snapshot, modality)
    return _by_catalog([_about_all(where)], filters, snapshot, modality)


def _by_columns(filters: Filters, snapshot: Snapshot, modality: Modality | None) -> Mask:
    columns = snapshot.columns
    mask = region.select(columns, bbox=filters.bbox, since_us=filters.since_us, until_us=filters.until_us)
    if modality is not None:
        mask &= columns.groups["modality"].reshape(-1)[: columns.n] == MODALITIES.index(modality)
    if snapshot.live is not None:
        mask &= snapshot.live
    if filters.area is not None:  # last, as it takes longest
        mask &= region.select(columns, bbox=filters.area.bbox)
        rows = np.flatnonzero(mask)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            place = np.divmod(part, GROUP_ROWS)
            mask[part] = filters.area.meets(*(columns.groups[edge][place] for edge in _EDGES))
    return mask


def _inside(filters: Filters, table: Table) -> Mask:
    """Rows of a table within the filters' place and time. Shape: (m,) -> (m,) bool."""
    mask = region.inside(table, bbox=filters.bbox, since_us=filters.since_us, until_us=filters.until_us)
    if filters.area is not None:
        mask &= region.inside(table, bbox=filters.area.bbox)
        rows = np.flatnonzero(mask)
        mask[rows] = filters.area.meets(*(table[edge][rows] for edge in _EDGES))
    return mask


def _by_catalog(
    queries: Iterable[Query], filters: Filters, snapshot: Snapshot, modality: Modality | None
) -> Mask | Rows:
    columns, parts = snapshot.columns, []
    with snapshot.lock, snapshot.catalog.transaction():  # a tile that is removed between two queries is in one of them
        seqs = (seq for query in queries for seq in snapshot.catalog.seqs(*query))
        # Part by part, as the answer may name every tile.
        while len(part := np.fromiter(islice(seqs, _ROWS_AT_ONCE), dtype=np.int64)):
            rows = columns.rows_of(part)  # the catalog may have later tiles, which no row is of
            if filters.has_region or modality is not None:
                table = columns.take(rows)
                passing = _inside(filters, table)
                if modality is not None:
                    passing &= table["modality"] == MODALITIES.index(modality)
                rows = rows[passing]
            parts.append(rows if snapshot.live is None else rows[snapshot.live[rows]])
    if sum(map(len, parts)) * _COST_OF_LISTING < columns.n:
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *parts]))
    mask = np.zeros(columns.n, dtype=np.bool_)
    for rows in parts:
        mask[rows] = True
    return mask


def _reads_all(where: Where, snapshot: Snapshot) -> bool:
    """Whether no index helps, so that SQLite would read every tile."""
    with snapshot.lock:
        return any(step.startswith("SCAN") for step in snapshot.catalog.plan(*_about_all(where)))


def _about_all(where: Where) -> Query:
    condition, values = to_sqlite(where)
    return f"SELECT seq FROM tiles WHERE {condition}", values


def _about_ids(ids: Iterable[str], where: Where | None) -> Iterator[Query]:
    condition, values = ("1", []) if where is None else to_sqlite(where)
    distinct = sorted(set(ids))  # in the order of the index, which is then read from left to right
    for start in range(0, len(distinct), _KEYS_AT_ONCE):
        wanted = json.dumps(distinct[start : start + _KEYS_AT_ONCE])
        for part in ("deleted = 0", "deleted > 0"):  # each has an index of its own on ids
            yield (
                "SELECT seq FROM json_each(?) AS wanted CROSS JOIN tiles "
                f"WHERE tiles.id = wanted.value AND {part} AND {condition}",
                [wanted, *values],
            )


def _about_seqs(seqs: Rows, where: Where) -> Iterator[Query]:
    condition, values = to_sqlite(where)
    for start in range(0, len(seqs), _KEYS_AT_ONCE):
        wanted = json.dumps(seqs[start : start + _KEYS_AT_ONCE].tolist())
        yield (
            f"SELECT seq FROM json_each(?) AS wanted CROSS JOIN tiles WHERE seq = wanted.value AND {condition}",
            [wanted, *values],
        )
