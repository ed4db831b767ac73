"""The parity report: every measurement on the graphs of one bundle.

Shapes: n held-out samples, s image size, b = n_bits.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image

from duch.bundle import Bundle, GraphInfo
from duch.codes import PackedCodes
from duch.encoder import Encoder
from duch.errors import CheckpointError
from duch.machine import CpuFacts, cpu_facts
from duch.preprocess import Tokenizer
from duch_export.session import THREADS
from duch_training.checkpoint import Checkpoint
from duch_training.coders import BundleCoder, Coder, TorchCoder
from duch_training.progress import bar

from .compare import (
    Agreement,
    Margins,
    agreement,
    codes_are_signs,
    constant_bits,
    margins,
    saturated,
    stacked,
    unchanged,
)
from .engines import Engine, GraphCoder, Outputs, graph_engine, torch_engines, torch_like_onnxruntime
from .latency import median_ms
from .retrieval import ENGINES, DatasetParts, Retrieval, on_dataset, on_pairs
from .samples import ImageSamples, Samples, TextSamples

BATCH = 32


@dataclass(frozen=True)
class Graphs:
    """One side of the model before and after quantization.

    Attributes:
        fp32: the graph as exported.
        bundle: the graph of the bundle.
        info: what its manifest says of it.
    """

    fp32: onnx.ModelProto
    bundle: onnx.ModelProto
    info: GraphInfo


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


def measure(
    checkpoint: Checkpoint, *, image: Graphs, text: Graphs, bundle: Bundle, dataset: DatasetParts | None = None
) -> ParityReport:
    """Compare the graphs of a bundle with torch and with ONNX fp32.

    Args:
        checkpoint: the trained model and its held-out samples.
        image: its image graph.
        text: its text graph.
        bundle: the bundle as it was written, of these graphs; its report may be empty.
        dataset: query and gallery parts of the checkpoint's data set, to compare answers there; by default they are
            compared among the held-out pairs.

    Raises:
        CheckpointError: no held-out samples.
        CodesError: torch gives NaN.
        BundleError: the bundle cannot be run.
    """
    pixels, captions = checkpoint.heldout_pixels, checkpoint.heldout_captions
    if not captions or len(pixels) != len(captions):
        raise CheckpointError(
            f"the checkpoint holds {len(pixels)} held-out images and {len(captions)} captions of them; wanted one or "
            "more pairs to prove the bundle with: train it again"
        )
    tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
    from_files = _encode_files(bundle, pixels, captions)
    torch_images, torch_texts = torch_engines(checkpoint.hasher)
    with torch_like_onnxruntime():
        image_parity, image_codes = _compare("image", ImageSamples(pixels), image, torch_images, from_files["image"])
        text_parity, text_codes = _compare(
            "text", TextSamples(captions, tokenizer), text, torch_texts, from_files["text"]
        )
    if dataset is None:
        pairs = {engine: {"i": image_codes[engine], "t": text_codes[engine]} for engine in ENGINES}
        retrieval = on_pairs(pairs, captions)
    else:
        coders: dict[str, Coder] = {
            "torch": TorchCoder(checkpoint),
            "fp32": GraphCoder(image.fp32, text.fp32, tokenizer),
            "bundle": BundleCoder(bundle.path),
        }
        retrieval = on_dataset(coders, dataset)
    versions = str(torch.__version__), onnxruntime.__version__
    return ParityReport(image_parity, text_parity, retrieval, cpu_facts(), THREADS, *versions)


def _encode_files(bundle: Bundle, pixels: NDArray[np.uint8], captions: Sequence[str]) -> dict[str, PackedCodes]:
    """The samples as an edge box codes them: sentences, and images that were PNG files. Shape: -> (n, b / 8) each."""
    encoder = Encoder(bundle)
    files = []
    for one in pixels:
        files.append(io.BytesIO())
        Image.fromarray(one).save(files[-1], "PNG")
    return {
        "image": encoder.encode_images([Image.open(file) for file in files]),
        "text": encoder.encode_texts(captions, truncate=True),
    }


def _compare(
    name: str, samples: Samples, graphs: Graphs, torch_engine: Engine, from_files: PackedCodes
) -> tuple[GraphParity, dict[str, PackedCodes]]:
    """Measure one graph; also gives the codes of each engine. Shape: from_files (n, b / 8)."""
    rows = np.arange(samples.count)
    alone = [samples.feed(rows[i : i + 1]) for i in rows]
    engines = torch_engine, graph_engine(graphs.fp32), graph_engine(graphs.bundle)
    outputs: list[Outputs] = []
    with bar(len(engines) * len(alone), f"{name}: comparing codes", "input") as progress:
        for engine in engines:
            parts = []
            for feed in alone:
                parts.append(engine(feed))
                progress(1)
            outputs.append(stacked(parts))
    from_torch, from_fp32, from_bundle = outputs
    kinds = samples.batches()
    batches = {}
    with bar(len(kinds), f"{name}: coding in batches", "kind") as progress:
        for kind, feeds in kinds.items():
            batches[kind] = unchanged(engines[-1], from_bundle.codes, feeds)
            progress(1)
    together = [samples.feed(np.resize(rows, BATCH))]
    ms_torch, ms_fp32, ms_bundle = median_ms(engines, alone)
    batch_ms_torch, batch_ms_fp32, batch_ms_bundle = median_ms(engines, together)
    parity = GraphParity(
        precision=graphs.info.precision,
        recipe=graphs.info.recipe,
        batch_invariant=graphs.info.batch_invariant,
        samples=samples.count,
        fp32_to_torch=agreement(from_fp32.codes, from_torch.codes),
        bundle_to_fp32=agreement(from_bundle.codes, from_fp32.codes),
        bundle_to_torch=agreement(from_bundle.codes, from_torch.codes),
        encoder_to_graph=agreement(from_files, from_bundle.codes),
        encoder_to_torch=agreement(from_files, from_torch.codes),
        margins=margins(from_fp32, from_bundle.codes),
        batch_invariance=min(batches.values()),
        batches=batches,
        codes_are_signs=codes_are_signs(from_bundle),
        not_a_number=int((~np.isfinite(from_bundle.relaxed)).sum()),
        constant_bits=constant_bits(from_bundle.codes),
        constant_bits_torch=constant_bits(from_torch.codes),
        saturated=saturated(from_bundle.relaxed),
        saturated_torch=saturated(from_torch.relaxed),
        bytes_fp32=graphs.fp32.ByteSize(),
        bytes_bundle=graphs.bundle.ByteSize(),
        ms_torch=ms_torch,
        ms_fp32=ms_fp32,
        ms_bundle=ms_bundle,
        batch_ms_torch=batch_ms_torch,
        batch_ms_fp32=batch_ms_fp32,
        batch_ms_bundle=batch_ms_bundle,
    )
    return parity, {engine: output.codes for engine, output in zip(ENGINES, outputs, strict=True)}
