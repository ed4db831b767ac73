"""End to end over ten million tiles: from the code of a query to ten hits with all that is known of them.

    python benchmarks/gallery.py FOLDER [--tiles 10000000] [--bundle BUNDLE] [--upkeep] [--json gallery.json]

The gallery is made in FOLDER, which takes some minutes, and used again the next time. One process on one core asks it
many questions, each with another query code and other filters, all kinds taking turns; the files are in the page cache.
A query's code is drawn near a cluster: with a bundle, what its text encoder takes is timed by itself. Afterwards one
answer of each kind is compared with a plain computation over all tiles.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from code_sets import near
from gallery_cases import Case, World, cases_of
from gallery_data import centres, make_gallery, tile_id

from duch.bench_table import figure, markdown
from duch.codes import PackedCodes
from duch.display import display_path
from duch.errors import DuchError
from duch.gallery import Gallery, Hit
from duch.machine import cpu_facts, software_facts
from duch.optimize import optimize

INDEXED = ("orbit", "scene")
_LONG_MS = 500  # a question that takes longer is asked three times only
_SAMPLE_S = 0.002


class Readers:
    """The gallery as it is, and without its tables: a folder of links to all other files."""

    def __init__(self, folder: Path) -> None:
        self._links = TemporaryDirectory()
        for file in folder.iterdir():
            if not file.name.startswith("tables-"):
                (Path(self._links.name) / file.name).symlink_to(file.resolve())
        self.whole = Gallery.open(folder, threads=1)
        self.without_tables = Gallery.open(self._links.name, threads=1)

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.whole.close()
        self.without_tables.close()
        self._links.cleanup()


class Question:
    """A case with its next query code and filters."""

    def __init__(self, case: Case, number: int) -> None:
        self.case = case
        rng = np.random.default_rng([number, case.k, *case.name.encode()])
        middle = centres()
        self.code: PackedCodes = near(rng, middle[rng.integers(0, len(middle), 1)])  # (1, 8)
        self.filters = case.filters(rng) if case.filters else None

    def ask(self, readers: Readers) -> list[Hit]:
        gallery = readers.without_tables if self.case.scan else readers.whole
        return gallery.search(self.code, self.case.k, filters=self.filters)[0]


@dataclass(frozen=True)
class Spent:
    """Milliseconds of the wall clock, and of the processor's time that this process got."""

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Spent(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))


def milliseconds(run: Callable[[], Any]) -> float:
    return timed(run).wall


def anonymous_mb() -> float:
    """Memory of this process that no file backs, in MB of 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6


@contextmanager
def peak_anonymous_mb() -> Iterator[list[float]]:
    """The most of it while the block runs, in the one element of the list."""
    peak, over = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def fill_page_cache(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as opened:
            while opened.read(2**20):
                pass


def measure(readers: Readers, cases: list[Case], repeats: int) -> dict[Case, list[Spent]]:
    """The time of each question, all cases taking turns."""
    times: dict[Case, list[Spent]] = {}
    for case in cases:  # the first answer tells the long questions
        spent = timed(lambda case=case: Question(case, 0).ask(readers))
        times[case] = [spent] * (spent.wall > _LONG_MS)
    with click.progressbar(range(1, repeats + 1), label="asking", file=sys.stderr) as bar:
        for number in bar:
            for case, known in times.items():
                if number <= 2 or not known or known[0].wall <= _LONG_MS:
                    question = Question(case, number)
                    known.append(timed(lambda question=question: question.ask(readers)))
    return times


def check(readers: Readers, cases: list[Case]) -> None:
    """Compare one answer of each case with a plain computation."""
    gallery = readers.whole
    world = World(len(gallery))
    for case in cases:
        question = Question(case, 1)
        hits = [(hit.distance, hit.seq) for hit in question.ask(readers)]
        if hits != world.nearest(gallery.codes, question.code, case.k, question.filters):
            sys.exit(f"gallery.py: {case.name}: the hits are not the nearest tiles that pass {question.filters}")


def searching(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that a reader does, in this process, which is fresh."""
    os.sched_setaffinity(0, {options.core})
    before = anonymous_mb()
    fill_page_cache(folder)
    facts: dict[str, Any] = {}
    if options.bundle:
        facts["encode_ms"] = time_encoder(options.bundle, options.repeats)
    facts["open_ms"] = statistics.median(milliseconds(lambda: Gallery.open(folder).close()) for _ in range(20))
    with Readers(folder) as readers:
        facts["tables"] = readers.whole.tables_problem or "used"
        cases = cases_of(len(readers.whole))
        times = measure(readers, cases, options.repeats)
    with peak_anonymous_mb() as peak, Readers(folder) as readers:
        for case in cases:
            for number in (1, 2):
                Question(case, number).ask(readers)
    facts |= {"anonymous_mb": {"before": before, "peak": peak[0]}}
    with Readers(folder) as readers:
        check(readers, cases)
    facts["cases"] = [
        {
            "name": case.name,
            "k": case.k,
            "target_ms": case.target_ms,
            "median_ms": statistics.median(one.wall for one in spent),
            "p95_ms": float(np.percentile([one.wall for one in spent], 95)),
            "cpu_ms": statistics.median(one.cpu for one in spent),
            "times": len(spent),
        }
        for case, spent in times.items()
    ]
    return facts


def time_encoder(bundle: Path, repeats: int) -> float:
    """Median milliseconds from a sentence to its code."""
    from duch.bundle import read_bundle
    from duch.encoder import Encoder

    read = read_bundle(bundle)
    encoder = Encoder(read, threads=1)
    words = read.golden().captions[0].split()
    sentences = [" ".join(np.random.default_rng(number).permutation(words)) for number in range(repeats + 1)]
    encoder.encode_texts(sentences[:1])
    return statistics.median(milliseconds(lambda text=text: encoder.encode_texts([text])) for text in sentences[1:])


def upkeep(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Seconds of verifying the gallery, and of removing one tile in a hundred from a copy and compacting that."""
    from duch.verify import verify

    facts: dict[str, Any] = {}
    with peak_anonymous_mb() as peak:
        started = time.perf_counter()
        report = verify(folder)
        facts["verify_s"] = time.perf_counter() - started
    facts |= {"problems": len(report.problems), "verify_anonymous_mb": peak[0]}
    copy = folder.with_name(folder.name + "-copy")
    shutil.copytree(folder, copy)
    try:
        with Gallery.writer(copy) as writer:
            ids = [tile_id(seq) for seq in range(0, len(writer), 100)]
            facts["remove_s"] = milliseconds(lambda: writer.remove(ids)) / 1e3
            with peak_anonymous_mb() as peak:
                facts["compact_s"] = milliseconds(writer.compact) / 1e3
            facts |= {"removed": len(ids), "compact_anonymous_mb": peak[0]}
    finally:
        shutil.rmtree(copy)
    return facts


def in_fresh_process(work: Callable[[Path, argparse.Namespace], Any], options: argparse.Namespace) -> Any:
    """What the work returns, done in a process that holds nothing but what it imports."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, work, options))
    child.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        child.join()
        sys.exit(child.exitcode or 1)
    child.join()
    return found


def _send(sender: Any, work: Callable[[Path, argparse.Namespace], Any], options: argparse.Namespace) -> None:
    try:
        sender.send(work(options.folder, options))
    except DuchError as error:
        sys.exit(f"gallery.py: {error}")


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make what is missing of the gallery and of its indexes, and its tables."""
    facts: dict[str, Any] = {"append_per_s": make_gallery(folder, options.tiles)}
    facts["indexes_s"] = milliseconds(lambda: optimize(folder, attributes=INDEXED)) / 1e3
    facts["tables_s"] = milliseconds(lambda: optimize(folder, tables=True)) / 1e3
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the gallery; some 5 GB at ten million tiles")
    parser.add_argument("--tiles", type=int, default=10_000_000, help="a multiple of 20,000")
    parser.add_argument("--bundle", type=Path, help="time its text encoder as well")
    parser.add_argument("--repeats", type=int, default=40, help="questions of each kind")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="that all searching runs on")
    parser.add_argument("--upkeep", action="store_true", help="time verify and, on a copy, remove and compact")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu, software = cpu_facts(), software_facts()
    print(f"{cpu.model}, one core; NumPy {software.numpy}, Python {software.python}")
    facts = in_fresh_process(prepare, options) | in_fresh_process(searching, options)
    if options.upkeep:
        facts["upkeep"] = in_fresh_process(upkeep, options)
    facts["bytes"] = {file.name: file.stat().st_size for file in sorted(options.folder.iterdir())}
    report(facts, options)
    if options.json:
        facts |= {"cpu": asdict(cpu), "software": asdict(software), "tiles": options.tiles}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


def report(facts: dict[str, Any], options: argparse.Namespace) -> None:
    print(f"{options.tiles:,} tiles in {display_path(options.folder)}; opening takes {figure(facts['open_ms'])} ms\n")
    lines = [["question", "median ms", "p95 ms", "of the processor", "target", ""]]
    for case in facts["cases"]:
        target = case["target_ms"]
        met = "" if target is None else "met" if case["median_ms"] < target else "missed"
        times = [figure(case[name]) for name in ("median_ms", "p95_ms", "cpu_ms")]
        lines.append([case["name"], *times, "" if target is None else f"< {target}", met])
    print(markdown(lines) + "\n")
    memory = facts["anonymous_mb"]
    print(f"- multi-index hashing tables: {facts['tables']}, built in {figure(facts['tables_s'])} s")
    print(f"- memory that no file backs: {memory['peak']:.0f} MB at most, {memory['before']:.0f} MB after the imports")
    if "encode_ms" in facts:
        print(f"- sentence to code: {figure(facts['encode_ms'])} ms, in none of the figures above")
    if facts["append_per_s"]:
        print(f"- appending: {facts['append_per_s']:,.0f} tiles a second")
        print(f"- indexes on two attributes: made in {figure(facts['indexes_s'])} s")
    for name, value in facts.get("upkeep", {}).items():
        print(f"- {name}: {figure(value)}")
    print("- bytes: " + ", ".join(f"{name} {size:,}" for name, size in facts["bytes"].items()))


if __name__ == "__main__":
    main()
