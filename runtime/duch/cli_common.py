"""What the edge's commands share: opening a bundle, printing JSON, a progress bar."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .display import display_path, printable

if TYPE_CHECKING:
    from .bundle import Bundle
    from .geo.ingest import ScenesProgress
    from .progress import Progress


def open_bundle(folder: Path, *, expect_fingerprint: str | None, check_all: bool) -> Bundle:
    """`read_bundle`, with a line on stderr where the bundle did not pass the tests of its export."""
    from .bundle import read_bundle

    bundle = read_bundle(folder, expect_fingerprint=expect_fingerprint, check_all=check_all)
    gate = bundle.manifest.gate
    if not gate.passed:
        first = f": {printable(gate.failures[0])}" if gate.failures else ""
        click.echo(f"duch: {display_path(folder)} failed the tests of its export{first}", err=True)
    return bundle


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number of things in words, such as "1 tile" and "1,521 tiles"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def print_json(value: Any) -> None:
    """UTF-8, whatever the locale; bytes of a path that are none are written as \\xff."""
    click.echo(json_bytes(value))


def json_bytes(value: Any, *, indent: int | None = 2) -> bytes:
    """JSON in UTF-8 that is safe to show; bytes of a path that are no UTF-8 are written as \\xff."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=_path_text)
    # JSON escapes what is below 32 itself; of the rest, these steer a terminal. They occur in strings alone.
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "backslashreplace")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A progress bar on stderr, for callbacks of (done, total); without a terminal, one line at the end."""
    state: dict[str, Any] = {}

    def advance(done: int, total: int) -> None:
        if "bar" not in state:
            state["bar"] = click.progressbar(length=total, label=title, file=sys.stderr, show_pos=True).__enter__()
            state["done"] = 0
        state["bar"].update(done - state["done"])
        state["done"] = done

    try:
        yield advance
    finally:
        if "bar" in state:
            state["bar"].__exit__(None, None, None)


@contextmanager
def scenes_bar() -> Iterator[Callable[[ScenesProgress], None]]:
    """A progress bar on stderr over scenes, with the chips so far and how many a second; for `index_scenes`."""
    steps = 1000  # of each scene
    with ExitStack() as around:
        bar: Any = None
        started = 0.0

        def advance(done: ScenesProgress) -> None:
            nonlocal bar, started
            if bar is None:
                started = time.monotonic()
                bar = around.enter_context(
                    click.progressbar(
                        length=max(1, done.n_scenes) * steps,
                        label="coding chips",
                        file=sys.stderr,
                        item_show_func=lambda text: text,
                    )
                )
            rate = done.chips / max(1e-9, time.monotonic() - started)
            text = f"{done.chips:,} chips, {rate:,.0f}/s, scene {min(done.scenes + 1, done.n_scenes)}/{done.n_scenes}"
            bar.update(round((done.scenes + done.part) * steps) - bar.pos, text)

        yield advance


def _path_text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
