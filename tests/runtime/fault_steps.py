"""Every step of a command in turn is its last, or fails: run by tests and by benchmarks/faults.py.

    LD_PRELOAD=faulty_disk.so python fault_steps.py FOLDER OPERATION FAULT [--every N] [--beside-a-reader]

For the first write, sync, removal ... of the operation, then for the second and so on: the operation starts on a
fresh copy of a folder, in a process of its own, and the fault hits that step. Afterwards the old state must be there or
the new one and nothing else, and the next one who comes must be able to go on. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from duch.errors import DuchError

if __package__:
    from .fault_operations import ONE, OPERATIONS, copy
    from .fault_scenes import reader
    from .faulty_disk import FAIL, FAIL_HALF, FAIL_ONCE, KILL, KILL_HALF, FaultyDisk
    from .faulty_gallery import put, writer
else:
    from fault_operations import ONE, OPERATIONS, copy
    from fault_scenes import reader
    from faulty_disk import FAIL, FAIL_HALF, FAIL_ONCE, KILL, KILL_HALF, FaultyDisk
    from faulty_gallery import put, writer

FAULTS = {
    "killed": (KILL, 0),
    "killed in a write": (KILL_HALF, 0),
    "disk full": (FAIL, errno.ENOSPC),
    "disk full in a write": (FAIL_HALF, errno.ENOSPC),
    "I/O error": (FAIL_ONCE, errno.EIO),
    "I/O errors from then on": (FAIL, errno.EIO),
    "killed twice": (KILL, 0),  # the next writer as well, so that only the third one finds what the first one left
}
# Steps at which the second one is killed, before and after it has written codes.
SECOND_KILLS = (4, 8, 12, 16)


def in_child(disk: FaultyDisk, how: int, at: int, error: int, call: Callable[[], object]) -> tuple[str, str, int]:
    """Run it in a process of its own: how it ended, what it said, and how many steps it took."""
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        with tempfile.TemporaryFile("w+") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            message, end = "", "done"
            disk.arm(how, at, error)
            try:
                call()
            except DuchError as refused:
                message, end = str(refused), "refused"
            except SystemExit as ended:  # a command
                said.seek(0)
                lines = said.read()
                end = {None: "done", 0: "done", 1: "refused"}.get(ended.code, "broken")  # type: ignore[arg-type]
                message = lines[lines.rfind("duch: ") :].removeprefix("duch: ").removesuffix("\n")
                if end == "refused" and (lines.count("duch: ") != 1 or "Traceback" in lines):
                    end, message = "broken", lines
            except BaseException:
                message, end = traceback.format_exc(), "broken"
            os.write(tells, json.dumps((end, message if end != "done" else "", disk.calls())).encode())
            os._exit(0)
    os.close(tells)
    with os.fdopen(told, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return ("killed" if os.WTERMSIG(status) == signal.SIGKILL else "broken"), f"signal {os.WTERMSIG(status)}", at
    end, message, calls = json.loads(answer)
    return end, message, calls


def append_one(folder: Path) -> None:
    with writer(folder / "gallery") as out:
        put(out, ONE)


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
    start, here, what = base / "start", base / "here", OPERATIONS[operation]
    disk = FaultyDisk(here)
    start.mkdir()
    what.prepare(start)
    copy(start, here)
    end, message, calls = in_child(disk, 0, 0, 0, lambda: what.run(here))
    assert end == "done", f"{operation} without a fault: {end} {message}"
    what.learn(here)
    how, error = FAULTS[fault]
    ends: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for at in range(1, calls + 1, every):
        for second in second_kills if fault == "killed twice" else (0,):
            copy(start, here)
            with ExitStack() as around:
                if beside_a_reader and (here / "gallery").exists():
                    around.enter_context(reader(here / "gallery"))
                end, message, _ = in_child(disk, how, at, error, lambda: what.run(here))
                where = f"{operation}, {fault} at step {at} of {calls}: {end} {message}"
                if end in ("broken", "killed") and end != fault.partition(" ")[0]:
                    raise AssertionError(where)
                if end == "refused" and ("\n" in message or not message):
                    raise AssertionError(f"not one line: {where}")
                if end == "refused" and fault == "I/O errors from then on":
                    end = "refused by a dead disk"
                try:
                    if second:
                        in_child(disk, KILL, second, 0, lambda: append_one(here))
                        end, where = ("killed twice" if end == "killed" else end), f"{where}, then at step {second}"
                        around.close()  # the reader goes before the third one comes
                    state = what.look(here, end)
                    around.close()
                    what.tidy(here)
                except Exception as wrong:
                    raise AssertionError(f"{type(wrong).__name__}: {wrong}; after {where}") from wrong
            ends[f"{end}, {state} state"] += 1
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
