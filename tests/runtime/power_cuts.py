"""Looks at the disks that a power cut may leave: of one scene of fault_scenes.py, at some moments or at all."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

if __package__:
    from .fault_operations import OPERATIONS
    from .fault_scenes import GALLERY, SCENES
    from .faulty_disk import CHOICES, Disk
    from .faulty_gallery import check, check_tidy
else:
    from fault_operations import OPERATIONS
    from fault_scenes import GALLERY, SCENES
    from faulty_disk import CHOICES, Disk
    from faulty_gallery import check, check_tidy

HERE = Path(__file__).parent


def power_cuts(base: Path, library: Path, scene: str, *, seed: int, states: int) -> Counter[str]:
    """Record a scene, then look at so many disks; how many of each kind. The first wrong one is an AssertionError."""
    root, log = base / "disk", base / "log"
    root.mkdir(parents=True)
    subprocess.run(
        [sys.executable, HERE / "fault_scenes.py", scene, root, log, str(seed)],
        env={**os.environ, "LD_PRELOAD": os.fspath(library)},
        check=True,
    )
    disk, chance = Disk(root, log), random.Random(seed)
    moments = [event for event in disk.events() if disk.marks]
    disk.lay_out(base / "end", "all", chance)
    for file in root.rglob("*"):
        if file.is_file() and not file.name.endswith("-shm"):  # else something went past the watch
            assert (base / "end" / file.relative_to(root)).read_bytes() == file.read_bytes(), file
    if scene in OPERATIONS:
        OPERATIONS[scene].learn(base / "end")
    few = states - len(moments)  # then every moment once, and some of them again
    chosen = Counter(chance.sample(moments, states) if few < 0 else [*moments, *chance.choices(moments, k=few)])
    if scene in OPERATIONS:
        chosen[moments[-1]] += states // 4  # it was told as done at the last one alone
    disk, count = Disk(root, log), Counter(events=len(moments))
    for event in disk.events():
        for _ in range(chosen[event]):
            choice, state = chance.choice(CHOICES), base / "state"
            disk.lay_out(state, choice, chance)
            try:
                if scene in SCENES:
                    check(state / GALLERY, json.loads(disk.marks[-1]))
                    check_tidy(state / GALLERY)
                else:
                    OPERATIONS[scene].look(state, "done" if disk.marks[-1] == "done" else "killed")
            except Exception as wrong:
                raise AssertionError(f"{scene} {seed}: cut after event {event}, {choice}: {wrong!r}") from wrong
            count[choice] += 1
            shutil.rmtree(state)
    return count
