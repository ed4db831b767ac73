"""Every measurement on the graphs of one bundle.

Shapes: n held-out samples, s image size, b = n_bits.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

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
from duch.machine import cpu_facts
from duch.preprocess import Tokenizer
from duch_export.session import THREADS
from duch_training.checkpoint import Checkpoint
from duch_training.coders import BundleCoder, Coder, TorchCoder
from duch_training.progress import bar

from .compare import (
    agreement,
    codes_are_signs,
    constant_bits,
    margins,
    saturated,
    stacked,
    unchanged,
)
from .engines import Engine, GraphCoder, Outputs, graph_engine, torch_engines, torch_like_onnxruntime
from .figures import BATCH, GraphParity, ParityReport
from .latency import median_ms
from .retrieval import ENGINES, DatasetParts, on_dataset, on_pairs
from .samples import ImageSamples, Samples, TextSamples


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
    check_heldout(checkpoint)
    pixels, captions = checkpoint.heldout_pixels, checkpoint.heldout_captions
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


def check_heldout(checkpoint: Checkpoint) -> None:
    """Say early whether `measure` would have nothing to compare with.

    Raises:
        CheckpointError: no held-out samples.
    """
    pixels, captions = checkpoint.heldout_pixels, checkpoint.heldout_captions
    if not captions or len(pixels) != len(captions):
        raise CheckpointError(
            f"the checkpoint holds {len(pixels)} held-out images and {len(captions)} captions of them; wanted one or "
            "more pairs to prove the bundle with: train it again"
        )


def _encode_files(bundle: Bundle, pixels: NDArray[np.uint8], captions: Sequence[str]) -> dict[str, PackedCodes]:
    """The samples as an edge box codes them: sentences, and images that were PNG files. Shape: -> (n, b / 8) each."""
    encoder = Encoder(bundle)
    files = []
    for one in pixels:
        file = io.BytesIO()
        Image.fromarray(one).save(file, "PNG")
        files.append(file.getvalue())
    return {
        "image": encoder.encode_images(files),
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
