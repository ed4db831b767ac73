"""What fault_steps.py interrupts: for each operation what it starts from, and what may be there after a fault."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from duch.cli import main
from duch.gallery import Gallery
from duch.gallery_writer import GalleryWriter

if __package__:
    from .faulty_gallery import View, check, check_tidy, check_whole, put, view, writer
else:
    from faulty_gallery import View, check, check_tidy, check_whole, put, view, writer

BUNDLE = Path(__file__).parents[1] / "tiny_bundle"
OLD: View = {f"{kind}{i}": i % 4 for i in range(60) for kind in "it"}
NEW: View = {"i3": 77, "new": 5, **{f"t{i}": 9 for i in range(50, 90)}}
ONE: View = {"i1": 1000}
GONE = sorted(OLD)[::3]


def quietly(call: Callable[[Any], object], argument: object) -> None:
    """Run a command without its output; whether it has done its work is for the caller to see."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
        call(argument)


class Operation:
    """Something that is done in a folder of galleries."""

    def prepare(self, folder: Path) -> None:
        """Make what it starts from: a gallery with tombstones."""
        with writer(folder / "gallery") as out:
            put(out, OLD | dict.fromkeys(GONE, 70))
            put(out, {name: OLD[name] for name in GONE})

    def run(self, folder: Path) -> None:
        """Do it."""
        raise NotImplementedError

    def learn(self, folder: Path) -> None:
        """Look at what it does without a fault."""

    def look(self, folder: Path, end: str) -> str:
        """Whether the old or the new state is there after it was done, refused or killed; raises what is wrong."""
        raise NotImplementedError

    def tidy(self, folder: Path) -> None:
        """When no reader is there any more, nothing is left of the fault."""


class Change(Operation):
    """A gallery changes."""

    def __init__(self, change: Callable[[GalleryWriter], object], old: View | None, new: View) -> None:
        self._change, self._old, self._new = change, old, new

    def prepare(self, folder: Path) -> None:
        if self._old is not None:
            super().prepare(folder)

    def run(self, folder: Path) -> None:
        with writer(folder / "gallery") as out:
            self._change(out)

    def look(self, folder: Path, end: str) -> str:
        gallery, allowed = folder / "gallery", [self._new] if end == "done" else [self._old, self._new]
        allowed += [tiles | ONE for tiles in allowed if tiles is not None and end == "killed twice"]
        return "old" if check(gallery, allowed) == self._old else "new"

    def tidy(self, folder: Path) -> None:
        check_tidy(folder / "gallery")


class Command(Operation):
    """A command makes something new, whole or not at all, beside a gallery that stays as it is."""

    def __init__(self, made: str, *arguments: str) -> None:
        self._made, self._arguments = made, arguments
        self._expected: Any = None

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        with writer(folder / "second") as out:
            put(out, NEW)
        quietly(main, ["gallery", "export", str(folder / "second"), str(folder / "exported")])

    def run(self, folder: Path) -> None:
        main([argument.replace("HERE", str(folder)) for argument in self._arguments])

    def learn(self, folder: Path) -> None:
        self._expected = self._content(folder / self._made)

    def look(self, folder: Path, end: str) -> str:
        there = (folder / self._made).exists()
        if not there:
            assert end != "done", "it was told as done, and is not there"
            left = [path.name for path in folder.iterdir() if "writing" in path.name]
            assert end != "refused" or not left, f"it left {left}"
            quietly(self.run, folder)  # the next run goes on
        assert self._content(folder / self._made) == self._expected
        for source, expected in (("gallery", OLD), ("second", NEW)):
            assert view(folder / source) == expected
            check_whole(folder / source)
        return "new" if there else "old"

    def _content(self, made: Path) -> Any:
        if (made / "catalog.sqlite").exists():
            check_whole(made)
            return view(made)
        return [file.read_bytes() for file in (sorted(made.iterdir()) if made.is_dir() else [made])]


class ImportInto(Change):
    """An export is added to a gallery."""

    def __init__(self) -> None:
        super().__init__(lambda out: None, OLD, OLD | NEW)

    def prepare(self, folder: Path) -> None:
        Command("", "").prepare(folder)

    def run(self, folder: Path) -> None:
        places = [str(folder / name) for name in ("exported", "gallery")]
        main(["gallery", "import", "--on-duplicate", "replace", *places])


class Index(Operation):
    """`duch index` of images, in batches of two."""

    def prepare(self, folder: Path) -> None:
        (folder / "images").mkdir()
        for i in range(5):
            Image.new("RGB", (33, 35), (i * 40, 200 - i * 30, 90)).save(folder / "images" / f"{i}.png")

    def run(self, folder: Path) -> None:
        places = [str(folder / name) for name in ("images", "gallery")]
        main(["index", str(BUNDLE), *places, "--batch-size", "2", "--threads", "1"])

    def learn(self, folder: Path) -> None:
        self._codes = self._content(folder)

    def look(self, folder: Path, end: str) -> str:
        found = self._content(folder)
        assert found == dict(list(self._codes.items())[: len(found)]), "other tiles than those of the first batches"
        assert len(found) in ((5,) if end == "done" else (0, 2, 4, 5)), f"{len(found)} tiles"
        quietly(self.run, folder)
        assert self._content(folder) == self._codes
        return "new" if len(found) == 5 else "old"

    def tidy(self, folder: Path) -> None:
        check_tidy(folder / "gallery")

    def _content(self, folder: Path) -> dict[str, bytes]:
        if not (folder / "gallery" / "catalog.sqlite").exists():
            return {}
        with Gallery.open(folder / "gallery") as gallery:
            hits = gallery.search(np.zeros((1, gallery.n_bits // 8), dtype=np.uint8), 99)[0]
            hits.sort(key=lambda hit: hit.seq)
            rows = gallery.columns.rows_of([hit.seq for hit in hits])
            assert len({hit.id for hit in hits}) == len(hits), "an image has two live tiles"
            return {hit.id: gallery.codes[row].tobytes() for hit, row in zip(hits, rows, strict=True)}


class IndexScenes(Index):
    """`duch index --chip` of scenes of six chips each, one of which was another scene of nine before."""

    def prepare(self, folder: Path) -> None:
        if __package__:
            from .some_scenes import ramp, write_scene
        else:
            from some_scenes import ramp, write_scene

        (folder / "images").mkdir()
        before, *scenes = (ramp(3, rows, 96, "uint8", scale=scale) for rows, scale in ((96, 1), (64, 2), (64, 3)))
        write_scene(folder / "images" / "0.tif", before, colors=("red", "green", "blue"))
        quietly(self.run, folder)
        for i, values in enumerate(scenes):
            write_scene(folder / "images" / f"{i}.tif", values, colors=("red", "green", "blue"))
        self._before = self._content(folder)

    def run(self, folder: Path) -> None:
        places = [str(folder / name) for name in ("images", "gallery")]
        main(["index", str(BUNDLE), *places, "--batch-size", "2", "--threads", "1", "--chip", "32"])

    def look(self, folder: Path, end: str) -> str:
        found = self._content(folder)
        first = {name: code for name, code in self._codes.items() if name.startswith("0.tif")}
        assert found in (self._before, first, self._codes), f"a part of a scene: {sorted(found)}"
        assert end != "done" or found == self._codes, f"{len(found)} chips"
        quietly(self.run, folder)
        assert self._content(folder) == self._codes
        return "old" if found == self._before else "new"


OPERATIONS: dict[str, Operation] = {
    "create": Change(lambda out: None, None, {}),
    "append": Change(lambda out: put(out, NEW), OLD, OLD | NEW),
    "remove": Change(lambda out: out.remove(GONE), OLD, {name: OLD[name] for name in OLD if name not in GONE}),
    "append and remove": Change(
        lambda out: put(out, NEW, remove=GONE), OLD, {name: OLD[name] for name in OLD if name not in GONE} | NEW
    ),
    "compact": Change(lambda out: out.compact(), OLD, OLD),
    "index": Index(),
    "index scenes": IndexScenes(),
    "merge": Command(
        "merged", "gallery", "merge", "HERE/merged", "HERE/gallery", "HERE/second", "--on-duplicate", "replace"
    ),
    "export": Command("out", "gallery", "export", "HERE/gallery", "HERE/out"),
    "export Parquet": Command("out.parquet", "gallery", "export", "HERE/gallery", "HERE/out.parquet"),
    "import": Command("new", "gallery", "import", "HERE/exported", "HERE/new"),
    "import into": ImportInto(),
}


def copy(start: Path, here: Path) -> None:
    """A fresh copy; times of images are kept, so that they are not taken for changed."""
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(start, here)
