"""The SQLite half of a gallery: what is known of every tile, and how many codes exist. GALLERY.md specifies it.

Every row carries a CRC-32 over its own columns, because SQLite itself does not notice a flipped bit inside a value.

Nothing here knows of the codes file; `duch.gallery` keeps the two in step.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from .codes import MAX_N_BITS
from .display import display_path
from .errors import GalleryCorruptError, GalleryError, GalleryLockedError, GalleryMismatchError, one_line
from .ids import is_place, window_of
from .mapped_file import FORMAT_VERSION
from .tile import COLUMNS, StoredTile, Value, from_values, row_crc, to_values

FILE_NAME = "catalog.sqlite"

# The index on ids holds `deleted`, though it is 0 in all of it: SQLite 3.40 would read it from each tile's row.
_SCHEMA = f"""
CREATE TABLE tiles (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, modality TEXT NOT NULL, uri TEXT, text TEXT,
    size INTEGER, mtime_ns INTEGER, west REAL, south REAL, east REAL, north REAL, time_us INTEGER,
    attributes TEXT, code_crc INTEGER NOT NULL, deleted INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX tiles_live_id ON tiles (id, deleted) WHERE deleted = 0;
CREATE INDEX tiles_deleted_id ON tiles (id, deleted) WHERE deleted > 0;
CREATE TABLE batches (
    first_row INTEGER PRIMARY KEY, n_rows INTEGER NOT NULL, codes_crc INTEGER NOT NULL, columns_crc INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value, crc INTEGER NOT NULL);
INSERT INTO meta VALUES ('format_version', {FORMAT_VERSION}, 0);
"""
# What the values of table meta may be.
_SOUND: tuple[tuple[str, Any, Callable[[Any], bool]], ...] = (
    ("generation", int, lambda value: value > 0),
    *((key, int, lambda value: 0 <= value < 2**62) for key in ("committed", "next_seq", "live_images", "live_texts")),
    ("fingerprint", str, lambda value: re.fullmatch("[0-9a-f]{64}", value) is not None),
    ("n_bits", int, lambda value: 0 < value <= MAX_N_BITS and value % 8 == 0),
    *((key, str | None, lambda value: value is None or is_place(value)) for key in ("root", "bundle_hint")),
)
# What would make SQLite run what a stranger wrote: views, triggers, virtual tables, computed columns. Its own records
# of the others begin with these words.
_FOREIGN = """
SELECT name FROM sqlite_master
WHERE sql NOT LIKE 'CREATE TABLE %' AND sql NOT LIKE 'CREATE INDEX %' AND sql NOT LIKE 'CREATE UNIQUE INDEX %'
UNION ALL SELECT name FROM pragma_table_xinfo('tiles') WHERE hidden > 0
UNION ALL SELECT name FROM pragma_table_xinfo('batches') WHERE hidden > 0
UNION ALL SELECT name FROM pragma_table_xinfo('meta') WHERE hidden > 0
"""
_PATIENCE_S = 30  # for what another process does to the catalog
_KEYS_PER_QUERY = 500  # older SQLite takes at most 999 parameters


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The meta table: what the gallery holds and how much of it exists.

    Attributes:
        generation: names the codes file and the columns file.
        committed: rows of them that exist.
        next_seq: seq of the next tile.
        live_images: images that can be found.
        live_texts: sentences that can be found.
        fingerprint: 64 hex digits of the bundle that made the codes.
        n_bits: length of a code.
        root: folder that uris are relative to, itself an id-escaped path relative to the gallery; None without images.
        bundle_hint: the bundle, likewise relative to the gallery.
    """

    generation: int
    committed: int
    next_seq: int
    live_images: int
    live_texts: int
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
        # 32 MB hold the inner pages of an index on ten million ids: 10,000 of them take 50 ms, 130 with SQLite's own
        # 2 MB. Not before the connection is known to work: it reads the file.
        connection.execute("PRAGMA cache_size = -32000")
        foreign = connection.execute(_FOREIGN).fetchone()
        if foreign is not None:
            connection.close()
            raise GalleryCorruptError(
                f"{display_path(file)} holds {foreign[0]!r}, and no gallery has views, triggers or computed columns; "
                "do not trust it, and restore the gallery from a copy"
            )

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
    def open_to_write(cls, file: Path) -> Self:
        """Open for the one writer, who holds the gallery's lock."""
        if file.is_symlink():
            raise GalleryError(
                f"{display_path(file)} is a link; wanted the file itself, as nothing is written outside the gallery"
            )
        with sqlite_errors(file):
            connection = _connect(file, "rw")
            connection.execute("PRAGMA synchronous = FULL")
            catalog = cls(connection, file)
            (opened,) = connection.execute("PRAGMA user_version").fetchone()
            # Frames that a killed writer left go with the log; else they would look like damage behind later ones.
            with suppress(GalleryLockedError):  # a reader is quicker
                catalog.empty_log(patience=0)
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000}")
            # All of its last commit may be among them. Beside a reader nobody sees it, until the next recovery brings
            # it back: over rows or files that are others by then. A commit of our own takes its place first.
            connection.execute(f"PRAGMA user_version = {(opened + 1) % 2**31}")
            return catalog

    @classmethod
    def open_to_read(cls, file: Path) -> Self:
        """Open read-only, on media that cannot be written as well.

        A reader of a WAL catalog shares memory with the writer through a file beside it. Where that file cannot be
        made, nobody can write either, so the catalog is opened as immutable; not if a write-ahead log remains, which
        an immutable reader would overlook.
        """
        with sqlite_errors(file):
            connection = _connect(file, "ro")
            try:
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

    def empty_log(self, *, patience: int = 1) -> None:
        """Move what the write-ahead log holds into the catalog, if no reader is in a transaction for so many seconds.

        The last connection to close does so by itself, but that may be a reader, who cannot.
        """
        with sqlite_errors(self.file):
            self._connection.execute(f"PRAGMA busy_timeout = {patience * 1000}")
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
            GalleryError: written by another format version.
            GalleryCorruptError: a value is missing or differs from its CRC.
        """
        with sqlite_errors(self.file):
            # By name: a flipped bit in SQLite's own copy of the schema may have changed how many columns there are.
            rows = self._connection.execute("SELECT key, value, crc FROM meta")
            found = {key: (value, crc) for key, value, crc in rows}
        version, crc = found.get("format_version", (None, None))
        if isinstance(version, int) and version != FORMAT_VERSION and row_crc(("format_version", version)) == crc:
            advice = "update duch" if version > FORMAT_VERSION else "index into a new folder"
            raise GalleryError(
                f"{display_path(self.file)} has format version {version}; this duch reads {FORMAT_VERSION}, so {advice}"
            )
        for key in ("format_version", *Meta.__annotations__):
            value, crc = found.get(key, (None, None))
            if row_crc((key, value)) != crc:
                raise self.damaged(f"{key!r} of table meta")
        for key, kind, is_sound in _SOUND:
            value = found[key][0]
            if not (isinstance(value, kind) and is_sound(value)):  # not damage, but what another program wrote
                raise self.damaged(f"{key!r} of table meta", f"is {str(value)[:80]!r}")
        return Meta(**{key: found[key][0] for key in Meta.__annotations__})

    def set_meta(self, key: str, value: Value) -> None:
        """Write one value of the meta table."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, row_crc((key, value))))

    def insert(self, tiles: Iterable[StoredTile]) -> None:
        """Add tiles, no two live ones of the same id."""
        places = ", ".join("?" * (COLUMNS.count(",") + 2))
        rows = ((*values, row_crc(values)) for values in map(to_values, tiles))
        self._connection.executemany(f"INSERT INTO tiles VALUES ({places})", rows)

    def insert_batch(self, first_row: int, n_rows: int, *, codes_crc: int, columns_crc: int) -> None:
        """Note the CRC-32 of the codes and of the columns of rows first_row to first_row + n_rows - 1."""
        self._connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (first_row, n_rows, codes_crc, columns_crc))

    def batches(self) -> list[tuple[int, int, int, int]]:
        """All batches by first row: first_row, n_rows, codes_crc, columns_crc."""
        with sqlite_errors(self.file):
            query = "SELECT first_row, n_rows, codes_crc, columns_crc FROM batches ORDER BY first_row"
            return list(self._connection.execute(query))

    def drop_batches(self) -> None:
        """Forget all batches: a new generation has others."""
        self._connection.execute("DELETE FROM batches")

    def bury(self, ids: Sequence[str], generation: int) -> list[StoredTile]:
        """Turn the live tiles of these ids into tombstones of a generation; returns them as they were.

        Raises:
            GalleryCorruptError: one of their rows differs from its CRC.
        """
        buried = list(self._find(ids))
        # From the stored values and not from the tile, so that what another program wrote keeps its exact form.
        changes = ((generation, row_crc((*values[:-1], generation)), values[0]) for values in buried)
        self._connection.executemany("UPDATE tiles SET deleted = ?, crc = ? WHERE seq = ?", changes)
        return list(self._tiles(buried))

    def find(self, tile_id: str) -> StoredTile | None:
        """The live tile of this id.

        Raises:
            GalleryCorruptError: its row differs from its CRC.
        """
        return next(self._tiles(self._find([tile_id])), None)

    def find_all(self, ids: Sequence[str]) -> dict[str, StoredTile]:
        """The live tiles of these ids.

        Raises:
            GalleryCorruptError: one of their rows differs from its CRC.
        """
        return {tile.id: tile for tile in self._tiles(self._find(ids))}

    def tiles_of_seqs(self, seqs: Sequence[int]) -> dict[int, StoredTile]:
        """The tiles of these seqs, tombstones among them, each checked against its CRC.

        Raises:
            GalleryCorruptError: a row differs from its CRC.
        """
        tiles = self._tiles(self._select("seq IN ({})", seqs))
        return {tile.seq: tile for tile in tiles}

    def live_images(self) -> Iterator[tuple[str, str | None]]:
        """Id and uri of all live images, in seq order."""
        query = "SELECT id, uri FROM tiles WHERE deleted = 0 AND modality = 'image' ORDER BY seq"
        with sqlite_errors(self.file):
            yield from self._connection.execute(query)

    def chips_of(self, uri: str) -> Iterator[StoredTile]:
        """The live chips of the scene at `uri`, in the order of their ids.

        Raises:
            GalleryCorruptError: one of their rows differs from its CRC.
        """
        # Ids that begin with uri# lie from there to uri$, the next character: the index on ids finds them.
        tiles = self._tiles(self._checked("deleted = 0 AND id >= ? AND id < ? ORDER BY id", (f"{uri}#", f"{uri}$")))
        return (tile for tile in tiles if tile.uri == uri and tile.window is not None)

    def count_chips(self, uri: str) -> int:
        """How many live tiles have the id of a chip of the scene at `uri`."""
        # Of ids alone, which the index holds: rows are 1 kB each, and every scene is asked for at every start.
        query = "SELECT id FROM tiles WHERE deleted = 0 AND id >= ? AND id < ?"
        with sqlite_errors(self.file):
            ids = self._connection.execute(query, (f"{uri}#", f"{uri}$"))
            return sum(window_of(tile_id, uri) is not None for (tile_id,) in ids)

    def chip_of(self, uri: str) -> StoredTile | None:
        """One of the live chips of the scene at `uri`; None if it has none. What all chips share stands in each.

        Raises:
            GalleryCorruptError: its row differs from its CRC.
        """
        return next(self.chips_of(uri), None)

    def deleted_seqs(self, generation: int) -> list[int]:
        """Seqs of the tombstones whose rows are in the files of a generation."""
        query = "SELECT seq FROM tiles WHERE deleted > 0 AND deleted >= ?"  # the first half makes the index usable
        with sqlite_errors(self.file):
            return list(self._checked_seqs(self._connection.execute(query, (generation,))))

    def seqs(self, query: str, values: Sequence[Value]) -> Iterator[int]:
        """What a query for seqs finds."""
        with sqlite_errors(self.file):
            yield from self._checked_seqs(self._connection.execute(query, values))

    def plan(self, query: str, values: Sequence[Value]) -> list[str]:
        """How SQLite would answer a query: its steps, of which one that begins with SCAN reads a whole table."""
        with sqlite_errors(self.file):
            return [step for *_, step in self._connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    def forget_deleted(self, generation: int) -> int:
        """Take out the tombstones whose rows are only in files of generations before this one; how many."""
        return self._connection.execute("DELETE FROM tiles WHERE deleted > 0 AND deleted < ?", (generation,)).rowcount

    def index_names(self) -> list[str]:
        """Names of the indexes over table tiles."""
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'tiles' ORDER BY name"
        with sqlite_errors(self.file):
            return [name for (name,) in self._connection.execute(query)]

    def create_index(self, statement: str) -> None:
        """Make an index by a statement of `where.attribute_index`."""
        self._connection.execute(statement)

    def drop_index(self, name: str) -> None:
        """Take an index away."""
        self._connection.execute('DROP INDEX "{}"'.format(name.replace('"', '""')))

    def shrink(self) -> None:
        """Give the space of tombstones that were taken out back to the file system, if it is worth the writing."""
        with sqlite_errors(self.file):
            (free,), (pages,) = (
                self._connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count")
            )
            if free > pages // 4:
                self._connection.execute("VACUUM")

    def damaged(self, what: str, how: str = "differs from its checksum") -> GalleryCorruptError:
        """The error for a row that differs from its CRC, or cannot be."""
        return GalleryCorruptError(
            f"{display_path(self.file)} is damaged: {what} {how}; "
            "restore the gallery from a copy, or index again into a new folder"
        )

    def _tiles(self, rows: Iterable[tuple[Value, ...]]) -> Iterator[StoredTile]:
        for values in rows:
            try:
                yield from_values(values)
            except (ValueError, RecursionError) as error:
                raise self.damaged(f"tile {values[0]!r} of table tiles", f"has {one_line(error)}") from error

    def _checked_seqs(self, rows: Iterable[tuple[Any]]) -> Iterator[int]:
        for (seq,) in rows:
            if type(seq) is not int:  # a table of another declaration may hold anything
                raise self.damaged(f"seq {str(seq)[:80]!r} of table tiles", "is no integer")
            yield seq

    def _find(self, ids: Sequence[str]) -> Iterator[tuple[Value, ...]]:
        return self._select("deleted = 0 AND id IN ({})", ids)

    def _select(self, condition: str, keys: Sequence[int] | Sequence[str]) -> Iterator[tuple[Value, ...]]:
        """The values of `COLUMNS` of the tiles with these keys, each checked against the CRC behind them."""
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            yield from self._checked(condition.format(", ".join("?" * len(part))), part)

    def _checked(self, condition: str, values: Sequence[Value]) -> Iterator[tuple[Value, ...]]:
        with sqlite_errors(self.file):
            for *row, crc in self._connection.execute(f"SELECT {COLUMNS}, crc FROM tiles WHERE {condition}", values):
                if row_crc(row) != crc:
                    raise self.damaged(f"tile {row[0]} of table tiles")
                yield tuple(row)


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
    except UnicodeDecodeError as error:  # SQLite quotes the damaged text in its message
        raise GalleryCorruptError(f"{name} is damaged; restore the gallery from a copy") from error
    except sqlite3.Error as error:
        if "closed database" in str(error):
            raise GalleryError(f"{name} was closed; open the gallery again") from error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise GalleryLockedError(f"{name} is locked by another program; wait for it to end") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise GalleryError(f"{name} cannot be written or read ({one_line(error)})") from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            advice = "check its permissions and the room on the disk"
            raise GalleryError(f"{name} cannot be opened ({one_line(error)}); {advice}") from error
        raise GalleryCorruptError(
            f"{name} is damaged or no catalog of a gallery ({one_line(error)}); restore the gallery from a copy"
        ) from error


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(os.path.abspath(file)))}?mode={mode}"
    # check_same_thread: a reader serves many threads and guards the connection with its own lock.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S, check_same_thread=False)
    # Damaged text must reach the CRC check instead of failing on the way there.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    # No trusted_schema = OFF: SQLite 3.40 would then refuse the whole catalog for an index on json_extract.
    return connection


def _needs_writable_media(error: sqlite3.OperationalError) -> bool:
    code = error.sqlite_errorcode & 0xFF
    return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)
