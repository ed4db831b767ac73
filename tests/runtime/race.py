"""Writers, readers and verify at one gallery at the same time.

    python race.py FOLDER --seconds 20

Two writers take turns at the lock: they append, replace, remove, compact, close and open again. Beside them are readers
that come and go, one that stays from beginning to end, several threads in one reader, and verify. A reader must find a
state that was committed, never an older one than before, the same one for as long as it has the gallery open, and
every code and value must be its tile's. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from duch.errors import GalleryLockedError
from duch.gallery import Gallery, GalleryWriter
from duch.verify import verify

if __package__:
    from .faulty_gallery import View, put, view, view_of, writer
else:
    from faulty_gallery import View, put, view, view_of, writer


def digest(tiles: View) -> str:
    return hashlib.sha256(json.dumps(sorted(tiles.items())).encode()).hexdigest()[:24]


class Race:
    """A gallery, the states it may be in, and the time that is left."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.gallery, self.states = folder / "gallery", folder / "states"
        self.end, self.seed = time.monotonic() + seconds, seed

    def goes_on(self) -> bool:
        return time.monotonic() < self.end

    def may_be(self, tiles: View) -> None:
        with open(self.states, "a") as file:  # one short line: appended as a whole
            file.write(digest(tiles) + "\n")

    def write(self, number: int) -> Counter[str]:
        """Change the gallery without a pause, as long as no other writer has it."""
        chance, count, version = random.Random(f"{self.seed} {number}"), Counter[str](), number
        while self.goes_on():
            try:
                out = writer(self.gallery)
            except GalleryLockedError:
                count["writers that found it locked"] += 1
                time.sleep(0.005)
                continue
            with out:
                now = view(self.gallery)
                for _ in range(chance.randint(0, 8)):
                    version += 10
                    now = self._change(out, now, version, chance, count)
            time.sleep(0.001)
        return count

    def _change(self, out: GalleryWriter, now: View, version: int, chance: random.Random, count: Counter[str]) -> View:
        kind = chance.random()
        if kind < 0.2:
            count["compactions"] += out.compact() > 0
        elif kind < 0.4 and now:
            gone = chance.sample(sorted(now), chance.randint(1, min(80, len(now))))
            now = {name: now[name] for name in now if name not in gone}
            self.may_be(now)
            out.remove(gone)
            count["removals"] += 1
        else:
            new = {f"{chance.choice('it')}{chance.randrange(150)}": version for _ in range(chance.choice([1, 5, 60]))}
            now = now | new
            self.may_be(now)
            put(out, new)
            count["appends"] += 1
        return now

    def read(self, number: int) -> Counter[str]:
        """Open, look, wait, look again, close."""
        chance, count, last = random.Random(f"{self.seed} {number}"), Counter[str](), -1
        while self.goes_on():
            with Gallery.open(self.gallery) as gallery:
                first, n = view_of(gallery), len(gallery)
                time.sleep(chance.choice([0, 0, 0.01, 0.1]))
                assert (view_of(gallery), len(gallery)) == (first, n), "a reader's snapshot has changed"
            states = self.states.read_text().split()
            # A state may come back; the last one that it may be is not older than the one before.
            place = max((place for place, state in enumerate(states) if state == digest(first)), default=-1)
            assert place >= 0, "a reader found a state that nobody committed"
            assert place >= last, "a reader found an older state than before"
            # The same state may have stood at several places; the earliest after the last one is where we surely are.
            last = next(p for p, state in enumerate(states) if p >= last and state == digest(first))
            count["snapshots"] += 1
        return count

    def stay(self, number: int) -> Counter[str]:
        """One reader all the time, across compactions."""
        count = Counter[str]()
        with Gallery.open(self.gallery) as gallery:
            first = view_of(gallery)
            while self.goes_on():
                assert view_of(gallery) == first, "a reader's snapshot has changed"
                count["looks of the one that stays"] += 1
                time.sleep(0.02)
        return count

    def read_in_threads(self, number: int) -> Counter[str]:
        """Threads that share readers."""
        count = Counter[str]()
        with ThreadPoolExecutor(4) as pool:
            while self.goes_on():
                with Gallery.open(self.gallery) as gallery:
                    views = list(pool.map(lambda _, shared=gallery: view_of(shared), range(8)))  # type: ignore[misc]
                assert all(found == views[0] for found in views), "threads of one reader differ"
                count["looks of threads"] += len(views)
        return count

    def verify(self, number: int) -> Counter[str]:
        """Nothing is wrong, at any time."""
        count = Counter[str]()
        while self.goes_on():
            problems = verify(self.gallery).problems
            assert not problems, f"verify beside a writer: {problems[0]}"
            count["verified"] += 1
        return count


ROLES: list[Callable[[Race, int], Counter[str]]] = [
    Race.write,
    Race.write,
    Race.read,
    Race.read,
    Race.stay,
    Race.read_in_threads,
    Race.verify,
]


def run(folder: Path, *, seconds: float, seed: int) -> dict[str, int]:
    """All at once; what they did. The first that is wrong is an AssertionError."""
    race = Race(folder, seconds, seed)
    start = {f"i{i}": i % 7 for i in range(50)}
    with writer(race.gallery) as out:
        put(out, start)
    race.may_be(start)
    pipes = {}
    for number, role in enumerate(ROLES):
        told, tells = os.pipe()
        if not os.fork():
            try:
                answer = json.dumps(role(race, number))
            except BaseException:
                answer = f"{role.__name__}: {traceback.format_exc()}"
            os.write(tells, answer.encode()[:60_000])
            os._exit(0)
        os.close(tells)
        pipes[told] = role.__name__
    total: Counter[str] = Counter()
    for told, name in pipes.items():
        with os.fdopen(told) as stream:
            answer = stream.read()
        if not answer.startswith("{"):
            raise AssertionError(answer or f"{name} ended without a word")
        total.update(json.loads(answer))
    for _ in ROLES:
        os.wait()
    assert digest(view(race.gallery)) == race.states.read_text().split()[-1], "the last state is not the last commit"
    writer(race.gallery).close()
    problems = verify(race.gallery).problems
    assert not problems, str(problems[0])
    total["files left"] = len(list(race.gallery.glob("*.bin")))
    return dict(total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        print(json.dumps(run(given.folder, seconds=given.seconds, seed=given.seed)))
    except AssertionError as wrong:
        sys.exit(str(wrong))
