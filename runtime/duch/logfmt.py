"""Log lines in logfmt: `time=2026-11-22T01:02:03Z level=info event=indexed scene="a b.tif" chips=2401`.

One event is one line, whatever a name or a message holds. Values that are not plain words stand in double quotes and
are escaped as in JSON, which is how readers of logfmt take them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Protocol

Level = Literal["info", "warning", "error"]
Value = str | int | float

# What systemd's journal takes for the priority of a line, as `journalctl -p warning` asks for it.
_PRIORITY: dict[Level, int] = {"info": 6, "warning": 4, "error": 3}


class Sink(Protocol):
    """What takes bytes: a file without a buffer, which keeps nothing back that could not be written."""

    def write(self, data: bytes, /) -> int | None:
        """Write; returns how many bytes were."""


class EventLog:
    """Writes events, each as one line and at once."""

    def __init__(
        self, sink: Sink, *, journal: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Log to a sink.

        Args:
            sink: where to.
            journal: begin each line with its priority as `<6>`, which the journal takes off again.
            now: the time, in UTC.
        """
        self._sink, self._journal, self._now = sink, journal, now
        self._torn = False

    def event(self, level: Level, event: str, **fields: Value) -> None:
        """Write an event. A disk that is full loses it: what is logged is the work, and the log is not.

        Raises:
            BrokenPipeError: nobody reads the log any more.
        """
        time = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        line = format_line(time=time, level=level, event=event, **fields)
        prefix = f"<{_PRIORITY[level]}>" if self._journal else ""
        raw = f"{prefix}{line}\n".encode()
        if self._torn:  # the line before ends in the middle
            raw = b"\n" + raw
        try:
            self._torn = self._sink.write(raw) != len(raw)
        except BrokenPipeError:
            raise
        except OSError:
            pass


def format_line(**fields: Value) -> str:
    """Fields as one line of logfmt, in the order given; floats have at most one digit after the point."""
    return " ".join(f"{key}={_text(value)}" for key, value in fields.items())


def is_journal(descriptor: int, stream: str | None) -> bool:
    """Whether a descriptor leads to systemd's journal: `stream` is the environment's JOURNAL_STREAM, device:inode.

    A shell that a service starts inherits the variable, but not always the descriptor.
    """
    try:
        known = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{known.st_dev}:{known.st_ino}"


def _text(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char.isprintable() and char not in '"\\':
        return char
    escaped = json.dumps(char)[1:-1]
    return escaped if escaped != char else f"\\u{ord(char):04x}"  # JSON itself leaves U+007F as it is
