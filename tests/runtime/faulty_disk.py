"""Disks after a power cut: from what faulty_disk.c wrote down, the folders that a later start may find.

What was synced is there: the bytes of a file since its last fsync, the names of a folder since the folder's own. Of
what came later, anything may be there, in any mixture; a write may be torn at every 512 bytes. `states` chooses.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
KILL, KILL_HALF, FAIL_ONCE, FAIL, FAIL_HALF = range(1, 6)  # as in faulty_disk.c
# What is kept of the changes since the last sync; "torn" keeps any sectors, "garbage" fills what was not kept of a
# grown file with what the disk held before.
CHOICES = ("all", "none", "prefix", "subset", "torn", "garbage")

_RECORD = struct.Struct("<IIIIQQ")  # kind, sizes of path, other path and data, inode, offset
_WRITE, _TRUNCATE, _SYNC, _CREATE, _MAKE_FOLDER, _RENAME, _UNLINK, _MARK = range(1, 9)


def build(folder: Path) -> Path | None:
    """The library to preload; None where no compiler is."""
    compiler = shutil.which("cc")
    if compiler is None or os.uname().sysname != "Linux":
        return None
    library = folder / "faulty_disk.so"
    source = Path(__file__).with_name("faulty_disk.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


class FaultyDisk:
    """The preloaded library, from inside a process that runs with it."""

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        """Watch what happens below a folder; with a log, write it down."""
        self._library = ctypes.CDLL(None)
        self._library.faulty_disk_calls.restype = ctypes.c_long
        self._library.faulty_disk_watch(os.fsencode(folder), None if log is None else os.fsencode(log))

    def arm(self, how: int, at: int, error: int = 0) -> None:
        """Let the at-th call from now on go wrong; 0 for `how` counts only."""
        self._library.faulty_disk_arm(how, ctypes.c_long(at), error)

    def calls(self) -> int:
        """Calls since `arm` that changed something."""
        return int(self._library.faulty_disk_calls())

    def mark(self, text: str) -> None:
        """Write a mark into the log, for what the test knows at this moment."""
        self._library.faulty_disk_mark(text.encode())


@dataclass
class _File:
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, data), or (size, None) to truncate

    def content(self, changes: list[tuple[int, bytes | None]]) -> bytearray:
        data = bytearray(self.durable)
        for offset, written in changes:
            if written is None:
                del data[offset:]
                data.extend(bytes(offset - len(data)))
            else:
                data.extend(bytes(max(0, offset - len(data))))
                data[offset : offset + len(written)] = written
        return data


@dataclass
class _Folder:
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[dict[str, _File | _Folder | None]] = field(default_factory=list)  # new meaning of names; None is gone

    def names(self, changes: list[dict[str, _File | _Folder | None]]) -> dict[str, _File | _Folder]:
        names: dict[str, Any] = dict(self.durable)
        for change in changes:
            names.update(change)
        return {name: node for name, node in names.items() if node is not None}


class Disk:
    """What is on a disk and what is only on its way there, event by event."""

    def __init__(self, root: Path, log: Path) -> None:
        """A disk whose folder `root` was empty when the log began."""
        self.marks: list[str] = []
        self._root, self._top = os.fspath(root), _Folder()
        self._of_inode: dict[int, _File | _Folder] = {root.stat().st_ino: self._top}
        self._log = log.read_bytes()

    def events(self) -> Iterator[int]:
        """Go through the log; after every event the disk stands at that moment."""
        at = number = 0
        while at < len(self._log):
            kind, *sizes, inode, offset = _RECORD.unpack_from(self._log, at)
            at += _RECORD.size
            parts = []
            for size in sizes:
                parts.append(self._log[at : at + size])
                at += size
            self._apply(kind, inode, offset, os.fsdecode(parts[0]), os.fsdecode(parts[1]), parts[2])
            number += 1
            yield number

    def _apply(self, kind: int, inode: int, offset: int, path: str, other: str, data: bytes) -> None:
        if kind == _MARK:
            self.marks.append(data.decode())
        elif kind in (_CREATE, _MAKE_FOLDER):
            node = self._of_inode[inode] = _File() if kind == _CREATE else _Folder()
            folder, name = self._place(path)
            folder.pending.append({name: node})
        elif kind == _UNLINK:
            folder, name = self._place(path)
            folder.pending.append({name: None})
        elif kind == _RENAME:
            (source, old), (target, new) = self._place(path), self._place(other)
            moved = source.names(source.pending)[old]
            if source is target:
                source.pending.append({old: None, new: moved})
            else:
                target.pending.append({new: moved})
                source.pending.append({old: None})
        elif (node_there := self._of_inode.get(inode)) is None:
            pass  # a file that was removed while it was open
        elif isinstance(node_there, _Folder):
            node_there.durable, node_there.pending = node_there.names(node_there.pending), []
        elif kind == _SYNC:
            node_there.durable, node_there.pending = bytes(node_there.content(node_there.pending)), []
        else:
            node_there.pending.append((offset, data if kind == _WRITE else None))

    def _place(self, path: str) -> tuple[_Folder, str]:
        *above, name = path.removeprefix(self._root).strip("/").split("/")
        folder = self._top
        for part in above:
            inner = folder.names(folder.pending)[part]
            assert isinstance(inner, _Folder)
            folder = inner
        return folder, name

    def lay_out(self, target: Path, choice: str, chance: random.Random) -> None:
        """Write a folder as it may be after a power cut at this moment; `choice` is one of `CHOICES`."""
        self._lay_out(self._top, target, choice, chance)

    def _lay_out(self, folder: _Folder, target: Path, choice: str, chance: random.Random) -> None:
        target.mkdir(parents=True)
        # A folder's names come in order: file systems keep them in a journal.
        names = folder.names(_chosen(folder.pending, "all" if choice == "all" else _in_order(choice), chance))
        for name, node in names.items():
            if isinstance(node, _Folder):
                self._lay_out(node, target / name, choice, chance)
            elif not name.endswith("-shm"):
                (target / name).write_bytes(_content(node, choice, chance))
            elif chance.random() < 0.5:  # SQLite's shared memory is never synced
                (target / name).write_bytes(chance.randbytes(32768) if chance.random() < 0.5 else bytes(32768))


def _in_order(choice: str) -> str:
    return "none" if choice == "none" else "prefix"


def _chosen(changes: list[Any], choice: str, chance: random.Random) -> list[Any]:
    if choice == "all":
        return changes
    if choice == "none":
        return []
    if choice == "prefix":
        return changes[: chance.randint(0, len(changes))]
    return [change for change in changes if chance.random() < 0.5]


def _content(file: _File, choice: str, chance: random.Random) -> bytes:
    if choice not in ("torn", "garbage"):
        return bytes(file.content(_chosen(file.pending, choice, chance)))
    kept: list[tuple[int, bytes | None]] = []
    lost: list[tuple[int, int]] = []
    for offset, data in file.pending:
        if data is None:
            kept += [(offset, None)] * (chance.random() < 0.5)
            continue
        share, start = chance.random(), offset
        while start < offset + len(data):
            end = min(start - start % SECTOR + SECTOR, offset + len(data))
            if chance.random() < share:
                kept.append((start, data[start - offset : end - offset]))
            else:
                lost.append((start, end))
            start = end
    content = file.content(kept)
    if choice == "garbage":
        for lost_from, lost_to in lost:
            first, last = max(lost_from, len(file.durable)), min(lost_to, len(content))
            rewritten = any(data is not None and at < last and first < at + len(data) for at, data in kept)
            if first < last and not rewritten:
                content[first:last] = chance.randbytes(last - first)
    return bytes(content)
