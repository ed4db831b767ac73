"""Many processes and threads at one gallery. The same for longer, with figures: benchmarks/faults.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from duch.gallery import Gallery

from .faulty_gallery import put, view, view_of, writer

HERE = Path(__file__).parent


def race(folder: Path, seconds: float) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, HERE / "race.py", folder, "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told


def test_readers_beside_writers_see_committed_states_and_keep_them(tmp_path: Path) -> None:
    told = race(tmp_path, 1)
    assert told["snapshots"] > 0
    assert told["appends"] > 0
    assert told["files left"] == 2


@pytest.mark.slow
def test_readers_threads_and_verify_beside_writers_for_longer(tmp_path: Path) -> None:
    told = race(tmp_path, 20)
    assert min(told[name] for name in ("compactions", "removals", "verified", "looks of threads")) > 5


def test_a_reader_stays_open_across_ten_compactions(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    expected = {f"i{i}": i for i in range(30)}
    with writer(folder) as out:
        put(out, expected)
    readers = []
    for i in range(10):
        readers.append((Gallery.open(folder), dict(expected)))
        with writer(folder) as out:
            out.remove([f"i{i}"])
            del expected[f"i{i}"]
            put(out, new := {f"t{i}": 5, f"i{i + 10}": 100 + i})
            expected |= new
            assert out.compact() == 2
    for gallery, then in readers:
        assert view_of(gallery) == then
        gallery.close()
    writer(folder).close()
    assert len(list(folder.glob("*.bin"))) == 2
    assert view(folder) == expected


def test_a_gallery_that_another_writer_makes_at_the_same_moment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    real = Path.iterdir

    def make_first(path: Path) -> object:
        monkeypatch.setattr(Path, "iterdir", real)
        with writer(folder) as out:
            put(out, {"i1": 1})
        return real(path)

    monkeypatch.setattr(Path, "iterdir", make_first)
    with writer(folder) as out:
        put(out, {"i2": 2})
    assert view(folder) == {"i1": 1, "i2": 2}
