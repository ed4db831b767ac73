"""Scenes that land in a folder, by `Watch` and by the command, with the tiny bundle."""

from __future__ import annotations

import errno
import io
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rasterio", exc_type=ImportError)

from duch.encoder import Encoder
from duch.errors import BundleError, ConfigError, GalleryError, GalleryLockedError, GalleryMismatchError, InputError
from duch.gallery import Gallery, GalleryWriter
from duch.geo import waiting, watch
from duch.geo.coding import CodedScene
from duch.geo.ingest import index_scenes
from duch.geo.settings import ChipSettings
from duch.geo.waiting import Stop
from duch.geo.watch import Watch, WatchReport
from duch.ids import path_to_id
from duch.logfmt import EventLog
from duch.tile import StoredTile
from duch.verify import verify

from .read_logfmt import events_of, fields_of
from .some_scenes import write_scene
from .watch_kills import kills

TINY = Path(__file__).parents[1] / "tiny_bundle"
SIDE = 32  # of the tiny bundle's images
SETTINGS = ChipSettings(size=SIDE)
Event = dict[str, str]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY, threads=1)


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def scene(path: Path, seed: int = 0, n_chips: int = 2, **more: Any) -> Path:
    """A scene of so many chips, renamed into place."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 256, (3, SIDE, SIDE * n_chips), dtype=np.uint8)
    beside = path.with_name(".partial")
    write_scene(beside, values, colors=("red", "green", "blue"), **more)
    beside.rename(path)
    return path


def once(encoder: Encoder, incoming: Path, gallery: Path, **more: Any) -> tuple[WatchReport, list[Event]]:
    """One pass; what it did, and its events but for the first and the last."""
    sink = io.BytesIO()
    options = {"settings": SETTINGS, "settle": 0, **more}
    report = Watch(encoder, incoming, gallery, log=EventLog(sink), once=True, **options).run()
    events = list(events_of(sink.getvalue()))
    assert (events[0]["event"], events[-1]["event"]) == ("started", "stopped")
    return report, events[1:-1]


def tiles(folder: Path) -> dict[str, tuple[bytes, StoredTile]]:
    with Gallery.open(folder) as gallery:
        return {
            tile.id: (code.tobytes(), tile)
            for codes, batch in gallery.batches()
            for code, tile in zip(codes, batch, strict=True)
        }


def codes(folder: Path) -> dict[str, bytes]:
    return {tile_id: code for tile_id, (code, _) in tiles(folder).items()}


def chips_of(name: str, n_chips: int = 2) -> list[str]:
    return [f"{name}#{SIDE * i},0,{SIDE},{SIDE}" for i in range(n_chips)]


class Running:
    """A watch in a thread, whose events are waited for."""

    def __init__(self, encoder: Encoder, incoming: Path, gallery: Path, **more: Any) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self.stop = Stop()
        options = {"settings": SETTINGS, "settle": 0, "interval": 0.01, **more}
        self._watch = Watch(encoder, incoming, gallery, log=EventLog(self), stop=self.stop, **options)
        self._thread = threading.Thread(target=self._run)

    def write(self, data: bytes) -> int:
        self._events.put(fields_of(data.decode().removesuffix("\n")))
        return len(data)

    def _run(self) -> None:
        self.report = self._watch.run()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self.event()["event"] == "started"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(30)

    def event(self) -> Event:
        return self._events.get(timeout=30)

    def quiet(self) -> bool:
        """Whether nothing happens for some passes."""
        try:
            self._events.get(timeout=0.05)
        except queue.Empty:
            return True
        return False


# --- what it does ---


def test_scenes_are_coded_as_index_codes_them(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    scene(incoming / "a.tif")
    (incoming / "pass 7").mkdir()
    scene(incoming / "pass 7" / "b.tif", 1, 3)
    report, events = once(encoder, incoming, tmp_path / "g")
    assert report == WatchReport(indexed=2)
    assert [(event["event"], event["level"], event["scene"], event["chips"]) for event in events] == [
        ("indexed", "info", "a.tif", "2"),
        ("indexed", "info", "pass 7/b.tif", "3"),
    ]
    index_scenes(encoder, incoming, tmp_path / "clean", SETTINGS)
    assert codes(tmp_path / "g") == codes(tmp_path / "clean")
    assert sorted(codes(tmp_path / "g")) == sorted([*chips_of("a.tif"), *chips_of("pass 7/b.tif", 3)])
    with Gallery.open(tmp_path / "g") as gallery:
        assert (gallery.root, gallery.bundle_hint) == (incoming, TINY)


def test_what_is_in_the_gallery_is_not_read_again(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        scene(incoming / f"{i}.tif", i)
    index_scenes(encoder, incoming, tmp_path / "g", SETTINGS)
    with monkeypatch.context() as patched:
        patched.setattr(watch, "code_scene", None)
        report, (event,) = once(encoder, incoming, tmp_path / "g")
    assert (report, event["event"], event["scenes"]) == (WatchReport(), "unchanged", "3")
    other = ChipSettings(size=SIDE, overlap=0.5)
    report, events = once(encoder, incoming, tmp_path / "g", settings=other)
    assert [event["replaced"] for event in events] == ["2", "2", "2"]
    assert len(tiles(tmp_path / "g")) == 9


def test_a_scene_that_is_replaced_has_the_chips_of_the_new_one_alone(
    tmp_path: Path, encoder: Encoder, incoming: Path
) -> None:
    scene(incoming / "a.tif", 0, 4)
    once(encoder, incoming, tmp_path / "g")
    scene(incoming / "a.tif", 1, 3)
    _, (event,) = once(encoder, incoming, tmp_path / "g")
    assert (event["event"], event["chips"], event["replaced"]) == ("indexed", "3", "4")
    assert sorted(codes(tmp_path / "g")) == chips_of("a.tif", 3)
    (incoming / "a.tif").unlink()
    once(encoder, incoming, tmp_path / "g")
    assert sorted(codes(tmp_path / "g")) == chips_of("a.tif", 3)  # it was archived


def test_scenes_are_taken_while_it_runs_and_each_is_told_once(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    with Running(encoder, incoming, tmp_path / "g") as running:
        assert running.quiet()
        for i in range(3):
            scene(incoming / f"{i}.tif", i)
            assert running.event()["scene"] == f"{i}.tif"
            with Gallery.open(tmp_path / "g") as gallery:  # it is there as soon as it is told, and nobody is shut out
                assert len(gallery) == 2 * (i + 1)
            GalleryWriter(tmp_path / "g").close()
        assert running.quiet()
    assert running.report == WatchReport(indexed=3)


@pytest.mark.parametrize("name", ["a\nlevel=error b.tif", os.fsdecode(b"\xfe\xff.tif"), 'say "a".tif', "日本.tif"])
def test_a_scene_of_any_name_is_one_line(tmp_path: Path, encoder: Encoder, incoming: Path, name: str) -> None:
    scene(incoming / "x.tif").rename(incoming / name)
    report, (event,) = once(encoder, incoming, tmp_path / "g")
    assert (report.indexed, event["scene"], event["level"]) == (1, path_to_id(name), "info")
    assert sorted(codes(tmp_path / "g")) == chips_of(path_to_id(name))


def test_ids_are_relative_to_the_root(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    scene(incoming / "a.tif")
    once(encoder, incoming, tmp_path / "g", root=tmp_path)
    once(encoder, incoming, tmp_path / "g")
    assert sorted(codes(tmp_path / "g")) == chips_of("in/a.tif")


# --- what it cannot use ---


def test_a_scene_that_cannot_be_used_is_told_once_and_holds_up_nothing(
    tmp_path: Path, encoder: Encoder, incoming: Path
) -> None:
    whole = scene(tmp_path / "whole.tif").read_bytes()
    (incoming / "cut.tif").write_bytes(whole[: len(whole) // 2])
    write_scene(incoming / "deep.tif", (3, SIDE, SIDE))
    write_scene(incoming / "empty.tif", np.zeros((3, SIDE, SIDE), "uint8"), colors=("red", "green", "blue"), nodata=0)
    scene(incoming / "good.tif")
    with Running(encoder, incoming, tmp_path / "g") as running:
        events = {event["scene"]: event for event in (running.event() for _ in range(4))}
        assert {name: (event["level"], event["event"]) for name, event in events.items()} == {
            "cut.tif": ("warning", "skipped"),
            "deep.tif": ("error", "skipped"),
            "empty.tif": ("info", "skipped"),
            "good.tif": ("info", "indexed"),
        }
        assert "--bands" in events["deep.tif"]["reason"]
        assert "--max-nodata" in events["empty.tif"]["reason"]
        assert running.quiet()
        (incoming / "cut.tif").write_bytes(whole)
        assert running.event()["event"] in ("indexed", "skipped")  # it may have been seen half-written
        scene(incoming / "deep.tif")
        while running.event()["scene"] != "deep.tif":
            pass
    assert sorted(codes(tmp_path / "g")) == sorted([*chips_of("cut.tif"), *chips_of("deep.tif"), *chips_of("good.tif")])


def test_a_scene_without_data_is_no_failure(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    write_scene(incoming / "empty.tif", np.zeros((3, SIDE, SIDE), "uint8"), colors=("red", "green", "blue"), nodata=0)
    report, (event,) = once(encoder, incoming, tmp_path / "g")
    assert (event["event"], event["scene"]) == ("skipped", "empty.tif")
    assert (report.empty, report.skipped) == (1, 0)  # what is skipped is the exit code


def test_a_mistake_of_ours_at_one_scene_holds_up_nothing(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif")
    scene(incoming / "b.tif")
    code = watch.code_scene

    def fail(encoder: Encoder, source: Any, *more: Any, **options: Any) -> CodedScene:
        if source.path.name == "a.tif":
            raise ZeroDivisionError("by\nzero")
        return code(encoder, source, *more, **options)

    monkeypatch.setattr(watch, "code_scene", fail)
    report, events = once(encoder, incoming, tmp_path / "g")
    assert [(event["scene"], event["level"]) for event in events] == [("a.tif", "error"), ("b.tif", "info")]
    assert events[0]["reason"] == "ZeroDivisionError: by zero"
    assert report == WatchReport(indexed=1, skipped=1)


def test_an_encoder_that_fails_ends_it(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif")

    def fail(*_: Any, **__: Any) -> CodedScene:
        raise BundleError("image.onnx fails")

    monkeypatch.setattr(watch, "code_scene", fail)
    sink = io.BytesIO()
    with pytest.raises(BundleError):
        Watch(encoder, incoming, tmp_path / "g", SETTINGS, EventLog(sink), settle=0, once=True).run()
    *_, last = events_of(sink.getvalue())
    assert (last["event"], last["level"], last["reason"]) == ("stopped", "error", "image.onnx fails")


def test_what_is_wrong_for_every_scene_is_told_before_anything_is_made(
    tmp_path: Path, encoder: Encoder, incoming: Path
) -> None:
    with pytest.raises(InputError, match="does not exist; wanted the folder that scenes land in"):
        once(encoder, tmp_path / "none", tmp_path / "g")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        once(encoder, tmp_path / "file", tmp_path / "g")
    with pytest.raises(InputError, match="is not inside the root"):
        once(encoder, incoming, tmp_path / "g", root=tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="'nonsense' is no coordinate system"):
        once(encoder, incoming, tmp_path / "g", settings=replace(SETTINGS, crs="nonsense"))
    assert not (tmp_path / "g").exists()
    with pytest.raises(GalleryError, match="wanted a gallery"):
        once(encoder, incoming, tmp_path)
    Gallery.create(tmp_path / "other", fingerprint="ab" * 32, n_bits=32).close()
    with pytest.raises(GalleryMismatchError):
        once(encoder, incoming, tmp_path / "other")


# --- what it waits for ---


def after_coding(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the first scene has been coded and nothing of it is stored."""
    code = watch.code_scene
    acts = iter([act])

    def then_act(*given: Any, **options: Any) -> CodedScene:
        coded = code(*given, **options)
        for due in acts:
            due()
        return coded

    monkeypatch.setattr(watch, "code_scene", then_act)


def test_a_scene_that_changes_while_it_is_coded_is_coded_again(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif")
    after_coding(monkeypatch, lambda: scene(incoming / "a.tif", 1, 3))
    with Running(encoder, incoming, tmp_path / "g") as running:
        event = running.event()
        assert (event["event"], event["scene"]) == ("waiting", "a.tif")
        assert (running.event()["chips"], running.quiet()) == ("3", True)
    assert sorted(codes(tmp_path / "g")) == chips_of("a.tif", 3)


def test_a_scene_that_is_taken_away_while_it_is_coded_is_let_go(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif")
    after_coding(monkeypatch, (incoming / "a.tif").unlink)
    assert once(encoder, incoming, tmp_path / "g") == (WatchReport(), [])
    assert tiles(tmp_path / "g") == {}


def test_a_folder_that_cannot_be_entered_any_more_ends_nothing(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close() -> None:
        (incoming / "pass").rename(tmp_path / "away")
        (incoming / "pass").symlink_to("a" * 300)  # for root no folder is closed, but no name can be so long

    (incoming / "pass").mkdir()
    scene(incoming / "pass" / "a.tif")
    after_coding(monkeypatch, close)
    report, (event,) = once(encoder, incoming, tmp_path / "g")
    assert (report.indexed, report.skipped) == (0, 0)
    assert (event["event"], event["scene"]) == ("waiting", "pass/a.tif")


def test_another_writer_is_waited_for_with_the_codes_in_hand(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_UNTOLD", 0)
    with Running(encoder, incoming, tmp_path / "g") as running:
        with GalleryWriter(tmp_path / "g"):
            scene(incoming / "a.tif")
            event = running.event()
            assert (event["event"], event["level"]) == ("waiting", "warning")
            assert "another writer" in event["reason"]
            monkeypatch.setattr(watch, "code_scene", None)
            assert running.quiet()
        assert running.event()["event"] == "indexed"


def test_a_pass_of_its_own_does_not_wait_for_ever(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_ONCE_LIMIT", 0.2)
    scene(incoming / "a.tif")
    once(encoder, incoming, tmp_path / "g")
    with GalleryWriter(tmp_path / "g"), pytest.raises(GalleryLockedError, match="another writer"):
        once(encoder, incoming, tmp_path / "g")


def test_a_full_disk_is_waited_for(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_UNTOLD", 0)
    append, full = GalleryWriter.append, iter([True, True])

    def fail(*given: Any, **options: Any) -> Any:
        for _ in full:
            raise GalleryError("no space; make room on the disk and run it again")
        return append(*given, **options)

    monkeypatch.setattr(GalleryWriter, "append", fail)
    scene(incoming / "a.tif")
    with Running(encoder, incoming, tmp_path / "g") as running:
        assert "no space" in running.event()["reason"]
        assert (running.event()["event"], running.quiet()) == ("indexed", True)


def test_a_gallery_whose_disk_is_away_is_waited_for_and_not_made_anew(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_UNTOLD", 0)
    with Running(encoder, incoming, tmp_path / "g") as running:
        (tmp_path / "g").rename(tmp_path / "away")
        (tmp_path / "g").mkdir()
        scene(incoming / "a.tif")
        assert running.event()["event"] == "waiting"
        assert list((tmp_path / "g").iterdir()) == []
        (tmp_path / "g").rmdir()
        (tmp_path / "away").rename(tmp_path / "g")
        assert running.event()["event"] == "indexed"


def test_a_folder_that_goes_away_is_told_once_and_waited_for(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    scene(incoming / "a.tif")
    with Running(encoder, incoming, tmp_path / "g") as running:
        assert running.event()["scene"] == "a.tif"
        incoming.rename(tmp_path / "away")
        event = running.event()
        assert (event["event"], event["folder"], event["level"]) == ("waiting", str(incoming), "warning")
        assert running.quiet()
        (tmp_path / "away").rename(incoming)
        assert (running.event()["event"], running.quiet()) == ("resumed", True)


def test_a_pass_of_its_own_says_that_a_folder_cannot_be_read(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif")
    (incoming / "shut").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if os.fsdecode(path).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="shut cannot be read: Permission denied"):
        once(encoder, incoming, tmp_path / "g")
    assert sorted(codes(tmp_path / "g")) == chips_of("a.tif")  # the others were taken


def test_a_pass_of_its_own_waits_once_for_what_may_still_be_written(
    tmp_path: Path, encoder: Encoder, incoming: Path
) -> None:
    scene(incoming / "a.tif")
    os.utime(incoming / "a.tif", (4e9, 4e9))  # from the future
    report, (event,) = once(encoder, incoming, tmp_path / "g", settle=0.05)
    assert (report.indexed, event["scene"]) == (1, "a.tif")


# --- how it ends ---


def test_it_ends_after_the_batch_in_flight_and_leaves_its_scene_for_the_next_time(
    tmp_path: Path, encoder: Encoder, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(incoming / "a.tif", 0, 9)
    stop, coded = Stop(), list[int]()
    encode = encoder.encode_pixels

    def encode_and_stop(pixels: Any) -> Any:
        if len(pixels):
            coded.append(len(pixels))
            stop.set()
        return encode(pixels)

    with monkeypatch.context() as patched:
        patched.setattr(encoder, "encode_pixels", encode_and_stop)
        assert once(encoder, incoming, tmp_path / "g", batch_size=2, stop=stop) == (WatchReport(), [])
    assert (coded, tiles(tmp_path / "g")) == ([2], {})
    report, _ = once(encoder, incoming, tmp_path / "g")
    assert (report.indexed, len(tiles(tmp_path / "g"))) == (1, 9)


def test_two_watches_of_one_folder_add_each_chip_once(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    told: list[Event] = []
    with Running(encoder, incoming, tmp_path / "g") as one, Running(encoder, incoming, tmp_path / "g") as two:
        for i in range(6):
            scene(incoming / f"{i}.tif", i)
        for running in (one, two):  # each tells of each scene: it has added it, or found it in the gallery
            n = 0
            while n < 6:
                event = running.event()
                assert event["event"] in ("indexed", "unchanged")
                told.append(event)
                n += int(event.get("scenes", 1))
    assert sorted(event["scene"] for event in told if "scene" in event) == [f"{i}.tif" for i in range(6)]
    assert sorted(codes(tmp_path / "g")) == sorted(chip for i in range(6) for chip in chips_of(f"{i}.tif"))
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery.codes) == len(gallery)  # none was replaced


# --- the command ---


def start(*arguments: object, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "duch", "watch", *map(str, arguments), "--threads", "1"],
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        **{"stdout": subprocess.PIPE, **more},
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command(tmp_path: Path, incoming: Path, number: int, code: int) -> None:
    scene(incoming / "a.tif")
    process = start(TINY, incoming, tmp_path / "g", "--settle", 0)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code
    events = list(events_of(b"".join([*lines, rest])))
    assert [event["event"] for event in events] == ["started", "indexed", "stopped"]
    assert events[-1]["indexed"] == "1"
    assert b"Traceback" not in errors
    assert not verify(tmp_path / "g").problems


def test_once_says_by_its_exit_code_whether_all_could_be_used(tmp_path: Path, incoming: Path) -> None:
    scene(incoming / "a.tif")
    (incoming / "b.tif").write_bytes(b"no raster")
    out, errors = (process := start(TINY, incoming, tmp_path / "g", "--once", "--settle", 0)).communicate(timeout=60)
    assert (process.returncode, errors) == (1, b"")
    assert [event["event"] for event in events_of(out)] == ["started", "indexed", "skipped", "stopped"]


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path, encoder: Encoder, incoming: Path) -> None:
    for i in range(9):
        scene(incoming / f"{i}.tif", i, 20)
    process = start(TINY, incoming, tmp_path / "g", "--settle", 0)
    assert process.stdout is not None
    events = [fields_of(process.stdout.readline().decode().removesuffix("\n")) for _ in range(4)]
    process.kill()
    process.communicate(timeout=60)
    assert [event["event"] for event in events] == ["started", "indexed", "indexed", "indexed"]
    report, (unchanged, *_) = once(encoder, incoming, tmp_path / "g")
    assert report.indexed == 9 - int(unchanged["scenes"])
    assert int(unchanged["scenes"]) >= 3
    index_scenes(encoder, incoming, tmp_path / "clean", SETTINGS)
    assert codes(tmp_path / "g") == codes(tmp_path / "clean")
    assert not verify(tmp_path / "g").problems


@pytest.mark.slow
@pytest.mark.parametrize("watchers", [1, 2])
def test_killed_at_random_every_scene_is_there_once(tmp_path: Path, watchers: int) -> None:
    told = kills(tmp_path, 10, seed=watchers, watchers=watchers)
    assert told["indexed"] > 0
