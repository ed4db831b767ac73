"""What checking and repairing need of a catalog: SQLite's own structure, and all rows as they are, damaged or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .catalog import Catalog, sqlite_errors
from .errors import GalleryCorruptError
from .tile import COLUMNS, row_crc

ROWS_AT_ONCE = 16_384  # rows of tiles in Python objects, about 1 kB each

# Whether every value of a row has the type that GALLERY.md gives it; 1 or 0.
_WELL_FORMED = """
    typeof(id) = 'text' AND id <> '' AND modality IN ('image', 'text')
    AND typeof(uri) IN ('text', 'null') AND typeof(text) IN ('text', 'null')
    AND typeof(size) IN ('integer', 'null') AND typeof(mtime_ns) IN ('integer', 'null')
    AND typeof(time_us) IN ('integer', 'null')
    AND typeof(west) || typeof(south) || typeof(east) || typeof(north) IN ('realrealrealreal', 'nullnullnullnull')
    AND CASE WHEN typeof(attributes) = 'null' THEN 1 WHEN typeof(attributes) <> 'text' THEN 0
        WHEN json_valid(attributes) THEN json_type(attributes) = 'object' ELSE 0 END
    AND typeof(code_crc) = 'integer' AND code_crc BETWEEN 0 AND 4294967295
    AND typeof(deleted) = 'integer' AND deleted >= 0
"""

StoredValues = tuple[Any, ...]  # the values of COLUMNS


class CatalogCheck(Catalog):
    """A catalog that is not trusted. The methods that write belong into a transaction."""

    def structure(self) -> list[str]:
        """What SQLite finds wrong with its own file: pages, order, indexes that disagree with their table."""
        with sqlite_errors(self.file):
            lines = [str(line) for (line,) in self._connection.execute("PRAGMA integrity_check")]
        return [] if lines == ["ok"] else [" ".join(line.split()) for line in lines]

    def duplicate_ids(self) -> list[str]:
        """Ids that more than one live tile has."""
        query = "SELECT id FROM tiles WHERE deleted = 0 GROUP BY id HAVING count(*) > 1"
        with sqlite_errors(self.file):
            return [str(tile_id) for (tile_id,) in self._connection.execute(query)]

    def count_rows(self, generation: int) -> int:
        """Tiles whose row is in the files of a generation."""
        query = "SELECT count(*) FROM tiles WHERE deleted = 0 OR deleted >= ?"
        with sqlite_errors(self.file):
            (n,) = self._connection.execute(query, (generation,)).fetchone()
            return int(n)

    def scan(self) -> Iterator[list[tuple[StoredValues, bool]]]:
        """All rows of table tiles in seq order, some thousands at a time, each with whether it is undamaged."""
        query = f"SELECT {COLUMNS}, crc, {_WELL_FORMED} FROM tiles NOT INDEXED ORDER BY seq"
        with sqlite_errors(self.file):
            cursor = self._connection.execute(query)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield [(row[:-2], bool(row[-1]) and row_crc(row[:-2]) == row[-2]) for row in rows]

    def rebuild(self, without: Sequence[int]) -> None:
        """Take out the tiles of these seqs and make all indexes anew.

        Raises:
            GalleryCorruptError: SQLite's file is damaged in other places than its indexes.
        """
        run = self._connection.execute
        with sqlite_errors(self.file):
            indexes = run("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL").fetchall()
            # An index that disagrees with its table would refuse the deletion.
            for name, _ in indexes:
                run('DROP INDEX "{}"'.format(name.replace('"', '""')))
            self._connection.executemany("DELETE FROM tiles WHERE seq = ?", ((seq,) for seq in without))
            for _, statement in indexes:
                run(statement)
            run("REINDEX meta")
        if found := self.structure():
            raise GalleryCorruptError(f"SQLite finds: {found[0]}")
