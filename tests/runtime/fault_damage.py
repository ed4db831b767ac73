"""Damaged files of a gallery: flipped bits, cut ends, lost and foreign sectors, in every file of it.

    python fault_damage.py FOLDER --each 200

Each damage is looked at by a process of its own, which opens the gallery, searches for every tile, verifies it, and
lets a writer at it. Nothing but an error of duch may come out of any of these, and a result that is not right must be
found by verify. Prints one JSON object: by kind of damage and file, who was first to find it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from duch import columns_file
from duch.errors import DuchError
from duch.gallery import Gallery
from duch.mapped_file import HEADER_SIZE
from duch.verify import verify

if __package__:
    from .faulty_gallery import View, put, view, view_of, writer
else:
    from faulty_gallery import View, put, view, view_of, writer

SECTOR = 512


def place(data: bytearray, chance: random.Random) -> int:
    """A byte that may matter: of the columns, mostly one that belongs to one of the first 100 rows."""
    if data.startswith(columns_file.MAGIC) and chance.random() < 0.8:
        column = chance.choice(columns_file.COLUMNS)
        start = HEADER_SIZE + (columns_file.GROUP.fields or {})[column][1]
        return int(start) + chance.randrange(100 * columns_file.ROW[column].itemsize)
    return chance.randrange(len(data))


def flip(data: bytearray, chance: random.Random) -> bytearray:
    data[place(data, chance)] ^= 1 << chance.randrange(8)
    return data


def cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def zero(data: bytearray, chance: random.Random) -> bytearray:
    start = place(data, chance) // SECTOR * SECTOR
    data[start : start + SECTOR] = bytes(len(data[start : start + SECTOR]))
    return data


def exchange(data: bytearray, chance: random.Random) -> bytearray:
    """One sector lies where another one belongs."""
    start, other = (place(data, chance) // SECTOR * SECTOR for _ in range(2))
    data[start : start + SECTOR] = data[other : other + SECTOR].ljust(len(data[start : start + SECTOR]), b"\0")
    return data


DAMAGES: dict[str, Callable[[bytearray, random.Random], bytearray]] = {
    "flipped bit": flip,
    "cut": cut,
    "zeroed sector": zero,
    "wrong sector": exchange,
}


def closed(folder: Path) -> None:
    with writer(folder) as out:
        put(out, {f"{kind}{i}": i % 5 for i in range(100) for kind in "it"})
        put(out, {f"i{i}": 9 for i in range(0, 100, 7)})
        out.remove([f"t{i}" for i in range(0, 100, 9)])


def compacted(folder: Path) -> None:
    closed(folder)
    with writer(folder) as out:
        out.compact()
        put(out, {f"new{i}": 3 for i in range(20)})


def crashed(folder: Path) -> None:
    """Most of it stands in the write-ahead log alone."""
    alive = folder.with_name("alive")
    with writer(alive) as out:
        for start in range(0, 60, 20):
            put(out, {f"{kind}{i}": i % 5 for i in range(start, start + 20) for kind in "it"})
        out.remove(["i3", "t9"])
        shutil.copytree(alive, folder)


GALLERIES = {"closed": closed, "compacted": compacted, "crashed": crashed}


def found_by(folder: Path, expected: View) -> str:
    """Who finds the damage first; "missed" if nobody does and a result is not right."""
    first = ""
    try:
        with Gallery.open(folder) as gallery:
            first = "search"
            try:
                first = "nobody" if view_of(gallery) == expected else "wrong result"
            except AssertionError as wrong:
                first = f"wrong result: {wrong}"
    except DuchError:
        first = first or "open"
    try:
        problems = [str(problem) for problem in verify(folder).problems]
    except DuchError as error:
        problems = [str(error)]
    try:
        with writer(folder, create=False) as out:
            put(out, {"i5": 50, "later": 1})
            out.remove(["i6"])
            out.compact()
    except DuchError:
        pass
    if first in ("open", "search"):
        return first if problems else f"{first}, and not verify"
    if first.startswith("wrong result"):
        return "wrong result, verify" if problems else "missed"
    return "verify" if problems else "nobody, and all is right"


def in_child(call: Callable[[], str]) -> str:
    """What it says in a process of its own; or how that ended."""
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = call()
        except BaseException:
            answer = f"broken: {traceback.format_exc()}"
        os.write(tells, answer.encode()[:60_000])
        os._exit(0)
    os.close(tells)
    with os.fdopen(told) as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    return f"broken: signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else answer


def campaign(base: Path, *, each: int, seed: int) -> dict[str, dict[str, int]]:
    """`each` damages of every kind to every file of every gallery."""
    chance, counts = random.Random(seed), dict[str, Counter[str]]()
    for name, make in GALLERIES.items():
        make(base / name)
        files = sorted(path.name for path in (base / name).iterdir())
        shutil.copytree(base / name, base / "look")
        expected = view(base / "look")
        shutil.rmtree(base / "look")
        for file in files:
            whole = (base / name / file).read_bytes()
            for kind, damage in DAMAGES.items():
                count = counts.setdefault(f"{name}: {kind}, {file}", Counter())
                for _ in range(each if whole else 0):
                    here = base / "here"
                    shutil.copytree(base / name, here)
                    (here / file).write_bytes(damage(bytearray(whole), chance))
                    verdict = in_child(lambda here=here, expected=expected: found_by(here, expected))  # type: ignore[misc]
                    # The end of a log without its last frames looks like one that they were not yet written to.
                    if verdict == "missed" and kind != "flipped bit" and file.endswith("-wal"):
                        verdict = "the end of the log is lost"
                    if verdict.startswith(("broken", "missed")):
                        raise AssertionError(f"{name}, {kind} of {file}: {verdict}; see {base / 'here'}")
                    count[verdict] += 1
                    shutil.rmtree(here)
    return {place: dict(count) for place, count in counts.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        print(json.dumps(campaign(given.folder, each=given.each, seed=given.seed)))
    except AssertionError as wrong:
        sys.exit(str(wrong))
