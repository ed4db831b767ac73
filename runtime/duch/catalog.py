"""The SQLite half of a gallery: what is known of every tile, and how many codes exist. GALLERY.md specifies it.

Every row carries a CRC-32 over its own columns, because SQLite itself does not notice a flipped bit inside a value.

Nothing here knows of the codes file; `duch.gallery` keeps the two in step.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .display import display_path
from .errors import GalleryCorruptError, GalleryError, GalleryLockedError, GalleryMismatchError
from .tile import COLUMNS, Modality, StoredTile, Value, from_values, row_crc, to_values

FORMAT_VERSION = 1
FILE_NAME = "catalog.sqlite"

_SCHEMA = f"""
CREATE TABLE tiles (
    seq INTEGER PRIMARY KEY, row INTEGER NOT NULL, id TEXT NOT NULL, modality TEXT NOT NULL, uri TEXT, text TEXT,
    size INTEGER, mtime_ns INTEGER, west REAL, south REAL, east REAL, north REAL, time_us INTEGER,
    attributes TEXT, deleted INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX tiles_row ON tiles (row);
CREATE UNIQUE INDEX tiles_live_id ON tiles (id) WHERE deleted = 0;
CREATE INDEX tiles_deleted ON tiles (row) WHERE deleted = 1;
CREATE INDEX tiles_text ON tiles (row) WHERE modality = 'text';
CREATE TABLE batches (first_row INTEGER PRIMARY KEY, n_rows INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value, crc INTEGER NOT NULL);
INSERT INTO meta VALUES ('format_version', {FORMAT_VERSION}, 0);
"""
_ROWS_PER_QUERY = 500  # older SQLite takes at most 999 parameters


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The meta table: what the gallery holds and how much of it exists.

    Attributes:
        generation: names the codes file.
        committed: rows of the codes file that exist.
        next_seq: seq of the next tile.
        fingerprint: 64 hex digits of the bundle that made the codes.
        n_bits: length of a code.
        root: folder that uris are relative to, itself an id-escaped path relative to the gallery; None without images.
        bundle_hint: the bundle, likewise relative to the gallery.
    """

    generation: int
    committed: int
    next_seq: int
    fingerprint: str
    n_bits: int
    root: str | None
    bundle_hint: str | None

    def check_bundle(self, folder: Path, *, fingerprint: str, n_bits: int) -> None:
        """Refuse another bundle than the one that made the codes.

        Raises:
            GalleryMismatchError: the fingerprint or n_bits differs.
        """
        if (self.fingerprint, self.n_bits) != (fingerprint, n_bits):
            raise GalleryMismatchError(
                f"{display_path(folder)} holds {self.n_bits}-bit codes of bundle {self.fingerprint[:12]}, this is "
                f"bundle {fingerprint[:12]} with {n_bits} bits; use the gallery's own bundle, or index into a new one"
            )


class Catalog:
    """One connection to a catalog. Each method is one statement or one transaction."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self.file = file

    @classmethod
    def create(cls, file: Path, meta: Meta) -> None:
        """Write a new catalog and close it; the whole of it is on the disk afterwards."""
        with sqlite_errors(file):
            catalog = cls(_connect(file, "rwc"), file)
            try:
                with catalog.transaction():
                    for statement in _SCHEMA.split(";"):
                        catalog._connection.execute(statement)
                    for key in ("format_version", *Meta.__annotations__):
                        catalog.set_meta(key, FORMAT_VERSION if key == "format_version" else getattr(meta, key))
                catalog._connection.execute("PRAGMA journal_mode = WAL")
            finally:
                catalog._connection.close()

    @classmethod
    def open_to_write(cls, file: Path) -> Catalog:
        """Open for the one writer, who holds the gallery's lock."""
        with sqlite_errors(file):
            connection = _connect(file, "rw")
            connection.execute("PRAGMA synchronous = FULL")
            return cls(connection, file)

    @classmethod
    def open_to_read(cls, file: Path) -> Catalog:
        """Open read-only, on media that cannot be written as well.

        A reader of a WAL catalog shares memory with the writer through a file beside it. Where that file cannot be
        made, nobody can write either, so the catalog is opened as immutable; not if a write-ahead log remains, which
        an immutable reader would overlook.
        """
        with sqlite_errors(file):
            connection = _connect(file, "ro")
            try:
                connection.execute("SELECT count(*) FROM meta").fetchone()
                return cls(connection, file)
            except sqlite3.OperationalError as error:
                connection.close()
                if not _needs_writable_media(error):
                    raise
            log = file.with_name(file.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise GalleryError(
                    f"{display_path(log)} holds writes that are not in the catalog yet, and the folder is read-only; "
                    "open the gallery once where it can be written"
                )
            return cls(_connect(file, "ro&immutable=1"), file)

    def close(self) -> None:
        """Close the connection. The last one to close takes the write-ahead log with it."""
        self._connection.close()

    def empty_log(self) -> None:
        """Move what the write-ahead log holds into the catalog, if no reader is in the middle of a transaction.

        The last connection to close does so by itself, but that may be a reader, who cannot.
        """
        with sqlite_errors(self.file):
            self._connection.execute("PRAGMA busy_timeout = 1000")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block does, or nothing of it."""
        with sqlite_errors(self.file):
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def meta(self) -> Meta:
        """The meta table.

        Raises:
            GalleryError: written by a newer format version.
            GalleryCorruptError: a value is missing or differs from its CRC.
        """
        with sqlite_errors(self.file):
            found = {key: (value, crc) for key, value, crc in self._connection.execute("SELECT * FROM meta")}
        version = found.get("format_version", (None, 0))[0]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise GalleryError(
                f"{display_path(self.file)} has format version {version}; this duch reads up to {FORMAT_VERSION}, "
                "so update duch"
            )
        for key in ("format_version", *Meta.__annotations__):
            value, crc = found.get(key, (None, None))
            if row_crc((key, value)) != crc:
                raise self.damaged(f"{key!r} of table meta")
        return Meta(**{key: found[key][0] for key in Meta.__annotations__})

    def set_meta(self, key: str, value: Value) -> None:
        """Write one value of the meta table."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, row_crc((key, value))))

    def insert(self, tile: StoredTile) -> None:
        """Add a tile, whose id is not live."""
        values = to_values(tile)
        places = ", ".join("?" * (len(values) + 1))
        self._connection.execute(f"INSERT INTO tiles VALUES ({places})", (*values, row_crc(values)))

    def insert_batch(self, first_row: int, n_rows: int, crc: int) -> None:
        """Note the CRC-32 of the codes of rows first_row to first_row + n_rows - 1."""
        self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (first_row, n_rows, crc))

    def bury(self, tile_id: str) -> bool:
        """Turn the live tile of this id into a tombstone; False if there is none.

        Raises:
            GalleryCorruptError: its row differs from its CRC.
        """
        values = self._find(tile_id)
        if values is None:
            return False
        # From the stored values and not from the tile, so that what another program wrote keeps its exact form.
        crc = row_crc((*values[:-1], 1))
        self._connection.execute("UPDATE tiles SET deleted = 1, crc = ? WHERE seq = ?", (crc, values[0]))
        return True

    def find(self, tile_id: str) -> StoredTile | None:
        """The live tile of this id.

        Raises:
            GalleryCorruptError: its row differs from its CRC.
        """
        values = self._find(tile_id)
        return None if values is None else from_values(values)

    def tiles_of_rows(self, rows: Sequence[int]) -> dict[int, StoredTile]:
        """The tiles of these rows, each checked against its CRC.

        Raises:
            GalleryCorruptError: a row differs from its CRC.
        """
        tiles = {}
        for start in range(0, len(rows), _ROWS_PER_QUERY):
            part = rows[start : start + _ROWS_PER_QUERY]
            query = f"SELECT {COLUMNS}, crc FROM tiles WHERE row IN ({', '.join('?' * len(part))})"
            with sqlite_errors(self.file):
                for found in self._connection.execute(query, part):
                    tile = from_values(self._checked(found))
                    tiles[tile.row] = tile
        return tiles

    def live_ids(self, modality: Modality) -> Iterator[str]:
        """Ids of all live tiles of a modality, in seq order."""
        query = "SELECT id FROM tiles WHERE deleted = 0 AND modality = ? ORDER BY seq"
        with sqlite_errors(self.file):
            for (tile_id,) in self._connection.execute(query, (modality,)):
                yield tile_id

    def deleted_rows(self) -> list[int]:
        """Rows of the tombstones."""
        with sqlite_errors(self.file):
            return [row for (row,) in self._connection.execute("SELECT row FROM tiles WHERE deleted = 1")]

    def text_rows(self) -> list[int]:
        """Rows of the sentences, live or not."""
        with sqlite_errors(self.file):
            return [row for (row,) in self._connection.execute("SELECT row FROM tiles WHERE modality = 'text'")]

    def damaged(self, what: str) -> GalleryCorruptError:
        """The error for a row that differs from its CRC."""
        return GalleryCorruptError(
            f"{display_path(self.file)} is damaged: {what} differs from its checksum; "
            "restore the gallery from a copy, or index again into a new folder"
        )

    def _find(self, tile_id: str) -> Sequence[Any] | None:
        query = f"SELECT {COLUMNS}, crc FROM tiles WHERE id = ? AND deleted = 0"
        with sqlite_errors(self.file):
            found = self._connection.execute(query, (tile_id,)).fetchone()
        return None if found is None else self._checked(found)

    def _checked(self, found: Sequence[Any]) -> Sequence[Any]:
        """The values of `COLUMNS`, once the CRC behind them is right."""
        *values, crc = found
        if row_crc(values) != crc:
            raise self.damaged(f"row {values[1]} of table tiles")
        return values


def is_gallery(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a gallery: its catalog appears last, so a half-made one is none."""
    return (Path(folder) / FILE_NAME).is_file()


def catalog_of(folder: Path) -> Path:
    """The catalog of a gallery.

    Raises:
        GalleryError: the folder is no gallery.
    """
    if not is_gallery(folder):
        found = "holds no " + FILE_NAME if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise GalleryError(f"{display_path(folder)} {found}; wanted a gallery, as `duch index` makes it")
    return folder / FILE_NAME


@contextmanager
def sqlite_errors(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into duch's, one line each.

    Raises:
        GalleryCorruptError: the file is no database, or a broken one.
        GalleryLockedError: somebody else holds the database for too long.
        GalleryError: it cannot be opened, read or written.
    """
    name = display_path(file)
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise GalleryLockedError(f"{name} is locked by another program; wait for it to end") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise GalleryError(f"{name} cannot be written or read ({error})") from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise GalleryError(f"{name} cannot be opened ({error}); check its permissions") from error
        raise GalleryCorruptError(
            f"{name} is damaged or no catalog of a gallery ({error}); restore the gallery from a copy"
        ) from error


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(os.path.abspath(file)))}?mode={mode}"
    # check_same_thread: a reader serves many threads and guards the connection with its own lock.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
    # Damaged text must reach the CRC check instead of failing on the way there.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _needs_writable_media(error: sqlite3.OperationalError) -> bool:
    code = error.sqlite_errorcode & 0xFF
    return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
