"""report.md: the verdict first, then every figure that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from duch.display import printable
from duch_export.parity import GraphParity, ParityReport
from duch_export.parity.compare import NEAR
from duch_export.parity.figures import BATCH

from .findings import Findings

Rows = list[Sequence[str]]


def markdown(findings: Findings) -> str:
    """report.md."""
    parity = findings.parity
    return (
        "\n\n".join(
            [
                f"# Export of {_cell(findings.name)}",
                _verdict(findings),
                _exported(findings),
                "## Tests",
                _table(
                    ("test", "found", "wanted", "passed"),
                    [(c.name, c.found, c.wanted, "yes" if c.passed else "**no**") for c in findings.checks],
                ),
                *_agreement(parity),
                *_batches(parity),
                *_answers(parity),
                *_speed(parity),
            ]
        )
        + "\n"
    )


def _verdict(findings: Findings) -> str:
    if not findings.failed:
        return f"**Passed** all {len(findings.checks)} tests of the gate."
    written = (
        "The bundle was written by force, and its manifest says that it failed."
        if findings.forced
        else "No bundle was written."
    )
    reasons = "\n".join(f"- {_cell(str(check))}" for check in findings.failed)
    return f"**Failed** {len(findings.failed)} of {len(findings.checks)} tests. {written}\n\n{reasons}"


def _exported(findings: Findings) -> str:
    rows: Rows = []
    for name, graph in findings.parity.graphs.items():
        batches = "yes" if graph.batch_invariant else "no: the encoder runs inputs alone"
        sizes = (f"{_mb(size)} MB" for size in (graph.bytes_bundle, graph.bytes_fp32))
        rows.append((name, graph.recipe, graph.precision, batches, *sizes))
    head = ("graph", "recipe", "precision", "may run in batches", "size", "ONNX fp32")
    return (
        f"Trained on {_cell(findings.dataset)}; {findings.n_bits} bits; recipe {findings.config.recipe}; fingerprint "
        f"`{findings.fingerprint[:16]}`.\n\n{_table(head, rows)}"
    )


def _agreement(parity: ParityReport) -> list[str]:
    samples = (
        f"{parity.image.samples} training images and one caption of each, which calibration never saw; each runs alone."
    )
    rows: Rows = []
    for name, graph in parity.graphs.items():
        for what, same in (
            ("ONNX fp32 and torch", graph.fp32_to_torch),
            ("bundle and ONNX fp32", graph.bundle_to_fp32),
            ("bundle and torch", graph.bundle_to_torch),
            ("encoder from files, and graph", graph.encoder_to_graph),
            ("encoder from files, and torch", graph.encoder_to_torch),
        ):
            rows.append((name, what, _share(same.bits), _share(same.codes)))
    information: Rows = []
    for name, g in parity.graphs.items():
        shares = (g.constant_bits, g.constant_bits_torch, g.saturated, g.saturated_torch)
        information.append((name, *(f"{share:.1%}" for share in shares)))
    return [
        "## Agreement",
        samples,
        _table(("graph", "engines", "equal bits", "equal codes"), rows),
        _table(
            ("graph", "bits that never change", "torch", "relaxed values at -1 or 1", "torch"),
            information,
        ),
        "### Bits that flip",
        f"|relaxed| of ONNX fp32 tells how sure a bit is. A sound graph flips bits near zero (below {NEAR:g}) alone.",
        _margins(parity),
        "![Margins of the bits that flip](margins.png)",
    ]


def _margins(parity: ParityReport) -> str:
    quantiles = parity.image.margins.quantiles
    rows: Rows = []
    for name, graph in parity.graphs.items():
        found = graph.margins
        rows.append(
            (name, "all", f"{found.bits:,}", f"{found.all_near_zero:.1%}", *(f"{q:.3f}" for q in found.all_quantiles))
        )
        if found.flips_near_zero is None:
            rows.append((name, "flipped", "0", *[""] * (len(quantiles) + 1)))
        else:
            values = (f"{q:.3f}" for q in found.flip_quantiles)
            rows.append((name, "flipped", f"{found.flips:,}", f"{found.flips_near_zero:.1%}", *values))
    head = ("graph", "bits", "number", f"below {NEAR:g}", *(f"quantile {q:g}" for q in quantiles))
    return _table(head, rows)


def _batches(parity: ParityReport) -> list[str]:
    rows: Rows = []
    for name, graph in parity.graphs.items():
        rows += [(name, kind, _share(share)) for kind, share in graph.batches.items()]
    variant = [name for name, graph in parity.graphs.items() if not graph.batch_invariant]
    remark = (
        f"The manifest says that codes of the {' and the '.join(variant)} graph depend on their batch, so the encoder "
        "runs each input alone."
        if variant
        else "The manifest says that no code depends on its batch, so the encoder may use batches."
    )
    return [
        "## Batches",
        "Share of codes that are the same in a batch as alone, by the bundle's graphs.",
        _table(("graph", "batch of", "same code"), rows),
        remark,
        "![Codes alone and in batches](batches.png)",
    ]


def _answers(parity: ParityReport) -> list[str]:
    found = parity.retrieval
    rows = []
    for name, d in found.directions.items():
        scores = (d.map_torch, d.map_fp32, d.map_bundle, d.loss, d.standard_error)
        rows.append((name, *(f"{score:.4f}" for score in scores), f"{d.top10:.1%}"))
    return [
        "## Answers",
        f"On {_cell(found.on)}: {found.queries:,} queries, {found.gallery:,} items; a query should find "
        f"{found.relevant}. The loss is that of the bundle against ONNX fp32; its standard error comes from the "
        "differences query by query. The first ten hits are those of the index, ties in its order.",
        _table(
            ("direction", "mAP@20 torch", "ONNX fp32", "bundle", "loss", "standard error", "first ten that stay"), rows
        ),
        "![First ten hits that stay](answers.png)",
    ]


def _speed(parity: ParityReport) -> list[str]:
    rows: Rows = []
    for name, g in parity.graphs.items():
        alone = g.ms_torch, g.ms_fp32, g.ms_bundle
        together = g.batch_ms_torch, g.batch_ms_fp32, g.batch_ms_bundle
        for inputs, (torch, fp32, bundle) in (("alone", alone), (f"{BATCH} together", together)):
            times = (_ms(torch), _ms(fp32), _ms(bundle))
            rows.append((name, inputs, *times, f"{torch / bundle:.2f}", f"{fp32 / bundle:.2f}"))
    cpu = parity.cpu
    flags = f"; {', '.join(cpu.flags)}" if cpu.flags else ""
    return [
        "## Speed on this machine",
        "\n".join(f"- {name}: {_faster(graph)}" for name, graph in parity.graphs.items()),
        f"{_cell(cpu.model or 'Unknown CPU')} ({cpu.architecture}{flags}), {parity.threads} thread, torch "
        f"{parity.torch}, onnxruntime {parity.onnxruntime}. Medians in milliseconds; the engines take turns.",
        _table(("graph", "inputs", "torch", "ONNX fp32", "bundle", "torch / bundle", "fp32 / bundle"), rows),
        "![Latency](latency.png)",
    ]


def _faster(graph: GraphParity) -> str:
    if graph.recipe == "fp32":
        return "the graph is ONNX fp32 itself."
    alone, together = graph.faster, graph.batch_faster
    return (
        f"faster than ONNX fp32 here: {_yes(alone)}, {alone:.2f} times alone; {_yes(together)}, {together:.2f} times "
        f"in batches of {BATCH}."
    )


def _yes(ratio: float) -> str:
    return "**yes**" if ratio > 1 else "**no**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    """Text of a file or folder, harmless in Markdown."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def _share(value: float) -> str:
    return f"{value:.4f}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _ms(value: float) -> str:
    return f"{value:.2f}"
