"""The picture of search.py: one thread, times FAISS by width and batch, single queries against reading, and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from search_engines import FAISS, NUMPY, SQLITE_VEC, USEARCH

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from duch.bench_table import figure as digits

READ = "read"
_COLOURS = {"ours": "tab:orange", "avx2": "tab:red", NUMPY: "tab:purple", USEARCH: "tab:green", SQLITE_VEC: "tab:gray"}


def plot(cases: list[dict[str, Any]], hashed: list[dict[str, Any]], file: Path, title: str) -> None:
    """Draw what was measured on one thread with the smallest k, on random codes if there are any."""
    data = "random" if any(case["data"] == "random" for case in cases) else cases[0]["data"]
    k = min(case["k"] for case in cases)
    shown = [case for case in cases if (case["data"], case["k"], case["threads"]) == (data, k, 1)]
    figure, axes = pyplot.subplots(1, 3, figsize=(18, 6), layout="constrained", width_ratios=(4, 2, 2))
    sizes = sorted({case["n"] for case in shown})
    n = 10**6 if 10**6 in sizes else sizes[-1]
    _ratios(axes[0], [case for case in shown if case["n"] == n])
    axes[0].set_title(f"batches, {n:,} {data} codes, k = {k}")
    _bandwidth(axes[1], [case for case in shown if case["queries"] == 1])
    axes[1].set_title("a single query")
    _tables(axes[2], hashed)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(file, dpi=110)


def _ratios(axis: Axes, cases: list[dict[str, Any]]) -> None:
    """Bars: FAISS's time over the engine's, a group for each width and batch."""
    first = cases[0]["rows"][0]["engine"]
    engines = [first, "ours, avx2", NUMPY, USEARCH, SQLITE_VEC]
    colours = [_COLOURS["ours"], _COLOURS["avx2"], *(_COLOURS[name] for name in engines[2:])]
    cases = sorted(cases, key=lambda case: (case["n_bits"], case["queries"]))
    places, width = np.arange(len(cases)), 0.8 / len(engines)
    for offset, (engine, colour) in enumerate(dict(zip(engines, colours, strict=True)).items()):
        ratios = [_of(case, engine, "times_faiss") for case in cases]
        if any(ratios):
            bars = axis.bar(places + offset * width, [ratio or np.nan for ratio in ratios], width, color=colour)
            axis.bar_label(bars, [f"{ratio:.2g}" if ratio else "" for ratio in ratios], fontsize=7)
            bars.set_label(engine)
    axis.axhline(1, color="tab:blue", label="FAISS, the better of its levels")
    axis.set_yscale("log")
    axis.set_xticks(places + 0.4 - width / 2, [f"{case['n_bits']} bits\n{case['queries']}" for case in cases])
    axis.set_xlabel("width, queries at once")
    axis.set_ylabel("speed, FAISS = 1")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _bandwidth(axis: Axes, cases: list[dict[str, Any]]) -> None:
    """Lines: GB/s of codes over their number; dashed, what reading alone reaches."""
    for place, n_bits in enumerate(sorted({case["n_bits"] for case in cases})):
        of_width = sorted((case for case in cases if case["n_bits"] == n_bits), key=lambda case: case["n"])
        sizes, colour = [case["n"] for case in of_width], f"C{place}"
        axis.plot(sizes, [case["rows"][0]["gb_per_s"] for case in of_width], "o-", color=colour, label=f"{n_bits} bits")
        axis.plot(sizes, [_of(case, READ, "gb_per_s") for case in of_width], "x--", color=colour)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("codes")
    axis.set_ylabel("GB/s of codes; dashed: reading alone")
    axis.legend(fontsize=8)


def _tables(axis: Axes, hashed: list[dict[str, Any]]) -> None:
    """Bars: microseconds a query of FAISS, the scan and the tables."""
    if not hashed:
        axis.set_axis_off()
        return
    lines = [(facts["data"], row) for facts in hashed for row in facts["rows"]][::-1]
    colours = ["tab:blue" if row["method"].startswith(FAISS) else _COLOURS["ours"] for _, row in lines]
    names = [f"{data}: {row['method']}" for data, row in lines]
    bars = axis.barh(names, [row["us"] for _, row in lines], color=colours)
    axis.bar_label(bars, [digits(row["us"]) for _, row in lines], padding=3, fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(min(row["us"] for _, row in lines) / 3, max(row["us"] for _, row in lines) * 3)
    axis.set_xlabel("microseconds a query, fresh queries")
    axis.set_title(f"multi-index hashing,\n{hashed[0]['n']:,} codes of {hashed[0]['n_bits']} bits")


def _of(case: dict[str, Any], engine: str, field: str) -> Any:
    return next((row[field] for row in case["rows"] if row["engine"] == engine), None)
