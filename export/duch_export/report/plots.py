"""The pictures of an export's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from duch_export.parity import GraphParity, ParityReport
from duch_export.parity.compare import BINS
from duch_export.parity.figures import BATCH

PICTURES = ("margins.png", "batches.png", "answers.png", "latency.png")
_BLUE, _ORANGE, _GREY = "#0b3c5d", "#d9822b", "#b8c4ce"


def draw(folder: Path, parity: ParityReport) -> None:
    """Draw all pictures into a folder."""
    for name, picture in zip(PICTURES, (_margins, _batches, _answers, _latency), strict=True):
        picture(parity).savefig(folder / name, format="png", dpi=110)


def _figure(panels: int, *, height: float = 3.4) -> tuple[Any, Any]:
    """Panels side by side, two in a row."""
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    columns = min(2, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.6 * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Any, axis: Any) -> None:
    """Below the axes, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)


def _margins(parity: ParityReport) -> Any:
    figure, axes = _figure(2)
    left = np.arange(BINS) / BINS
    for axis, (name, graph) in zip(axes, parity.graphs.items(), strict=True):
        found = graph.margins
        bars = (("all bits", found.all_histogram, _GREY), ("bits that flip", found.flip_histogram, _ORANGE))
        for label, counts, colour in bars:
            share = np.array(counts) / max(1, sum(counts))
            kind = {"color": colour, "alpha": 0.9} if label == "all bits" else {"color": "none", "edgecolor": colour}
            axis.bar(left, 100 * share, 1 / BINS, align="edge", label=label, lw=1.8, **kind)
        axis.set_title(f"{name}: {found.flips:,} of {found.bits:,} bits flip")
        axis.set_xlabel("|relaxed| by ONNX fp32")
        axis.set_ylabel("share of these bits, %")
    _legend(figure, axes[0])
    return figure


def _batches(parity: ParityReport) -> Any:
    kinds = [
        (f"{name}, batch of {kind}", share)
        for name, graph in parity.graphs.items()
        for kind, share in graph.batches.items()
    ]
    figure, (axis, *_) = _figure(1, height=1.2 + 0.32 * len(kinds))
    figure.set_figwidth(7)
    labels, shares = zip(*reversed(kinds), strict=True)
    axis.barh(labels, [100 * share for share in shares], color=_BLUE)
    for place, share in enumerate(shares):
        axis.text(100 * share - 1 if share > 0.15 else 100 * share + 1, place, f"{100 * share:.1f}",
                  ha="right" if share > 0.15 else "left", va="center",
                  color="white" if share > 0.15 else "black", fontsize=8)  # fmt: skip
    axis.set_xlim(0, 100)
    axis.set_xlabel("codes that are the same in a batch as alone, %")
    axis.set_title("Batches of the bundle's graphs")
    return figure


def _answers(parity: ParityReport) -> Any:
    directions = parity.retrieval.directions
    figure, axes = _figure(len(directions))
    for axis, (name, direction) in zip(axes, directions.items(), strict=True):
        counts = np.array(direction.top10_counts)
        axis.bar(range(len(counts)), 100 * counts / counts.sum(), color=_BLUE)
        axis.set_title(f"{name}: {direction.top10:.1%} stay")
        axis.set_xlabel(f"how many of the first {len(counts) - 1} hits stay")
        axis.set_ylabel("queries, %")
        axis.set_ylim(0, 100)
        axis.set_xticks(range(len(counts)))
    return figure


def _latency(parity: ParityReport) -> Any:
    figure, axes = _figure(2)
    for axis, (name, graph) in zip(axes, parity.graphs.items(), strict=True):
        for place, (engine, alone, together) in enumerate(_times(graph)):
            values = [alone, together / BATCH]
            at = np.arange(2) + 0.27 * (place - 1)
            bars = axis.bar(at, values, 0.25, color=(_GREY, _BLUE, _ORANGE)[place], label=engine)
            axis.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8, padding=1)
        axis.set_xticks(range(2), ["alone", f"{BATCH} together"])
        axis.set_ylabel("ms an input")
        axis.set_title(f"{name}, {parity.threads} thread")
        axis.margins(y=0.12)
    _legend(figure, axes[0])
    return figure


def _times(graph: GraphParity) -> list[tuple[str, float, float]]:
    return [
        ("torch", graph.ms_torch, graph.batch_ms_torch),
        ("ONNX fp32", graph.ms_fp32, graph.batch_ms_fp32),
        ("bundle", graph.ms_bundle, graph.batch_ms_bundle),
    ]
