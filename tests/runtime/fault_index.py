"""`duch index` on real images, killed over and over: what is lost, and what is coded again.

    python fault_index.py FOLDER --kills 500

Every run is the command itself, in a process of its own, ended by SIGKILL at a random moment. What it has coded and
what it has made safe is written to a pipe. After every kill the gallery must open, be whole and hold all that was safe,
with the right codes. When all images are in, some of them change, and it begins again; now and then in a new gallery.
At the end one more run must leave exactly one live tile for every image. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import duch.ingest
from duch.cli import main
from duch.encoder import Encoder
from duch.gallery import Gallery
from duch.verify import verify

BUNDLE = Path(__file__).parents[1] / "tiny_bundle"
BATCH = 4
Version = tuple[str, int]  # of an image: its id, how often it has changed


class Images:
    """Pictures of one colour each, which tells the id and the version: so it is known what an encoder is given."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.now: dict[str, int] = {}
        self.codes: dict[Version, bytes] = {}  # what the encoder says
        self._encoder = Encoder(BUNDLE, threads=1)
        for i in range(n):
            self.change(f"part{i % 3}/{i}.png", 0)

    def change(self, name: str, version: int) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = (int(file.stem), version % 256, version // 256)
        Image.new("RGB", (36, 40 + version % 2), colour).save(file)
        # Two versions within one tick of the clock have sizes that differ, or else times that do.
        os.utime(file, ns=(0, 10**9 * (1 + version)))
        self.now[name] = version
        self.codes[name, version] = self._encoder.encode_images([file]).tobytes()

    def of_pixels(self, pixels: np.ndarray) -> list[Version]:
        """Which images a batch holds, (n, s, s, 3)."""
        found = pixels[:, 0, 0].tolist()
        return [(f"part{i % 3}/{i}.png", low + 256 * high) for i, low, high in found]


def command(images: Images, gallery: Path, tell: int) -> None:
    """The command, telling what it codes and what is safe."""
    encode, append = Encoder.encode_pixels, duch.ingest._append

    def coding(self: Encoder, pixels: np.ndarray) -> np.ndarray:
        os.write(tell, (json.dumps(["coded", images.of_pixels(pixels)]) + "\n").encode())
        return encode(self, pixels)

    def appending(writer, codes, batch, report) -> None:  # type: ignore[no-untyped-def]
        append(writer, codes, batch, report)
        os.write(tell, (json.dumps(["safe", [(tile.id, images.now[tile.id]) for tile in batch]]) + "\n").encode())

    Encoder.encode_pixels = coding  # type: ignore[method-assign]
    duch.ingest._append = appending
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    main(["index", str(BUNDLE), str(images.folder), str(gallery), "--batch-size", str(BATCH), "--threads", "1"])


def run(
    images: Images, gallery: Path, *, kill_after: float | None = None, kill_after_lines: int = 0
) -> tuple[bool, list[list[object]]]:
    """One process: whether it was killed, so many lines and then seconds after its start, and what it told."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            command(images, gallery, tell)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        except BaseException:
            os._exit(99)
    os.close(tell)
    lines, kill_at = b"", None
    while True:
        if kill_after is not None and lines.count(b"\n") >= kill_after_lines:
            kill_at, kill_after = time.monotonic() + kill_after, None
        left = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        if not select.select([told], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            kill_at = None
        elif part := os.read(told, 65536):
            lines += part
        else:
            break
    os.close(told)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if status and not killed:
        raise AssertionError(f"duch index ended with status {status}")
    return killed, [json.loads(line) for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]


def present(images: Images, gallery: Path) -> dict[str, int]:
    """The images of a gallery, by id; each with the right code of a version."""
    if not (gallery / "catalog.sqlite").is_file():
        return {}
    with Gallery.open(gallery) as opened:
        hits = opened.search(np.zeros((1, 4), dtype=np.uint8), max(1, len(opened)))[0]
        rows = opened.columns.rows_of([hit.seq for hit in hits])
        codes = [code.tobytes() for code in opened.codes[rows]]
        seqs = opened.columns.take(rows)["seq"].tolist()
        tiles = opened._catalog.tiles_of_seqs(seqs)
    assert len(hits) == len(tiles) == len({hit.id for hit in hits}), "an id was found twice"
    found = {}
    for seq, code in zip(seqs, codes, strict=True):
        tile = tiles[seq]
        assert tile.mtime_ns is not None
        version = found[tile.id] = tile.mtime_ns // 10**9 - 1
        assert code == images.codes[tile.id, version], f"{tile.id} has a wrong code"
    problems = verify(gallery).problems
    assert not problems, str(problems[0])
    return found


def campaign(base: Path, *, kills: int, images: int, seed: int) -> dict[str, object]:
    """Kill it again and again."""
    chance, count = random.Random(seed), Counter[str]()
    pictures = Images(base / "images", images)
    gallery, safe = base / "gallery 0", {}
    started = time.monotonic()
    run(pictures, base / "first")
    whole = time.monotonic() - started
    coded_of: Counter[Version] = Counter()  # how often each version was coded into this gallery, and not lost
    while count["kills"] < kills:
        if chance.random() < 0.3:  # at any time; else among the batches
            killed, told = run(pictures, gallery, kill_after=chance.uniform(0, whole))
        else:
            wait = chance.uniform(0, whole / 10)
            killed, told = run(pictures, gallery, kill_after=wait, kill_after_lines=chance.randint(1, images // BATCH))
        count["runs"] += 1
        count["kills"] += killed
        coded = [[tuple(version) for version in versions] for kind, versions in told if kind == "coded"]
        for kind, versions in told:
            if kind == "safe":
                safe.update(versions)  # type: ignore[call-overload]
        found = present(pictures, gallery)
        count["killed before there was a gallery"] += killed and not (gallery / "catalog.sqlite").exists()
        late = {name: found[name] for name in found if found[name] != safe.get(name)}
        in_flight = dict(coded[-1]) if coded else {}
        assert late.items() <= in_flight.items(), f"found {late}; wanted at most the batch {in_flight}"
        for name, version in safe.items():
            assert found.get(name) == version or name in late, f"{name} was safe and is lost"
        safe = found
        lost = {version for batch in coded for version in batch if found.get(version[0]) != version[1]}
        assert not lost or lost == set(coded[-1]), f"{lost} was coded and is not there; wanted one batch at most"
        count["images coded"] += sum(map(len, coded))
        count["kills that cost a batch"] += bool(lost)
        count["images coded again"] += len(lost)
        count["kills after a commit, before it was told"] += bool(late)
        coded_of.update(version for batch in coded for version in batch if version not in lost)
        assert not coded_of or max(coded_of.values()) == 1, "an image was coded twice"
        if not killed:
            assert found == pictures.now
            for name in chance.sample(sorted(pictures.now), images // 2):
                pictures.change(name, pictures.now[name] + 1)
            if chance.random() < 0.3:
                count["new galleries"] += 1
                gallery, safe = base / f"gallery {count['new galleries']}", {}
                coded_of.clear()
    run(pictures, gallery)
    assert present(pictures, gallery) == pictures.now
    return dict(count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        print(json.dumps(campaign(given.folder, kills=given.kills, images=given.images, seed=given.seed)))
    except AssertionError as wrong:
        sys.exit(f"{type(wrong).__name__}: {wrong}")
