"""The encoder on the tiny bundle: codes, batches, providers, and what it says when something is wrong."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duch.bundle import Bundle, read_bundle
from duch.codes import binarize, pack_codes
from duch.encoder import Encoder
from duch.errors import BundleError, ImageError, InputError, MissingPackageError, TextError

TINY = Path(__file__).parents[1] / "tiny_bundle"
CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY)


def with_graph(folder: Path, **changes: Any) -> Bundle:
    """The tiny bundle with other facts about its text graph."""
    tiny = read_bundle(TINY)
    manifest = replace(tiny.manifest, text_graph=replace(tiny.manifest.text_graph, **changes))
    return Bundle(folder, manifest)


def test_golden_inputs_give_golden_codes(encoder: Encoder) -> None:
    golden = encoder.bundle.golden()
    assert np.array_equal(encoder.encode_pixels(golden.pixels), golden.image_codes)
    assert np.array_equal(encoder.encode_texts(golden.captions), golden.text_codes)
    assert np.array_equal(encoder.encode_tokens(golden.input_ids, golden.attention_mask), golden.text_codes)
    np.testing.assert_allclose(encoder.relaxed_pixels(golden.pixels), golden.image_relaxed, atol=1e-5)
    np.testing.assert_allclose(encoder.relaxed_texts(golden.captions), golden.text_relaxed, atol=1e-5)
    relaxed = encoder.relaxed_tokens(golden.input_ids, golden.attention_mask)
    np.testing.assert_allclose(relaxed, golden.text_relaxed, atol=1e-5)


def test_golden_files_decode_to_golden_pixels(encoder: Encoder) -> None:
    golden = encoder.bundle.golden()
    images = [Image.open(io.BytesIO(file)) for file in (golden.png, golden.jpeg)]
    codes = encoder.encode_images(images)
    assert np.array_equal(codes[:1], golden.image_codes[:1])  # a JPEG decoder may differ by a level


def test_codes_are_the_packed_signs_of_the_relaxed_codes(encoder: Encoder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 32, 32, 3), dtype=np.uint8)
    codes = encoder.encode_pixels(pixels)
    assert codes.shape == (5, encoder.n_bits // 8)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, pack_codes(binarize(encoder.relaxed_pixels(pixels))))


def test_paths_arrays_and_images_give_the_same_code(encoder: Encoder, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    sources: Sequence[Any] = [tmp_path / "a.png", str(tmp_path / "a.png"), array, Image.fromarray(array)]
    codes = encoder.encode_images(sources, batch_size=3)
    assert codes.shape[0] == 4
    assert (codes == codes[0]).all()


def test_code_does_not_depend_on_the_batch(encoder: Encoder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(70, 32, 32, 3), dtype=np.uint8)
    alone = np.concatenate([encoder.encode_pixels(pixels[i : i + 1]) for i in range(70)])
    assert np.array_equal(encoder.encode_pixels(pixels), alone)
    texts = ["planes", "many ships near the green river with trees", "a bridge"] * 20
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert np.array_equal(encoder.encode_texts(texts), alone)


def test_nothing_in_gives_no_codes(encoder: Encoder) -> None:
    width = encoder.n_bits // 8
    assert encoder.encode_images([]).shape == (0, width)
    assert encoder.encode_texts([]).shape == (0, width)
    assert encoder.encode_pixels(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, width)
    assert encoder.relaxed_texts([]).shape == (0, encoder.n_bits)
    assert encoder.relaxed_pixels(np.zeros((0, 32, 32, 3), np.uint8)).dtype == np.float32


def test_only_the_graph_that_is_needed_is_loaded() -> None:
    encoder = Encoder(TINY)
    assert encoder.providers == {}
    encoder.encode_texts(["a river"])
    assert encoder.providers == {"text": (CPU,)}
    encoder.encode_pixels(np.zeros((1, 32, 32, 3), np.uint8))
    assert encoder.providers == {"text": (CPU,), "image": (CPU,)}


class _Spy:
    """Stands before a session and keeps the shapes that pass."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.shapes: list[tuple[int, ...]] = []

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        self.shapes.append(feed["input_ids"].shape)
        return self.session.run(outputs, feed)


@pytest.mark.parametrize(("invariant", "wanted"), [(True, [(3, 9)]), (False, [(1, 3), (1, 9), (1, 4)])])
def test_graph_that_mixes_its_batch_gets_one_sentence_at_a_time(invariant: bool, wanted: list[tuple[int, int]]) -> None:
    encoder = Encoder(with_graph(TINY, batch_invariant=invariant))
    texts = ["planes", "many ships near the river with trees", "a bridge"]
    encoder.encode_texts(texts)
    spy = encoder._sessions["text"] = _Spy(encoder._sessions["text"])
    assert encoder.encode_texts(texts).shape == (3, 4)
    assert spy.shapes == wanted


def test_threads_and_spinning_reach_the_session() -> None:
    encoder = Encoder(TINY, threads=3)
    encoder.encode_texts(["a river"])
    encoder.encode_pixels(np.zeros((1, 32, 32, 3), np.uint8))
    image, text = (encoder._sessions[graph].get_session_options() for graph in ("image", "text"))
    assert (image.intra_op_num_threads, text.intra_op_num_threads) == (3, 1)
    for options in (image, text):
        assert options.inter_op_num_threads == 1
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_missing_onnxruntime_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    encoder = Encoder(TINY)  # a search-only node may look at a bundle without it
    with pytest.raises(MissingPackageError, match=r"duch\[cpu\]"):
        encoder.encode_texts(["a river"])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="threads is -1"):
        Encoder(TINY, threads=-1)
    with pytest.raises(InputError, match="batch size is 0"):
        Encoder(TINY).encode_images(["a.png"], batch_size=0)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 32, 31, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.full((1, 32, 32, 3), np.nan, np.float32),
        np.zeros((1, 3, 32, 32), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(encoder: Encoder, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"wanted uint8 \(n, 32, 32, 3\)"):
        encoder.encode_pixels(pixels)


def test_one_string_is_not_taken_for_a_list(encoder: Encoder) -> None:
    with pytest.raises(TextError, match="one string"):
        encoder.encode_texts("a river")
    with pytest.raises(InputError, match="one str"):
        encoder.encode_images("a.png")
    with pytest.raises(TextError, match="sentence 2 is NoneType"):
        encoder.encode_texts(["a river", None])  # type: ignore[list-item]


def test_unknown_words_are_told(encoder: Encoder) -> None:
    assert encoder.unknown_words("planes near a ✈") == ["✈"]


def test_bad_sentences_and_images_are_named(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="sentence 1 of 1 is empty"):
        encoder.encode_texts([" "])
    with pytest.raises(TextError, match="at most 48"):
        encoder.encode_texts(["river " * 10_000])
    assert encoder.encode_texts(["river " * 10_000], truncate=True).shape == (1, 4)
    with pytest.raises(ImageError, match=r"no\.png does not exist"):
        encoder.encode_images([tmp_path / "no.png"])


def test_graph_that_does_not_load_is_one_line(tmp_path: Path) -> None:
    for name in ("image.onnx", "text.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    (tmp_path / "text.onnx").write_bytes(b"\x00 no graph")
    with pytest.raises(BundleError, match=r"text\.onnx cannot be loaded") as error:
        Encoder(with_graph(tmp_path)).encode_texts(["a river"])
    assert "\n" not in str(error.value)


def test_graph_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    for name in ("image.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    (tmp_path / "text.onnx").write_bytes((TINY / "image.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"has inputs pixels .* wanted input_ids tensor\(int64\), attention_mask"):
        Encoder(with_graph(tmp_path)).encode_texts(["a river"])


def test_graph_that_gives_codes_of_another_type_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(TINY / "text.onnx")
    (cast,) = [node for node in model.graph.node if "codes" in node.output]
    cast.attribute[0].i = onnx.TensorProto.FLOAT
    (codes,) = [output for output in model.graph.output if output.name == "codes"]
    codes.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, tmp_path / "text.onnx")
    with pytest.raises(BundleError, match=r"outputs .*codes tensor\(float\).* wanted .* codes tensor\(uint8\)"):
        Encoder(with_graph(tmp_path)).load("text")


def test_bundle_in_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xfcndel")
    shutil.copytree(TINY, folder)
    golden = read_bundle(folder).golden()
    assert np.array_equal(Encoder(folder).encode_texts(golden.captions), golden.text_codes)


def test_token_that_the_graph_does_not_know_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("text.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole.replace('"mountain": 1', '"mountain": 9991'))
    with pytest.raises(BundleError, match=r"text\.onnx of .* fails") as error:
        Encoder(with_graph(tmp_path)).encode_texts(["mountain"])
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""  # onnxruntime would log it too, in colours


def test_manifest_with_another_width_than_the_graph_is_refused() -> None:
    bundle = read_bundle(TINY)
    wide = Bundle(bundle.path, replace(bundle.manifest, n_bits=64))
    with pytest.raises(BundleError, match=r"gives codes of shape \(1, 4\).*\(1, 8\)"):
        Encoder(wide).encode_texts(["a river"])
