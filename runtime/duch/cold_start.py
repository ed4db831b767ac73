"""Cold starts: a command of duch in fresh processes, from their start to the first line they print."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DuchError
from .machine import peak_rss_mb


@dataclass(frozen=True)
class ColdStarts:
    """Some starts of the same command.

    Attributes:
        seconds: to the first line, for each process.
        peak_mb: the most memory that any of them held; None if this process has held as much itself, which hides it.
    """

    seconds: list[float]
    peak_mb: float | None


def cold_starts(arguments: Sequence[str], *, runs: int) -> ColdStarts:
    """Run `duch ARGUMENTS` in fresh processes, one after another. The first, not counted, warms the page cache.

    Raises:
        DuchError: a process fails; with the line that it said.
    """
    _one_start(arguments)
    starts = [_one_start(arguments) for _ in range(runs)]
    peak = max(peak for _, peak in starts)
    # A process begins with the peak of its parent: see `peak_rss_mb`.
    return ColdStarts([seconds for seconds, _ in starts], peak if peak > peak_rss_mb() else None)


def _one_start(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds to the first line, and peak MB, of one process."""
    # -P: a folder called duch in the current folder is not what is started.
    command = [sys.executable, "-P", "-m", "duch", *arguments]
    started = time.perf_counter()
    # Errors go to a file: a pipe that nobody empties meanwhile could fill up, and the process would hang.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            times = [time.perf_counter() - started for _ in process.stdout or ()]  # of each line
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()  # of an interrupt that reached this process alone
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode or not times:
        line = said[-1].removeprefix("duch: ") if said else f"exit code {process.returncode}"
        raise DuchError(f"`duch {arguments[0]}` fails in a fresh process: {line}")
    return times[0], usage.ru_maxrss * 1024 / 1e6
