"""A host written from BUNDLE.md alone: bare onnxruntime, NumPy, a decoder and a tokenizer, and nothing of duch.

    python -I bare_host.py BUNDLE

Follows the ten steps of the document and its section "Testing a device". Prints what it found as JSON, or one line and
exit code 1. Shapes: n inputs, s image size, b bits, m golden captions, t tokens.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

FILES = ("image.onnx", "text.onnx", "tokenizer.json", "golden.npz")
TAIL = re.compile(rb',\n  "manifest_sha256": "([0-9a-f]{64})"\n}\n\Z')


def demand(fact: bool, reason: str) -> None:
    if not fact:
        sys.exit(reason)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Steps 1 to 4."""
    data = (folder / "manifest.json").read_bytes()
    manifest: dict[str, Any] = json.loads(data)
    demand((manifest["format"], manifest["format_version"]) == ("duch-bundle", 1), "another format")
    tail = TAIL.search(data)
    demand(tail is not None and len(tail[0]) == 92, "no digest at the end of the manifest")
    digest = hashlib.sha256(data[:-92]).hexdigest()
    demand(data[-92:].decode() == f',\n  "manifest_sha256": "{digest}"\n}}\n', "another manifest_sha256")
    for file in FILES:
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        demand(digest == manifest["sha256"][file], f"another sha256 of {file}")
    demand(fingerprint(manifest) == manifest["fingerprint"], "another fingerprint")
    demand(manifest["gate"]["passed"], f"failed its export: {manifest['gate']['failures']}")
    return manifest


def fingerprint(manifest: dict[str, Any]) -> str:
    text, sha256 = manifest["preprocessing"]["text"], manifest["sha256"]
    line = (
        f'{{"format_version":1,"n_bits":{manifest["n_bits"]},"preprocessing":{{'
        f'"image":{{"size":{manifest["preprocessing"]["image"]["size"]}}},'
        f'"text":{{"max_tokens":{text["max_tokens"]},"pad_id":{text["pad_id"]}}}}},'
        f'"sha256":{{"image.onnx":"{sha256["image.onnx"]}","text.onnx":"{sha256["text.onnx"]}",'
        f'"tokenizer.json":"{sha256["tokenizer.json"]}"}}}}'
    )
    return hashlib.sha256(line.encode("ascii")).hexdigest()


def golden_of(data: bytes) -> dict[str, np.ndarray]:
    """The members of golden.npz, by the bytes of a ZIP archive and of .npy files."""
    arrays, place = {}, 0
    while data[place : place + 4] == b"PK\x03\x04":
        flags, method = struct.unpack_from("<HH", data, place + 6)
        size, name_length, extra_length = struct.unpack_from("<4xIHH", data, place + 18)
        demand((flags, method) == (0, 0), "golden.npz has members that are not plainly stored")
        name = data[place + 30 :][:name_length].decode()
        start = place + 30 + name_length + extra_length
        arrays[name.removesuffix(".npy")] = array_of(data[start : start + size])
        place = start + size
    return arrays


def array_of(data: bytes) -> np.ndarray:
    (length,) = struct.unpack_from("<H", data, 8)
    header = data[10 : 10 + length].decode("ascii")
    found = re.fullmatch(r"\{'descr': '(\|u1|<i8|<f4)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n", header)
    demand(data[:8] == b"\x93NUMPY\x01\x00" and found is not None, f"no array of the document: {header}")
    shape = [int(number) for number in found[2].split(",") if number.strip()]
    return np.frombuffer(data[10 + length :], found[1]).reshape(shape)


def pixels_of(file: bytes, s: int) -> np.ndarray:
    """Step 5: (s, s, 3) uint8. The decoder is Pillow; crop and resampling are the document's."""
    image = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))  # (h, w, 3)
    h, w = image.shape[:2]
    side = min(w, h)
    left, top = (w - side) // 2, (h - side) // 2
    square = image[top : top + side, left : left + side]
    if side == s:
        return square
    weights = resampling_weights(side, s)  # (s, side)

    def along_rows(image: np.ndarray) -> np.ndarray:
        total = np.einsum("ix,yxc->yic", weights, image.astype(np.int64))
        return np.clip((total + 2**21) >> 22, 0, 255).astype(np.uint8)

    return along_rows(along_rows(square).swapaxes(0, 1)).swapaxes(0, 1)


def resampling_weights(side: int, s: int) -> np.ndarray:
    """Integer weight of each pixel for each output, (s, side)."""

    def f(z: float) -> float:
        z = abs(z)
        if z < 1:
            return 1.5 * z**3 - 2.5 * z**2 + 1
        return -0.5 * z**3 + 2.5 * z**2 - 4 * z + 2 if z < 2 else 0.0

    weights = np.zeros((s, side), np.int64)
    scale = side / s
    stretch = max(scale, 1.0)
    for i in range(s):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - 2 * stretch + 0.5), 0), min(int(centre + 2 * stretch + 0.5), side)
        taps = [f((x - centre + 0.5) / stretch) for x in range(first, last)]
        for x, tap in zip(range(first, last), taps, strict=True):
            weight = tap / sum(taps) * 2**22
            weights[i, x] = math.floor(weight + 0.5) if weight >= 0 else math.ceil(weight - 0.5)
    return weights


def ids_of(tokenizer: Tokenizer, captions: list[str], text: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Step 7: input_ids and attention_mask, (m, t) int64."""
    rows = [tokenizer.encode(caption).ids for caption in captions]
    demand(max(map(len, rows)) <= text["max_tokens"], "a golden caption is too long")
    t = max(map(len, rows))
    ids = [row + [text["pad_id"]] * (t - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (t - len(row)) for row in rows]
    return np.array(ids, np.int64), np.array(mask, np.int64)


def codes_of(session: onnxruntime.InferenceSession, **feed: np.ndarray) -> np.ndarray:
    """Steps 6, 8 and 9: (n, b / 8) uint8."""
    codes: np.ndarray = session.run(["codes"], feed)[0]
    return codes


def differing_bits(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.bitwise_count(ours ^ theirs).sum())


def main(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    preprocessing, graphs = manifest["preprocessing"], manifest["graphs"]
    golden = golden_of((folder / "golden.npz").read_bytes())
    image, text = (
        onnxruntime.InferenceSession(folder / f"{graph}.onnx", providers=["CPUExecutionProvider"])
        for graph in ("image", "text")
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    png, jpeg = (pixels_of(golden[kind].tobytes(), preprocessing["image"]["size"]) for kind in ("png", "jpeg"))
    demand(np.array_equal(png, golden["pixels"][0]), "other pixels of the PNG")
    levels = int(np.abs(jpeg.astype(int) - golden["pixels"][1]).max())
    demand(levels <= 1, f"pixels of the JPEG differ by {levels}")
    captions = golden["captions"].tobytes().decode().split("\n")
    ids, mask = ids_of(tokenizer, captions, preprocessing["text"])
    demand(np.array_equal(ids, golden["input_ids"]), "other token ids")
    demand(np.array_equal(mask, golden["attention_mask"]), "another attention mask")

    image_codes = np.concatenate([codes_of(image, pixels=one[None]) for one in golden["pixels"]])
    lengths = mask.sum(axis=1)
    text_codes = np.concatenate(
        [
            codes_of(text, input_ids=ids[i : i + 1, :length], attention_mask=mask[i : i + 1, :length])
            for i, length in enumerate(lengths)
        ]
    )
    flipped = {
        "image": differing_bits(image_codes, golden["image_codes"]),
        "text": differing_bits(text_codes, golden["text_codes"]),
    }
    for graph, bits in flipped.items():
        demand(bits <= graphs[graph]["golden_budget"], f"{bits} golden bits of the {graph} graph differ")
    if graphs["image"]["batch_invariant"]:
        together = codes_of(image, pixels=golden["pixels"])
        demand(np.array_equal(together, image_codes), "images get other codes in a batch")
    if graphs["text"]["batch_invariant"]:
        together = codes_of(text, input_ids=ids, attention_mask=mask)
        demand(np.array_equal(together, text_codes), "captions get other codes in a batch")
    return {
        "fingerprint": manifest["fingerprint"],
        "flipped": flipped,
        "png_code": codes_of(image, pixels=png[None]).tobytes().hex(),
        "text_codes": [code.tobytes().hex() for code in text_codes],
        "packages": sorted({name.partition(".")[0] for name in sys.modules}),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
