"""Cold start: from the start of a process to its first text code, and its peak memory.

    python benchmarks/startup.py build/demo/bundle [--repeats 15]

Each repeat is a new process that runs `duch encode` on one sentence; the median is reported. Beside it stands a process
that only imports numpy and onnxruntime, the floor of what can be had.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MB of one child process."""
    started = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    return seconds, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    cases = {
        "import numpy, onnxruntime": ["-c", "import numpy, onnxruntime"],
        "duch encode --text": ["-m", "duch", "encode", str(options.bundle), "--text", "planes parked at an airport"],
    }
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    print(f"{'process':<28}{'median s':>10}{'slowest s':>11}{'peak MB':>9}")
    for name, arguments in cases.items():
        run(arguments)  # the page cache is warm for all
        times, peaks = zip(*(run(arguments) for _ in range(options.repeats)), strict=True)
        print(f"{name:<28}{statistics.median(times):>10.3f}{max(times):>11.3f}{max(peaks):>9.0f}")


if __name__ == "__main__":
    main()
