"""Multi-index hashing beside our scan and FAISS's IndexBinaryFlat, a batch of fresh queries at every turn.

    python benchmarks/mih.py [--n 1e7] [--bits 64] [--k 10] [--threads 1] [--tables 3,4] [--numpy] [--json mih.json]

A query is never asked twice, as buckets that have been read before are in a cache. The methods take turns, each with
queries of its own, and each finds what the scan finds for them, which is checked. FAISS is the better of its default
level and its AVX2 level. The times are medians over the turns of the microseconds for one query of a batch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from code_sets import CENTRES, clustered_codes, near, random_codes
from search_engines import Engine, OtherResultsError, check_same, faiss_engines

from duch import native
from duch.bench_table import markdown
from duch.codes import PackedCodes
from duch.index import HammingIndex, Method
from duch.machine import cpu_facts
from duch.tables import Tables

# Queries of a turn: about as long for each method, and a batch that a scan can share its reading among.
BATCHES = {"FAISS": 32, "scan": 256, "random": 256, "clustered": 2048}


@dataclass(frozen=True)
class Row:
    """One method on one set of codes.

    Attributes:
        data: random or clustered.
        n: codes.
        n_bits: length of a code.
        method: what searched.
        us: median microseconds a query.
        times_faiss: FAISS's better level takes so many times as long.
    """

    data: str
    n: int
    n_bits: int
    method: str
    us: float
    times_faiss: float


class Queries:
    """Queries that are drawn like the codes, new ones every time."""

    def __init__(self, data: str, n_bits: int, rng: np.random.Generator) -> None:
        self._rng, self._n_bits = rng, n_bits
        self.centres = None if data == "random" else random_codes(rng, CENTRES, n_bits)

    def fresh(self, count: int) -> PackedCodes:
        if self.centres is None:
            return random_codes(self._rng, count, self._n_bits)
        return near(self._rng, self.centres[self._rng.integers(0, CENTRES, count)])


def engines_over(codes: PackedCodes, tables: list[Tables], levels: tuple[str, ...]) -> list[Engine]:
    """FAISS's levels, then ours: the scan, each set of tables, and what the cost model makes of the last set."""
    found = list(faiss_engines(codes))

    def ours(name: str, level: str, method: Method, made: Tables | None) -> Engine:
        def search(queries: PackedCodes, k: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
            native.set_level(level)
            return HammingIndex(codes, threads=threads, tables=made).search(queries, k, method=method)

        return Engine(f"{name}, {level}", search)

    for level in levels:
        found.append(ours("scan", level, "scan", None))
        found += [ours(f"{len(made.tables)} tables", level, "mih", made) for made in tables]
        found.append(ours(f"{len(tables[-1].tables)} tables or scan", level, "auto", tables[-1]))
    return found


def measure(
    data: str, codes: PackedCodes, queries: Queries, engines: list[Engine], k: int, threads: int, seconds: float
) -> list[Row]:
    """Let the engines take turns."""
    check = HammingIndex(codes)
    for engine in engines:
        some = queries.fresh(64)
        wanted = check.search(some, k, method="scan")
        check_same(codes, some, wanted, engine.search(some, k, threads), exact=not engine.name.startswith("FAISS"))
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    started, turns = time.perf_counter(), 0
    while turns < 3 or time.perf_counter() - started < seconds:
        for engine in engines:
            some = queries.fresh(BATCHES.get(engine.name.partition(" ")[0].strip(","), BATCHES[data]))
            start = time.perf_counter()
            engine.search(some, k, threads)
            times[engine.name].append((time.perf_counter() - start) / len(some))
        turns += 1
    median = {name: statistics.median(found) for name, found in times.items()}
    faiss = min(spent for name, spent in median.items() if name.startswith("FAISS"))
    n, n_bits = len(codes), 8 * codes.shape[1]
    return [
        Row(data, n, n_bits, name, round(1e6 * spent, 2), round(faiss / spent, 1)) for name, spent in median.items()
    ]


def main() -> None:
    options = read_options()
    levels = native.levels()[:1] + ((native.NUMPY,) if options.numpy else ())
    cpu = cpu_facts()
    print(f"{cpu.model}, {cpu.cores} cores; k {options.k}, {options.threads} threads\n")
    rows: list[Row] = []
    for n, n_bits, data in itertools.product(options.n, options.bits, options.data):
        rng = np.random.default_rng([n, n_bits])
        queries = Queries(data, n_bits, rng)
        drawn = queries.centres is None
        codes = random_codes(rng, n, n_bits) if drawn else clustered_codes(rng, queries.centres, n)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            tables = []
            for wanted in options.tables:
                start = time.perf_counter()
                file = Path(folder) / f"{wanted}.bin"
                made = Tables.build(codes, file, fingerprint="00" * 32, generation=1, n_tables=wanted)
                seconds, size = time.perf_counter() - start, file.stat().st_size / n
                what = f"{data}, {n:,} x {n_bits} bits: {len(made.tables)} tables"
                print(f"{what}, {size:.0f} bytes a code, built in {seconds:.2f} s")
                tables.append(made)
            try:
                engines = engines_over(codes, tables, levels)
                rows += measure(data, codes, queries, engines, options.k, options.threads, options.seconds)
            except OtherResultsError as error:
                sys.exit(f"mih.py: {data}, {n} codes of {n_bits} bits: {error}")
    head = ["codes", "method", "us a query", "FAISS / ours"]
    lines = [[f"{r.data}, {r.n:,}, {r.n_bits} bits", r.method, f"{r.us:.1f}", f"{r.times_faiss:.1f}"] for r in rows]
    print("\n" + markdown([head, *lines]))
    if options.json:
        facts: dict[str, Any] = {"cpu": asdict(cpu), "k": options.k, "threads": options.threads}
        options.json.write_text(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def read_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(float(part)) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=numbers, default=[10**7], help="numbers of codes, as 1e6,1e7")
    parser.add_argument("--bits", type=numbers, default=[64])
    parser.add_argument("--data", type=lambda text: text.split(","), default=["random", "clustered"])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", type=numbers, default=[None], help="numbers of tables; one that suits n by default")
    parser.add_argument("--numpy", action="store_true", help="without the native library, too")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the turns over a set of codes")
    parser.add_argument("--folder", type=Path, help="for the tables; the system's for temporary files by default")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
