"""When a scene that lands in a folder is taken for whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from duch.geo.incoming import Incoming

SETTLE = 10.0
NOW = 1_800_000_000.0  # seconds since 1970


class Clocks:
    """A steady clock and one that can be set."""

    def __init__(self) -> None:
        self.steady, self.clock = 500.0, NOW

    def run(self, seconds: float) -> None:
        self.steady += seconds
        self.clock += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def incoming(tmp_path: Path, clocks: Clocks) -> Incoming:
    return Incoming(tmp_path, settle=SETTLE, steady=lambda: clocks.steady, clock=lambda: clocks.clock)


def land(folder: Path, name: str | bytes, mtime: float, size: int = 10) -> Path:
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (mtime, mtime))
    return path


def whole(incoming: Incoming) -> list[str]:
    return [os.fsdecode(file.relative) for file in incoming.look().whole]


def test_what_is_being_written_waits_until_it_has_not_changed_for_the_time_to_settle(
    tmp_path: Path, incoming: Incoming, clocks: Clocks
) -> None:
    for size in range(1, 5):
        land(tmp_path, "a.tif", clocks.clock, size)
        look = incoming.look()
        assert (look.whole, look.waiting) == ([], 1)
        clocks.run(SETTLE - 1)
    assert whole(incoming) == []
    clocks.run(1)
    assert whole(incoming) == ["a.tif"]


def test_a_change_of_time_alone_is_a_change(tmp_path: Path, incoming: Incoming, clocks: Clocks) -> None:
    land(tmp_path, "a.tif", clocks.clock)
    assert whole(incoming) == []
    clocks.run(SETTLE)
    land(tmp_path, "a.tif", clocks.clock)
    assert whole(incoming) == []


def test_what_is_moved_into_place_is_taken_at_once(tmp_path: Path, incoming: Incoming) -> None:
    land(tmp_path, ".a.tif.Xy12Za", NOW - SETTLE)
    assert whole(incoming) == []
    (tmp_path / ".a.tif.Xy12Za").rename(tmp_path / "a.tif")
    assert whole(incoming) == ["a.tif"]


@pytest.mark.parametrize("ahead", [1, 3600, 1e9])
def test_a_file_from_the_future_settles_by_the_steady_clock(
    tmp_path: Path, incoming: Incoming, clocks: Clocks, ahead: float
) -> None:
    land(tmp_path, "a.tif", NOW + ahead)
    assert whole(incoming) == []
    clocks.run(SETTLE)
    assert whole(incoming) == ["a.tif"]


@pytest.mark.parametrize("by", [1e9, 60, -60, -1e9])
def test_a_clock_that_is_set_makes_no_file_old(tmp_path: Path, incoming: Incoming, clocks: Clocks, by: float) -> None:
    land(tmp_path, "old.tif", clocks.clock)
    incoming.look()
    clocks.run(1)
    land(tmp_path, "new.tif", clocks.clock)
    clocks.clock += by
    assert whole(incoming) == []
    clocks.run(SETTLE - 1)
    assert whole(incoming) == ["old.tif"]
    clocks.run(1)
    assert sorted(whole(incoming)) == ["new.tif", "old.tif"]


def test_what_is_done_is_taken_again_only_if_it_changes(tmp_path: Path, incoming: Incoming, clocks: Clocks) -> None:
    land(tmp_path, "a.tif", NOW - 100)
    (file,) = incoming.look().whole
    incoming.done(file)
    clocks.run(1e6)
    assert (whole(incoming), incoming.look().waiting) == ([], 0)
    land(tmp_path, "a.tif", NOW - 99)
    assert whole(incoming) == ["a.tif"]
    incoming.done(file)  # the former one: says nothing of this
    assert whole(incoming) == ["a.tif"]


def test_what_landed_first_is_taken_first(tmp_path: Path, incoming: Incoming) -> None:
    land(tmp_path, "b/z.tif", NOW - 300)
    land(tmp_path, "a.tif", NOW - 100)
    land(tmp_path, "c.jp2", NOW - 200)
    land(tmp_path, "a2.tif", NOW - 200)
    assert whole(incoming) == ["b/z.tif", "a2.tif", "c.jp2", "a.tif"]


@pytest.mark.parametrize(
    "name",
    [
        ".a.tif",
        ".a.tif.Xy12Za",
        "a.tif.part",
        "a.tif.tmp",
        "a.tif.partial",
        "a.tif.filepart",
        "a.tif.crdownload",
        "a.PART",
        ".~tmp~/a.tif",
        ".snapshot/daily/a.tif",
        "upload.part/a.tif",
        "a.txt",
        "a",
    ],
)
def test_what_is_hidden_or_named_as_unfinished_is_never_taken(tmp_path: Path, incoming: Incoming, name: str) -> None:
    land(tmp_path, name, NOW - 100)
    look = incoming.look()
    assert (look.whole, look.waiting, look.unread) == ([], 0, {})


@pytest.mark.parametrize("name", [b"a b.tif", b"a\nb.tif", b"\xfe\xff.tif", "ü/日本.TIFF".encode()])
def test_odd_names_are_taken(tmp_path: Path, incoming: Incoming, name: bytes) -> None:
    land(tmp_path, name, NOW - 100)
    assert [file.relative for file in incoming.look().whole] == [name]


def test_links_in_circles_pipes_and_links_to_nowhere_do_no_harm(tmp_path: Path, incoming: Incoming) -> None:
    land(tmp_path, "in/a.tif", NOW - 100)
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "nowhere.tif").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe.tif")
    look = incoming.look()
    assert ([file.relative for file in look.whole], look.waiting, look.unread) == ([b"in/a.tif"], 0, {})


def refuse(monkeypatch: pytest.MonkeyPatch, at: Path) -> None:
    """Let a folder be one of a file server that has gone away, for root as well."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(os.fsdecode(path)).is_relative_to(at):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("where", [b"", b"nas", b"nas/deep"])
def test_a_folder_that_cannot_be_read_for_a_while_is_told_and_nothing_forgotten(
    tmp_path: Path, incoming: Incoming, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, where: bytes
) -> None:
    land(tmp_path, "nas/deep/a.tif", NOW - 100)
    (file,) = incoming.look().whole
    incoming.done(file)
    with monkeypatch.context() as away:
        refuse(away, tmp_path / os.fsdecode(where))
        look = incoming.look()
        assert (look.whole, look.unread) == ([], {where: "cannot be read: Stale file handle"})
    assert incoming.look().whole == []  # it is done, as it was


def test_a_folder_that_is_taken_away_in_the_middle_of_a_look_is_not_told(
    tmp_path: Path, incoming: Incoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(tmp_path, "a.tif", NOW - 100)
    (tmp_path / "pass").mkdir()
    stat = os.stat

    def take_away(path: Any, *args: Any, **kwargs: Any) -> Any:
        if os.fsencode(path).endswith(b"pass"):
            Path(os.fsdecode(path)).rmdir()
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", take_away)
    look = incoming.look()
    assert ([file.relative for file in look.whole], look.unread) == ([b"a.tif"], {})
    assert not (tmp_path / "pass").exists()


def test_what_is_remembered_is_no_more_than_what_is_there(tmp_path: Path, incoming: Incoming) -> None:
    for i in range(50):
        path = land(tmp_path, f"{i}.tif", NOW - 100)
        for file in incoming.look().whole:
            incoming.done(file)
        path.unlink()
    incoming.look()
    assert len(incoming._seen) == 0
