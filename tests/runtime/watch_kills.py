"""Scenes land at random while `duch watch` is killed at random. Longer: `python -m tests.runtime.watch_kills 200`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from duch.catalog import is_gallery
from duch.errors import GalleryLockedError
from duch.gallery import Gallery, GalleryWriter
from duch.verify import verify

from .read_logfmt import events_of
from .some_scenes import write_scene

TINY = Path(__file__).parents[1] / "tiny_bundle"
SIDE = 32  # of the tiny bundle's images
N_SCENES = 12
View = dict[str, bytes]  # code by id


def scene(path: Path, version: int) -> Path:
    """A scene whose size tells its version: 1 to 5 chips across, 2 to 6 down."""
    across, down = 1 + version % 5, 2 + version // 5 % 5
    values = np.random.default_rng(version).integers(1, 256, (3, SIDE * down, SIDE * across), dtype=np.uint8)
    return write_scene(path, values, colors=("red", "green", "blue"), compress="none", tiled=False)


class Station(threading.Thread):
    """Lets scenes land in every way there is: renamed, written slowly, replaced, taken away, put back."""

    def __init__(self, incoming: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._incoming, self._random = incoming, random.Random(seed)
        self.over = threading.Event()
        self.landed = 0

    def run(self) -> None:
        while not self.over.is_set():
            self._land()
            self.landed += 1
            time.sleep(self._random.uniform(0, 0.2))

    def _land(self) -> None:
        pick = self._random
        target = self._incoming / f"pass {pick.randrange(3)}" / f"{pick.randrange(N_SCENES)}.tif"
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming, prefix=".") as hidden:
            new = scene(Path(hidden, "scene.tif"), pick.randrange(1_000_000))
            way = pick.choice(["rename", "rename", "write", "write", "take away"])
            if way == "rename":
                new.rename(target)
            elif way == "write":
                raw = new.read_bytes()
                with open(target, "wb") as slow:
                    for start in range(0, len(raw), 1 + len(raw) // 4):
                        slow.write(raw[start : start + 1 + len(raw) // 4])
                        slow.flush()
                        time.sleep(pick.uniform(0, 0.03))
            else:
                target.unlink(missing_ok=True)


def watch(incoming: Path, gallery: Path, *more: str, log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "duch", "watch", TINY, incoming, gallery, "--threads", "1", *more],
        stdout=log,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )


def wait_for_a_line(logs: list[Path], running: list[subprocess.Popen[bytes]]) -> None:
    while not all(log.stat().st_size for log in logs):
        for one in running:
            assert one.poll() is None, one.communicate()[1].decode()
        time.sleep(0.05)


def codes(folder: Path) -> View:
    with Gallery.open(folder) as gallery:
        found = [
            (tile, code.tobytes())
            for codes, tiles in gallery.batches()
            for code, tile in zip(codes, tiles, strict=True)
        ]
    view = {tile.id: code for tile, code in found}
    assert len(view) == len(found), "an id was found twice"
    # All chips of a scene are of one version of it.
    versions = {(tile.uri, tile.size, tile.mtime_ns) for tile, _ in found}
    assert len(versions) == len({tile.uri for tile, _ in found}), "a scene has chips of two versions"
    # ... and all of that version: the windows fill a rectangle.
    for uri in {tile.uri for tile, _ in found}:
        windows = [tile.window for tile, _ in found if tile.uri == uri]
        across, down = len({window.x for window in windows if window}), len({window.y for window in windows if window})
        assert len(windows) == across * down, f"{uri} has {len(windows)} chips of {across} x {down}"
        size = next(tile.size for tile, _ in found if tile.uri == uri)
        assert size is not None
        assert 0 <= size - across * down * 3 * SIDE * SIDE < 2000, f"{uri} of {size} bytes has {across} x {down} chips"
    return view


def kills(folder: Path, n: int, seed: int = 0, *, watchers: int = 1) -> dict[str, int]:
    """Kill watches n times while scenes land; at the end the gallery is what a clean `duch index` makes of the folder.

    Returns what happened, for a person to see that something did.
    """
    pick = random.Random(seed)
    incoming, gallery = folder / "in", folder / "g"
    incoming.mkdir()
    station = Station(incoming, seed)
    station.start()
    told: dict[str, int] = {}
    options = ("--interval", "0.1", "--settle", "0.3")
    try:
        for round_ in range(n):
            logs = [folder / f"{round_}-{i}.log" for i in range(watchers)]
            running = []
            for log in logs:
                with open(log, "wb") as sink:
                    running.append(watch(incoming, gallery, *options, log=sink))
            # Some die while they start.
            if pick.random() < 0.8:
                wait_for_a_line(logs, running)
            if is_gallery(gallery):  # upkeep finds its moment while they run
                with suppress(GalleryLockedError), GalleryWriter(gallery) as writer:
                    writer.compact()
                    told["compacted"] = told.get("compacted", 0) + 1
            time.sleep(pick.uniform(0, 2))
            how = pick.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            for one in running:
                one.send_signal(how)
            for one, log in zip(running, logs, strict=True):
                _, errors = one.communicate(timeout=60)
                assert one.returncode in (-how, 0) if how == signal.SIGTERM else one.returncode == -how, errors
                assert b"Traceback" not in errors or how == signal.SIGKILL, errors.decode()
                for event in events_of(log.read_bytes()):
                    told[event["event"]] = told.get(event["event"], 0) + 1
            if is_gallery(gallery):
                codes(gallery)
    finally:
        station.over.set()
        station.join(60)
    for _ in range(2):  # what landed last may be taken by its time in the first one's look
        last = watch(incoming, gallery, "--once", "--settle", "0.5", log=subprocess.PIPE)
        out, errors = last.communicate(timeout=120)
        assert not errors, errors.decode()
    assert {event["event"] for event in events_of(out)} <= {"started", "unchanged", "stopped"}, out.decode()
    clean = subprocess.run(
        [sys.executable, "-m", "duch", "index", TINY, incoming, folder / "clean", "--chip", str(SIDE)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        check=False,
    )
    assert clean.returncode == 0, clean.stderr.decode()
    found, wanted = codes(gallery), codes(folder / "clean")
    here = {tile_id: code for tile_id, code in found.items() if (incoming / tile_id.split("#")[0]).exists()}
    assert here == wanted
    problems = verify(gallery).problems
    assert not problems, str(problems[0])
    return told | {"landed": station.landed, "chips": len(wanted)}


if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp())
    print(kills(scratch, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    shutil.rmtree(scratch)
