"""How much a graph differs from the model it came from: torch, ONNX fp32 and the graph of the bundle, side by side.

Measured on the held-out samples of the checkpoint: training images that calibration never saw. The report goes into the
manifest.

Shapes: n samples, s image size, t tokens, b = n_bits.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from duch.bundle import GraphInfo
from duch.codes import PackedCodes, binarize, pack_codes, unpack_codes
from duch.errors import BundleError
from duch.preprocess import Tokenizer

from .graph import Hasher

THREADS = 1  # a query comes alone, and one core is what all machines have
BATCH = 32
_REPEATS = 30

Feed = dict[str, NDArray[Any]]
Engine = Callable[[Feed], PackedCodes]


@dataclass(frozen=True)
class Agreement:
    """Codes of two engines on the same inputs.

    Attributes:
        bits: share of equal bits.
        codes: share of codes of which every bit is equal.
    """

    bits: float
    codes: float


@dataclass(frozen=True)
class GraphParity:
    """One graph of the bundle against its origins.

    Attributes:
        precision: of the bundle's graph.
        recipe: of the bundle's graph.
        samples: held-out inputs that were compared, each run alone.
        fp32_to_torch: ONNX fp32 against torch.
        bundle_to_fp32: the bundle's graph against ONNX fp32.
        bundle_to_torch: the bundle's graph against torch.
        batch_invariance: share of inputs whose code, by the bundle's graph, is the same alone as in a batch of 32.
        bytes_fp32: size of the ONNX fp32 graph.
        bytes_bundle: size of the bundle's graph.
        ms_torch: median time of one input alone, milliseconds, `THREADS` threads.
        ms_fp32: the same by ONNX fp32.
        ms_bundle: the same by the bundle's graph.
    """

    precision: str
    recipe: str
    samples: int
    fp32_to_torch: Agreement
    bundle_to_fp32: Agreement
    bundle_to_torch: Agreement
    batch_invariance: float
    bytes_fp32: int
    bytes_bundle: int
    ms_torch: float
    ms_fp32: float
    ms_bundle: float


@dataclass(frozen=True)
class ParityReport:
    """Both graphs of a bundle, and the circumstances of the measurement."""

    image: GraphParity
    text: GraphParity
    threads: int
    torch: str
    onnxruntime: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    def table(self) -> str:
        """A short table for eyes."""
        head = ("graph", "engine", "bits = fp32", "codes = fp32", "alone = batch", "MB", "ms")
        rows = [head]
        for name, graph in (("image", self.image), ("text", self.text)):
            agreement, size = graph.fp32_to_torch, graph.bytes_fp32
            rows.append(
                (name, "torch", f"{agreement.bits:.4f}", f"{agreement.codes:.3f}", "", "", f"{graph.ms_torch:.2f}")
            )
            rows.append((name, "onnx fp32", "1", "1", "", f"{size / 1e6:.1f}", f"{graph.ms_fp32:.2f}"))
            if graph.precision == "fp32":
                continue
            agreement, size = graph.bundle_to_fp32, graph.bytes_bundle
            invariance = f"{graph.batch_invariance:.3f}"
            rows.append(
                (
                    name,
                    f"onnx {graph.precision}",
                    f"{agreement.bits:.4f}",
                    f"{agreement.codes:.3f}",
                    invariance,
                    f"{size / 1e6:.1f}",
                    f"{graph.ms_bundle:.2f}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        samples = (
            f"{self.image.samples} training images and {self.text.samples} captions held out of calibration, each alone"
        )
        return "\n".join([*lines, f"{samples}; ms: median of one input, {self.threads} thread"])


def measure(
    hasher: Hasher,
    *,
    image_fp32: onnx.ModelProto,
    image_bundle: onnx.ModelProto,
    image_info: GraphInfo,
    text_fp32: onnx.ModelProto,
    text_bundle: onnx.ModelProto,
    text_info: GraphInfo,
    pixels: NDArray[np.uint8],
    captions: Sequence[str],
    tokenizer: Tokenizer,
) -> ParityReport:
    """Compare the graphs of a bundle with torch and with ONNX fp32.

    Args:
        hasher: the trained model.
        image_fp32: its image graph as exported.
        image_bundle: the same after quantization.
        image_info: how it was quantized.
        text_fp32: its text graph as exported.
        text_bundle: the same after quantization.
        text_info: how it was quantized.
        pixels: held-out uint8 (n, s, s, 3).
        captions: held-out sentences; too long ones are cut.
        tokenizer: of the bundle.
    """

    def torch_images(feed: Feed) -> PackedCodes:
        return _packed(hasher.relax_images(torch.from_numpy(feed["pixels"])))

    def torch_texts(feed: Feed) -> PackedCodes:
        ids, mask = (torch.from_numpy(feed[name]) for name in ("input_ids", "attention_mask"))
        return _packed(hasher.relax_texts(ids, mask))

    def image_feed(start: int, stop: int) -> Feed:
        return {"pixels": pixels[start:stop]}

    def text_feed(start: int, stop: int) -> Feed:
        input_ids, attention_mask = tokenizer(captions[start:stop], truncate=True)
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.inference_mode():
            image = _compare(torch_images, image_fp32, image_bundle, image_info, image_feed, len(pixels))
            text = _compare(torch_texts, text_fp32, text_bundle, text_info, text_feed, len(captions))
    finally:
        torch.set_num_threads(threads)
    return ParityReport(image, text, THREADS, str(torch.__version__), onnxruntime.__version__)


def open_session(model: onnx.ModelProto | bytes) -> Any:
    """An onnxruntime session on the CPU, as the parity report measures it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def agreement(ours: PackedCodes, theirs: PackedCodes) -> Agreement:
    """How far two sets of packed codes agree. Shape: (n, b / 8), (n, b / 8)."""
    equal = unpack_codes(ours) == unpack_codes(theirs)  # (n, b)
    return Agreement(bits=float(equal.mean()), codes=float(equal.all(axis=1).mean()))


def _compare(
    torch_engine: Engine,
    fp32: onnx.ModelProto,
    bundle: onnx.ModelProto,
    info: GraphInfo,
    feed: Callable[[int, int], Feed],
    count: int,
) -> GraphParity:
    if count == 0:
        raise BundleError("the checkpoint holds no held-out samples, so nothing can be proved; train it again")
    fp32_engine, bundle_engine = _engine(fp32), _engine(bundle)
    alone = [feed(i, i + 1) for i in range(count)]
    from_torch, from_fp32, from_bundle = (
        np.concatenate([engine(one) for one in alone]) for engine in (torch_engine, fp32_engine, bundle_engine)
    )
    batches = [bundle_engine(feed(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]
    ms_torch, ms_fp32, ms_bundle = _median_ms([torch_engine, fp32_engine, bundle_engine], alone)
    return GraphParity(
        precision=info.precision,
        recipe=info.recipe,
        samples=count,
        fp32_to_torch=agreement(from_fp32, from_torch),
        bundle_to_fp32=agreement(from_bundle, from_fp32),
        bundle_to_torch=agreement(from_bundle, from_torch),
        batch_invariance=agreement(from_bundle, np.concatenate(batches)).codes,
        bytes_fp32=fp32.ByteSize(),
        bytes_bundle=bundle.ByteSize(),
        ms_torch=ms_torch,
        ms_fp32=ms_fp32,
        ms_bundle=ms_bundle,
    )


def _engine(model: onnx.ModelProto) -> Engine:
    session = open_session(model)

    def run(feed: Feed) -> PackedCodes:
        (codes,) = session.run(["codes"], feed)
        return np.asarray(codes)

    return run


def _packed(relaxed: torch.Tensor) -> PackedCodes:
    return pack_codes(binarize(relaxed.numpy()))


def _median_ms(engines: Sequence[Engine], inputs: Sequence[Feed]) -> list[float]:
    """Median time of each engine. They take turns, so that a busy spell of the machine hits all of them."""
    times: list[list[float]] = [[] for _ in engines]
    for repeat in range(_REPEATS):
        one = inputs[repeat % len(inputs)]
        for engine, spent in zip(engines, times, strict=True):
            start = time.perf_counter()
            engine(one)
            spent.append(1e3 * (time.perf_counter() - start))
    return [round(statistics.median(spent), 3) for spent in times]
