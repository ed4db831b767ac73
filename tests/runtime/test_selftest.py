"""The self-test: a fit device passes, and each thing that can be wrong is found and named."""

from __future__ import annotations

import importlib.metadata
import json
import re
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from duch.bundle import Gate, Golden, read_bundle
from duch.cli import main
from duch.errors import BundleCorruptError, BundleError, InputError, MissingPackageError
from duch.machine import cpu_facts
from duch.preprocess import TextPreprocessing
from duch.selftest import SelfTest, selftest

from .resigned import TINY, resigned

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

CHECKS = [
    *("files", "export", "onnxruntime", "PNG pixels", "JPEG pixels", "token ids and mask"),
    *("image provider", "image codes", "image batch", "text provider", "text codes", "text batch"),
]


def with_head(name: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """A graph with other weights in its head, changed as bytes: the edge has no library that edits graphs."""
    data = (TINY / f"{name}.onnx").read_bytes()
    start = data.index(b"B\x04headJ") + 7  # a TensorProto: field 8 is the name, field 9 its bytes with a varint length
    length, shift = 0, 0
    while True:
        byte = data[start]
        length, shift, start = length | (byte & 127) << shift, shift + 7, start + 1
        if byte < 128:
            break
    weights = np.frombuffer(data[start : start + length], "<f4")
    return data[:start] + change(weights).astype("<f4").tobytes() + data[start + length :]


def golden() -> Golden:
    return read_bundle(TINY).golden()


def flipped(codes: np.ndarray, *bits: int) -> np.ndarray:
    """Packed codes with some bits of the first row turned over."""
    unpacked = np.unpackbits(codes, axis=1)
    unpacked[0, list(bits)] ^= 1
    return np.packbits(unpacked, axis=1)


def huge_png() -> bytes:
    """The beginning of a file that says it has more pixels than Pillow opens."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(12)


def names(result: SelfTest) -> list[str]:
    return [check.name for check in result.failed]


def tiny_graph(**changes: Any) -> Any:
    return replace(read_bundle(TINY).manifest.text_graph, **changes)


def duch(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_device_that_gives_the_golden_codes_is_fit() -> None:
    result = selftest(TINY, threads=1)
    assert result.fit
    assert [check.name for check in result.checks] == CHECKS
    assert set(result.graphs) == {"image", "text"}
    for run in result.graphs.values():
        assert (run.precision, run.recipe, run.providers, run.threads) == ("fp32", "fp32", (CPU,), 1)
        assert run.flipped == ()
        assert min(run.cold_ms, run.warm_ms) > 0
    assert result.peak_mb > 0
    assert (result.fingerprint, result.n_bits) == (read_bundle(TINY).fingerprint, 32)


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"gate": Gate(False, ("image bits .91 of fp32's; wanted .98",))}, ["export"]),
        ({"golden": {"pixels": golden().pixels ^ np.array([1, 0], np.uint8)[:, None, None, None]}}, ["PNG pixels"]),
        ({"golden": {"pixels": golden().pixels ^ np.array([0, 1], np.uint8)[:, None, None, None]}}, []),
        ({"golden": {"pixels": golden().pixels ^ np.array([0, 2], np.uint8)[:, None, None, None]}}, ["JPEG pixels"]),
        ({"golden": {"png": b"no picture"}}, ["PNG pixels", "image graph"]),
        ({"golden": {"jpeg": huge_png()}}, ["JPEG pixels"]),
        ({"golden": {"captions": golden().captions[::-1]}}, ["token ids and mask"]),
        (
            {"golden": {"input_ids": golden().input_ids[:, :-1], "attention_mask": golden().attention_mask[:, :-1]}},
            None,
        ),
        ({"golden": {"attention_mask": golden().attention_mask * 0}}, ["token ids and mask", "text codes"]),
        ({"text": TextPreprocessing(max_tokens=48, pad_id=1)}, ["token ids and mask"]),
        ({"text": TextPreprocessing(max_tokens=5)}, ["token ids and mask", "text graph"]),
        ({"golden": {"image_codes": flipped(golden().image_codes, 31)}}, ["image codes"]),
        ({"golden": {"text_codes": flipped(golden().text_codes, 0)}}, ["text codes"]),
        ({"image_onnx": with_head("image", np.negative)}, ["image codes"]),
        ({"text_onnx": with_head("text", np.negative)}, ["text codes"]),
        ({"text_onnx": b"no graph"}, ["text graph"]),
        ({"image_onnx": (TINY / "text.onnx").read_bytes()}, ["image graph"]),
    ],
)
def test_each_thing_that_is_wrong_is_found(tmp_path: Path, changes: dict[str, Any], failing: list[str] | None) -> None:
    result = selftest(resigned(tmp_path / "bundle", **changes))
    assert names(result) == (["token ids and mask"] if failing is None else failing)
    assert result.fit == (failing == [])


def test_another_tokenizer_is_found(tmp_path: Path) -> None:
    raw = json.loads(read_bundle(TINY).tokenizer_json())
    words = raw["model"]["vocab"]
    words["planes"], words["snow"] = words["snow"], words["planes"]
    result = selftest(resigned(tmp_path / "bundle", tokenizer_json=json.dumps(raw)))
    assert names(result) == ["token ids and mask"]  # the graph gets golden ids, and is not at fault
    assert "1 of 4 captions differ" in str(result.failed[0])


def test_as_many_bits_as_the_manifest_allows_may_differ(tmp_path: Path) -> None:
    changes = {"golden": {"text_codes": flipped(golden().text_codes, 3, 4, 30)}}
    enough = selftest(resigned(tmp_path / "3" / "bundle", text_graph=tiny_graph(golden_budget=3), **changes))
    assert enough.fit
    assert [(bit.input, bit.bit) for bit in enough.graphs["text"].flipped] == [(0, 3), (0, 4), (0, 30)]
    too_few = selftest(resigned(tmp_path / "2" / "bundle", text_graph=tiny_graph(golden_budget=2), **changes))
    assert "text codes: 3 of 128 golden bits differ" in str(too_few.failed[0])
    assert "wanted at most 2" in str(too_few.failed[0])


def test_flipped_bits_tell_how_near_to_zero_they_are(tmp_path: Path) -> None:
    result = selftest(resigned(tmp_path / "bundle", text_onnx=with_head("text", np.negative)))
    (first, *_) = bits = result.graphs["text"].flipped
    relaxed = golden().text_relaxed
    assert len(bits) == relaxed.size
    assert first.golden == pytest.approx(relaxed[0, 0])
    assert first.here == pytest.approx(-relaxed[0, 0], abs=1e-6)
    assert f"|relaxed| up to {np.abs(relaxed).max():.2g}" in str(result.failed[0])


def test_graph_that_gives_no_numbers_is_told_in_valid_json(tmp_path: Path) -> None:
    folder = resigned(tmp_path / "bundle", image_onnx=with_head("image", lambda weights: weights * np.nan))
    result = selftest(folder)
    assert "relaxed is no finite number" in str(result.failed[0])
    raw = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert raw["graphs"]["image"]["flipped"][0]["here"] is None


def mixes_its_batch() -> bytes:
    """The text graph with the mean of the batch taken off its logits."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(TINY / "text.onnx")
    (tanh,) = [node for node in model.graph.node if node.op_type == "Tanh"]
    place = list(model.graph.node).index(tanh)
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "batch")
    model.graph.initializer.append(axes)
    model.graph.node.insert(place, onnx.helper.make_node("Sub", ["logits", "mean"], ["mixed"]))
    model.graph.node.insert(place, onnx.helper.make_node("ReduceMean", ["logits", "batch"], ["mean"]))
    tanh.input[0] = "mixed"
    data: bytes = model.SerializeToString()
    return data


def test_graph_that_only_claims_to_be_batch_invariant_is_found(tmp_path: Path) -> None:
    alone = {"text_codes": np.full_like(golden().text_codes, 255)}  # a sentence less itself is 0, and 0 is bit 1
    changes: dict[str, Any] = {"text_onnx": mixes_its_batch(), "golden": alone}
    claims = selftest(resigned(tmp_path / "claims" / "bundle", **changes))
    assert names(claims) == ["text batch"]
    admits = selftest(resigned(tmp_path / "admits" / "bundle", text_graph=tiny_graph(batch_invariant=False), **changes))
    assert admits.fit
    assert "text batch" not in [check.name for check in admits.checks]


def test_provider_that_is_not_there_makes_a_device_unfit() -> None:
    result = selftest(TINY, providers=["cuda"])
    assert names(result) == ["image provider", "text provider"]
    assert f"execution provider {CUDA} " in str(result.failed[0])  # not available, or did not start
    assert result.graphs == {}
    assert "this device is not fit: 2 of 8" in result.table()


def test_fallback_that_was_allowed_is_shown() -> None:
    result = selftest(TINY, providers=["cuda"], allow_fallback=True)
    assert result.fit
    assert result.requested == (CUDA,)
    assert result.graphs["image"].providers == (CPU,)
    (check,) = [check for check in result.checks if check.name == "image provider"]
    assert (check.found, check.wanted) == (CPU, f"{CUDA} or a fallback")


def test_a_processor_without_flags_is_not_said_to_lack_instructions() -> None:
    result = replace(selftest(TINY), cpu=cpu_facts(Path("nowhere")))
    assert re.search(r"^flags +not known$", result.table(), re.MULTILINE)


def test_two_packages_of_onnxruntime_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.31.1")
    result = selftest(TINY)
    assert names(result) == ["onnxruntime"]
    assert "onnxruntime and onnxruntime-gpu" in str(result.failed[0])


def test_bundle_that_cannot_be_tested_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="expected"):
        selftest(TINY, expect_fingerprint="0" * 64)
    with pytest.raises(InputError, match="gpu"):
        selftest(TINY, providers=["gpu"])
    folder = resigned(tmp_path / "bundle")
    (folder / "golden.npz").write_bytes((folder / "golden.npz").read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match=r"golden\.npz has sha256"):
        selftest(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"duch\[cpu\]"):
        selftest(TINY)


def test_command_prints_a_table_and_ends_with_0_on_a_fit_device() -> None:
    result = duch("selftest", TINY, "--threads", "1", "--expect-fingerprint", read_bundle(TINY).fingerprint)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.endswith("this device is fit\n")
    for name in CHECKS:
        assert f"\n{name} " in result.stdout


def test_command_gives_the_reasons_and_ends_with_1(tmp_path: Path) -> None:
    failures = ("image: 0.91 of bits; wanted 0.98", "\x1b[31mtext\nbatch")
    codes = flipped(golden().text_codes, 7)
    folder = resigned(tmp_path / "bundle", gate=Gate(False, failures), golden={"text_codes": codes})
    result = duch("selftest", folder)
    assert result.exit_code == 1
    export, text = result.stderr.splitlines()
    assert export.startswith("duch: not fit: export: failed: image: 0.91 of bits")
    assert text.startswith("duch: not fit: text codes: 1 of 128 golden bits differ, |relaxed| up to ")
    assert "this device is not fit: 2 of 12" in result.stdout
    assert "\x1b" not in result.output


def test_command_prints_all_of_it_as_json(tmp_path: Path) -> None:
    raw = json.loads(duch("selftest", TINY, "--json").stdout)
    assert raw["fit"] is True
    assert [check["name"] for check in raw["checks"]] == CHECKS
    assert raw["cpu"]["cores"] >= 1
    assert raw["software"]["onnxruntime"]
    broken = duch("selftest", resigned(tmp_path / "bundle", text_onnx=b"x"), "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["fit"] is False


def test_damaged_bundle_is_one_line(tmp_path: Path) -> None:
    folder = resigned(tmp_path / "bundle")
    data = bytearray((folder / "image.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "image.onnx").write_bytes(data)
    result = duch("selftest", folder)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "image.onnx has sha256" in result.stderr
