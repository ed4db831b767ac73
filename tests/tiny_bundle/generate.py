"""Write the tiny bundle beside this file: real graphs of a few kilobytes with seeded weights, made without torch.

Its codes mean nothing, but images of like colours and sentences of like words get like codes, so that the tests of
the runtime can search with it. Run it again after a change of the format:

    python tests/tiny_bundle/generate.py
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from duch.bundle import Golden, GraphInfo, write_bundle
from duch.preprocess import ImagePreprocessing, TextPreprocessing, Tokenizer, image_to_pixels

N_BITS = 32
IMAGE = ImagePreprocessing(size=32)
TEXT = TextPreprocessing(max_tokens=48, pad_id=0)
GRID = 4  # the image is averaged to GRID x GRID cells
WIDTH = 16  # of a word's embedding

WORDS = """a an the and of in on near with by at to is are there some many few several two three four five
airport airports plane planes parked terminal runway harbor harbour ship ships boat boats river rivers winds through
green field fields farmland forest forests tree trees dense sparse residential houses house parking lot cars car
storage tank tanks white blue red yellow brown gray grey baseball diamond tennis court courts roundabout intersection
road roads beach sand sea lake water industrial sheds building buildings bridge desert snow mountain"""


def packed_outputs(feature: str, weight: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes from a feature (n, d) to `relaxed` (n, b) and `codes` (n, b / 8)."""
    places = np.zeros((N_BITS, N_BITS // 8), dtype=np.float32)  # (b, b / 8)
    places[np.arange(N_BITS), np.arange(N_BITS) // 8] = 2.0 ** (7 - np.arange(N_BITS) % 8)
    nodes = [
        helper.make_node("MatMul", [feature, "head"], ["logits"]),
        helper.make_node("Tanh", ["logits"], ["relaxed"]),
        helper.make_node("GreaterOrEqual", ["relaxed", "zero"], ["bits"]),
        helper.make_node("Cast", ["bits"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["ones", "places"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["codes"], to=TensorProto.UINT8),
    ]
    return nodes, {"head": weight, "zero": np.zeros((), np.float32), "places": places}


def to_model(
    name: str, inputs: list[onnx.ValueInfoProto], nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]
) -> bytes:
    outputs = [
        helper.make_tensor_value_info("codes", TensorProto.UINT8, ["n", N_BITS // 8]),
        helper.make_tensor_value_info("relaxed", TensorProto.FLOAT, ["n", N_BITS]),
    ]
    initializers = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    # onnx's own defaults are newer than onnxruntime reads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def image_graph(rng: np.random.Generator) -> bytes:
    """Average colour of GRID x GRID cells -> random projection."""
    size, d = IMAGE.size, 3 * GRID * GRID
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["cells"], kernel_shape=[size // GRID] * 2, strides=[size // GRID] * 2
        ),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("Sub", ["flat", "grey"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["feature"]),
    ]
    weights = {"grey": np.array(110, np.float32), "scale": np.array(1 / 64, np.float32)}
    # Mostly the mean colour, the layout a little: tiles of one class resemble each other.
    head = np.tile(rng.normal(size=(3, 1, N_BITS)), (1, GRID * GRID, 1)).reshape(d, N_BITS)
    head = (head + 0.5 * rng.normal(size=(d, N_BITS))).astype(np.float32) / np.float32(d / 8)
    tail, more = packed_outputs("feature", head)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", size, size, 3])
    return to_model("image", [pixels], nodes + tail, weights | more)


def text_graph(rng: np.random.Generator, vocabulary: int) -> bytes:
    """Mean of the embeddings of the real tokens -> random projection."""
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["tokens"]),  # (n, t, WIDTH)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),  # (n, t)
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),  # (n, t, 1)
        helper.make_node("Mul", ["tokens", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], keepdims=0),  # (n, WIDTH)
        helper.make_node("ReduceSum", ["mask3", "middle"], ["count"], keepdims=0),  # (n, 1)
        helper.make_node("Div", ["total", "count"], ["feature"]),
    ]
    weights = {
        "embedding": rng.normal(size=(vocabulary, WIDTH)).astype(np.float32),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    tail, more = packed_outputs("feature", rng.normal(size=(WIDTH, N_BITS)).astype(np.float32))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    return to_model("text", inputs, nodes + tail, weights | more)


def tokenizer_json() -> str:
    """A BERT-like WordPiece tokenizer, with padding baked in as published ones have it: duch must ignore that."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *".,-'!?", *"机场河流森林"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*entries, *WORDS.split()]))}
    tokenizer = RawTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=TEXT.max_tokens)
    tokenizer.enable_truncation(TEXT.max_tokens)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=True)


def golden_images(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """A PNG and a JPEG, wider and higher than the graph's square."""
    files = []
    for kind, (height, width) in {"PNG": (40, 56), "JPEG": (60, 48)}.items():
        coarse = rng.integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(buffer, kind)
        files.append(buffer.getvalue())
    return files[0], files[1]


def make_golden(png: bytes, jpeg: bytes, image_onnx: bytes, text_onnx: bytes, tokenizer: str) -> Golden:
    pixels = np.stack([image_to_pixels(Image.open(io.BytesIO(file)), IMAGE) for file in (png, jpeg)])
    session = onnxruntime.InferenceSession(image_onnx, providers=["CPUExecutionProvider"])
    image_codes, image_relaxed = session.run(["codes", "relaxed"], {"pixels": pixels})
    captions = (
        "Planes parked near a terminal.",
        "Un café près de l'Église, à côté d'un aérodrome",
        "机场 and 河流 near 森林",
        " ".join(["many boats"] * ((TEXT.max_tokens - 2) // 2)),
    )
    input_ids, attention_mask = Tokenizer(tokenizer, TEXT)(captions)
    session = onnxruntime.InferenceSession(text_onnx, providers=["CPUExecutionProvider"])
    rows = []
    for ids, mask in zip(input_ids, attention_mask, strict=True):
        t = mask.sum()
        rows.append(session.run(["codes", "relaxed"], {"input_ids": ids[None, :t], "attention_mask": mask[None, :t]}))
    return Golden(
        png=png,
        jpeg=jpeg,
        pixels=pixels,
        image_relaxed=image_relaxed,
        image_codes=image_codes,
        captions=captions,
        input_ids=input_ids,
        attention_mask=attention_mask,
        text_relaxed=np.concatenate([relaxed for _, relaxed in rows]),
        text_codes=np.concatenate([codes for codes, _ in rows]),
    )


def write(folder: Path) -> None:
    """Write the tiny bundle to a new folder."""
    rng = np.random.default_rng(20)
    tokenizer = tokenizer_json()
    vocabulary = RawTokenizer.from_str(tokenizer).get_vocab_size()
    image_onnx, text_onnx = image_graph(rng), text_graph(rng, vocabulary)
    info = GraphInfo(precision="fp32", recipe="fp32", batch_invariant=True)
    write_bundle(
        folder,
        n_bits=N_BITS,
        image=IMAGE,
        text=TEXT,
        image_onnx=image_onnx,
        text_onnx=text_onnx,
        tokenizer_json=tokenizer,
        golden=make_golden(*golden_images(rng), image_onnx, text_onnx, tokenizer),
        image_graph=info,
        text_graph=info,
        provenance={"made_by": "tests/tiny_bundle/generate.py"},
    )


if __name__ == "__main__":
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch, "bundle"))
        for file in Path(scratch, "bundle").iterdir():
            shutil.copyfile(file, here / file.name)
    print(f"wrote {here}", file=sys.stderr)
