"""One generation of a gallery: a codes file and a columns file, row by row, named by the same number.

Readers hold a shared lock on the codes file of the generation that they have mapped; nothing of a generation goes
before they have let go of it.

Shapes: n rows.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path

from . import codes_file, columns_file, mapped_file
from .catalog import Meta
from .codes import PackedCodes
from .columns_file import Columns, Table
from .durable import fsync_folder

_NAME = re.compile(r"(?:codes|columns|tables)-([1-9][0-9]*)\.bin(?:\.partial)?")


class Generation:
    """The open files of a generation."""

    def __init__(self, folder: Path, meta: Meta, *, writable: bool = False) -> None:
        """Open the files that the catalog names, and compare them with what it says of them.

        Raises:
            GalleryCorruptError: a file is missing, has another header or is shorter than the committed rows.
            GalleryError: a file cannot be opened, or is of another format version.
        """
        self._codes = self._columns = -1
        self._n_bits = meta.n_bits
        flags = os.O_RDWR if writable else os.O_RDONLY
        codes, columns = (folder / name for name in _file_names(meta.generation))
        shared = {"fingerprint": meta.fingerprint, "generation": meta.generation, "committed": meta.committed}
        try:
            self._codes = mapped_file.open_file(codes, flags)
            if not writable:
                with suppress(OSError):  # read-only network media know no locks, and no compaction either
                    fcntl.flock(self._codes, fcntl.LOCK_SH)
            self._columns = mapped_file.open_file(columns, flags)
            codes_file.check(self._codes, codes, n_bits=meta.n_bits, **shared)  # type: ignore[arg-type]
            columns_file.check(self._columns, columns, **shared)  # type: ignore[arg-type]
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(folder: Path, meta: Meta) -> None:
        """Write the files of a generation without rows; over what a crash left of one of the same number.

        Raises:
            OSError: they cannot be written.
        """
        codes, columns = (folder / name for name in _file_names(meta.generation))
        mapped_file.create(codes, codes_file.header(meta.n_bits, meta.fingerprint, meta.generation))
        mapped_file.create(columns, columns_file.header(meta.fingerprint, meta.generation))
        fsync_folder(folder)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and of the lock. Rows that were mapped stay so until they are dropped."""
        if self._codes >= 0:
            with suppress(OSError):  # a mapping holds a copy of the descriptor, and so the lock
                fcntl.flock(self._codes, fcntl.LOCK_UN)
        for descriptor in (self._codes, self._columns):
            if descriptor >= 0:
                os.close(descriptor)
        self._codes = self._columns = -1

    def codes(self, committed: int) -> PackedCodes:
        """The first rows of the codes file, mapped, (committed, n_bits / 8) uint8."""
        return codes_file.map_codes(self._codes, n_bits=self._n_bits, committed=committed)

    def columns(self, committed: int) -> Columns:
        """The first rows of the columns file, mapped."""
        return Columns(self._columns, committed)

    def write(self, first_row: int, codes: PackedCodes, table: Table) -> None:
        """Write rows from a row on; safe after `sync`.

        Shape: codes (n, n_bits / 8) uint8, contiguous; table (n,) ROW.

        Raises:
            OSError: the disk is full or fails.
        """
        codes_file.write_rows(self._codes, first_row, codes)
        columns_file.write_rows(self._columns, first_row, table)

    def sync(self) -> None:
        """Have all that was written on the disk.

        Raises:
            OSError: the disk fails.
        """
        os.fsync(self._codes)
        os.fsync(self._columns)


def crcs(codes: PackedCodes, table: Table) -> dict[str, int]:
    """CRC-32 of a batch: of its codes, and of its columns row by row, 49 bytes a row."""
    return {"codes_crc": zlib.crc32(codes.tobytes()), "columns_crc": zlib.crc32(table.tobytes())}


def leftovers(folder: Path, current: int) -> dict[int, list[Path]]:
    """Files of other generations than the current one, by generation."""
    found: dict[int, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        match = _NAME.fullmatch(entry.name)
        if (
            match
            and (int(match[1]) != current or entry.suffix == ".partial")
            and (not entry.is_dir() or entry.is_symlink())
        ):
            found.setdefault(int(match[1]), []).append(entry)
    return found


def sweep(folder: Path, current: int) -> bool:
    """Take away what a crash or a compaction left; returns whether no reader holds an older generation.

    Only the writer may call this, who holds the gallery's lock.

    Raises:
        OSError: a file cannot be taken away.
    """
    all_gone = True
    for generation, files in leftovers(folder, current).items():
        codes = folder / codes_file.file_name(generation)
        descriptor = _open_if_plain(codes) if generation < current and codes in files else -1
        try:
            if descriptor >= 0:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The codes file goes last: what it stands for is then still found by the next one who sweeps.
            for file in sorted(files, key=codes.__eq__):
                file.unlink()
        except BlockingIOError:
            all_gone = False
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return all_gone


def _open_if_plain(file: Path) -> int:
    """A descriptor to lock; -1 of what no reader can have locked, such as a pipe."""
    try:
        return mapped_file.open_plain(file, os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ELOOP):
            return -1
        raise


def _file_names(generation: int) -> tuple[str, str]:
    return codes_file.file_name(generation), columns_file.file_name(generation)
