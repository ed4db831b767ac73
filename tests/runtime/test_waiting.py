"""Waiting for a signal, and for a gallery that another one uses."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from duch.errors import GalleryCorruptError, GalleryError, GalleryLockedError, GalleryMismatchError
from duch.geo.waiting import Stop, Stopped, patiently

LOCKED, FULL = GalleryLockedError("another writer"), GalleryError("no space")


class Clock(Stop):
    """Time that passes by waiting alone."""

    def __init__(self, ends_after: float = 1e9) -> None:
        super().__init__()
        self.now, self.ends_after = 0.0, ends_after
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        if self.now > self.ends_after:
            raise Stopped


class Gallery:
    """Fails with these errors, one after another, and is written then."""

    def __init__(self, *errors: GalleryError) -> None:
        self._errors: Iterator[GalleryError] = iter(errors)

    def write(self) -> str:
        for error in self._errors:
            raise error
        return "written"


def test_a_short_wait_is_not_told_and_a_long_one_once_a_reason() -> None:
    told: list[str] = []
    assert patiently(Gallery(LOCKED, LOCKED).write, Clock(), told.append, limit=1e9) == "written"
    assert told == []
    assert patiently(Gallery(*[LOCKED] * 20, *[FULL] * 20, LOCKED).write, Clock(), told.append, limit=1e9) == "written"
    assert told == ["another writer", "no space", "another writer"]


def test_pauses_grow_to_a_minute() -> None:
    clock = Clock()
    patiently(Gallery(*[FULL] * 20).write, clock, lambda _: None, limit=1e9)
    assert clock.pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[-3:] == [60, 60, 60]


@pytest.mark.parametrize("error", [GalleryCorruptError("damaged"), GalleryMismatchError("another bundle")])
def test_what_no_waiting_mends_is_raised_at_once(error: GalleryError) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        patiently(Gallery(LOCKED, error).write, clock, lambda _: None, limit=1e9)
    assert clock.pauses == [0.1]


def test_at_the_start_only_a_writer_is_waited_for() -> None:
    assert patiently(Gallery(LOCKED).write, Clock(), lambda _: None, only_lock=True, limit=1e9) == "written"
    with pytest.raises(GalleryError, match="no space"):
        patiently(Gallery(LOCKED, FULL).write, Clock(), lambda _: None, only_lock=True, limit=1e9)


def test_a_limit_ends_the_waiting_with_the_reason() -> None:
    clock = Clock()
    with pytest.raises(GalleryLockedError):
        patiently(Gallery(*[LOCKED] * 99).write, clock, lambda _: None, limit=10)
    assert 10 <= clock.now < 20


def test_a_wish_to_end_ends_the_waiting() -> None:
    with pytest.raises(Stopped):
        patiently(Gallery(*[FULL] * 999).write, Clock(ends_after=100), lambda _: None, limit=1e9)


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_ends_a_pause(early: bool) -> None:
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        if early:
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            stop.pause(60)
        assert time.monotonic() - began < 30  # it has not waited for the pause to end
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(Stopped):
        stop.check()
    with pytest.raises(Stopped):
        stop.pause(60)


def test_without_a_wish_nothing_ends() -> None:
    stop = Stop()
    stop.check()
    stop.pause(0)
