"""Exact search beside its peers: FAISS, usearch, sqlite-vec and NumPy in one process, taking turns.

    python benchmarks/search.py [--quick] [--n 1000000] [--bits 64] [--json search.json] [--plot search.png]

Every result is compared with ours: the same distances, and rows that differ only among equal distances. Ratios are
FAISS's time over ours, > 1 is faster than FAISS, and FAISS's is the better of its default level and its AVX2 level.
usearch and sqlite-vec take one query after another, so they are given as many as fit the time and counted per query.
usearch, numkong (which it needs), sqlite-vec and apsw are no dependencies of ours; what is not installed is told.
Then comes multi-index hashing at 64 bits over the largest set, as benchmarks/mih.py measures it with more choices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import mih
import numpy as np
from code_sets import CENTRES, clustered_codes, near, random_codes
from search_engines import (
    FAISS,
    NUMPY,
    OURS,
    Engine,
    OtherResultsError,
    all_cores,
    check_same,
    engines_over,
    read_pass,
)

from duch import native
from duch.bench_table import figure as digits
from duch.bench_table import markdown
from duch.codes import PackedCodes
from duch.machine import cpu_facts, software_facts
from duch.tables import Tables

READ = "read"
_SHORT = 0.02  # seconds; a shorter run is timed three times a turn, after one that fills the caches
_ONE_BY_ONE = 0.5  # seconds that the queries of an engine without batches may take


@dataclass(frozen=True)
class Case:
    """What is searched for, and by how many threads."""

    data: str
    n: int
    n_bits: int
    queries: int
    k: int
    threads: int


@dataclass(frozen=True)
class Row:
    """One engine on one case.

    Attributes:
        engine: its name.
        queries: how many it was given.
        ms: median time for all of them.
        ns_per_code: the same for one code and query.
        gb_per_s: bytes of codes compared in a second.
        times_faiss: time of FAISS's better level over this engine's, for one query; None without FAISS.
    """

    engine: str
    queries: int
    ms: float
    ns_per_code: float
    gb_per_s: float
    times_faiss: float | None


def code_set(data: str, n: int, n_bits: int, queries: int) -> tuple[PackedCodes, PackedCodes]:
    """Codes to search in and queries that are drawn like them."""
    rng = np.random.default_rng([n, n_bits])
    if data == "random":
        return random_codes(rng, n, n_bits), random_codes(rng, queries, n_bits)
    centres = random_codes(rng, CENTRES, n_bits)
    return clustered_codes(rng, centres, n), near(rng, centres[rng.integers(0, CENTRES, queries)])


def take_turns(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median seconds of a run of each: turns until the time is over, at least two."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    started, turns = time.perf_counter(), 0
    while turns < 2 or time.perf_counter() - started < seconds:
        for name, run in runs.items():
            spent = _timed(run)
            times[name] += [_timed(run) for _ in range(3)] if spent < _SHORT else [spent]
        turns += 1
    return {name: statistics.median(found) for name, found in times.items()}


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(case: Case, codes: PackedCodes, queries: PackedCodes, engines: list[Engine], seconds: float) -> list[Row]:
    """All engines that can take so many threads, checked and timed; for one query, reading alone too."""
    runs: dict[str, Callable[[], Any]] = {}
    given = {}
    wanted = None
    for engine in engines:
        if case.threads > 1 and not engine.threads:
            continue
        some = queries
        if not engine.batches:
            alone = _timed(lambda engine=engine: engine.search(queries[:1], case.k, 1))
            some = queries[: max(case.threads, int(_ONE_BY_ONE / alone), 1)]
        found = engine.search(some, case.k, case.threads)
        wanted = wanted or found
        try:
            check_same(codes, queries, wanted, found, exact=engine.name.startswith(OURS) or engine.name == NUMPY)
        except OtherResultsError as error:
            raise OtherResultsError(f"{engine.name} against {engines[0].name}, {asdict(case)}: {error}") from None
        given[engine.name] = len(some)
        runs[engine.name] = lambda engine=engine, some=some: engine.search(some, case.k, case.threads)
    if case.queries == 1:
        given[READ] = 1
        runs[READ] = read_pass(codes, case.threads)
    medians = take_turns(runs, seconds)
    faiss = min((spent for name, spent in medians.items() if name.startswith(FAISS)), default=None)
    rows = []
    for name, spent in medians.items():
        each = spent / given[name]
        ratio = None if faiss is None else round(faiss / case.queries / each, 4)
        nanoseconds, speed = 1e9 * each / case.n, codes.nbytes / each / 1e9
        rows.append(Row(name, given[name], round(1e3 * spent, 4), round(nanoseconds, 4), round(speed, 2), ratio))
    return rows


def multi_index_hashing(data: str, n: int, n_bits: int, k: int, seconds: float) -> dict[str, Any]:
    """Tables over a set of codes: what they cost, and microseconds a query of FAISS, our scan and the tables."""
    rng = np.random.default_rng([n, n_bits])
    queries = mih.Queries(data, n_bits, rng)
    centres = queries.centres
    codes = random_codes(rng, n, n_bits) if centres is None else clustered_codes(rng, centres, n)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.bin"
        build_s = _timed(lambda: Tables.build(codes, file, fingerprint="00" * 32, generation=1))
        tables = Tables.open(file, n_bits=n_bits, fingerprint="00" * 32, generation=1, n_rows=n)
        engines = mih.engines_over(codes, [tables], native.levels()[:1])
        rows = mih.measure(data, codes, queries, engines, k, 1, seconds)
        return {
            "data": data,
            "n": n,
            "n_bits": n_bits,
            "k": k,
            "build_s": round(build_s, 2),
            "tables_bytes": file.stat().st_size,
            "rows": [asdict(row) for row in rows],
        }


def report_multi_index_hashing(found: list[dict[str, Any]]) -> None:
    lines = [["one thread, fresh queries", "us a query", "times FAISS"]]
    for facts in found:
        case = f"{facts['data']}, {facts['n']:,}, {facts['n_bits']} bits, k = {facts['k']}: "
        lines += [[case + row["method"], digits(row["us"]), digits(row["times_faiss"])] for row in facts["rows"]]
    print("\n" + markdown(lines) + "\n")
    for facts in found:
        print(f"- tables, {facts['data']}: built in {facts['build_s']} s, {facts['tables_bytes']:,} bytes")


def cases_of(options: argparse.Namespace) -> Iterator[tuple[tuple[str, int, int], list[Case]]]:
    """The cases over each set of codes, small sets first."""
    for n, n_bits, data in itertools.product(options.n, options.bits, options.data):
        asked = itertools.product(options.threads, options.queries, options.k)
        yield (data, n, n_bits), [Case(data, n, n_bits, queries, k, threads) for threads, queries, k in asked]


def report_line(case: Case, rows: list[Row], names: list[str]) -> list[str]:
    """A line of the table: the case, FAISS's and our ns for a code and query, ratios, share of the read bandwidth."""
    of = {row.engine: row for row in rows}
    faiss = [row.ns_per_code for row in rows if row.engine.startswith(FAISS)]
    ours = rows[0]
    line = [f"{case.data}, {case.n:,}, {case.n_bits} bits, {case.queries} x {case.k}, {case.threads}"]
    line += [f"{min(faiss):.3f}" if faiss else "", f"{ours.ns_per_code:.4f}"]
    ratios = [of[name].times_faiss if name in of else None for name in names]
    line += ["" if ratio is None else digits(ratio) for ratio in ratios]
    line.append(digits(ours.gb_per_s))
    line.append(f"{ours.gb_per_s / of[READ].gb_per_s:.0%} of {digits(of[READ].gb_per_s)}" if READ in of else "")
    return line


def main() -> None:
    options = read_options()
    cpu, software = cpu_facts(), software_facts()
    print(f"{cpu.model}, {cpu.cores} cores; {' '.join(cpu.flags)}; NumPy {software.numpy}, Python {software.python}\n")
    measured: list[dict[str, Any]] = []
    hashed: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    names: list[str] = []
    missing: dict[str, str] = {}
    sets = list(cases_of(options))
    try:
        todo = sum(len(cases) for _, cases in sets) + len(options.data) * (not options.no_tables)
        with click.progressbar(length=todo, label="searching", file=sys.stderr) as bar:
            for codes_key, cases in sets:
                codes, queries = code_set(*codes_key, max(options.queries))
                engines, missing = engines_over(codes)
                names = [engine.name for engine in engines]
                for case in cases:
                    rows = measure(case, codes, queries[: case.queries], engines, options.seconds)
                    lines.append(report_line(case, rows, names))
                    measured.append(asdict(case) | {"rows": [asdict(row) for row in rows]})
                    bar.update(1)
            for data in options.data if not options.no_tables else ():
                hashed.append(multi_index_hashing(data, max(options.n), 64, min(options.k), 5 * options.seconds))
                bar.update(1)
    except OtherResultsError as error:
        sys.exit(f"search.py: {error}")
    head = ["codes, queries x k, threads", "FAISS ns", "our ns", *names, "GB/s", "of reading alone"]
    print(markdown([head, *lines]))
    if hashed:
        report_multi_index_hashing(hashed)
    for name, reason in missing.items():
        print(f"- {name}: {reason}")
    if options.json:
        facts = {"cpu": asdict(cpu), "software": asdict(software), "missing": missing, "cases": measured}
        facts["multi_index_hashing"] = hashed
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    if options.plot:
        from search_plot import plot

        plot(measured, hashed, options.plot, f"{cpu.model}, one thread")


def read_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(float(part)) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=numbers, default=[10**5, 10**6, 10**7], help="numbers of codes, as 1e5,1e6")
    parser.add_argument("--bits", type=numbers, default=[64, 128, 256])
    parser.add_argument("--queries", type=numbers, default=[1, 16, 256], help="queries of a batch")
    parser.add_argument("--k", type=numbers, default=[10, 100])
    parser.add_argument("--threads", type=numbers, default=sorted({1, all_cores()}))
    parser.add_argument("--data", type=lambda text: text.split(","), default=["random", "clustered"])
    parser.add_argument("--seconds", type=float, default=4.0, help="for the turns of a case, if two take less")
    parser.add_argument(
        "--quick", action="store_true", help="a million random codes, k = 10, one thread, a second each"
    )
    parser.add_argument("--no-tables", action="store_true", help="without multi-index hashing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.n, options.k, options.threads, options.data, options.seconds = [10**6], [10], [1], ["random"], 1.0
    return options


if __name__ == "__main__":
    main()
