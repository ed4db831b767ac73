"""The figures of a parity report. Their names are those in the manifest, so that tools may rely on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from duch.machine import CpuFacts

from .compare import Agreement, Margins
from .retrieval import Retrieval

BATCH = 32  # inputs that are timed together


@dataclass(frozen=True)
class GraphParity:
    """One graph of the bundle against its origins.

    Attributes:
        precision: of the bundle's graph.
        recipe: of the bundle's graph.
        batch_invariant: whether the manifest says that a code never depends on its batch.
        samples: held-out inputs that were compared, each run alone.
        fp32_to_torch: ONNX fp32 against torch.
        bundle_to_fp32: the bundle's graph against ONNX fp32.
        bundle_to_torch: the bundle's graph against torch.
        encoder_to_graph: codes by `duch.encoder.Encoder`, from the bundle's files, sentences and PNG files, against the
            bundle's graph on what training's preprocessing made of the same samples.
        encoder_to_torch: the same codes against torch.
        margins: |relaxed| of the bits that flip.
        batch_invariance: least of `batches`.
        batches: kind of batch -> share of inputs whose code, by the bundle's graph, is the same there as alone.
        codes_are_signs: share of the bundle's packed codes that are the signs of their own relaxed codes.
        not_a_number: how many relaxed values of the bundle's graph are NaN or infinite.
        constant_bits: share of bits that are the same in all codes of the bundle's graph.
        constant_bits_torch: the same of torch.
        saturated: share of the bundle's relaxed values above 0.999 or below -0.999.
        saturated_torch: the same of torch.
        bytes_fp32: size of the ONNX fp32 graph.
        bytes_bundle: size of the bundle's graph.
        ms_torch: median time of one input alone, milliseconds, `THREADS` threads.
        ms_fp32: the same by ONNX fp32.
        ms_bundle: the same by the bundle's graph.
        batch_ms_torch: median time of `BATCH` inputs together, milliseconds.
        batch_ms_fp32: the same by ONNX fp32.
        batch_ms_bundle: the same by the bundle's graph.
    """

    precision: str
    recipe: str
    batch_invariant: bool
    samples: int
    fp32_to_torch: Agreement
    bundle_to_fp32: Agreement
    bundle_to_torch: Agreement
    encoder_to_graph: Agreement
    encoder_to_torch: Agreement
    margins: Margins
    batch_invariance: float
    batches: dict[str, float]
    codes_are_signs: float
    not_a_number: int
    constant_bits: float
    constant_bits_torch: float
    saturated: float
    saturated_torch: float
    bytes_fp32: int
    bytes_bundle: int
    ms_torch: float
    ms_fp32: float
    ms_bundle: float
    batch_ms_torch: float
    batch_ms_fp32: float
    batch_ms_bundle: float

    @property
    def faster(self) -> float:
        """How many times faster than ONNX fp32 the bundle's graph is here, one input alone."""
        return self.ms_fp32 / self.ms_bundle

    @property
    def batch_faster(self) -> float:
        """The same for `BATCH` inputs together."""
        return self.batch_ms_fp32 / self.batch_ms_bundle


@dataclass(frozen=True)
class ParityReport:
    """Both graphs of a bundle, the answers that they give, and the circumstances of the measurement."""

    image: GraphParity
    text: GraphParity
    retrieval: Retrieval
    cpu: CpuFacts
    threads: int
    torch: str
    onnxruntime: str

    @property
    def graphs(self) -> dict[Literal["image", "text"], GraphParity]:
        """The two graphs by name."""
        return {"image": self.image, "text": self.text}

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)
