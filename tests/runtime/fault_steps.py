"""Every step of a command in turn is its last, or fails: run by tests and by benchmarks/faults.py.

    LD_PRELOAD=faulty_disk.so python fault_steps.py FOLDER OPERATION FAULT [--every N] [--beside-a-reader]

For the first write, sync, removal ... of the operation, then for the second and so on: the operation starts on a
fresh copy of a gallery, in a process of its own, and the fault hits that step. Afterwards the gallery must be the old
or the new one and nothing else, and the next writer must find it whole. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from duch.errors import DuchError

if __package__:
    from .fault_scenes import reader
    from .faulty_disk import FAIL, FAIL_HALF, FAIL_ONCE, KILL, KILL_HALF, FaultyDisk
    from .faulty_gallery import View, check, check_tidy, put, view, writer
else:
    from fault_scenes import reader
    from faulty_disk import FAIL, FAIL_HALF, FAIL_ONCE, KILL, KILL_HALF, FaultyDisk
    from faulty_gallery import View, check, check_tidy, put, view, writer

FAULTS = {
    "killed": (KILL, 0),
    "killed in a write": (KILL_HALF, 0),
    "disk full": (FAIL, errno.ENOSPC),
    "disk full in a write": (FAIL_HALF, errno.ENOSPC),
    "I/O error": (FAIL_ONCE, errno.EIO),
    "I/O errors from then on": (FAIL, errno.EIO),
    "killed twice": (KILL, 0),
}
OLD: View = {f"{kind}{i}": i % 4 for i in range(60) for kind in "it"}
GONE = sorted(OLD)[::3]
ONE: View = {"i1": 1000}
# Steps of the second of two writers that are killed, before and after it has written codes.
SECOND_KILLS = (4, 8, 12, 16)


def append(folder: Path) -> View:
    with writer(folder) as out:
        put(out, new := {"i3": 77, "new": 5, **{f"t{i}": 9 for i in range(50, 90)}})
    return OLD | new


def append_one(folder: Path) -> View:
    with writer(folder) as out:
        put(out, ONE)
    return OLD | ONE


def remove(folder: Path) -> View:
    with writer(folder) as out:
        out.remove(GONE)
    return {name: version for name, version in OLD.items() if name not in GONE}


def compact(folder: Path) -> View:
    with writer(folder) as out:
        out.compact()
    return OLD


def create(folder: Path) -> View:
    writer(folder).close()
    return {}


OPERATIONS: dict[str, Callable[[Path], View]] = {
    "create": create,
    "append": append,
    "remove": remove,
    "compact": compact,
}


def prepare(folder: Path, operation: str) -> None:
    """The gallery that an operation starts from."""
    if operation != "create":
        with writer(folder) as out:
            put(out, OLD | dict.fromkeys(GONE, 70))
            put(out, {name: OLD[name] for name in GONE})


def in_child(disk: FaultyDisk, how: int, at: int, error: int, call: Callable[[], object]) -> tuple[str, str, int]:
    """Run it in a process of its own: how it ended, what it said, and how many steps it took."""
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        message, end = "", "done"
        disk.arm(how, at, error)
        try:
            call()
        except DuchError as refused:
            message, end = str(refused), "refused"
        except BaseException:
            message, end = traceback.format_exc(), "broken"
        os.write(tells, json.dumps((end, message, disk.calls())).encode())
        os._exit(0)
    os.close(tells)
    with os.fdopen(told, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return ("killed" if os.WTERMSIG(status) == signal.SIGKILL else "broken"), f"signal {os.WTERMSIG(status)}", at
    end, message, calls = json.loads(answer)
    return end, message, calls


def verdict(gallery: Path, allowed: list[View | None], where: str) -> View | None:
    try:
        return check(gallery, allowed)
    except Exception as wrong:
        raise AssertionError(f"{type(wrong).__name__}: {wrong}; after {where}") from wrong


def run(
    base: Path,
    operation: str,
    fault: str,
    *,
    every: int = 1,
    beside_a_reader: bool = False,
    second_kills: Sequence[int] = SECOND_KILLS,
) -> dict[str, object]:
    """All steps of an operation; stops with an AssertionError at the first thing that is wrong."""
    start, here = base / "start", base / "here"
    disk = FaultyDisk(here)
    start.mkdir()
    prepare(start / "gallery", operation)
    shutil.copytree(start, here)
    gallery = here / "gallery"
    calls = in_child(disk, 0, 0, 0, lambda: OPERATIONS[operation](gallery))[2]
    new = view(gallery)
    old = None if operation == "create" else view(start / "gallery")
    how, error = FAULTS[fault]
    ends: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for at in range(1, calls + 1, every):
        for second in second_kills if fault == "killed twice" else (0,):
            shutil.rmtree(here)
            shutil.copytree(start, here)
            allowed = [old, new]
            with ExitStack() as around:
                if beside_a_reader and old is not None:
                    around.enter_context(reader(gallery))
                end, message, _ = in_child(disk, how, at, error, lambda: OPERATIONS[operation](gallery))
                where = f"{operation}, {fault} at step {at} of {calls}: {end} {message}"
                if end in ("broken", "killed") and end != fault.partition(" ")[0]:
                    raise AssertionError(where)
                if end == "refused" and ("\n" in message or not message):
                    raise AssertionError(f"not one line: {where}")
                if end == "done":
                    allowed = [new]
                if second:
                    in_child(disk, KILL, second, 0, lambda: append_one(gallery))
                    allowed += [tiles | ONE for tiles in allowed if tiles is not None]
                else:  # the next writer comes while the reader is there, and again afterwards
                    found = verdict(gallery, allowed, where)
            if second:
                found = verdict(gallery, allowed, f"{where}, then at step {second}")
            check_tidy(gallery)
            ends[f"{end}, {'old' if found == old else 'new'} state"] += 1
            messages[message.replace(str(here), "")] += 1
    return {"operation": operation, "fault": fault, "steps": calls, "ends": ends, "messages": messages}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--beside-a-reader", action="store_true")
    parser.add_argument("--second-kills", type=int, nargs="+", default=SECOND_KILLS)
    given = vars(parser.parse_args())
    try:
        result = run(given.pop("folder"), given.pop("operation"), given.pop("fault"), **given)
    except AssertionError as wrong:
        sys.exit(str(wrong))
    print(json.dumps(result))
