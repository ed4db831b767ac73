"""Waiting: for a signal to end, and for a gallery that cannot be written at the moment."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TypeVar

from duch.errors import GalleryError, GalleryLockedError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 60.0  # seconds between two attempts
# Seconds of waiting that are not worth a line: another watch holds the lock for less, a compaction for more.
_UNTOLD = 3.0
_Result = TypeVar("_Result")


class Stopped(BaseException):
    """The work in flight is given up; no error, as KeyboardInterrupt is none."""


class Stop:
    """A wish to end, which a signal handler may set at any moment: an Event of threading may lock up there."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._is_set = False

    def set(self) -> None:
        """Wish it."""
        self._is_set = True
        os.write(self._write, b"\0")

    def check(self) -> None:
        """Go on.

        Raises:
            Stopped: it is set.
        """
        if self._is_set:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            Stopped: it is set, or was while it waited.
        """
        select.select([self._read], [], [], seconds)
        self.check()


def patiently(
    write: Callable[[], _Result], stop: Stop, tell: Callable[[str], None], *, only_lock: bool = False, limit: float
) -> _Result:
    """Do what uses a gallery as soon as the gallery allows it, with pauses that grow.

    Args:
        write: does it; called again where another writer holds the gallery, the disk is full or away.
        stop: ends the waiting.
        tell: called with the reason for the waiting, if it is not short, and again when the reason is another one.
        only_lock: wait for another writer alone.
        limit: seconds after which what is wrong is raised.

    Raises:
        GalleryError: waiting does not help, such as where the gallery is damaged, or did not until the limit.
        Stopped: see `Stop`.
    """
    pause, waited, told = _FIRST_PAUSE, 0.0, ""
    while True:
        try:
            return write()
        except GalleryError as error:
            # What is wrong for good has an error of its own kind.
            passes = isinstance(error, GalleryLockedError) or (type(error) is GalleryError and not only_lock)
            if not passes or waited >= limit:
                raise
            if waited >= _UNTOLD and str(error) != told:
                told = str(error)
                tell(told)
        stop.pause(pause)
        waited += pause
        pause = min(2 * pause, _LONGEST_PAUSE)
