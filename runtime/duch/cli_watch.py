"""duch watch: scenes into a gallery as they land."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .chip_options import chip_options
from .cli_common import open_bundle
from .errors import InputError
from .options import PATH, Number, expect_fingerprint_option, provider_options

if TYPE_CHECKING:
    from .geo.settings import ChipSettings
    from .geo.waiting import Stop
    from .logfmt import EventLog

_MOST_SECONDS = 86_400


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("incoming", type=PATH)
@click.argument("gallery", type=PATH)
@chip_options
@click.option(
    "--interval",
    default=5.0,
    show_default=True,
    type=Number(0.1, _MOST_SECONDS),
    metavar="SECONDS",
    help="From one look at INCOMING to the next.",
)
@click.option(
    "--settle",
    default=10.0,
    show_default=True,
    type=Number(0, _MOST_SECONDS),
    metavar="SECONDS",
    help="A scene is taken when its size and time of modification have not changed for so long.",
)
@click.option("--once", is_flag=True, help="Take what is there and end; the exit code is 1 if a scene cannot be used.")
@click.option("--root", type=PATH, help="Folder that tile ids are relative to; by default the gallery's, or INCOMING.")
@provider_options
@expect_fingerprint_option
def watch(
    bundle: Path,
    incoming: Path,
    gallery: Path,
    root: Path | None,
    interval: float,
    settle: float,
    providers: tuple[str, ...],
    threads: int,
    expect_fingerprint: str | None,
    chips: ChipSettings | None,
    *,
    allow_fallback: bool,
    once: bool,
) -> None:
    """Code scenes into GALLERY as they land below INCOMING, until it is stopped.

    A scene is taken when it is whole: moved into place, or not changed for --settle seconds. Hidden files and *.part,
    *.tmp, *.partial, *.filepart, *.crdownload are left alone. A STAC item beside a scene counts if it is there when
    the scene is taken. Chips of scenes that are taken away stay. Without --chip, chips have the size that the bundle's
    encoder takes.

    Each scene is a line of logfmt on stdout. A scene that cannot be used is skipped, with the reason, until it changes
    or duch watch is started again. It may be stopped or killed at any time: the next one goes on, and a scene is in
    the gallery wholly or not at all. SIGTERM ends it with exit code 0, an interrupt with 130.
    """
    from .encoder import Encoder
    from .geo.settings import ChipSettings
    from .geo.waiting import Stop
    from .geo.watch import Watch

    stop = Stop()
    with _stopping(stop) as stopped_by:
        encoder = Encoder(
            open_bundle(bundle, expect_fingerprint=expect_fingerprint, check_all=True),
            providers=providers,
            allow_fallback=allow_fallback,
            threads=threads,
        )
        report = Watch(
            encoder,
            incoming,
            gallery,
            chips or ChipSettings(size=encoder.image.size),
            _log(),
            root=root,
            interval=interval,
            settle=settle,
            once=once,
            stop=stop,
        ).run()
    if signal.SIGINT in stopped_by:
        raise KeyboardInterrupt
    if once and report.skipped:
        raise SystemExit(1)


def _log() -> EventLog:
    """All events, in their order, on stdout; stderr tells what ends the command, as always. journald takes both."""
    from .logfmt import EventLog, is_journal

    if sys.stdout is None:  # as Python has it where the shell closed it
        raise InputError("stdout is closed; wanted a place for the log, such as a file or /dev/null")
    out = sys.stdout.fileno()
    journal = is_journal(out, os.environ.get("JOURNAL_STREAM"))
    return EventLog(io.FileIO(out, "wb", closefd=False), journal=journal)


@contextmanager
def _stopping(stop: Stop) -> Iterator[list[int]]:
    """Have SIGTERM and SIGINT set a wish to end; a second one of its kind does what it always does."""
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def wish(number: int, _frame: Any) -> None:
        signals.append(number)
        signal.signal(number, before[signal.Signals(number)])
        stop.set()

    for number in before:
        signal.signal(number, wish)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
