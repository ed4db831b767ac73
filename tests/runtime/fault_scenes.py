"""Writers at work on a disk that is watched: run by tests and by benchmarks/faults.py with faulty_disk.so preloaded.

    LD_PRELOAD=faulty_disk.so python fault_scenes.py SCENE FOLDER LOG SEED

The folder is empty. Marks in the log tell what the gallery may be from there on: a list of views as JSON, null for no
gallery. Before a change they are the old and the new one; once it is acknowledged, the new one alone. SCENE may also
be an operation of fault_operations.py, with the marks "begun" and "done".
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from duch.gallery import Gallery, GalleryWriter

if __package__:
    from .fault_operations import OPERATIONS, Operation, quietly
    from .faulty_disk import KILL, KILL_HALF, FaultyDisk
    from .faulty_gallery import View, put, view, writer
else:
    from fault_operations import OPERATIONS, Operation, quietly
    from faulty_disk import KILL, KILL_HALF, FaultyDisk
    from faulty_gallery import View, put, view, writer

GALLERY = Path("deep", "gallery")  # below the folder: the folders above it are made with it
Change = tuple[Callable[[GalleryWriter], object], View]  # what to do, and the view afterwards


class Scene:
    """A gallery that changes at random."""

    def __init__(self, folder: Path, log: Path, seed: int) -> None:
        self.disk = FaultyDisk(folder, log)
        self.folder, self.chance = folder / GALLERY, random.Random(seed)
        self.view: View = {}
        self.version = 0
        self.may_be(None, {})

    def may_be(self, *views: View | None) -> None:
        self.disk.mark(json.dumps(views))

    def next_change(self) -> Change:
        chance, old, kind = self.chance, self.view, self.chance.random()
        if kind < 0.15:
            return GalleryWriter.compact, old
        if kind < 0.35 and old:
            gone = chance.sample(sorted(old), chance.randint(1, len(old)))
            return lambda out: out.remove(gone), {name: old[name] for name in old if name not in gone}
        self.version += 1
        n = chance.choice([1, 3, 40, 200])
        names = {f"{chance.choice('it')}{chance.randrange(300)}": self.version for _ in range(n)}
        return lambda out: put(out, names), old | names

    def open(self) -> GalleryWriter:
        out = writer(self.folder)
        # A checkpoint every few commits, which else comes every 1,000 pages.
        out._catalog._connection.execute("PRAGMA wal_autocheckpoint = 12")  # type: ignore[union-attr]
        return out

    def alone(self) -> None:
        """A writer that opens, changes some and closes."""
        for _ in range(6):
            with self.open() as out:
                self.may_be(self.view)
                for _ in range(self.chance.randint(0, 4)):
                    change, new = self.next_change()
                    self.may_be(self.view, new)
                    change(out)
                    self.view = new
                    self.may_be(self.view)

    def beside_a_reader(self) -> None:
        """The same beside a reader, so that the write-ahead log is never removed."""
        self.open().close()
        self.may_be({})
        with reader(self.folder):
            self.alone()

    def killed_beside_a_reader(self) -> None:
        """Writers that are killed, one after another, beside a reader who keeps SQLite from recovering in between."""
        self.open().close()
        self.may_be({})
        ghosts: list[View] = []  # what was killed, and may still stand in the log
        with reader(self.folder):
            for _ in range(12):
                change, new = self.next_change()
                self.may_be(self.view, new, *ghosts)
                child = os.fork()
                if not child:
                    self.disk.arm(self.chance.choice([KILL, KILL_HALF]), self.chance.randint(1, 30))
                    with self.open() as out:
                        change(out)
                        self.may_be(new)
                    os._exit(0)
                _, status = os.waitpid(child, 0)
                if status == 0:
                    self.view, ghosts = new, []
                elif os.WTERMSIG(status) != signal.SIGKILL:
                    sys.exit(f"the writer ended with {status}")
                else:
                    found = view(self.folder)
                    if found not in (self.view, new):
                        sys.exit("a killed change was done in part")
                    if found == new:  # what a reader has seen stays
                        self.may_be(new)
                        ghosts = []
                    else:
                        ghosts.append(new)
                    self.view = found


@contextmanager
def reader(folder: Path) -> Iterator[None]:
    """Another process that has the gallery open."""
    stop, opened = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(stop[1])
        with Gallery.open(folder):
            os.write(opened[1], b"!")
            os.read(stop[0], 1)
        os._exit(0)
    os.close(stop[0])
    os.read(opened[0], 1)
    try:
        yield
    finally:
        for end in (stop[1], *opened):
            os.close(end)
        os.waitpid(child, 0)


SCENES = {
    "alone": Scene.alone,
    "beside a reader": Scene.beside_a_reader,
    "killed beside a reader": Scene.killed_beside_a_reader,
}


def record(disk: FaultyDisk, operation: Operation, folder: Path) -> None:
    """One operation of fault_operations.py; marked when it begins and when it was told as done."""
    operation.prepare(folder)
    disk.mark("begun")
    quietly(operation.run, folder)
    disk.mark("done")


if __name__ == "__main__":
    name, folder, log, seed = sys.argv[1:]
    if name in SCENES:
        SCENES[name](Scene(Path(folder), Path(log), int(seed)))
    else:
        record(FaultyDisk(Path(folder), Path(log)), OPERATIONS[name], Path(folder))
