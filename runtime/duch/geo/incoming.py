"""Scenes that have landed in a folder, as soon as they are whole.

The folder is looked at again and again. The system's notifications (inotify) would not tell of files that another
machine writes to a network file system, which is where many stations receive.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from duch.ingest_place import is_gone
from duch.sources import SCENE_SUFFIXES, ImageFile, find_images

# What programs call a file, or a folder, that they are still writing: curl and wget, Firefox, WinSCP, Chromium. rsync,
# and others that rename at the end, write to a hidden file.
_UNFINISHED = (b".part", b".tmp", b".partial", b".filepart", b".crdownload")
_JUMP = 1.0  # seconds by which the clock may run apart from the steady one between two looks


@dataclass(frozen=True)
class Look:
    """What one look at the folder found.

    Attributes:
        whole: scenes to take, the first that landed first.
        waiting: how many may still be written.
        unread: folders that cannot be read, by their path below the folder, with the reason.
    """

    whole: list[ImageFile]
    waiting: int
    unread: dict[bytes, str]


@dataclass
class _Seen:
    """A file as it was seen; `since` when, on the steady clock, and `done` once it need not be taken again."""

    file: ImageFile
    since: float
    done: bool = False


class Incoming:
    """A folder that scenes land in.

    A scene is whole when its size and mtime have not changed for `settle` seconds: since it was seen first, or by its
    mtime, so that what is moved into place is taken at once. A clock that jumps, or a file from the future, costs
    `settle` seconds and no more. Hidden files and folders, and what is named as unfinished, are passed over.

    What is remembered is bounded by what lies in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle: float,
        steady: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Watch a folder.

        Args:
            folder: searched with its subfolders, and links to folders; no folder twice.
            settle: seconds.
            steady: seconds on a clock that nobody sets.
            clock: seconds since 1970 UTC, as files have them.
        """
        self.folder, self._settle = folder, settle
        self._steady, self._clock = steady, clock
        self._apart: float | None = None
        self._seen: dict[bytes, _Seen] = {}

    def look(self) -> Look:
        """Look at the folder."""
        now, clock = self._steady(), self._clock()
        apart, before = clock - now, self._apart
        jumped = before is not None and abs(apart - before) > _JUMP
        self._apart = apart
        found = find_images(self.folder, SCENE_SUFFIXES, passes_over=_is_unfinished)
        seen: dict[bytes, _Seen] = {}
        for file in found.files:
            old = self._seen.get(file.relative)
            if old is not None and old.file == file:
                seen[file.relative] = old
            else:
                is_old = not jumped and clock - file.mtime_ns / 1e9 >= self._settle
                seen[file.relative] = _Seen(file, now - self._settle if is_old else now)
        whole = [one.file for one in seen.values() if not one.done and now - one.since >= self._settle]
        waiting = sum(not one.done for one in seen.values()) - len(whole)
        whole.sort(key=lambda file: (file.mtime_ns, file.relative))
        # Of files in a folder that cannot be read for a moment, what was seen still holds.
        for relative, one in self._seen.items():
            if relative not in seen and not found.unread.isdisjoint(_above(relative)):
                seen[relative] = one
        self._seen = seen
        # What has gone since it was listed is no folder that cannot be read; the folder itself may have been unmounted.
        unread = {
            path: reason
            for path, reason in found.skipped
            if path in found.unread and not (path and (_is_scene(path) or is_gone(self.folder / os.fsdecode(path))))
        }
        return Look(whole, waiting, unread)

    def done(self, file: ImageFile) -> None:
        """Take this scene no more, unless it changes."""
        seen = self._seen.get(file.relative)
        if seen is not None and seen.file == file:
            seen.done = True


def _is_unfinished(name: bytes) -> bool:
    return name.startswith(b".") or name.lower().endswith(_UNFINISHED)


def _is_scene(relative: bytes) -> bool:
    return os.fsdecode(os.path.splitext(relative)[1]).lower() in SCENE_SUFFIXES


def _above(relative: bytes) -> list[bytes]:
    """The path itself and the folders above it, down to the empty path."""
    paths = [relative]
    while relative:
        relative = os.path.dirname(relative)
        paths.append(relative)
    return paths
