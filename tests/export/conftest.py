"""A small trained-looking checkpoint, made once: random weights, real architectures, real samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

from duch.bundle import GraphInfo, write_bundle
from duch.preprocess import ImagePreprocessing, TextPreprocessing, Tokenizer
from duch_export.golden import make_golden
from duch_export.graph import export_image_graph, export_text_graph
from duch_export.parity import Graphs, ParityReport, measure
from duch_training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from duch_training.config import TrainConfig
from duch_training.encoders import ImageEncoder, TextEncoder, learn_wordpiece
from duch_training.model import CrossModalHasher
from duch_training.splits import Split

FP32 = GraphInfo(precision="fp32", recipe="fp32", batch_invariant=True)
SIZE, MAX_TOKENS, N_BITS, WIDTH = 32, 24, 32, 64

_WORDS = "planes ships rivers fields houses cars tanks trees green blue white many few near beside the a of in"


@pytest.fixture(scope="session", autouse=True)
def quiet_exporters() -> Iterator[None]:
    """Exporters and quantizers log pages about themselves."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def sentences(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_WORDS.split(), size=rng.integers(2, 14))) for _ in range(count)]


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth coloured fields, uint8 (count, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((SIZE, SIZE))) for one in coarse])


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = learn_wordpiece(sentences(200, 0))
    bert = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        attn_implementation="eager",
    )
    resnet = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    hasher = CrossModalHasher(
        ImageEncoder(ResNetModel(resnet)),
        TextEncoder(BertModel(bert, add_pooling_layer=False)),
        n_bits=N_BITS,
        width=WIDTH,
    )
    # BatchNorm with running statistics of its own, and codes spread over both signs, as after a training.
    calibration, heldout = pictures(32, 1), pictures(40, 2)
    hasher.train()
    ids = torch.randint(5, tokenizer.get_vocab_size(), (64, 9))
    with torch.no_grad():
        for _ in range(60):
            hasher.relax_images(torch.from_numpy(calibration))
            hasher.relax_texts(ids, torch.ones_like(ids))
    folder = tmp_path_factory.mktemp("export") / "checkpoint"
    checkpoint = Checkpoint(
        hasher=hasher.eval(),
        config=TrainConfig(n_bits=N_BITS, width=WIDTH),
        tokenizer_json=tokenizer.to_str(),
        image=ImagePreprocessing(SIZE),
        text=TextPreprocessing(MAX_TOKENS),
        split=Split(train=("a",), query=("b",), gallery=("c",), rule="public", seed=0),
        calibration_pixels=calibration,
        calibration_captions=sentences(32, 3),
        heldout_pixels=heldout,
        heldout_captions=sentences(40, 4),
        facts={"dataset": "made up"},
    )
    save_checkpoint(folder, checkpoint)
    return folder


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_folder)


@pytest.fixture(scope="session")
def image_fp32(checkpoint: Checkpoint) -> onnx.ModelProto:
    return export_image_graph(checkpoint.hasher, size=SIZE)


@pytest.fixture(scope="session")
def text_fp32(checkpoint: Checkpoint) -> onnx.ModelProto:
    return export_text_graph(checkpoint.hasher, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="session")
def measured(
    checkpoint: Checkpoint,
    image_fp32: onnx.ModelProto,
    text_fp32: onnx.ModelProto,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., ParityReport]:
    """The parity report of a bundle of the fp32 graphs, or of a changed `image` or `text` that went into it."""

    def measure_bundle(
        image: onnx.ModelProto | None = None, text: onnx.ModelProto | None = None, info: GraphInfo = FP32
    ) -> ParityReport:
        graphs = Graphs(image_fp32, image or image_fp32, info), Graphs(text_fp32, text or text_fp32, info)
        tokenizer = Tokenizer(checkpoint.tokenizer_json, checkpoint.text)
        bundle = write_bundle(
            tmp_path_factory.mktemp("measured") / "bundle",
            n_bits=N_BITS,
            image=checkpoint.image,
            text=checkpoint.text,
            image_onnx=graphs[0].bundle.SerializeToString(),
            text_onnx=graphs[1].bundle.SerializeToString(),
            tokenizer_json=checkpoint.tokenizer_json,
            golden=make_golden(graphs[0].bundle, graphs[1].bundle, image=checkpoint.image, tokenizer=tokenizer),
            image_graph=info,
            text_graph=info,
        )
        return measure(checkpoint, image=graphs[0], text=graphs[1], bundle=bundle)

    return measure_bundle


@pytest.fixture(scope="session")
def fp32_report(measured: Callable[..., ParityReport]) -> ParityReport:
    """The parity report of the fp32 graphs themselves."""
    return measured()


@pytest.fixture
def fp32_graphs(
    image_fp32: onnx.ModelProto, text_fp32: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Exports of this test take these graphs instead of tracing torch again, which takes seconds."""
    monkeypatch.setattr("duch_export.build.export_image_graph", lambda *_, **__: image_fp32)
    monkeypatch.setattr("duch_export.build.export_text_graph", lambda *_, **__: text_fp32)
    return image_fp32, text_fp32
