"""The gate: a bundle is written only if what `parity` measured of it reaches the thresholds.

Engines are compared link by link, torch, ONNX fp32, the bundle's graph, the encoder on the bundle's files, so that a
fault is named once and where it is.

A loss of mAP is measured on as many queries as there are, so it fails only where it exceeds the threshold by more than
two standard errors of the difference, taken query by query: what chance alone would show is no fault of the bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from duch.bundle import Gate

from .config import Thresholds
from .parity import Direction, GraphParity, ParityReport


@dataclass(frozen=True)
class Check:
    """One test of a bundle.

    Attributes:
        name: what was looked at.
        found: the figure.
        wanted: what it had to be.
        passed: whether it was.
    """

    name: str
    found: str
    wanted: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: found {self.found}, wanted {self.wanted}"


def checks(report: ParityReport, thresholds: Thresholds) -> list[Check]:
    """Every test of the gate, passed or not."""
    found: list[Check] = []
    for name, graph in report.graphs.items():
        least = thresholds.same_bits
        if graph.precision == "int8":
            least = thresholds.image_bits if name == "image" else thresholds.text_bits
        found += _of(name, _graph_checks(graph, least, thresholds))
    for way, direction in report.retrieval.directions.items():
        found += _of(way, _retrieval_checks(direction, thresholds))
    if thresholds.max_mb:
        size = sum(graph.bytes_bundle for graph in report.graphs.values()) / 1e6
        found.append(
            Check(
                "size of both graphs", f"{size:.1f} MB", f"at most {thresholds.max_mb:g} MB", size <= thresholds.max_mb
            )
        )
    return found


def judge(report: ParityReport, thresholds: Thresholds) -> Gate:
    """Whether a bundle may be written, and one line for each test that it failed."""
    failures = tuple(str(check) for check in checks(report, thresholds) if not check.passed)
    return Gate(not failures, failures)


def _of(whose: str, found: Iterator[Check]) -> list[Check]:
    return [replace(check, name=f"{whose}: {check.name}") for check in found]


def _graph_checks(graph: GraphParity, least: float, thresholds: Thresholds) -> Iterator[Check]:
    same = thresholds.same_bits
    yield _share("bits of ONNX fp32 that equal torch's", graph.fp32_to_torch.bits, same)
    yield _share(f"bits of the {graph.precision} graph that equal ONNX fp32's", graph.bundle_to_fp32.bits, least)
    yield _share("bits of the encoder, from files, that equal the graph's", graph.encoder_to_graph.bits, same)
    yield _share("packed codes that are the signs of the relaxed codes", graph.codes_are_signs, 1)
    yield Check("relaxed values that are no number", f"{graph.not_a_number}", "none", graph.not_a_number == 0)
    yield Check(
        "bits that never change",
        f"{graph.constant_bits:.1%} of {graph.samples} codes",
        f"at most {thresholds.constant_bits:.1%} more than torch's {graph.constant_bits_torch:.1%}",
        graph.constant_bits <= graph.constant_bits_torch + thresholds.constant_bits,
    )
    if graph.batch_invariant:
        worst = min(graph.batches, key=lambda kind: graph.batches[kind])
        yield _share(f"codes alone as in batches (least: {worst})", graph.batch_invariance, thresholds.batch_invariance)
    if thresholds.faster_than_fp32:
        wanted = thresholds.faster_than_fp32
        yield Check("faster than ONNX fp32", f"{graph.faster:.2f} times", f"{wanted:g} times", graph.faster >= wanted)


def _retrieval_checks(direction: Direction, thresholds: Thresholds) -> Iterator[Check]:
    slack = 2 * direction.standard_error
    yield Check(
        "loss of mAP@20",
        f"{direction.loss:.4f}",
        f"at most {thresholds.retrieval_loss:g} + {slack:.4f} (two standard errors)",
        direction.loss <= thresholds.retrieval_loss + slack,
    )
    yield _share("first ten hits that stay", direction.top10, thresholds.top10)


def _share(name: str, found: float, least: float) -> Check:
    # Rounded down, so that no failure reads "found 0.9800, wanted at least 0.98".
    return Check(name, f"{int(found * 1e5) / 1e5:.5f}", f"at least {least:g}", found >= least)
