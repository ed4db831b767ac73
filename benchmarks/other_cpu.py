"""The same codes on another processor: code the same inputs here and under an emulator, and compare.

    python benchmarks/other_cpu.py build/demo/bundle --cpu Haswell --cpu Nehalem [--data DATASET]
    python benchmarks/other_cpu.py build/demo/bundle --python build/aarch64/bin/python

--cpu names a processor of `qemu-x86_64 -cpu help` (Debian: qemu-user); this Python runs on it. --python is another
Python that has duch, such as the emulated one of aarch64.sh. The emulated process uses the runtime alone and decodes,
tokenizes and codes everything itself. Inputs are the golden ones of the bundle and those of a data set, or made up.
Exits with 1 where fewer bits than --least are equal.

"U8S8" is a product of int8 numbers at the ends of their ranges: `exact` with VNNI and the like, `saturates` where
onnxruntime adds pairs of products in 16 bits. It shows that the emulated processor takes other kernels than this one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duch.bundle import read_bundle
from duch.encoder import Encoder
from duch.errors import DuchError

GRAPHS = ("text", "image")
WIDTH = 256  # of the product that shows saturation


def code(bundle: Path, inputs: Path) -> dict[str, Any]:
    """Codes of the inputs in a folder, how long they took, and which processor this is. One thread."""
    import onnxruntime

    encoder = Encoder(bundle, threads=1)
    sentences = json.loads((inputs / "sentences.json").read_text())
    images = sorted((inputs / "images").iterdir())
    coders = {
        "text": lambda: encoder.encode_texts(sentences, truncate=True),
        "image": lambda: encoder.encode_images(images),
    }
    result: dict[str, Any] = {"features": features()}
    session = onnxruntime.InferenceSession(inputs / "product.onnx", providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": np.full((1, WIDTH), 255, np.uint8)})  # (1, WIDTH) int32
    result["u8s8"] = "exact" if int(product[0, 0]) == WIDTH * 255 * 127 else "saturates"
    for graph, coder in coders.items():
        encoder.load(graph)
        started = time.perf_counter()
        codes = coder()  # (n, b / 8)
        result[graph] = {"codes": codes.tolist(), "seconds": time.perf_counter() - started}
    return result


def features() -> list[str]:
    """Vector instructions as the processor itself names them; /proc/cpuinfo is the host's under an emulator."""
    found = np._core._multiarray_umath.__cpu_features__
    wanted = ("SSE42", "AVX2", "AVX512F", "AVX512VNNI", "ASIMD", "ASIMDDP", "SVE")
    return [name for name in wanted if found.get(name)]


def emulated(command: Sequence[str], bundle: Path, inputs: Path) -> dict[str, Any]:
    """What `code` gives in another process."""
    # The emulator says on stderr which features it leaves out; that is no error.
    done = subprocess.run(
        [*command, __file__, str(bundle), "--child", str(inputs)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def write_inputs(folder: Path, bundle: Path, data: Path | None, sentences: int, images: int) -> None:
    """sentences.json, images/ and product.onnx, the same for every processor."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    (folder / "images").mkdir()
    source = read_bundle(bundle)
    golden = source.golden()
    texts, files = from_dataset(data) if data else made_up(source.image.size, sentences, images)
    files = [golden.png, golden.jpeg, *itertools.islice(files, images)]
    for number, file in enumerate(files):
        (folder / "images" / f"{number:05}").write_bytes(file)
    (folder / "sentences.json").write_text(json.dumps([*golden.captions, *itertools.islice(texts, sentences)]))
    weight = numpy_helper.from_array(np.full((WIDTH, WIDTH), 127, np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, WIDTH])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [1, WIDTH])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "product.onnx")


def from_dataset(path: Path) -> tuple[list[str], Any]:
    """Captions, each once, and image files of a data set, spread over all of it."""
    from duch_training.data import read_dataset

    images = list(read_dataset(path).images)
    np.random.default_rng(0).shuffle(images)
    captions = dict.fromkeys(caption for image in images for caption in image.captions)
    return list(captions), (image.path.read_bytes() for image in images)


def made_up(size: int, sentences: int, images: int) -> tuple[list[str], Any]:
    """Sentences from words of the earth seen from above, and drawn images."""
    from duch_export.golden import draw_image

    rng = np.random.default_rng(0)
    things = ("planes", "storage tanks", "ships", "houses", "trees", "cars", "fields", "a bridge", "a river", "a road")
    places = ("near a terminal", "beside the harbour", "on bare land", "in a dense forest", "around a lake")
    counts = ("many", "two", "some white", "several green", "rows of")
    every = [f"{count} {thing} {place}" for count in counts for thing in things for place in places]
    files = (draw_image(size, kind=("PNG", "JPEG")[seed % 2], seed=100 + seed) for seed in range(images))
    return [every[index] for index in rng.permutation(len(every))[:sentences]], files


def compare(options: argparse.Namespace, others: dict[str, list[str]]) -> float:
    """Print the table; returns the least share of equal bits."""
    worst = 1.0
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch)
        write_inputs(inputs, options.bundle, options.data, options.sentences, options.images)
        here = code(options.bundle, inputs)
        manifest = read_bundle(options.bundle).manifest
        for graph, info in (("text", manifest.text_graph), ("image", manifest.image_graph)):
            print(
                f"{graph}: {info.precision}, {info.recipe}, {len(here[graph]['codes'])} inputs, {manifest.n_bits} bits"
            )
        print(f"here: {' '.join(here['features'])}; U8S8 {here['u8s8']}\n")
        print("| processor | features | U8S8 | graph | equal bits | equal codes | times slower |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name, command in others.items():
            there = emulated(command, options.bundle, inputs)
            for graph in GRAPHS:
                mine, theirs = (np.array(run[graph]["codes"], dtype=np.uint8) for run in (here, there))  # (n, b / 8)
                bits = float(1 - np.bitwise_count(mine ^ theirs).sum() / (8 * mine.size))
                codes = (mine == theirs).all(axis=1).mean()
                slower = there[graph]["seconds"] / here[graph]["seconds"]
                about = f"{name} | {' '.join(there['features'])} | {there['u8s8']} | {graph}"
                print(f"| {about} | {bits:.5f} | {codes:.4f} | {slower:.0f} |", flush=True)
                worst = min(worst, bits)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cpu", action="append", default=[], help="a processor of qemu-x86_64; may be given again")
    parser.add_argument("--python", action="append", default=[], help="another Python; may be given again")
    parser.add_argument("--data", type=Path, help="a captioned data set whose sentences and images are coded")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--least", type=float, default=0.998, help="share of equal bits below which the exit code is 1")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = options.cpu or ([] if options.python else ["Haswell"])
    others = {model: ["qemu-x86_64", "-cpu", model, sys.executable] for model in models}
    others |= {command: shlex.split(command) for command in options.python}
    try:
        if options.child:
            json.dump(code(options.bundle, options.child), sys.stdout)
            return
        worst = compare(options, others)
    except DuchError as error:
        sys.exit(f"other_cpu.py: {error}")
    except FileNotFoundError as error:
        sys.exit(f"other_cpu.py: {error.filename} is not there; qemu-x86_64 comes with Debian's package qemu-user")
    if worst < options.least:
        sys.exit(f"{worst:.5f} of the bits are equal; wanted {options.least} or more")


if __name__ == "__main__":
    main()
