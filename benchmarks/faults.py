"""What a gallery survives: kills, power cuts, disks that are full or fail, damage, many processes at once.

    python benchmarks/faults.py [--scratch FOLDER] [--only kills|steps|cuts|damage|race]

The parts are scripts of their own in tests/runtime, which a test runs for seconds and this one for minutes. The first
thing that is lost or wrong ends the script with a line that says what it was. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests" / "runtime"
sys.path.insert(0, str(TESTS))

import fault_steps  # noqa: E402
import faulty_disk  # noqa: E402
from fault_operations import OPERATIONS  # noqa: E402
from fault_scenes import SCENES  # noqa: E402
from power_cuts import power_cuts  # noqa: E402


def run(scratch: Path, script: str, *arguments: str, preload: Path | None = None) -> Any:
    """What a script prints; it gets an empty folder first."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    more = {} if preload is None else {"LD_PRELOAD": os.fspath(preload)}
    done = subprocess.run(
        [sys.executable, TESTS / script, folder, *arguments], env={**os.environ, **more}, stdout=-1, check=False
    )
    if done.returncode:
        sys.exit(f"{script} {' '.join(arguments)} found something wrong; see {folder}")
    shutil.rmtree(folder)
    return json.loads(done.stdout)


def table(head: list[str], rows: list[list[object]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |")
    print(flush=True)


def kills(scratch: Path, library: Path, given: argparse.Namespace) -> None:
    print(f"### SIGKILL of `duch index` at random moments, {given.kills:,} times\n")
    told = run(scratch, "fault_index.py", "--kills", str(given.kills))
    table(["", "n"], [[what, n] for what, n in told.items()])


def steps(scratch: Path, library: Path, given: argparse.Namespace) -> None:
    print("### Every step of a command is its last, or fails\n")
    rows: list[list[object]] = []
    for operation in OPERATIONS:
        for beside in ([], ["--beside-a-reader"]):
            if beside and operation in ("create", "index"):  # there is no gallery yet
                continue
            ends: Counter[str] = Counter()
            n = 0
            for fault in fault_steps.FAULTS:
                if fault == "killed twice" and operation not in ("append", "remove", "compact"):
                    continue
                told = run(scratch, "fault_steps.py", operation, fault, *beside, preload=library)
                n = told["steps"]
                for end, times in told["ends"].items():
                    ends[end.split(",", 1)[0].split(" by ", 1)[0].removesuffix(" twice")] += times
            name = operation + (" beside a reader" if beside else "")
            rows.append([name, n, sum(ends.values()), *(ends[end] for end in ("killed", "refused", "done"))])
    table(["operation", "steps", "faults", "killed", "refused with one line", "done all the same"], rows)


def cuts(scratch: Path, library: Path, given: argparse.Namespace) -> None:
    print("### Disks that a power cut may leave\n")
    rows: list[list[object]] = []
    for scene in [*SCENES, "merge", "export", "export Parquet", "import", "import into"]:
        count: Counter[str] = Counter()
        for seed in range(4 if scene in SCENES else 1):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            count += power_cuts(folder / "cuts", library, scene, seed=seed, states=given.states)
            shutil.rmtree(folder)
        events = count.pop("events")
        rows.append([scene, events, sum(count.values()), *(count[choice] for choice in faulty_disk.CHOICES)])
    table(["scene", "writes, syncs, names", "disks looked at", *faulty_disk.CHOICES], rows)


def damage(scratch: Path, library: Path, given: argparse.Namespace) -> None:
    print(f"### Damage, {given.each:,} of each kind to each file of three galleries: who finds it first\n")
    found: dict[tuple[str, str], Counter[str]] = {}
    for place, count in run(scratch, "fault_damage.py", "--each", str(given.each)).items():
        kind, file = place.partition(": ")[2].split(", ")
        name = file.replace("1.bin", "N.bin").replace("2.bin", "N.bin")
        found.setdefault((kind, name), Counter()).update(count)
    ends = sorted({end for count in found.values() for end in count})
    table(["damage", "file", *ends], [[*place, *(count[end] for end in ends)] for place, count in found.items()])


def race(scratch: Path, library: Path, given: argparse.Namespace) -> None:
    print(f"### Two writers, readers, threads and verify at once, for {given.seconds:g} s\n")
    told = run(scratch, "race.py", "--seconds", str(given.seconds))
    table(["", "n"], [[what, n] for what, n in sorted(told.items())])


PARTS: dict[str, Callable[[Path, Path, argparse.Namespace], None]] = {
    "kills": kills,
    "steps": steps,
    "cuts": cuts,
    "damage": damage,
    "race": race,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, help="where galleries are made and broken; a tmpfs is quickest")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--states", type=int, default=300, help="disks to look at for each recording")
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=PARTS, action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="duch-faults-") as folder:
        scratch = Path(folder)
        library = faulty_disk.build(scratch)
        if library is None:
            sys.exit("faults.py: needs Linux and a C compiler")
        for name in given.only or PARTS:
            started = time.monotonic()
            try:
                PARTS[name](scratch, library, given)
            except AssertionError as wrong:
                sys.exit(f"faults.py: {wrong}")
            print(f"{time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
