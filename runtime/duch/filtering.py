"""Which rows of a gallery pass the filters of a search: place and time by its columns file, the rest by its catalog.

Shapes: n rows, m of them that pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np

from . import region
from .allowed_rows import Mask, Rows
from .catalog import Catalog
from .columns_file import Columns
from .filters import Filters
from .tile import MODALITIES, Modality
from .where import And, InList, Value, Where, to_sqlite

Condition = tuple[str, list[Value]]  # in SQL, with its parameters

_IDS_AT_ONCE = 500
_SEQS_AT_ONCE = 100_000
# What it costs SQLite to look up a tile by its seq, when reading the next one of the whole table costs 1.
_COST_OF_LOOKUP = 4


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
    """Live rows that pass: a mask where columns alone decide, and where the catalog is asked the rows themselves.

    Shape: -> (n,) bool, or (m,) int64, rising.

    Args:
        filters: what must hold; its `max_distance` is the search's own affair.
        snapshot: of the gallery.
        modality: only these tiles; None for both.

    Raises:
        GalleryCorruptError: the catalog cannot be read.
    """
    columns, where = snapshot.columns, filters.where
    if where is None and filters.ids is None:
        return _by_columns(filters, snapshot, modality)
    if where is not None and filters.ids is None and filters.has_region and _reads_all(where, snapshot):
        mask = _by_columns(filters, snapshot, modality)
        if np.count_nonzero(mask) * _COST_OF_LOOKUP < columns.n:
            rows = np.flatnonzero(mask)
            return columns.rows_of(_seqs(_conditions_among(columns.take(rows)["seq"], where), snapshot))
    rows = columns.rows_of(_seqs(_conditions(filters), snapshot))
    if filters.has_region or modality is not None:
        table = columns.take(rows)
        passing = region.inside(table, bbox=filters.bbox, since_us=filters.since_us, until_us=filters.until_us)
        if modality is not None:
            passing &= table["modality"] == MODALITIES.index(modality)
        rows = rows[passing]
    return rows if snapshot.live is None else rows[snapshot.live[rows]]


def _by_columns(filters: Filters, snapshot: Snapshot, modality: Modality | None) -> Mask:
    columns = snapshot.columns
    mask = region.select(columns, bbox=filters.bbox, since_us=filters.since_us, until_us=filters.until_us)
    if modality is not None:
        mask &= columns.groups["modality"].reshape(-1)[: columns.n] == MODALITIES.index(modality)
    if snapshot.live is not None:
        mask &= snapshot.live
    return mask


def _reads_all(where: Where, snapshot: Snapshot) -> bool:
    """Whether no index helps, so that SQLite would read every tile."""
    with snapshot.lock:
        return any(step.startswith("SCAN") for step in snapshot.catalog.plan(*to_sqlite(where)))


def _conditions(filters: Filters) -> Iterator[Condition]:
    """What the catalog is to be asked, one question after another, for ids and expression."""
    if filters.ids is None:
        if filters.where is not None:
            yield to_sqlite(filters.where)
        return
    ids = sorted(set(filters.ids))  # in the order of the index, which is then read from left to right
    for start in range(0, len(ids), _IDS_AT_ONCE):
        among = InList("id", tuple(ids[start : start + _IDS_AT_ONCE]))
        yield to_sqlite(among if filters.where is None else And((among, filters.where)))


def _conditions_among(seqs: Rows, where: Where) -> Iterator[Condition]:
    """Likewise, for the expression and the tiles of some seqs alone."""
    condition, values = to_sqlite(where)
    for start in range(0, len(seqs), _SEQS_AT_ONCE):
        among = json.dumps(seqs[start : start + _SEQS_AT_ONCE].tolist())
        yield f"seq IN (SELECT value FROM json_each(?)) AND {condition}", [among, *values]


def _seqs(conditions: Iterator[Condition], snapshot: Snapshot) -> Rows:
    with snapshot.lock:
        return np.fromiter((seq for condition in conditions for seq in snapshot.catalog.seqs(*condition)), np.int64)
