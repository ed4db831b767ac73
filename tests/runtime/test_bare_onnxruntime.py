"""The graphs need nothing of ours: a host written from BUNDLE.md gives the encoder's codes, and sees what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.bundle import Gate, read_bundle
from duch.encoder import Encoder
from duch.preprocess import TextPreprocessing

from .resigned import TINY, resigned

HOST = Path(__file__).with_name("bare_host.py")
OURS = {"duch", "duch_training", "duch_export", "torch", "transformers", "onnx", "optimum"}


def run_host(folder: Path) -> subprocess.CompletedProcess[str]:
    # -I: neither the current folder nor PYTHONPATH can smuggle anything in
    return subprocess.run([sys.executable, "-I", HOST, folder], capture_output=True, text=True, check=False)


def test_bare_host_gives_the_codes_of_the_encoder() -> None:
    done = run_host(TINY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    bundle = read_bundle(TINY)
    golden, encoder = bundle.golden(), Encoder(bundle)
    assert found["fingerprint"] == bundle.fingerprint
    assert found["flipped"] == {"image": 0, "text": 0}
    assert found["png_code"] == encoder.encode_images([Image.open(BytesIO(golden.png))]).tobytes().hex()
    assert found["text_codes"] == [code.tobytes().hex() for code in encoder.encode_texts(golden.captions)]
    assert "onnxruntime" in found["packages"]
    assert not OURS.intersection(found["packages"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gate": Gate(False, ("too few bits",))}, "failed its export: ['too few bits']"),
        ({"text": TextPreprocessing(max_tokens=48, pad_id=1)}, "other token ids"),
        ({"golden": {"text_codes": np.zeros((4, 4), np.uint8)}}, "golden bits of the text graph differ"),
        ({"golden": {"pixels": np.zeros((2, 32, 32, 3), np.uint8)}}, "other pixels of the PNG"),
    ],
)
def test_bare_host_refuses_what_the_document_tells_it_to(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    done = run_host(resigned(tmp_path / "bundle", **changes))
    assert done.returncode == 1
    assert told in done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "image.onnx", "text.onnx", "tokenizer.json", "golden.npz"])
def test_bare_host_refuses_a_flipped_byte(tmp_path: Path, name: str) -> None:
    folder = resigned(tmp_path / "bundle")
    data = bytearray((folder / name).read_bytes())
    place = data.index(b'"recipe"') + 2 if name == "manifest.json" else len(data) // 2
    data[place] ^= 1
    (folder / name).write_bytes(data)
    done = run_host(folder)
    assert done.returncode == 1
    assert ("another manifest_sha256" if name == "manifest.json" else f"another sha256 of {name}") in done.stderr
