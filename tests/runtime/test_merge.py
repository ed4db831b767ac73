"""Merging galleries: order, ids and uris, duplicates, and a result that is whole or not there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duch.errors import DuchError, GalleryCorruptError, GalleryError, GalleryMismatchError, InputError
from duch.gallery import Gallery, Tile
from duch.merge import merge
from duch.verify import verify

from .some_gallery import OTHER, code, flip, some_gallery, what_a_reader_sees, writer


def contents(folder: Path) -> list[tuple[bytes, Tile]]:
    """Codes and tiles in seq order, without what a gallery adds to them."""
    with Gallery.open(folder) as gallery:
        return [
            (code.tobytes(), Tile(**{name: getattr(tile, name) for name in Tile.__dataclass_fields__}))
            for codes, tiles in gallery.batches()
            for code, tile in zip(codes, tiles, strict=True)
        ]


def small(folder: Path, *ids: str, root: Path | None = None, first: int = 0, **more: Any) -> Path:
    with writer(folder, root=root, **more) as out:
        codes = np.concatenate([code(first + place) for place in range(len(ids))])
        out.append(codes, [Tile(id=name, modality="image", uri=name) for name in ids])
    return folder


def ids_and_uris(folder: Path) -> list[tuple[str, str | None]]:
    return [(tile.id, tile.uri) for _, tile in contents(folder)]


def test_live_tiles_of_all_galleries_in_argument_order_with_new_seqs(tmp_path: Path) -> None:
    sources = [some_gallery(tmp_path / name, 40, f"{name}/", seed) for seed, name in enumerate("cab")]
    steps: list[tuple[int, int]] = []
    report = merge(tmp_path / "out", sources, on_progress=lambda *step: steps.append(step))
    assert contents(tmp_path / "out") == [entry for source in sources for entry in contents(source)]
    assert list(what_a_reader_sees(tmp_path / "out").keys() - set(range(report.n_tiles))) == []
    assert (report.n_tiles, report.replaced) == (3 * 36, 0)
    assert steps[-1] == (108, 108)
    assert verify(tmp_path / "out").problems == []


def test_one_gallery_is_copied_without_its_tombstones(tmp_path: Path) -> None:
    merge(tmp_path / "out", [some_gallery(tmp_path / "a")])
    with Gallery.open(tmp_path / "out") as gallery:
        assert len(gallery) == len(gallery.codes) == 36


def test_roots_that_differ_become_the_folder_that_holds_both(tmp_path: Path) -> None:
    small(tmp_path / "a", "x.png", "50%41.png", root=tmp_path / "data" / "20%31 ü")
    small(tmp_path / "b", "x.png", root=tmp_path / "data" / "b" / "deep")
    with writer(tmp_path / "b") as out:
        out.append(code(3), [Tile(id="own", modality="image", uri="y.png")])
        out.append(code(4), [Tile(id="line", modality="text", text="x.png")])
        out.append(code(5), [Tile(id="s.tif#-8,0,32,32", modality="image", uri="s.tif")])
    report = merge(tmp_path / "out", [tmp_path / "a", tmp_path / "b"])
    assert report.root == tmp_path / "data"
    with Gallery.open(tmp_path / "out") as gallery:
        assert gallery.root == tmp_path / "data"
    assert ids_and_uris(tmp_path / "out") == [
        ("20%2531 ü/x.png", "20%2531 ü/x.png"),
        ("20%2531 ü/50%41.png", "20%2531 ü/50%41.png"),
        ("b/deep/x.png", "b/deep/x.png"),
        ("own", "b/deep/y.png"),
        ("line", None),
        ("b/deep/s.tif#-8,0,32,32", "b/deep/s.tif"),
    ]


def test_a_root_above_the_other_stays_and_a_source_without_root_keeps_its_uris(tmp_path: Path) -> None:
    small(tmp_path / "a", "x.png", root=tmp_path / "data")
    small(tmp_path / "b", "x.png", root=tmp_path / "data" / "b")
    small(tmp_path / "c", "c.png")
    merge(tmp_path / "out", [tmp_path / name for name in "abc"])
    assert ids_and_uris(tmp_path / "out") == [("x.png",) * 2, ("b/x.png",) * 2, ("c.png",) * 2]


def test_galleries_without_root_have_none_together(tmp_path: Path) -> None:
    small(tmp_path / "a", "x.png")
    assert merge(tmp_path / "out", [tmp_path / "a"]).root is None
    with Gallery.open(tmp_path / "out") as gallery:
        assert gallery.root is None


def test_the_first_bundle_that_is_there_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    small(tmp_path / "a", "x.png", bundle_hint=tmp_path / "gone")
    small(tmp_path / "b", "y.png", bundle_hint=tmp_path / "bundle")
    merge(tmp_path / "elsewhere" / "out", [tmp_path / "a", tmp_path / "b"])
    with Gallery.open(tmp_path / "elsewhere" / "out") as gallery:
        assert gallery.bundle_hint == tmp_path / "bundle"


def refused(kind: type[DuchError], out: Path, sources: list[Path], **more: Any) -> str:
    before = sorted(os.listdir(out.parent))
    with pytest.raises(kind) as caught:
        merge(out, sources, **more)
    assert caught.type is kind
    assert sorted(os.listdir(out.parent)) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equal_ids_are_refused_with_both_galleries_or_the_later_one_wins(tmp_path: Path) -> None:
    sources = [
        small(tmp_path / name, *ids, first=at) for name, ids, at in (("a", "xy", 0), ("b", "z", 2), ("c", "wy", 5))
    ]
    message = refused(InputError, tmp_path / "out", sources)
    assert f"tile 'y' is in {tmp_path / 'a'} and in {tmp_path / 'c'}" in message
    report = merge(tmp_path / "out", sources, on_duplicate="replace")
    assert (report.n_tiles, report.replaced) == (4, 1)
    assert [(tile.id, number[-1]) for number, tile in contents(tmp_path / "out")] == [
        ("x", 0),
        ("z", 2),
        ("w", 5),
        ("y", 6),
    ]
    with Gallery.open(tmp_path / "out") as gallery:
        assert len(gallery.codes) == 4


def test_other_bundles_are_refused(tmp_path: Path) -> None:
    small(tmp_path / "a", "x")
    Gallery.create(tmp_path / "b", fingerprint=OTHER, n_bits=64).close()
    assert "wanted galleries of one bundle" in refused(
        GalleryMismatchError, tmp_path / "out", [tmp_path / "a", tmp_path / "b"]
    )


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    small(tmp_path / "a", "x")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert "is a gallery already" in refused(GalleryError, tmp_path / "a", [tmp_path / "a"])
    assert "is a file" in refused(GalleryError, tmp_path / "file", [tmp_path / "a"])
    assert "is not empty" in refused(GalleryError, tmp_path / "full", [tmp_path / "a"])
    merge(tmp_path / "empty", [tmp_path / "a"])
    assert len(contents(tmp_path / "empty")) == 1


def test_a_damaged_source_makes_nothing(tmp_path: Path) -> None:
    flip(small(tmp_path / "a", "x", "y") / "codes-1.bin", 75)
    refused(GalleryCorruptError, tmp_path / "out", [tmp_path / "a"])


@pytest.mark.parametrize("call", [lambda out: merge(out, []), lambda out: merge(out, [out], on_duplicate="keep")])
def test_arguments_that_make_no_sense(tmp_path: Path, call: Any) -> None:
    with pytest.raises(InputError):
        call(tmp_path / "out")


# --- faults ---

SCRIPT = """
import resource, sys
from duch.errors import GalleryError
from duch.merge import merge
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print("begins", flush=True)
    merge(sys.argv[2], sys.argv[3:])
except GalleryError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [50, 60_000, 250_000])
def test_a_full_disk_is_one_line_and_makes_nothing(tmp_path: Path, limit: int) -> None:
    source = some_gallery(tmp_path / "a", 3000)
    command = [sys.executable, "-c", SCRIPT, str(limit), str(tmp_path / "out"), str(source)]
    _, message = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert message.startswith("GalleryError ")
    assert "nothing was made" in message
    assert "writing" not in message
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.slow
def test_a_killed_merge_leaves_the_whole_or_nothing(tmp_path: Path) -> None:
    source = some_gallery(tmp_path / "a", 3000)
    expected = len(contents(source))
    chance = random.Random(0)
    for turn in range(4):
        out = tmp_path / f"out{turn}"
        command = [sys.executable, "-c", SCRIPT, "0", str(out), str(source)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        timer = threading.Timer(chance.uniform(0, 0.2), child.send_signal, [signal.SIGKILL])
        timer.start()
        child.wait()
        timer.cancel()
        child.stdout.close()
        assert not out.exists() or len(contents(out)) == expected
