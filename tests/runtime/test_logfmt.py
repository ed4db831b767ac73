"""Log lines, read back by a reader of its own."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.logfmt import EventLog, format_line, is_journal

from .read_logfmt import events_of, fields_of

NOON = datetime(2026, 11, 22, 12, 0, 5, 999_999, UTC)


def test_a_line_is_as_people_expect_it() -> None:
    sink = io.BytesIO()
    log = EventLog(sink, now=lambda: NOON)
    log.event("info", "indexed", scene="a b.tif", chips=2401, seconds=31.24, chips_per_s=76.86)
    assert sink.getvalue() == (
        b'time=2026-11-22T12:00:05Z level=info event=indexed scene="a b.tif" chips=2401 seconds=31.2 chips_per_s=76.9\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain/path-1.tif", "plain/path-1.tif"),
        ("日本/ü.tif", "日本/ü.tif"),
        ("", '""'),
        ('say "a"', r'"say \"a\""'),
        ("a=b", '"a=b"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb\tc\r\0", r'"a\nb\tc\r\u0000"'),
        ("\x7f\x9b31m\u2028\u202e\xa0", r'"\u007f\u009b31m\u2028\u202e\u00a0"'),
        ("\U000e0001", r'"\udb40\udc01"'),
        (-3, "-3"),
        (0.04, "0.0"),
    ],
)
def test_what_is_no_plain_word_is_quoted(value: str | int | float, text: str) -> None:
    assert format_line(key=value) == f"key={text}"


@given(st.lists(st.text() | st.text("\n\r\0\x1b\x7f\x85\u2028\ud800\"\\= '"), min_size=1, max_size=4))
def test_any_text_is_one_line_and_reads_back(values: list[str]) -> None:
    fields = {f"k{i}": value for i, value in enumerate(values)}
    line = format_line(**fields)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert fields_of(line) == fields


def test_a_line_of_the_journal_begins_with_its_priority() -> None:
    sink = io.BytesIO()
    log = EventLog(sink, journal=True, now=lambda: NOON)
    for level in ("info", "warning", "error"):
        log.event(level, "x")  # type: ignore[arg-type]
    assert [line[:8] for line in sink.getvalue().splitlines()] == [b"<6>time=", b"<4>time=", b"<3>time="]


def test_only_the_descriptor_that_the_journal_gave_is_its_own(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as mine, open(tmp_path / "other", "wb") as other:
        known = os.fstat(mine.fileno())
        name = f"{known.st_dev}:{known.st_ino}"
        assert is_journal(mine.fileno(), name)
        assert not is_journal(other.fileno(), name)
        assert not is_journal(mine.fileno(), None)
    assert not is_journal(10_000, name)


class Disk:
    """Takes so many bytes, and refuses the next."""

    def __init__(self, room: int) -> None:
        self.room, self.raw = room, b""

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        self.raw += part
        return len(part)


@pytest.mark.parametrize("room", [0, 1, 30, 50, 51, 80])
def test_a_full_disk_loses_events_and_never_joins_two(room: int) -> None:
    disk = Disk(room)
    log = EventLog(disk, now=lambda: NOON)
    for _ in range(3):
        log.event("info", "lost")
    disk.room = 1000
    log.event("info", "found")
    log.event("info", "found")
    events = [fields_of(line) for line in disk.raw.decode().splitlines() if line.endswith("=found")]
    assert len(events) == 2
    assert all(len(event) == 3 for event in events)


def test_a_log_that_nobody_reads_is_told() -> None:
    read, write = os.pipe()
    os.close(read)
    with io.FileIO(write, "wb") as sink, pytest.raises(BrokenPipeError):
        EventLog(sink).event("info", "x")


def test_lines_of_many_processes_at_one_pipe_stay_whole() -> None:
    code = (
        "import io\nfrom duch.logfmt import EventLog\nlog = EventLog(io.FileIO(1, 'wb', closefd=False))\n"
        "for i in range(200): log.event('info', 'indexed', scene='s' * 300, i=i)"
    )
    read, write = os.pipe()
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    writers = [subprocess.Popen([sys.executable, "-c", code], stdout=write, env=env) for _ in range(3)]
    os.close(write)
    with open(read, "rb") as pipe:
        events = list(events_of(pipe.read()))
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert sorted(int(event["i"]) for event in events) == sorted([*range(200)] * 3)
