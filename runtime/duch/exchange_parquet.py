"""Exports as a Parquet file, with pyarrow; `duch.exchange` says what it holds.

Shapes: n tiles, m some of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .codes import PackedCodes
from .display import display_path
from .durable import replacing
from .errors import GalleryError, InputError, needs_extra, one_line
from .exchange import CODE, COLUMNS, INTEGERS, REALS, TEXTS, About, check_columns, from_row, to_row
from .tile import StoredTile, Tile

_KEY = b"duch"  # in the metadata of the schema
# A file of some kilobytes may unpack to any size. Refused are parts of a column that unpack to so much more than they
# are (text packs to a tenth, rarely to a hundredth), and texts that are too much for the rows read at a time.
_MOST_PACKED, _SMALL = 1000, 1 << 26
_MOST_TEXT = 1 << 30  # bytes

Batch = tuple[PackedCodes, list[StoredTile]]


def pyarrow() -> Any:
    """The package, with its module for Parquet.

    Raises:
        MissingPackageError: it is not installed.
    """
    with needs_extra("parquet", "a Parquet file"):
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    return pyarrow


def write_parquet(out: Path, about: About, batches: Iterable[Batch]) -> None:
    """Write an export; it takes the place of an older file once it is whole.

    Raises:
        MissingPackageError: pyarrow is not installed.
        GalleryError: it cannot be written.
    """
    pa = pyarrow()
    schema = _schema(pa, about.n_bits).with_metadata({_KEY: about.to_json()})
    try:
        with replacing(out) as file, pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for codes, tiles in batches:
                rows = [to_row(tile) for tile in tiles]
                arrays = [pa.array([row[name] for row in rows], schema.field(name).type) for name in COLUMNS]
                arrays.append(pa.array([code.tobytes() for code in codes], schema.field(CODE).type))
                writer.write_batch(pa.record_batch(arrays, schema=schema))
    except OSError as error:
        raise GalleryError(
            f"{display_path(out)} cannot be written: {error.strerror or one_line(error)}; nothing was made"
        ) from error


class ParquetExport:
    """An export to read.

    Attributes:
        about: what it says of its gallery.
        n_tiles: how many tiles it holds.
        folder: the folder that its places are relative to.
    """

    def __init__(self, file: Path) -> None:
        """Open one.

        Raises:
            InputError: no Parquet file, or no export.
            MissingPackageError: pyarrow is not installed.
        """
        self._pa, self._file, self._name, self.folder = pyarrow(), file, display_path(file), file.parent
        with self._open() as opened:
            schema = opened.schema_arrow
            if _KEY not in (schema.metadata or {}):
                raise InputError(f"{self._name} names no bundle; wanted what `duch gallery export` writes")
            self.about = About.from_json(schema.metadata[_KEY], file)
            self._refuse_bombs(opened.metadata)
            self.n_tiles = opened.metadata.num_rows
            check_columns(schema.names, (*COLUMNS, CODE), self._name)
            wanted = _schema(self._pa, self.about.n_bits)
            for field in schema:
                if field.type != wanted.field(field.name).type:
                    raise InputError(
                        f"{self._name} has the column {field.name} as {field.type}; "
                        f"wanted {wanted.field(field.name).type}"
                    )

    def batches(self, size: int) -> Iterator[tuple[PackedCodes, list[Tile]]]:
        """The tiles with their codes in the file's order, some at a time.

        Shape: -> codes (m, n_bits / 8) uint8 and m tiles, 0 < m <= size.

        Raises:
            InputError: a row that is no tile, or damage.
        """
        width, done = self.about.n_bits // 8, 0
        # As dictionaries, where the file has them: a long text that many rows share is in memory once.
        with self._open(read_dictionary=list(TEXTS)) as opened:
            parts = opened.iter_batches(batch_size=size)
            while (part := self._next(parts)) is not None:
                columns, codes = part
                n = len(codes)
                tiles = [
                    from_row({name: columns[name][place] for name in columns}, f"row {done + place} of {self._name}")
                    for place in range(n)
                ]
                if None in codes:
                    raise InputError(f"row {done + codes.index(None)} of {self._name} has no code")
                done += n
                yield np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(n, width), tiles

    def _open(self, **options: Any) -> Any:
        try:
            return self._pa.parquet.ParquetFile(self._file, **options)
        except MemoryError:
            raise
        except (OSError, ValueError, self._pa.ArrowException) as error:
            raise InputError(f"{self._name} cannot be read as Parquet: {one_line(error)[:200]}") from None

    def _refuse_bombs(self, metadata: Any) -> None:
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                packed, size = column.total_compressed_size, column.total_uncompressed_size
                if size > _SMALL and size > _MOST_PACKED * packed:
                    raise InputError(
                        f"{self._name} unpacks {packed:,} bytes of the column {column.path_in_schema} to {size:,}; "
                        "wanted what `duch gallery export` writes"
                    )

    def _decoded(self, part: Any) -> dict[str, list[Any]]:
        """The columns of some rows as Python values."""
        compute, size = self._pa.compute, 0
        for name in TEXTS:
            column = part.column(name)
            lengths = compute.binary_length(column.dictionary)
            size += compute.sum(lengths.take(column.indices)).as_py() or 0
        if size > _MOST_TEXT:
            raise InputError(
                f"{self._name} has {size:,} bytes of text in {len(part):,} rows; wanted at most {_MOST_TEXT:,}"
            )
        columns: dict[str, list[Any]] = part.to_pydict()
        return columns

    def _next(self, parts: Iterator[Any]) -> tuple[dict[str, list[Any]], list[Any]] | None:
        """The columns and codes of the next rows as Python values; None at the end."""
        try:
            part = next(parts, None)
            while part is not None and not len(part):
                part = next(parts, None)
            if part is None:
                return None
            columns = self._decoded(part)
        except MemoryError:
            raise
        except (OSError, ValueError, self._pa.ArrowException) as error:
            raise InputError(f"{self._name} is damaged: {one_line(error)[:200]}; export it again") from None
        return columns, columns.pop(CODE)


def _schema(pa: Any, n_bits: int) -> Any:
    types = {**dict.fromkeys(INTEGERS, pa.int64()), **dict.fromkeys(REALS, pa.float64())}
    return pa.schema(
        [
            *((name, types.get(name, pa.string())) for name in COLUMNS),
            (CODE, pa.binary(n_bits // 8)),
        ]
    )
