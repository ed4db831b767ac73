"""The figures that matter most, as `duch export` prints them."""

from __future__ import annotations

from collections.abc import Sequence

from duch.table import aligned
from duch_export.parity import Agreement, ParityReport
from duch_export.parity.figures import BATCH


def summary(parity: ParityReport) -> str:
    """The figures that matter most, as a short table for eyes."""
    rows: list[Sequence[str]] = [
        ("graph", "engine", "bits = fp32", "codes = fp32", "alone = batch", "MB", "ms", f"ms of {BATCH}")
    ]
    for name, g in parity.graphs.items():
        torch, bundle = _both(g.fp32_to_torch), _both(g.bundle_to_fp32)
        rows.append((name, "torch", *torch, "", "", _ms(g.ms_torch), _ms(g.batch_ms_torch)))
        rows.append(
            (name, "onnx fp32", "1", "1", "", f"{g.bytes_fp32 / 1e6:.1f}", _ms(g.ms_fp32), _ms(g.batch_ms_fp32))
        )
        if g.recipe != "fp32":
            alone, size = f"{g.batch_invariance:.3f}", f"{g.bytes_bundle / 1e6:.1f}"
            rows.append((name, f"onnx {g.precision}", *bundle, alone, size, _ms(g.ms_bundle), _ms(g.batch_ms_bundle)))
    answers = [
        f"{name}: {found.map_bundle:.3f}, fp32 {found.map_fp32:.3f}; {found.top10:.0%} of the first ten hits stay"
        for name, found in parity.retrieval.directions.items()
    ]
    return "\n".join(
        [
            aligned(rows),
            f"{parity.image.samples} training images and a caption of each, held out of calibration; ms: median of one "
            f"input alone and of {BATCH} together, {parity.threads} thread",
            f"mAP@20 on {parity.retrieval.on}:",
            *answers,
        ]
    )


def _both(same: Agreement) -> tuple[str, str]:
    return f"{same.bits:.4f}", f"{same.codes:.3f}"


def _ms(value: float) -> str:
    return f"{value:.2f}"
