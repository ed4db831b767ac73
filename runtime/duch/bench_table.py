"""A measurement of `duch bench` as markdown, for eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .display import printable

CaseKey = tuple[str, str, int, int]  # graph, stage, batch, size

TITLES = {
    ("text", "cold"): "text: process start to code",
    ("text", "graph"): "text: graph alone",
    ("text", "whole"): "text: sentence to code",
    ("image", "cold"): "image: process start to code",
    ("image", "graph"): "image: graph alone",
    ("image", "whole"): "image: JPEG to code",
    ("search", "cold"): "search: process start to hits",
    ("search", "whole"): "search: sentence to hits",
    ("search", "scan"): "search: code to hits",
}
_ORDER = list(TITLES)
_UNITS = {"text": "tokens", "image": "px", "search": "tiles"}


def bench_table(result: Mapping[str, Any]) -> str:
    """A measurement, in the schema of `duch.bench`, as markdown."""
    hardware, software, bundle, memory = (result[name] for name in ("hardware", "software", "bundle", "memory"))
    cpu = [hardware["model"], hardware["architecture"], f"{hardware['cores']} cores", hardware["governor"]]
    cpu.append(f"{hardware['mhz']:.0f} MHz" if hardware["mhz"] else None)
    graphs = ", ".join(
        f"{name} {info['precision']} ({printable(info['recipe'])})" for name, info in bundle["graphs"].items()
    )
    sizes = ", ".join(f"{file} {size / 1e6:.1f}" for file, size in bundle["bytes"].items())
    onnxruntimes = ", ".join(f"{name} {version}" for name, version in software["onnxruntime"].items())
    threads = ", ".join(f"{name} {count}" for name, count in result["threads"].items())
    before, after, peak = (_megabytes(memory[name]) for name in ("before_mb", "after_mb", "peak_mb"))
    lines = [
        f"- CPU: {printable(', '.join(filter(None, cpu)))}; {' '.join(hardware['flags']) or 'flags not known'}",
        f"- software: duch {result['duch']}, {onnxruntimes}, Python {software['python']}, {software['kernel']}; "
        f"search kernels {software.get('search', 'not known')}",
        f"- bundle: {bundle['fingerprint'][:12]}, {bundle['n_bits']} bits, {graphs}; MB: {sizes}",
        f"- provider: {obtained(result)}; threads: {threads}",
        f"- memory of this process, MB: {before} before, {after} after, {peak} at most",
    ]
    if hardware["throttled_meanwhile"]:
        lines.append(f"- heat slowed the cores down {hardware['throttled_meanwhile']} times meanwhile")
    if result["energy"]:
        lines.append(f"- energy, idle power included, from {', '.join(result['energy'])}")
    head = ["case", "batch", "p50 ms", "p95 ms", "p99 ms", "per second", "runs"]
    cases = sorted(result["cases"], key=lambda case: rank(case_key(case)))
    optional = [
        (name, key, unit)
        for name, key, unit in (("mJ each", "joules", 1e3), ("peak MB", "peak_mb", 1))
        if any(case[key] is not None for case in cases)
    ]
    rows = [[*head, *(name for name, _, _ in optional)]]
    for case in cases:
        figures = [figure(case[name]) for name in ("p50_ms", "p95_ms", "p99_ms", "per_second")]
        more = ["" if case[key] is None else figure(case[key] * unit) for _, key, unit in optional]
        rows.append([title(case_key(case)), str(case["batch"]), *figures, str(case["runs"]), *more])
    return "\n".join([*lines, "", markdown(rows)])


def case_key(case: Mapping[str, Any]) -> CaseKey:
    """What tells a case from the others."""
    return case["graph"], case["stage"], case["batch"], case["size"]


def rank(key: CaseKey) -> tuple[int, int, int]:
    """Place of a case in a table."""
    graph, stage, batch, size = key
    return _ORDER.index((graph, stage)), batch, size


def title(key: CaseKey) -> str:
    """A case for eyes."""
    graph, stage, _, size = key
    return f"{TITLES[graph, stage]}, {size:,} {_UNITS[graph]}"


def obtained(result: Mapping[str, Any]) -> str:
    """Providers that run the graphs."""
    return ", ".join(f"{graph} {'/'.join(names)}" for graph, names in result["provider"]["obtained"].items())


def figure(value: float) -> str:
    """Three digits, or all of a larger number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table that is aligned as text too, its head first. The first column is words, the others are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        words, *figures = zip(row, widths, strict=True)
        return "| " + " | ".join([words[0].ljust(words[1]), *(cell.rjust(width) for cell, width in figures)]) + " |"

    rule = "|-" + "-" * widths[0] + "-|-" + ":|-".join("-" * width for width in widths[1:]) + ":|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def _megabytes(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"
